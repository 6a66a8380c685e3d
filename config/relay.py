"""The section [relay]: delivery to the world. Every limit stands here with what it leads to."""

from typing import Annotated

import msgspec
from msgspec import Meta

from config.units import DAY, HOUR, KIB, MINUTE, Octets, Seconds

Count = Annotated[int, Meta(ge=1)]


class Relay(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Delivery of outgoing mail: schedule, concurrency, timeouts, routes."""

    # When

    retry_waits: Annotated[
        list[Seconds],
        Meta(
            min_length=1,
            description="Waits after the first, second, … attempt. (The first attempt is made at once.)",
        ),
    ] = msgspec.field(default_factory=lambda: [Seconds(minutes * MINUTE) for minutes in (5, 10, 20, 40, 60)])
    retry_repeats: Annotated[int, Meta(ge=0, description="How often the last of these waits is repeated.")] = 22
    retry_slow_wait: Annotated[Seconds, Meta(description="The wait after every later attempt.")] = Seconds(4 * HOUR)
    retry_jitter: Annotated[
        float, Meta(ge=0, le=0.5, description="Waits are longer or shorter by up to this share, at random.")
    ] = 0.1
    lifetime: Annotated[
        Seconds,
        Meta(description="How long delivery is tried. Then the message is given back: status 5.4.7."),
    ] = Seconds(5 * DAY)
    delay_report_after: Annotated[
        Seconds,
        Meta(description="The sender is told of a delay once, when a message has waited for this long (RFC 3461)."),
    ] = Seconds(4 * HOUR)
    report_message_limit: Annotated[
        Octets,
        Meta(
            description="Largest message that is given back whole when the sender asked for that (RET=FULL) and it failed; of a "
            "larger one the header is."
        ),
    ] = Octets(256 * KIB)
    poll: Annotated[
        Seconds,
        Meta(description="How often the queue is looked at when no wake-up came. A lost wake-up costs this much."),
    ] = Seconds(MINUTE)
    lease: Annotated[
        Seconds,
        Meta(
            description="For how long a recipient is one process's to deliver to; renewed as long as that goes on. What a "
            "process held that died is tried again after this."
        ),
    ] = Seconds(5 * MINUTE)
    drain_time: Annotated[
        Seconds,
        Meta(description="On shutdown: time for running deliveries to end. What has not begun is given back at once."),
    ] = Seconds(10)

    # How much at once

    batch_limit: Annotated[Count, Meta(description="Recipients leased, and settled, by one statement.")] = 500
    recipient_limit: Annotated[
        Count, Meta(description="Recipients that one process holds; the others stay in the queue.")
    ] = 2000
    connection_limit: Annotated[Count, Meta(description="Connections of one process.")] = 200
    destination_connection_limit: Annotated[
        Count,
        Meta(description="Connections of one process to one destination, once that has proved to take so many."),
    ] = 20
    destination_connection_start: Annotated[
        Count,
        Meta(description="Connections to a destination at first. A success adds one, a refusal halves the number."),
    ] = 3
    destination_failures: Annotated[
        Count,
        Meta(
            description="Failures to connect, one after the other, that make a destination dead: from then on one message at "
            "a time probes it, and the others wait."
        ),
    ] = 3
    destination_pause: Annotated[
        Seconds,
        Meta(description="Time between two probes of a dead destination; doubled with each that fails."),
    ] = Seconds(MINUTE)
    destination_pause_limit: Annotated[Seconds, Meta(description="Longest time between two such probes.")] = Seconds(
        10 * MINUTE
    )
    transaction_recipient_limit: Annotated[
        Count,
        Meta(
            description="Recipients of one transaction. A server takes at least 100 (RFC 5321 §4.5.3.1.8); the others get "
            "the next transaction, as those do that a server with a lower limit defers."
        ),
    ] = 100
    connection_message_limit: Annotated[
        Count, Meta(description="Messages sent through one connection before it is closed.")
    ] = 100
    connection_idle_time: Annotated[
        Seconds, Meta(description="How long a connection waits for a further message before it is closed.")
    ] = Seconds(3)
    buffer_limit: Annotated[
        Octets,
        Meta(description="Octets up to which a message is sent from memory; a larger one is read while it is sent."),
    ] = Octets(256 * KIB)

    # How long a server may take

    connect_timeout: Annotated[
        Seconds,
        Meta(description="For a connection to one address. Then the next one is tried, or later: status 4.4.1."),
    ] = Seconds(30)
    connect_delay: Annotated[
        Seconds,
        Meta(description="Head start of a host's address before its next one is tried beside it (RFC 8305 §5)."),
    ] = Seconds(0.25)
    session_limit: Annotated[
        Count,
        Meta(description="Servers of a destination that are talked to for one attempt, when they refuse to serve us."),
    ] = 4
    tls_timeout: Annotated[Seconds, Meta(description="For the TLS handshake.")] = Seconds(30)
    greeting_timeout: Annotated[
        Seconds, Meta(description="For the greeting: RFC 5321 §4.5.3.2.1. Like those below: status 4.4.2.")
    ] = Seconds(5 * MINUTE)
    command_timeout: Annotated[
        Seconds, Meta(description="For the reply to every other command, MAIL and RCPT above all: RFC 5321 §4.5.3.2.2.")
    ] = Seconds(5 * MINUTE)
    data_timeout: Annotated[Seconds, Meta(description="For the reply to DATA: RFC 5321 §4.5.3.2.4.")] = Seconds(
        2 * MINUTE
    )
    block_timeout: Annotated[
        Seconds, Meta(description="For the server to take more of a message: RFC 5321 §4.5.3.2.5.")
    ] = Seconds(3 * MINUTE)
    message_timeout: Annotated[
        Seconds, Meta(description="For the server to take a whole message, however steadily it goes.")
    ] = Seconds(HOUR)
    final_timeout: Annotated[
        Seconds,
        Meta(description="For the reply to the end of a message: RFC 5321 §4.5.3.2.6. Shorter times make duplicates."),
    ] = Seconds(10 * MINUTE)
    quit_timeout: Annotated[Seconds, Meta(description="For the reply to QUIT.")] = Seconds(5)
    chunking: Annotated[
        bool, Meta(description="Send messages by BDAT (RFC 3030) to servers that offer it. Binary ones always are.")
    ] = True
