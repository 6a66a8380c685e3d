"""What a filter of another package is made with. It imports from `filters` and `protocol`, and from nothing else of ours."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

from filters.breaker import Breaker
from filters.ports import Resolver


class Surroundings(Protocol):
    """Its entry point in the group `postwerk.filters` is called with this, and gives the filter."""

    @property
    def hostname(self) -> str:
        """This host's name."""

    @property
    def options(self) -> Mapping[str, Any]:
        """The filter's own settings, as they stand in its entry of [[filtering.policies]]. To be checked: ValueError."""

    @property
    def is_rehearsal(self) -> bool:
        """Somebody only asks what the filter would say: it must not learn, count, or tell anybody."""

    @property
    def resolver(self) -> Resolver:
        """The DNS, with its memory."""

    def breaker(self, service: str, /) -> Breaker:
        """For a service that the filter asks."""

    def on_close(self, close: Callable[[], Awaitable[object]], /) -> None:
        """Have this called when the process ends."""
