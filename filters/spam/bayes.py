"""Bayes: how likely a message is spam by the words that it shares with mail that people sorted.

What counts is how much more often a token occurs in spam than in other mail, or less often (the logarithm of that ratio). Only
tokens count that are all but sure: of those in between there are many in every message, they depend on each other, and
together they would drown the others. How a message was sent and what is in it are judged apart, each by the mean of its
tokens, so that neither the length of a message nor that of its header says anything by itself.

Of several levels an account's own mail overrules its tenant's, which overrules everybody's.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol, TypeAlias

from filters.spam.tokens import SENT, is_word

LEAST_SURE = 0.975  # of what a token would have to say alone; one that is less sure says nothing
# These were chosen together by judging each half of a corpus by the other (docs/filters.md).
# How often what was never seen is taken to occur, in messages of all that were learned: a token that only one message holds
# says more the fewer messages of the other kind there are to have held it.
UNSEEN = 0.08
NEUTRAL = 6.0  # tokens without a word to say that each message is given: a few tokens are not as sure as many
HIGHEST = 8.0  # weight of one token
# What tells how a message was sent counts for more than what is in it: wanted advertising has the words of the other kind.
SENT_COUNTS, CONTENT_COUNTS = 1.2, 0.7
ABOVE = 0.5  # messages that what the level above knows counts for, of a token that the level itself knows
LEAST_LEARNED = 100  # of each kind, of a level that is to have a say: from 60, one in a hundred was taken for spam
# Whoever has sorted more ham than spam knows more words of ham, and finds more of these in whatever comes in: what that adds is
# taken off again, up to the limit beyond which it took wanted mail for spam where little spam had been sorted.
_BALANCE, _MOST_UNBALANCED = 2.8, 1.5
_RESERVE = 0.35  # two kinds of mail of one size: how much more must speak for spam than against it
_STEEPNESS = 1.9  # of the probability, fitted by leaving out each message in turn
_SHOWN, _LOOKED_AT = 5, 12
_MAX_REMEMBERED = 10_000

# Spam, ham: of the only level, or of each.
_Counted: TypeAlias = tuple[int, int] | tuple[tuple[int, int] | None, ...]


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
    """How likely it is spam, from 0 to 1, and the words that said so most: of spam where the evidence is above 0, otherwise of
    ham.

    The probability is soon as good as 0 or 1; evidence goes on to grow: it is how much the tokens speak for spam in the mean,
    as a logarithm, that of the header and that of the content added by their weights, less what would be said of any message.
    0: nothing is known, or it contradicts itself.
    """

    probability: float
    evidence: float = 0.0
    spam_words: tuple[str, ...] = ()
    ham_words: tuple[str, ...] = ()


def judge(tokens: Mapping[int, str], levels: Sequence[Level], *, least_learned: int = LEAST_LEARNED) -> Opinion | None:
    """Give an opinion; None where too little was learned."""
    heard = [level for level in levels if level.spam >= least_learned and level.ham >= least_learned]
    if not heard:
        return None
    weights = _weights(tuple([(level.spam, level.ham) for level in heard]))
    strong = [(weight, token) for token, counted in _counted(heard) if (weight := weights[counted]) and token in tokens]
    sent = [each for each in strong if each[1] & SENT]
    content = [each for each in strong if not each[1] & SENT]
    told = SENT_COUNTS * _mean(sent) + CONTENT_COUNTS * _mean(content)
    evidence = told + _balance(heard) * len(strong) / (len(strong) + 2 * NEUTRAL)
    is_spam = evidence > 0.0
    words = _words(tokens, content, sent, is_spam=is_spam)
    return Opinion(
        1.0 / (1.0 + math.exp(-_STEEPNESS * evidence)), evidence, words if is_spam else (), () if is_spam else words
    )


def _words(tokens: Mapping[int, str], *kinds: Sequence[tuple[float, int]], is_spam: bool) -> tuple[str, ...]:
    """Those that people know: plain words before pairs and traits; the weightiest, and of those the longest."""
    known = [
        (is_word(tokens[token]), abs(weight), len(tokens[token]), tokens[token])
        for kind in kinds
        for weight, token in sorted([each for each in kind if (each[0] > 0.0) is is_spam], reverse=is_spam)[:_LOOKED_AT]
    ]
    known.sort(reverse=True)
    return tuple([each[-1] for each in known[:_SHOWN]])


def _balance(levels: Sequence[Level]) -> float:
    ratio = math.log(sum([level.ham for level in levels]) / sum([level.spam for level in levels]))
    return _BALANCE * max(-_MOST_UNBALANCED, min(_MOST_UNBALANCED, ratio)) - _RESERVE


def _mean(strong: Sequence[tuple[float, int]]) -> float:
    return sum([weight for weight, _ in strong]) / (len(strong) + NEUTRAL)


def _counted(levels: Sequence[Level]) -> Iterable[tuple[int, _Counted]]:
    """Each token with its counts at all levels; None where a level does not know it."""
    if len(levels) == 1:
        return levels[0].counts.items()
    every = {token for level in levels for token in level.counts}
    return [(token, tuple([level.counts.get(token) for level in levels])) for token in every]


class _Weights(dict[_Counted, float]):
    """What counts say. Most tokens have one of a few counts: what those say is worked out once."""

    def __init__(self, learned: Sequence[tuple[int, int]]) -> None:
        """Learned: messages of each kind, at each level."""
        super().__init__()
        self._learned = learned

    def __missing__(self, counted: _Counted) -> float:
        spam, ham, learned = self._rates(counted)
        weight = 0.0
        if max(spam, ham) >= LEAST_SURE * (spam + ham) > 0.0:
            unseen = UNSEEN / learned
            weight = max(-HIGHEST, min(HIGHEST, math.log((spam + unseen) / (ham + unseen))))
        if len(self) >= _MAX_REMEMBERED:
            self.clear()
        self[counted] = weight
        return weight

    def _rates(self, counted: _Counted) -> tuple[float, float, int]:
        """How often it occurs in spam and in ham, and in how many messages: each level corrects the one above."""
        spam = ham = 0.0
        learned, above = 0, 0.0
        levels: Sequence[Any] = counted if len(self._learned) > 1 else (counted,)
        for (of_spam, of_ham), each in zip(self._learned, levels, strict=True):
            if each is None or not any(each):
                continue
            spam = (min(each[0], of_spam) + above * spam) / (of_spam + above)
            ham = (min(each[1], of_ham) + above * ham) / (of_ham + above)
            learned += of_spam + of_ham
            above = ABOVE
        return spam, ham, learned


@lru_cache(maxsize=64)
def _weights(learned: tuple[tuple[int, int], ...]) -> _Weights:
    """Those of levels that have learned so much: they serve until one has learned more."""
    return _Weights(learned)
