"""The syntax tree of a script, RFC 5228 §8.2: commands, tests and their arguments, each with its place in the source.

Nothing in it says whether a command exists: validation.py checks that.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Place:
    """A line and a column, both from 1; the column counts characters."""

    line: int
    column: int


@dataclass(frozen=True, slots=True)
class String:
    """A quoted string or the text of text:, escapes and dot-stuffing removed."""

    place: Place
    text: str


@dataclass(frozen=True, slots=True)
class StringList:
    """Strings in brackets."""

    place: Place
    strings: tuple[String, ...]


@dataclass(frozen=True, slots=True)
class Number:
    """A number with its quantifier applied."""

    place: Place
    value: int


@dataclass(frozen=True, slots=True)
class Tag:
    """A tagged argument's name, in lower case and without its colon."""

    place: Place
    name: str


Argument = String | StringList | Number | Tag


@dataclass(frozen=True, slots=True)
class Test:
    """A test: `header :is "subject" "x"`, `not true`, `allof (…)`. The name is in lower case."""

    __test__ = False  # not a test case for pytest

    place: Place
    name: str
    arguments: tuple[Argument, ...] = ()
    tests: tuple["Test", ...] = ()
    has_list: bool = False  # the tests stand in parentheses


@dataclass(frozen=True, slots=True)
class Command:
    """A command with what stands between it and its semicolon or block. The name is in lower case."""

    place: Place
    name: str
    arguments: tuple[Argument, ...] = ()
    tests: tuple[Test, ...] = ()
    has_list: bool = False
    block: tuple["Command", ...] | None = None  # None: it ends with a semicolon
