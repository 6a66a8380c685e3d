"""The section [database]."""

from typing import Annotated

import msgspec
from msgspec import Meta


class Database(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """PostgreSQL 15 or later. Without a dsn, `postwerk up` runs its own private server in the state directory."""

    dsn: Annotated[
        str | None,
        Meta(
            description="Where the daemons connect.",
            examples=["postgresql://postwerk@/postwerk?host=/run/postgresql"],
        ),
    ] = None
    owner_dsn: Annotated[
        str | None,
        Meta(
            description="Who owns the schema and migrates it. Default: the same as dsn.",
            examples=["postgresql://postgres@/postwerk?host=/run/postgresql"],
        ),
    ] = None
    role: Annotated[
        str, Meta(description="The role without DELETE on the evidence log, which the daemons take on (SET ROLE).")
    ] = "postwerk_daemon"
    pool_size: Annotated[int, Meta(description="Connections per process, at most.", ge=1, le=1000)] = 8
    binaries: Annotated[
        str | None,
        Meta(
            description="Directory of the private server's initdb and postgres. Default: the wheel's, or the system's.",
            examples=["/usr/lib/postgresql/15/bin"],
        ),
    ] = None
