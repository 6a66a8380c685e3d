"""The spam score: rules, Bayes and GTUBE together, with the reasons, and the header fields that tell of them.

X-Spam-Status has the form that SpamAssassin made known, so that programs which read it read ours.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from filters.spam.bayes import LEAST_LEARNED, Counts, Opinion, judge
from filters.spam.catalogue import rule_book
from filters.spam.rules import Language, Rule, RuleBook
from filters.spam.sight import Sight
from filters.spam.tokens import tokens_of
from filters.verdict import AddField

GTUBE = b"XJS*C4JDBQADN1.NSBN3*2IDNEN*GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X"
STATUS_FIELD, SCORE_FIELD, FLAG_FIELD = "X-Spam-Status", "X-Spam-Score", "X-Spam-Flag"
LEVEL_FIELD, REASONS_FIELD = "X-Spam-Level", "X-Spam-Reasons"
# Of messages that come in, all of these are somebody else's word, and go.
FIELDS = (STATUS_FIELD, SCORE_FIELD, FLAG_FIELD, LEVEL_FIELD, REASONS_FIELD, "X-Spam-Bar", "X-Spam", "X-Spamd-Result")

Action = Literal["pass", "tag", "junk", "reject"]

_GTUBE_RULE = Rule(
    "gtube", 1000.0, "it is the test message for spam filters", "sie ist die Testnachricht für Spamfilter"
)
# Points that Bayes may give: it alone makes spam but has nothing refused, and outweighs most rules. The line between was chosen
# by judging each half of a corpus by the other (docs/filters.md).
_MOST_POINTS, _LEAST_POINTS, _STEEPNESS = 8.0, -12.0, 2.1
_LINE = 76
_REASONS_LISTED = 30


@dataclass(frozen=True, slots=True)
class Thresholds:
    """From which score on what is done. Each account may have its own."""

    tag: float = 3.5
    junk: float = 5.0
    reject: float = 15.0

    def action(self, score: float) -> Action:
        """What is to be done."""
        if score >= self.reject:
            return "reject"
        if score >= self.junk:
            return "junk"
        return "tag" if score >= self.tag else "pass"


@dataclass(frozen=True, slots=True)
class Reason:
    """One cause of the score."""

    name: str
    points: float
    en: str
    de: str

    def text(self, language: Language = "en") -> str:
        """In plain words."""
        return self.de if language == "de" else self.en

    @property
    def plain(self) -> str:
        """The same without the words of the message that Bayes names, and with its points."""
        return f"{self.en.partition(':')[0]} ({self.points:+.1f})"


@dataclass(frozen=True, slots=True)
class SpamVerdict:
    """The score and what makes it up, the weightiest first."""

    score: float
    reasons: tuple[Reason, ...] = ()
    opinion: Opinion | None = field(default=None, repr=False)

    def action(self, thresholds: Thresholds) -> Action:
        """What is to be done with the message."""
        return thresholds.action(self.score)

    def explained(self, language: Language = "en") -> str:
        """One sentence: the reasons with their points."""
        listed = [f"{each.text(language)} ({each.points:+.1f})" for each in self.reasons[:_REASONS_LISTED]]
        return "; ".join(listed) or {"en": "nothing was found", "de": "nichts wurde gefunden"}[language]

    @property
    def plain(self) -> str:
        """The same without any word of the message itself; "" when nothing was found."""
        return "; ".join(each.plain for each in self.reasons[:_REASONS_LISTED])

    def fields(self, thresholds: Thresholds) -> list[AddField]:
        """What the message's header is to say. ASCII, and folded: no word of the message itself gets into it."""
        is_spam = self.score >= thresholds.junk
        tests = ", ".join(each.name for each in self.reasons[:_REASONS_LISTED]) or "none"
        status = f"{'Yes' if is_spam else 'No'}, score={self.score:.1f} required={thresholds.junk:.1f} tests={tests}"
        found = [AddField(STATUS_FIELD, _folded(status)), AddField(SCORE_FIELD, f"{self.score:.1f}")]
        if self.score >= 1.0:
            found.append(AddField(LEVEL_FIELD, "*" * min(int(self.score), 50)))
        if self.score >= thresholds.tag:
            found.append(AddField(FLAG_FIELD, "YES"))
        if self.reasons:
            found.append(AddField(REASONS_FIELD, _folded(self.plain)))
        return found


class Scorer:
    """Scores messages by the built-in rules and by what was learned. One for all messages."""

    def __init__(self, book: RuleBook | None = None, *, least_learned: int = LEAST_LEARNED) -> None:
        self._book = book or rule_book()
        self._reasons = {rule.name: _reason(rule) for rule in self._book.rules}
        self._least_learned = least_learned

    async def score(self, sight: Sight, counts: Counts | None = None) -> SpamVerdict:
        """Score one message; without counts by rules alone. Raises what the counts raise."""
        opinion = None
        if counts is not None:
            tokens = tokens_of(sight)
            opinion = judge(tokens, await counts.levels(list(tokens)), least_learned=self._least_learned)
        return self.combine(sight, opinion)

    def combine(self, sight: Sight, opinion: Opinion | None) -> SpamVerdict:
        """Rules and Bayes together."""
        return summed(self.found(sight), opinion)

    def found(self, sight: Sight) -> list[Reason]:
        """What the rules find; GTUBE stands alone."""
        if has_gtube(sight):
            return [_reason(_GTUBE_RULE)]
        return [self._reasons[rule.name] for rule in self._book.ask(sight)]


def summed(reasons: Sequence[Reason], opinion: Opinion | None = None) -> SpamVerdict:
    """Reasons and Bayes together."""
    if any(each.name == _GTUBE_RULE.name for each in reasons):
        return SpamVerdict(_GTUBE_RULE.points, (_reason(_GTUBE_RULE),), opinion)
    learned = _learned(opinion) if opinion is not None else None
    whole = [*reasons, learned] if learned is not None else list(reasons)
    whole.sort(key=lambda each: (-abs(each.points), each.name))
    return SpamVerdict(round(sum(each.points for each in whole), 2), tuple(whole), opinion)


def has_gtube(sight: Sight) -> bool:
    """Whether it is the Generic Test for Unsolicited Bulk Email: the line stands in its text, encoded or not."""
    line = GTUBE.decode()
    return any(line in text for _, text in sight.decoded)


def bayes_points(opinion: Opinion) -> float:
    """What an opinion counts."""
    return round(max(_LEAST_POINTS, min(_MOST_POINTS, _STEEPNESS * opinion.evidence)), 1)


def _learned(opinion: Opinion) -> Reason | None:
    points = bayes_points(opinion)
    if not points or not (opinion.spam_words or opinion.ham_words):
        return None
    kind_en, kind_de = ("spam", "Spam") if points > 0 else ("wanted mail", "erwünschter Post")
    words = [f"“{word}”" for word in (opinion.spam_words if points > 0 else opinion.ham_words)]
    listed = f": {', '.join(words)}" if words else ""
    return Reason(
        "bayes_spam" if points > 0 else "bayes_ham",
        points,
        f"its words are those of {kind_en}{listed}",
        f"ihre Wörter sind die von {kind_de}{listed}",
    )


def _reason(rule: Rule) -> Reason:
    return Reason(rule.name, rule.points, rule.en, rule.de)


def _folded(text: str) -> str:
    """Folded at spaces, RFC 5322 §2.2.3."""
    lines: list[str] = []
    line = ""
    for word in text.split(" "):
        if line and len(line) + 1 + len(word) > _LINE - 16 * (not lines):
            lines.append(line)
            line = word
        else:
            line = f"{line} {word}" if line else word
    return "\r\n ".join([*lines, line])
