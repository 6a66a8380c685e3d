"""The section [spam]: from which score on mail is marked, filed into Junk or refused, and how far what people sort teaches."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta


class Spam(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The spam score of rules and Bayes. Accounts may have thresholds of their own."""

    tag: Annotated[
        float,
        Meta(gt=0, le=1000, description="From this score on a message has X-Spam-Flag: YES."),
    ] = 3.5
    junk: Annotated[
        float,
        Meta(
            gt=0,
            le=1000,
            description="From this score on a message counts as spam: X-Spam-Status says Yes, and it goes into Junk where the "
            "recipient wants that.",
        ),
    ] = 5.0
    reject: Annotated[
        float,
        Meta(
            gt=0, le=1000, description="From this score on it is refused with 550 5.7.1. GTUBE alone has 1000 points."
        ),
    ] = 15.0
    least_learned: Annotated[
        int,
        Meta(
            ge=1,
            le=100_000,
            description="Messages of each kind that a level must have learned before Bayes has a say there.",
        ),
    ] = 30
    learning_reaches: Annotated[
        Literal["account", "tenant", "everybody"],
        Meta(
            description="Whom it teaches when somebody sorts mail: the account alone, its tenant too, or everybody. What "
            "`postwerk spam learn` is given without an account teaches whom it names."
        ),
    ] = "tenant"

    def __post_init__(self) -> None:
        """Check that they ascend. Raises ValueError, which names the keys."""
        if not self.tag <= self.junk <= self.reject:
            raise ValueError("tag, junk and reject must ascend")
