"""Comparators: how two texts are compared. RFC 4790, RFC 5051 for i;unicode-casemap, RFC 5228 §2.7.3.

A fold maps text to a form in which plain comparison of characters does the comparator's work. Octets that are not UTF-8
are lone surrogates in our texts, so i;octet loses nothing; order by code point is order by octets of UTF-8.
"""

import operator
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from protocol.message.text import canonical

_LOWER = {code: code + 32 for code in range(ord("A"), ord("Z") + 1)}
_DIGITS = re.compile(r"[0-9]+")


@dataclass(frozen=True, slots=True)
class Comparator:
    """One comparator."""

    name: str
    fold: Callable[[str], str]
    has_substrings: bool = True
    is_numeric: bool = False

    def key(self, text: str) -> str | float:
        """What to order texts by."""
        return numeric(text) if self.is_numeric else self.fold(text)


def ascii_casemap(text: str) -> str:
    """Lower-case ASCII letters, and nothing else; the length stays."""
    return text.lower() if text.isascii() else text.translate(_LOWER)


def numeric(text: str) -> float:
    """The number that a text begins with; without one it is positive infinity, RFC 4790 §9.1."""
    found = _DIGITS.match(text)
    if found is None:
        return float("inf")
    return int(found[0]) if len(found[0]) < 300 else float("inf")


def _same(text: str) -> str:
    return text


OCTET = Comparator("i;octet", _same)
ASCII_CASEMAP = Comparator("i;ascii-casemap", ascii_casemap)
ASCII_NUMERIC = Comparator("i;ascii-numeric", _same, has_substrings=False, is_numeric=True)
UNICODE_CASEMAP = Comparator("i;unicode-casemap", canonical)
COMPARATORS = {each.name: each for each in (OCTET, ASCII_CASEMAP, ASCII_NUMERIC, UNICODE_CASEMAP)}

RELATIONS: dict[str, Callable[[Any, Any], bool]] = {
    "gt": operator.gt,
    "ge": operator.ge,
    "lt": operator.lt,
    "le": operator.le,
    "eq": operator.eq,
    "ne": operator.ne,
}
