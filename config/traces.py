"""The section [trace]: what is kept of the way that each message took, and for how long."""

from typing import Annotated

import msgspec
from msgspec import Meta

from config.units import DAY, Seconds


class Trace(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The delivery record, which `postwerk trace` shows. It is encrypted with the tenant's key, apart from the logs."""

    retention: Annotated[
        Seconds,
        Meta(
            description="How long it is kept, for tenants that have no time of their own (`postwerk tenant trace`). "
            "0: nothing is recorded."
        ),
    ] = Seconds(30 * DAY)
    delay: Annotated[
        Seconds,
        Meta(description="How long notes are gathered before they are written. A crash costs the notes of this time."),
    ] = Seconds(1)
    queue_limit: Annotated[
        int,
        Meta(
            ge=100,
            description="Notes that wait for the database at most, in each process. What comes when they are so many is "
            "not recorded, but counted (postwerk_trace_lost): mail never waits for its record.",
        ),
    ] = 50_000
    batch_limit: Annotated[int, Meta(ge=1, le=10_000, description="Most notes written by one statement.")] = 2000
