"""Which test proves which capability: test files mark their tests, and compare the marks with what the server tells."""

from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

Capability = TypeVar("Capability", bound=Hashable)


class Proofs(Generic[Capability]):
    """A decorator of tests that remembers them: @proves("UIDL")."""

    def __init__(self) -> None:
        self.tests: dict[Capability, str] = {}  # with their modules

    def __call__(self, capability: Capability) -> Callable[[Callable[..., object]], Callable[..., object]]:
        """Mark a test as the proof of a capability, named without what is configured."""

        def mark(test: Callable[..., object]) -> Callable[..., object]:
            self.tests[capability] = f"{test.__module__}.{test.__name__}"
            return test

        return mark
