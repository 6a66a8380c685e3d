"""Bayes: how likely a message is spam by the words that it shares with mail that people sorted.

Gary Robinson's estimate for each token, with the level above as what is believed before anything was seen: an account's own
mail overrules its tenant's, which overrules everybody's, the more of it there is. The tokens that say most are combined by
Fisher's method (chi-square), which stays in the middle when they contradict each other.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from heapq import nlargest, nsmallest
from typing import Protocol, TypeAlias

from filters.spam.tokens import Token, shown

STRENGTH = 0.0178  # how many messages what was believed before counts for
LEAST_DISTANCE = 0.375  # from one half; tokens that say less are passed over
LEAST_LEARNED = 30  # messages of each kind, of a level that is to have a say
_SHOWN = 5

_Counted: TypeAlias = tuple[tuple[int, int] | None, ...]  # spam, ham at each level
_Weight: TypeAlias = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Level:
    """What was learned for one level: messages of each kind, and for each token how many of them held it."""

    spam: int
    ham: int
    counts: Mapping[int, tuple[int, int]]  # spam, ham


class Counts(Protocol):
    """Where the counts are kept."""

    async def levels(self, tokens: Sequence[int]) -> Sequence[Level]:
        """What is known of these tokens, the widest level first: global, tenant, account."""


@dataclass(frozen=True, slots=True)
class Opinion:
    """How likely it is spam, from 0 to 1, and the words that said so most.

    The probability is soon as good as 0 or 1; evidence goes on to grow: it is how much more the tokens speak for spam than for
    the contrary, in units that do not depend on their number.
    """

    probability: float
    evidence: float = 0.0
    spam_words: tuple[str, ...] = ()
    ham_words: tuple[str, ...] = ()


def judge(
    tokens: Mapping[int, Token], levels: Sequence[Level], *, least_learned: int = LEAST_LEARNED
) -> Opinion | None:
    """Give an opinion; None where too little was learned."""
    heard = [level for level in levels if level.spam >= least_learned and level.ham >= least_learned]
    if not heard:
        return None
    strong: list[tuple[float, int]] = []
    spam = ham = 0.0
    weights = _Weights(heard)
    for token, counted in _counted(heard):
        weight = weights[counted]
        if weight is not None and token in tokens:
            strong.append((weight[0], token))
            spam += weight[1]
            ham += weight[2]
    if not strong:
        return Opinion(0.5)
    return Opinion(
        _combined(spam, ham, len(strong)),
        (spam - ham) / math.sqrt(4.0 * len(strong)),
        tuple([shown(tokens[token]) for estimate, token in nlargest(_SHOWN, strong) if estimate > 0.5]),
        tuple([shown(tokens[token]) for estimate, token in nsmallest(_SHOWN, strong) if estimate < 0.5]),
    )


def _counted(levels: Sequence[Level]) -> Iterable[tuple[int, _Counted]]:
    """Each token with its counts at all levels; None where a level does not know it."""
    if len(levels) == 1:
        return zip(levels[0].counts, zip(levels[0].counts.values()), strict=True)
    every = {token for level in levels for token in level.counts}
    return [(token, tuple([level.counts.get(token) for level in levels])) for token in every]


class _Weights(dict[_Counted, _Weight | None]):
    """What counts say. Most tokens have one of a few counts: what those say is worked out once."""

    def __init__(self, levels: Sequence[Level]) -> None:
        super().__init__()
        self._levels = levels

    def __missing__(self, counted: _Counted) -> _Weight | None:
        """The estimate and what it adds to the chi-square of spam and of ham; None when it says too little."""
        estimate = self._estimate(counted)
        weight = None
        if abs(estimate - 0.5) >= LEAST_DISTANCE:
            weight = (estimate, -2.0 * math.log(1.0 - estimate), -2.0 * math.log(estimate))
        self[counted] = weight
        return weight

    def _estimate(self, counted: _Counted) -> float:
        """Robinson's f(w), level by level: each takes the estimate of the one above for what it believes before."""
        estimate = 0.5
        for level, each in zip(self._levels, counted, strict=True):
            if each is None or each == (0, 0):
                continue
            spam, ham = min(each[0] / level.spam, 1.0), min(each[1] / level.ham, 1.0)
            number = each[0] + each[1]
            estimate = (STRENGTH * estimate + number * (spam / (spam + ham))) / (STRENGTH + number)
        return estimate


def _combined(spam: float, ham: float, number: int) -> float:
    """Fisher's combination of both hypotheses, halfway between when they agree that nothing is known."""
    return min(1.0, max(0.0, (1.0 + _chi_square(ham, number) - _chi_square(spam, number)) / 2.0))


def _chi_square(chi: float, half_degrees: int) -> float:
    """The probability of a value as large as chi by chance, with 2 * half_degrees degrees of freedom."""
    half = chi / 2.0
    # The terms of the series are summed as logarithms: exp(-half) alone is 0 where half is large.
    if half <= 0.0:
        return 1.0
    log_half, term, total = math.log(half), -half, 0.0
    for number in range(half_degrees):
        if number:
            term += log_half - math.log(number)
        total += math.exp(term)
    return min(total, 1.0)
