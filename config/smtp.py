"""The section [smtp]: intake over SMTP and delivery over LMTP. Every limit stands here with the reply it leads to."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from config.units import HOUR, KIB, MIB, MINUTE, Octets, Seconds

Count = Annotated[int, Meta(ge=1)]


class Smtp(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """SMTP intake and LMTP: limits and their replies."""

    size_limit: Annotated[
        Octets,
        Meta(description="Largest message accepted, advertised as SIZE. Reply 552 5.3.4, at MAIL and after DATA."),
    ] = Octets(28 * MIB)
    line_limit: Annotated[
        Octets,
        Meta(
            description="Longest command line with its CRLF. RFC 5321 asks for 512 octets, the parameters of SIZE, DSN "
            "and SMTPUTF8 for more. Reply 500 5.5.2."
        ),
    ] = Octets(2 * KIB)
    recipient_limit: Annotated[
        Count,
        Meta(
            description="Recipients of one transaction, refused ones among them, advertised as LIMITS RCPTMAX (RFC 9422), at "
            "least 100 (RFC 5321 §4.5.3.1.8). Reply 452 4.5.3."
        ),
    ] = 1000
    command_limit: Annotated[
        Count, Meta(description="Commands of one connection. Reply 421 4.7.0, then the connection is closed.")
    ] = 100_000
    junk_command_limit: Annotated[
        Count,
        Meta(
            description="Commands since the last accepted message that further no transaction: EHLO, RSET, NOOP, VRFY, "
            "HELP. Reply 421 4.7.0, then the connection is closed."
        ),
    ] = 2000
    error_limit: Annotated[
        Count,
        Meta(
            description="Refused commands since the last accepted message, unknown recipients among them. "
            "Reply 421 4.7.0, then the connection is closed."
        ),
    ] = 50
    hop_limit: Annotated[
        Count, Meta(description="Received fields at which a message is taken to go in circles. Reply 554 5.4.6.")
    ] = 100
    forward_limit: Annotated[
        Count,
        Meta(
            description="Addresses that one recipient's forwarding may lead to, those on the way among them. Reply 550 5.2.4."
        ),
    ] = 100
    connection_limit: Annotated[
        Count, Meta(description="Connections of one process. Reply 421 4.3.2. Trusted networks are not limited.")
    ] = 4000
    network_connection_limit: Annotated[
        Count,
        Meta(
            description="Connections of one process from one network (IPv4 /24, IPv6 /64). Reply 421 4.7.0. "
            "Trusted networks are not limited."
        ),
    ] = 50
    command_timeout: Annotated[
        Seconds,
        Meta(
            description="Wait for the next command, and for the next octets of a message: at least 5 min (RFC 5321 "
            "§4.5.3.2.7). Reply 421 4.4.2."
        ),
    ] = Seconds(5 * MINUTE)
    data_time_limit: Annotated[
        Seconds,
        Meta(
            description="Time for one message from DATA (or the first BDAT) to its last octet, however steadily it "
            "drips. Reply 421 4.4.2."
        ),
    ] = Seconds(HOUR / 2)
    drain_time: Annotated[
        Seconds, Meta(description="On shutdown: time for running transactions to end. Idle sessions get 421 4.3.2.")
    ] = Seconds(10)
    over_quota_is_permanent: Annotated[
        bool, Meta(description="A full mailbox is refused for good (552 5.2.2) rather than for now (452 4.2.2).")
    ] = False
    postmaster: Annotated[
        str,
        Meta(
            description="The address behind <Postmaster> without a domain (RFC 5321 §4.1.1.3), and behind postmaster at "
            "those local domains that have no such address. Empty: postmaster at the hostname.",
            examples=["postmaster@example.org"],
        ),
    ] = ""
    report_language: Annotated[
        Literal["en", "de"],
        Meta(description="Language of what is written to people who belong to no tenant: delivery reports, notices."),
    ] = "en"
    filters: Annotated[
        list[str],
        Meta(
            description="Content filters by name, in the order their fields are added; `postwerk filter list` shows all. antivirus "
            "needs clamd: `postwerk up` without this setting adds it when clamd answers on this host."
        ),
    ] = msgspec.field(default_factory=lambda: ["authentication", "lists", "mime", "spam"])
