"""Settings of the ManageSieve service."""

from typing import Annotated

import msgspec
from msgspec import Meta

from config.units import KIB, MIB, Octets, Seconds


class Managesieve(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """ManageSieve: how people put Sieve scripts on the server (RFC 5804). How large one may be is said in [sieve]."""

    cleartext_authentication: Annotated[
        bool,
        Meta(
            description="Allow AUTHENTICATE without TLS. Otherwise the reply is NO (ENCRYPT-NEEDED) and no mechanism is "
            "advertised."
        ),
    ] = False
    idle_timeout: Annotated[
        Seconds, Meta(description="Silence after which a session that has logged in is closed with BYE.")
    ] = Seconds(1800)
    login_timeout: Annotated[
        Seconds,
        Meta(description="Time from the greeting to a successful login, then BYE and the connection is closed."),
    ] = Seconds(120)
    send_timeout: Annotated[
        Seconds, Meta(description="Time a client may take to read nothing of a reply, then the connection is cut.")
    ] = Seconds(120)
    line_limit: Annotated[
        Octets,
        Meta(description="Longest command line without its literals, and all literals before the login. Reply NO."),
    ] = Octets(16 * KIB)
    script_count_limit: Annotated[
        int, Meta(ge=1, description="Scripts of one account. Reply NO (QUOTA/MAXSCRIPTS).")
    ] = 100
    script_total_limit: Annotated[
        Octets, Meta(description="Octets of all scripts of one account together. Reply NO (QUOTA).")
    ] = Octets(2 * MIB)
    discard_limit: Annotated[
        Octets,
        Meta(
            description="Octets of a literal beyond its limit that are read and dropped, so that the session can go on after the "
            "NO. Beyond this the reply is BYE and the connection is closed."
        ),
    ] = Octets(16 * MIB)
    error_limit: Annotated[
        int,
        Meta(ge=1, description="Unknown, malformed or misplaced commands per session; the last one's reply is BYE."),
    ] = 20
    login_failure_limit: Annotated[
        int, Meta(ge=1, description="Failed logins per connection; the last one's reply is BYE.")
    ] = 3
    connection_limit: Annotated[
        int,
        Meta(ge=1, description="Connections per process. Greeting: BYE (TRYLATER). Not for trusted networks."),
    ] = 1000
    connections_per_network: Annotated[
        int,
        Meta(
            ge=1,
            description="Connections of one IP address per process. Greeting: BYE (TRYLATER). Not for trusted networks.",
        ),
    ] = 50
