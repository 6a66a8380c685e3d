"""The section [srs]: envelope senders of forwarded mail."""

from typing import Annotated

import msgspec
from msgspec import Meta

from config.units import DAY, Seconds


class Srs(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Sender rewriting (SRS): forwarded mail leaves with an envelope sender of ours, and bounces find their way back."""

    domain: Annotated[
        str,
        Meta(
            description="The local domain of rewritten senders. Empty: the domain of the address that forwards, whose SPF "
            "record names this host already.",
            examples=["srs.example.org"],
        ),
    ] = ""
    lifetime: Annotated[
        Seconds,
        Meta(
            description="How long bounces to a rewritten sender are taken, counted in whole days, 1 to 365. Reply 550 5.1.1."
        ),
    ] = Seconds(21 * DAY)
    rotation: Annotated[
        Seconds,
        Meta(
            description="Age at which a key of rewriting gets a successor. It verifies until its last address has ended."
        ),
    ] = Seconds(90 * DAY)

    def __post_init__(self) -> None:
        """Check the spans. Raises ValueError."""
        if not DAY <= self.lifetime <= 365 * DAY:
            raise ValueError("lifetime: 1 to 365 days")
        if self.rotation < DAY:
            raise ValueError("rotation: one day at least")
