"""Other people's spam scorers: what they are asked, and how their scores are read on our scale."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from filters.spam.score import Reason
from filters.subject import Subject

SPAM = 5.0  # what counts as spam on our scale, where nobody has set another threshold
REFUSED = 15.0  # and what is refused
_TESTS_NAMED = 15
_MOST = 1000.0  # what one engine can say, either way


class EngineError(OSError):
    """The engine gave no answer, or none that says anything about the message."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """An engine's answer on our scale."""

    points: float
    tests: Sequence[str] = ()  # the names of those that made it, the weightiest first


def on_our_scale(score: float, spam_at: float) -> float:
    """An engine's score, where it calls `spam_at` spam. Raises EngineError for what is no number."""
    if not (math.isfinite(score) and math.isfinite(spam_at) and spam_at > 0.0):
        raise EngineError("no score")
    return max(-_MOST, min(_MOST, score * SPAM / spam_at))


class Engine(Protocol):
    """A scorer outside of this process."""

    @property
    def name(self) -> str:
        """As people know it."""

    async def judge(self, subject: Subject) -> Judgement | None:
        """Its answer; None where it is not asked about such messages. Raises OSError."""


@dataclass(frozen=True, slots=True)
class Weighed:
    """An engine, and how much its word counts."""

    engine: Engine
    weight: float = 1.0

    async def reason(self, subject: Subject) -> Reason | None:
        """What it adds to the score. Without an answer nothing is added, and the reason says so."""
        name = self.engine.name
        try:
            judged = await self.engine.judge(subject)
        except OSError:
            return Reason(f"{name}_unavailable", 0.0, f"{name} gave no answer", f"{name} hat nicht geantwortet")
        if judged is None:
            return None
        tests = ", ".join(judged.tests[:_TESTS_NAMED]) or "-"
        points = round(self.weight * judged.points, 2)
        return Reason(name, points, f"{name} finds {tests}", f"{name} findet {tests}")
