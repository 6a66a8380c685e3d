"""When and how much the keeper clears away of what nothing refers to any more."""

from typing import Annotated

import msgspec
from msgspec import Meta

from config.units import DAY, HOUR, Seconds


class Keeper(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Removal of unreferenced contents, blobs and segments."""

    interval: Annotated[Seconds, Meta(description="Time between two rounds.")] = Seconds(HOUR)
    batch_limit: Annotated[
        int, Meta(ge=1, le=100_000, description="Most rows looked at and removed in one transaction.")
    ] = 1000
    content_grace: Annotated[
        Seconds, Meta(description="A content that nothing refers to is kept at least this long after it was stored.")
    ] = Seconds(HOUR)
    segment_grace: Annotated[
        Seconds,
        Meta(description="A sealed segment without a live blob is kept at least this long after it was sealed."),
    ] = Seconds(DAY)
    expunged_limit: Annotated[
        int,
        Meta(
            ge=0,
            description="UIDs of expunged messages remembered per mailbox for QRESYNC.",
        ),
    ] = 50_000
    change_limit: Annotated[
        int,
        Meta(
            ge=0,
            description="Changes of flags (one per command) remembered per mailbox, to find quickly what is new since then.",
        ),
    ] = 2000
    attack_memory: Annotated[
        Seconds,
        Meta(
            description="How long failed logins are kept with address and login: seven days at most. What would get older "
            "than that before the next round is removed already."
        ),
    ] = Seconds(7 * DAY)

    queue_memory: Annotated[
        Seconds,
        Meta(
            description="How long recipients stay in the outbound queue after they were delivered, failed or deleted."
        ),
    ] = Seconds(DAY)
    removal_memory: Annotated[
        Seconds,
        Meta(description="How long the record of what was deleted from the outbound queue by hand is kept."),
    ] = Seconds(365 * DAY)
    transport_memory: Annotated[
        Seconds,
        Meta(
            description="How long counts of TLS sessions and DMARC results, and what became of the reports, are kept, and "
            "policies of other domains (RFC 8461) after their time is over."
        ),
    ] = Seconds(14 * DAY)

    def __post_init__(self) -> None:
        """Check the limit that is law, not taste. Raises ValueError."""
        if self.attack_memory > 7 * DAY:
            raise ValueError("attack_memory: seven days at most")
