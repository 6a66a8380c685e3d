"""Compiles a script: parse, validate, and one closure per command. Done once per script; a Script may run any number of times."""

from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from filters.sieve.limits import DEFAULT_LIMITS, Limits
from protocol.sieve.errors import Fault


@dataclass(frozen=True, slots=True)
class Script:
    """A compiled script."""

    name: str
    capabilities: frozenset[str]  # what it requires
    warnings: tuple[Fault, ...] = ()


def compile_script(
    source: bytes | str, *, name: str = "", capabilities: AbstractSet[str] | None = None, limits: Limits = DEFAULT_LIMITS
) -> Script:
    """Compile. `capabilities` are those that scripts may require; None: all. Raises SieveError, and nothing else."""
    raise NotImplementedError
