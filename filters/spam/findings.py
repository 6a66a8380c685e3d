"""What the filter `spam` found out, for those that come after it: the score of each account, and what that means there.

The score can differ by account: each has taught its own words, knows its own senders, and may have thresholds of its own.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from filters.spam.score import Action, Reason, SpamVerdict, Thresholds

_NEVER_REFUSED = 3.0  # times the threshold for spam is the end of the scale where nothing is refused
_SPAM = 5 / 9  # where spam begins on the scale of Sieve: spamtest is 6 from there on, and 10 where mail is refused


@dataclass(frozen=True, slots=True)
class SpamFinding:
    """The judgement for one account, or for whoever has no account here."""

    verdict: SpamVerdict
    thresholds: Thresholds  # those that hold for it

    @property
    def score(self) -> float:
        """The points."""
        return self.verdict.score

    @property
    def reasons(self) -> Sequence[Reason]:
        """What makes it up, the weightiest first."""
        return self.verdict.reasons

    @property
    def action(self) -> Action:
        """What the thresholds say. Whether mail is filed into Junk is the owner's own decision: the verdicts know."""
        return self.thresholds.action(self.score)

    @property
    def is_spam(self) -> bool:
        """Whether it counts as spam."""
        return self.action in ("junk", "reject")

    @property
    def sieve_score(self) -> float:
        """From 0 to 1 for Sieve's spamtest, RFC 5235 §2.1."""
        junk = self.thresholds.junk
        reject = self.thresholds.reject if math.isfinite(self.thresholds.reject) else _NEVER_REFUSED * junk
        if self.score <= 0.0:
            return 0.0
        if self.score < junk:
            return _SPAM * self.score / junk
        return 1.0 if self.score >= max(reject, junk) else _SPAM + (1.0 - _SPAM) * (self.score - junk) / (reject - junk)


@dataclass(frozen=True, slots=True)
class SpamFindings:
    """Of one message. All accounts that have nothing of their own share one judgement."""

    common: SpamFinding
    own: tuple[tuple[int, SpamFinding], ...] = ()  # by account

    def of(self, account_id: int | None = None) -> SpamFinding:
        """The judgement for an account."""
        return next((finding for owner, finding in self.own if owner == account_id), self.common)

    def sieve_score(self, account_id: int) -> float:
        """For Sieve's spamtest."""
        return self.of(account_id).sieve_score
