"""Mailbox names against LIST patterns (RFC 3501 §6.3.8), and numbers as a sequence set."""

from collections.abc import Callable, Iterable
from functools import lru_cache

from protocol.imap.names import DELIMITER
from protocol.imap.sequence import ranges_of, render_ranges


def compress(numbers: Iterable[int]) -> bytes:
    """`1:3,7` for 1, 2, 3, 7. The order is kept, runs of +1 are joined: so COPYUID's two sets stay paired."""
    return render_ranges(ranges_of(numbers))


def full_pattern(reference: str, pattern: str) -> str:
    """The pattern in the reference's context (RFC 3501 §6.3.8): one that begins with the delimiter stands for itself."""
    return pattern if pattern.startswith(DELIMITER) else reference + pattern


@lru_cache(maxsize=256)
def matcher(pattern: str) -> Callable[[str], bool]:
    """A function that says whether a full name matches: `*` is anything, `%` anything within one level.

    INBOX as the first level matches in any case (RFC 3501 §5.1). Time is linear in the name however the pattern is made:
    a backtracking match of "*a*a*a*a*b" would be a way to keep the server busy.
    """
    if pattern == "*":
        return lambda name: True
    if pattern == "%":
        return lambda name: DELIMITER not in name
    return _Automaton(pattern).matches


class _Automaton:
    """All positions in the pattern that the name so far can have led to, as bits of one number."""

    def __init__(self, pattern: str) -> None:
        states = _collapsed(pattern)
        self._exact: dict[str, int] = {}  # character -> states that pass over it
        self._folded: dict[str, int] = {}  # the same within INBOX
        self._any = self._within = 0  # states of "*" and of "%"
        for position, character in enumerate(states):
            bit = 1 << position
            if character == "*":
                self._any |= bit
            elif character == "%":
                self._within |= bit
            else:
                self._exact[character] = self._exact.get(character, 0) | bit
                folded = character.upper()
                self._folded[folded] = self._folded.get(folded, 0) | bit
        self._wild = self._any | self._within
        self._final = 1 << len(states)

    def matches(self, name: str) -> bool:
        is_inbox = name == "INBOX" or name.startswith("INBOX" + DELIMITER)
        current = 1 | (1 & self._wild) << 1
        for index, character in enumerate(name):
            table = self._folded if is_inbox and index < 5 else self._exact
            stays = self._any if character == DELIMITER else self._wild
            current = (current & table.get(character, 0)) << 1 | (current & stays)
            current |= (current & self._wild) << 1  # a wildcard also matches nothing more
            if not current:
                return False
        return bool(current & self._final)


def _collapsed(pattern: str) -> str:
    """Neighbouring wildcards as one, "*" if any of them is: so one step past a wildcard is never two."""
    states: list[str] = []
    for character in pattern:
        if character in "*%" and states and states[-1] in "*%":
            if character == "*":
                states[-1] = "*"
        else:
            states.append(character)
    return "".join(states)
