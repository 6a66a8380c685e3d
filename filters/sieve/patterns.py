"""Patterns: the wildcards of :matches, RFC 5228 §2.7.1, and regular expressions. Neither has input that makes it slow.

Wildcards: each piece between two stars is looked for from left to right and never again, which finds a match when there is
one, and gives each star the least it can have (RFC 5229 §3.2). Regular expressions are RE2's: automata, no backtracking.
"""

import re
from collections.abc import Callable
from functools import lru_cache

import re2

from filters.sieve.comparators import COMPARATORS

_ESCAPED = re.compile(r"\\(.)|(\*+)|(\?)|([^\\*?]+)|\\", re.DOTALL)


class Glob:
    """A :matches pattern, compiled for one comparator."""

    __slots__ = ("_fold", "_pieces", "weight")

    def __init__(self, pattern: str, fold: Callable[[str], str]) -> None:
        self._fold = fold
        pieces: list[list[str | None]] = [[]]  # None is one character, whichever
        for found in _ESCAPED.finditer(pattern):
            if found[2]:
                pieces.extend([] for _ in found[2])
            elif found[3]:
                pieces[-1].append(None)
            elif text := fold(found[1] or found[4] or "\\"):  # a last backslash stands for itself
                pieces[-1].append(text)
        self._pieces = [_Piece(piece) for piece in pieces]
        # How much dearer than looking for a text: a piece with `?` is compared at each place.
        self.weight = 4 + sum(piece.length for piece in self._pieces if piece.is_wild)

    def match(self, value: str) -> list[str] | None:
        """What the whole value and the wildcards stand for, or None."""
        folded, places = self._folded(value)
        first, *others = self._pieces
        spans: list[tuple[int, int]] = []
        if not first.matches_at(folded, 0):
            return None
        spans.extend(first.spans(0))
        at = first.length
        for number, piece in enumerate(others, 1):
            is_last = number == len(others)
            begins = len(folded) - piece.length if is_last else piece.find(folded, at)
            if begins < at or (is_last and not piece.matches_at(folded, begins)):
                return None
            spans.append((at, begins))
            spans.extend(piece.spans(begins))
            at = begins + piece.length
        if at != len(folded):
            return None
        if places is None:
            return [value, *(value[start:end] for start, end in spans)]
        return [value, *(value[places[start] : places[end]] for start, end in spans)]

    def _folded(self, value: str) -> tuple[str, list[int] | None]:
        """The folded value, and for each of its offsets that of the value when they differ."""
        folded = self._fold(value)
        if len(folded) == len(value):  # no character folds to none, so each folded to one
            return folded, None
        places: list[int] = []
        for at, character in enumerate(value):
            places.extend([at] * len(self._fold(character)))
        return folded, [*places, len(value)]


class _Piece:
    """What stands between two stars."""

    __slots__ = ("_pattern", "_text", "_wild", "length")

    def __init__(self, parts: list[str | None]) -> None:
        self._text = "".join(part for part in parts if part is not None) if None not in parts else None
        self.length = sum(1 if part is None else len(part) for part in parts)
        self._wild: list[int] = []
        at = 0
        for part in parts:
            if part is None:
                self._wild.append(at)
            at += 1 if part is None else len(part)
        # Of fixed length and without choices: a search costs its length times that of the text at most.
        pattern = "".join("." if part is None else re.escape(part) for part in parts)
        self._pattern = re.compile(pattern if self._text is None else "", re.DOTALL)

    @property
    def is_wild(self) -> bool:
        return self._text is None

    def matches_at(self, text: str, at: int) -> bool:
        if at < 0:
            return False
        return text.startswith(self._text, at) if self._text is not None else self._pattern.match(text, at) is not None

    def find(self, text: str, at: int) -> int:
        if self._text is not None:
            return text.find(self._text, at)
        found = self._pattern.search(text, at)
        return -1 if found is None else found.start()

    def spans(self, at: int) -> list[tuple[int, int]]:
        return [(at + wild, at + wild + 1) for wild in self._wild]


@lru_cache(1024)
def glob(pattern: str, comparator: str) -> Glob:
    """The compiled pattern for the comparator of that name."""
    return Glob(pattern, COMPARATORS[comparator].fold)


class RegexError(Exception):
    """The pattern is no regular expression, or too large a one."""


class Regex:
    """A POSIX extended regular expression."""

    __slots__ = ("_compiled", "weight")

    def __init__(self, pattern: str, *, is_case_sensitive: bool, memory: int) -> None:
        self.weight = 32
        options = re2.Options()
        options.posix_syntax = True
        options.longest_match = True
        options.one_line = True  # ^ and $ are those of the value, not of its lines
        options.dot_nl = True
        options.perl_classes = True
        options.word_boundary = True
        options.log_errors = False
        options.case_sensitive = is_case_sensitive
        options.max_mem = memory
        try:
            self._compiled = re2.compile(pattern.encode("utf-8", "surrogateescape"), options)
        except re2.error as error:
            told = error.args[0] if error.args else ""
            raise RegexError(told.decode("utf-8", "replace") if isinstance(told, bytes) else str(told)) from None

    def match(self, value: str) -> list[str] | None:
        """What the match and its groups stand for, or None."""
        found = self._compiled.search(value.encode("utf-8", "surrogateescape"))
        if found is None:
            return None
        groups = (found.group(number) for number in range(self._compiled.groups + 1))
        return [(group or b"").decode("utf-8", "surrogateescape") for group in groups]


@lru_cache(256)
def regex(pattern: str, comparator: str, memory: int) -> Regex:
    """The compiled expression. Raises RegexError."""
    return Regex(pattern, is_case_sensitive=comparator == "i;octet", memory=memory)


_WILDCARDS = {ord(each): f"\\{each}" for each in "*?\\"}
_SPECIAL = {ord(each): f"\\{each}" for each in ".\\+*?[^]$(){}|"}


def quote_wildcards(text: str) -> str:
    """The :quotewildcard modifier, RFC 5229 §4.1.2."""
    return text.translate(_WILDCARDS)


def quote_regex(text: str) -> str:
    """The :quoteregex modifier: the text as a pattern that matches it alone."""
    return text.translate(_SPECIAL)
