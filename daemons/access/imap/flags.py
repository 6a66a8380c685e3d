"""Combinations of flags, interned and rendered once.

A mailbox of 100,000 messages has a few dozen different combinations, so a message costs one index here, and FETCH FLAGS
is a join of texts that exist already. Nothing here knows messages or sessions.
"""

from typing import NamedTuple

from protocol.imap.flags import SYSTEM_FLAGS


class FlagSet(NamedTuple):
    """One combination: system flags as bits (RFC 3501 §2.3.2) and keywords in upper case."""

    bits: int
    keywords: frozenset[str]


class FlagTable:
    """The combinations that occur in one mailbox. A message holds the index ("kind") of its combination."""

    __slots__ = ("_kinds", "_written", "recent_texts", "sets", "spellings", "texts")

    def __init__(self) -> None:
        self._kinds: dict[tuple[int, tuple[str, ...]], int] = {}
        self._written: list[tuple[int, tuple[str, ...]]] = []
        self.sets: list[FlagSet] = []
        self.texts: list[bytes] = []  # what stands between the parentheses of FLAGS (...)
        self.recent_texts: list[bytes] = []  # the same with \Recent
        self.spellings: dict[str, str] = {}  # keywords compare without case; the first spelling stays (RFC 3501 §9)

    def kind(self, bits: int, keywords: tuple[str, ...]) -> int:
        """The index of this combination, given once and for the table's life."""
        found = self._kinds.get((bits, keywords))
        if found is not None:
            return found
        names = [self.spellings.setdefault(keyword.upper(), keyword).encode() for keyword in keywords]
        system = [name for name, bit in SYSTEM_FLAGS.items() if bits & bit]
        self.sets.append(FlagSet(bits, frozenset(keyword.upper() for keyword in keywords)))
        self.texts.append(b" ".join(system + names))
        self.recent_texts.append(b" ".join([*system, b"\\Recent", *names]))
        self._written.append((bits, keywords))
        self._kinds[bits, keywords] = kind = len(self.sets) - 1
        return kind

    def written(self, kind: int) -> tuple[int, tuple[str, ...]]:
        """What kind() was called with."""
        return self._written[kind]

    def kinds_with(self, bits: int) -> frozenset[int]:
        """The kinds that have any of these system flags."""
        return frozenset(kind for kind, flags in enumerate(self.sets) if flags.bits & bits)

    def kinds_with_keyword(self, keyword: str) -> frozenset[int]:
        """The kinds that have this keyword, in any case."""
        wanted = keyword.upper()
        return frozenset(kind for kind, flags in enumerate(self.sets) if wanted in flags.keywords)
