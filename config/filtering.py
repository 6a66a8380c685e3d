"""The section [filtering]: what holds for all filters, and what differs for single ones."""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from config.units import MINUTE, Seconds


class Policy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is different for one filter. A setting that is left out stays as the filter has it."""

    filter: Annotated[str, Meta(min_length=1, description="Its name, as in smtp.filters.", examples=["authentication"])]
    on_failure: Annotated[
        Literal["defer", "pass"] | None,
        Meta(
            description="What becomes of mail when the filter fails or takes too long. defer: reply 451 4.7.0, the sender tries "
            "again. pass: it comes in unchecked by this filter.",
            examples=["pass"],
        ),
    ] = None
    time_limit: Annotated[Seconds | None, Meta(description="How long one check may take.", examples=[Seconds(10)])] = (
        None
    )
    options: Annotated[dict[str, Any], Meta(description="Settings of a filter that another package brings.")] = (
        msgspec.field(default_factory=dict)
    )

    def __post_init__(self) -> None:
        """Check the limit. Raises ValueError."""
        if self.time_limit is not None and not self.time_limit > 0:
            raise ValueError("time_limit: more than 0 s is needed")


class Filtering(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Filters: what each does when it fails, and when a service that one asks is left alone."""

    breaker_failures: Annotated[
        int,
        Meta(
            ge=1,
            description="So many questions in a row without an answer, and a service (clamd, rspamd, spamd, a DNS list) is not "
            "asked for a while. What becomes of the mail is the policy of the filter that asks.",
        ),
    ] = 5
    breaker_pause: Annotated[
        Seconds,
        Meta(description="How long it is not asked. Then one question tries it; each failure doubles the pause."),
    ] = Seconds(10)
    breaker_longest_pause: Annotated[Seconds, Meta(description="No pause is longer.")] = Seconds(5 * MINUTE)
    policies: Annotated[list[Policy], Meta(description="What is different for single filters.")] = []

    def __post_init__(self) -> None:
        """Check that each filter is named once. Raises ValueError, which names the key."""
        names = [policy.filter for policy in self.policies]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"policies: {name} has two entries")

    def of(self, name: str) -> Policy | None:
        """What is different for a filter; None: nothing."""
        return next((policy for policy in self.policies if policy.filter == name), None)
