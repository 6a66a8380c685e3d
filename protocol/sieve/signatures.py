"""The shapes of commands and tests: which arguments each takes. The tables are in language.py and extensions.py."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum


class Kind(Enum):
    """What an argument must be. A string may stand for a list of one, RFC 5228 §2.4.2.1."""

    STRING = "string"
    STRINGS = "string list"
    NUMBER = "number"


@dataclass(frozen=True, slots=True)
class Option:
    """A tagged argument."""

    name: str
    takes: Kind | None = None  # what follows it
    group: str = ""  # of all options of a group at most one may stand
    needs: str = ""  # the capability that brings it; "" when its command does
    only: tuple[str, ...] = ()  # fixed strings that it may take


@dataclass(frozen=True, slots=True)
class Signature:
    """A command, or a test."""

    name: str
    positional: tuple[tuple[str, Kind], ...] = ()
    options: tuple[Option, ...] = ()
    needs: tuple[str, ...] = ()  # any one of these capabilities brings it; empty: the base language
    is_test: bool = False
    subtests: str = ""  # "one", "list" or "" for none
    has_block: bool = False
    least: int | None = None  # positional arguments that must stand; None: all of them. The first ones may be missing
    drops_last: bool = False  # it is the last ones that may be missing
    required_group: str = ""  # one option of that group must stand

    @property
    def noun(self) -> str:
        """How messages name it."""
        return f"{self.name} {'test' if self.is_test else 'command'}"


@dataclass(frozen=True, slots=True)
class Language:
    """All commands and tests there are, by name."""

    commands: Mapping[str, Signature]
    tests: Mapping[str, Signature]
    capabilities: Mapping[str, tuple[str, ...]]  # each with those that it brings along


def table(*signatures: Signature) -> dict[str, Signature]:
    """Signatures by name."""
    return {signature.name: signature for signature in signatures}
