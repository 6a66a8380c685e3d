"""From what was found in a message to a judgement for each recipient: what each account and its tenant know is added.

What is the same for several recipients is worked out once.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from filters.authentication.results import Results
from filters.spam import reputation
from filters.spam.bayes import Level, Opinion, judge
from filters.spam.findings import SpamFinding
from filters.spam.score import Reason, SpamVerdict, Thresholds, summed
from filters.spam.sight import Sight, Standing

UNKNOWN = Standing()
_ALLOWED_SCORE = -100.0


@dataclass(frozen=True, slots=True)
class Known:
    """What is known for one recipient."""

    thresholds: Thresholds
    levels: Sequence[Level] = ()
    standing: Standing = UNKNOWN


@dataclass(frozen=True, slots=True)
class Knowledge:
    """What is known for the recipients of one message."""

    common: Known  # for whoever has no account here
    accounts: Mapping[int, Known]


@dataclass(frozen=True, slots=True)
class Look:
    """What was found in a message whoever gets it."""

    sight: Sight
    author: str  # "" when there is none
    tokens: Mapping[int, str]  # none where Bayes is not asked
    reasons: Sequence[Reason]


class Judging:
    """The judgements of one message; its length is how many different ones there are."""

    def __init__(self, look: Look, results: Results | None, least_learned: int) -> None:
        self._look = look
        self._results = results
        self._least_learned = least_learned
        self._findings: dict[object, SpamFinding] = {}
        self._opinions: dict[object, Opinion | None] = {}

    def __len__(self) -> int:
        return len(self._findings)

    def of(self, known: Known, *, is_allowed: bool = False) -> SpamFinding:
        """For a recipient. is_allowed: its list of senders has this one."""
        levels = tuple(map(id, known.levels))
        standing = reputation.believed(known.standing, self._look.author, self._results)
        key = levels, standing, known.thresholds, is_allowed
        if key not in self._findings:
            if levels not in self._opinions:
                self._opinions[levels] = judge(self._look.tokens, known.levels, least_learned=self._least_learned)
            verdict = self._verdict(self._opinions[levels], standing)
            self._findings[key] = SpamFinding(_allowed(verdict) if is_allowed else verdict, known.thresholds)
        return self._findings[key]

    def _verdict(self, opinion: Opinion | None, standing: Standing) -> SpamVerdict:
        look = self._look
        known = [Reason(rule.name, rule.points, rule.en, rule.de) for rule in reputation.ask(look.sight, standing)]
        return summed([*look.reasons, *known], opinion)


def _allowed(verdict: SpamVerdict) -> SpamVerdict:
    """The same for a recipient who wants to hear of the sender whatever the score: its list is what counts."""
    points = round(_ALLOWED_SCORE - verdict.score, 2)
    listed = Reason(
        "sender_allowed",
        points,
        "the recipient always allows this sender",
        "der Empfänger lässt diesen Absender immer zu",
    )
    return SpamVerdict(_ALLOWED_SCORE, (listed, *verdict.reasons), verdict.opinion)
