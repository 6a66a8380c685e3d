"""Settings of the POP3 service."""

from typing import Annotated

import msgspec
from msgspec import Meta

from config.units import KIB, Octets, Seconds


class Pop3(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """POP3 access to the inbox."""

    cleartext_authentication: Annotated[
        bool,
        Meta(
            description="Allow USER/PASS and AUTH PLAIN without TLS. Otherwise the reply is -ERR [AUTH] and "
            "neither is advertised."
        ),
    ] = False
    idle_timeout: Annotated[
        Seconds,
        Meta(
            description="Silence after which a session is closed without a reply and without deleting anything. "
            "RFC 1939 asks for at least 10 minutes."
        ),
    ] = Seconds(600)
    login_timeout: Annotated[
        Seconds, Meta(description="Time from the greeting to a successful login, then the connection is closed.")
    ] = Seconds(120)
    send_timeout: Annotated[
        Seconds, Meta(description="Time a client may take to read nothing of a reply, then the connection is cut.")
    ] = Seconds(120)
    line_limit: Annotated[
        Octets, Meta(description="Longest command line with its CRLF (RFC 2449: 255). Reply -ERR, the line is skipped.")
    ] = Octets(255)
    response_line_limit: Annotated[
        Octets, Meta(description="Longest base64 line of an AUTH exchange. Reply -ERR, the line is skipped.")
    ] = Octets(16 * KIB)
    login_delay: Annotated[
        Seconds,
        Meta(
            description="Least time between two logins of one account (`postwerk pop3 set` for one account). Reply -ERR "
            "[LOGIN-DELAY]. Whole seconds; 0 s turns it off. Trusted networks never wait."
        ),
    ] = Seconds(10)
    error_limit: Annotated[
        int,
        Meta(
            ge=1,
            description="Unknown or malformed commands per session; the last one's -ERR is followed by a close.",
        ),
    ] = 20
    login_failure_limit: Annotated[
        int, Meta(ge=1, description="Failed logins per connection; the last one's -ERR [AUTH] is followed by a close.")
    ] = 3
    connection_limit: Annotated[
        int,
        Meta(ge=1, description="POP3 connections per process. Greeting: -ERR [SYS/TEMP]. Not for trusted networks."),
    ] = 4000
    surrogates: Annotated[
        bool,
        Meta(
            description="Give clients that did not say UTF8 the headers of internationalised messages in ASCII (RFC 6858). "
            "Off: everybody gets every message octet for octet, as it was accepted."
        ),
    ] = False
    connections_per_network: Annotated[
        int,
        Meta(
            ge=1,
            description="POP3 connections of one IP address per process. Greeting: -ERR [SYS/TEMP]. Not for trusted networks.",
        ),
    ] = 100
    listing_cache_messages: Annotated[
        int,
        Meta(
            ge=0,
            description="Messages whose size and UID are kept in memory per process, so that polling an "
            "unchanged maildrop costs no listing.",
        ),
    ] = 500_000
