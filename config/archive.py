"""How the archiver turns accepted messages into evidence, and how often it signs it."""

from typing import Annotated

import msgspec
from msgspec import Meta

from config.units import Seconds


class Archive(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The tamper-evident archive."""

    batch_limit: Annotated[
        int, Meta(ge=1, le=10_000, description="Most journal rows archived in one transaction. More only wait longer.")
    ] = 500
    gather: Annotated[
        Seconds,
        Meta(description="How long journal rows gather after a wake-up, so that one transaction serves many."),
    ] = Seconds(0.25)
    poll: Annotated[
        Seconds,
        Meta(description="How often the journal is looked at when no wake-up came. A lost wake-up costs this much."),
    ] = Seconds(10)
    checkpoint_leaves: Annotated[
        int, Meta(ge=1, description="A tenant's log gets a signed checkpoint at the latest after this many new leaves.")
    ] = 4096
    checkpoint_interval: Annotated[
        Seconds,
        Meta(description="A tenant's log with new leaves gets a signed checkpoint at the latest after this time."),
    ] = Seconds(60)
    drain: Annotated[
        Seconds, Meta(description="How long the archiver goes on with waiting journal rows when it is told to stop.")
    ] = Seconds(5)
