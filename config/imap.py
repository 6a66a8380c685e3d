"""The section [imap]: limits of an IMAP session, each with its documented reply."""

from typing import Annotated

import msgspec
from msgspec import Meta

from config.units import KIB, MIB, MINUTE, Octets, Seconds


class Imap(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """IMAP4rev1 sessions on the listeners imap (STARTTLS) and imaps (TLS from the start)."""

    cleartext_authentication: Annotated[
        bool,
        Meta(
            description="Allow LOGIN and AUTHENTICATE PLAIN without TLS. Otherwise the reply is NO [PRIVACYREQUIRED]."
        ),
    ] = False
    login_timeout: Annotated[
        Seconds,
        Meta(description="How long a connection may stay without logging in. Reply: * BYE, then close."),
    ] = Seconds(1 * MINUTE)
    idle_timeout: Annotated[
        Seconds,
        Meta(
            description="Autologout of a logged-in session without a command, also in IDLE; RFC 3501 §5.4 asks for at least "
            "30 minutes. Reply: * BYE, then close."
        ),
    ] = Seconds(30 * MINUTE)
    send_timeout: Annotated[
        Seconds, Meta(description="Time a client may take to read nothing of a response, then the connection is cut.")
    ] = Seconds(2 * MINUTE)
    poll_interval: Annotated[
        Seconds,
        Meta(description="How long a mailbox is believed unchanged without a notification from the database."),
    ] = Seconds(30)
    error_limit: Annotated[int, Meta(ge=1, description="BAD replies in one session; one more ends it with * BYE.")] = 50
    login_failure_limit: Annotated[
        int, Meta(ge=1, description="Failed logins per connection; the last one's NO is followed by * BYE.")
    ] = 3
    connections_per_account: Annotated[
        int,
        Meta(
            ge=1,
            description="Sessions of one account per process. Reply to login: NO [LIMIT]. Not for trusted networks.",
        ),
    ] = 100
    connections_per_network: Annotated[
        int,
        Meta(
            ge=1,
            description="Connections of one IPv4 address or one IPv6 /64 per process. Greeting: * BYE. Not for trusted networks.",
        ),
    ] = 200
    connection_limit: Annotated[
        int, Meta(ge=1, description="Connections per process in all. Greeting: * BYE, trusted or not.")
    ] = 20_000
    append_limit: Annotated[
        Octets,
        Meta(
            description="Largest message APPEND takes. Reply: NO [TOOBIG], sent before the message where the client waits."
        ),
    ] = Octets(64 * MIB)
    literal_limit: Annotated[
        Octets,
        Meta(description="Largest literal in any other command. Reply: BAD."),
    ] = Octets(64 * KIB)
    command_limit: Annotated[
        Octets, Meta(description="All lines and literals of one command, an APPEND's message not counted. Reply: BAD.")
    ] = Octets(256 * KIB)
    line_limit: Annotated[
        Octets,
        Meta(
            description="Longest command line without its literals (RFC 7162 §4 asks for 8,192 octets). Reply: BAD [TOOBIG]."
        ),
    ] = Octets(64 * KIB)
    keyword_limit: Annotated[
        int,
        Meta(
            ge=1,
            description="Different keywords in one mailbox. Reply to the STORE or APPEND that exceeds it: NO [LIMIT].",
        ),
    ] = 200
    response_batch: Annotated[
        Octets,
        Meta(
            description="Response octets prepared before the session waits for the client to read: what one that does not "
            "read costs in memory, besides one message's part."
        ),
    ] = Octets(256 * KIB)
    search_slice: Annotated[
        Seconds,
        Meta(description="How long a search works on before it lets the process's other sessions have their turn."),
    ] = Seconds(0.02)
    search_batch: Annotated[
        Octets, Meta(description="Octets of messages held in memory at once while their text is searched.")
    ] = Octets(8 * MIB)
    view_cache_messages: Annotated[
        int,
        Meta(
            ge=0,
            description="Messages in all mailbox views that are kept in memory while no session has them selected; 40 octets each.",
        ),
    ] = 1_000_000
