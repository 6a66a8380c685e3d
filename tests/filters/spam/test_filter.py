"""The filter `spam`: one look at the message, a judgement for each recipient."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import pytest

from filters.authentication.results import DkimResult, DmarcResult, Results, SpfResult
from filters.lists import Listings
from filters.sender_lists import Entry, Match
from filters.spam.bayes import Level
from filters.spam.engines import EngineError, Judgement, Weighed
from filters.spam.filter import REFUSED, Filing, Spam
from filters.spam.findings import SpamFinding, SpamFindings
from filters.spam.judging import Knowledge, Known
from filters.spam.score import Scorer, SpamVerdict, Thresholds
from filters.spam.sight import Sight, Standing
from filters.spam.tokens import tokens_of
from filters.subject import Account, Envelope, Subject
from filters.verdict import AddField, Finding, Junk, Refuse, Score, Verdict
from protocol.address import AddrSpec
from tests.filters.spam.letters import letter

ALICE, BOB = AddrSpec("alice", "example.test"), AddrSpec("bob", "example.test")
ACCOUNTS = (Account(1, 11, ALICE), Account(1, 12, BOB))
GTUBE = letter("XJS*C4JDBQADN1.NSBN3*2IDNEN*GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X\n")
PILLS = letter("cheap pills\n", Subject="CHEAP PILLS!!! 100% FREE", From="winner@example.org", To=None)
PROVEN = Results(
    SpfResult("pass", "example.org", "mfrom"),
    dkim=(DkimResult("pass", "example.org"),),
    dmarc=DmarcResult("pass", "example.org"),
)
NOW = datetime(2026, 11, 2, 9, 30, tzinfo=UTC)


@dataclass
class Remembered:
    """A Memory that holds what a test puts into it."""

    accounts: Mapping[int, Known] = field(default_factory=dict)
    common: Known = field(default_factory=lambda: Known(Thresholds()))
    asked: list[tuple[Sequence[Account], str]] = field(default_factory=list)

    async def recall(self, accounts: Sequence[Account], author: str, tokens: Sequence[int]) -> Knowledge:
        self.asked.append((accounts, author))
        return Knowledge(self.common, self.accounts)


@dataclass
class Fixed:
    """An engine that always says the same."""

    points: float | None
    name: str = "engine"

    async def judge(self, subject: Subject) -> Judgement | None:
        if self.points is None:
            raise EngineError("away")
        return Judgement(self.points, ["A", "B"])


def subject(message: bytes, *notes: object, paths: Sequence[AddrSpec] = (ALICE, BOB)) -> Subject:
    accounts = tuple(account for account in ACCOUNTS if account.address in paths)
    sender = AddrSpec("anna", "example.org")
    envelope = Envelope("id", "192.0.2.1", "mx.example.org", False, False, sender, tuple(paths), (1,), accounts)
    return Subject(envelope, message, notes)


def check(made: Spam, seen: Subject) -> tuple[SpamFindings, list[Verdict]]:
    """What was found, and what it comes to."""
    first, *rest = asyncio.run(_checked(made, seen))
    assert isinstance(first, Finding)
    assert isinstance(first.value, SpamFindings)
    return first.value, rest


async def _checked(made: Spam, seen: Subject) -> Sequence[Verdict]:
    return await made.check(seen)


def spam(
    memory: Remembered | None = None,
    *engines: Weighed,
    filing: Filing = "wanted",
    scorer: Scorer | None = Scorer(),  # noqa: B008  # it remembers nothing
) -> Spam:
    return Spam(memory or Remembered(), scorer, engines=engines, filing=filing, clock=lambda: NOW)


def fields(verdicts: Sequence[Verdict], account_id: int | None = None) -> dict[str, str]:
    return {
        each.name: " ".join(each.value.split())
        for each in verdicts
        if isinstance(each, AddField) and each.account_id == account_id
    }


def refused(verdicts: Sequence[Verdict]) -> list[int | None]:
    return [each.account_id for each in verdicts if isinstance(each, Refuse)]


def points(verdicts: Sequence[Verdict], account_id: int) -> float:
    return sum(each.points for each in verdicts if isinstance(each, Score) and each.account_id in (None, account_id))


def test_every_message_has_its_fields() -> None:
    """Innocent mail, too, and the score is what they say."""
    findings, verdicts = check(spam(), subject(letter(), PROVEN))
    told = fields(verdicts)
    assert told["X-Spam-Status"].startswith(f"No, score={findings.common.score:.1f} required=5.0 tests=")
    assert told["X-Spam-Score"] == f"{findings.common.score:.1f}"
    assert "the sender's domain vouches for it (DMARC) (-0.5)" in told["X-Spam-Reasons"]
    assert points(verdicts, 11) == findings.common.score
    assert round(sum(each.points for each in findings.common.reasons), 2) == findings.common.score
    assert findings.own == ()


def test_gtube_is_refused() -> None:
    """For all who get it, with one reply that tells the reason."""
    findings, verdicts = check(spam(), subject(GTUBE))
    (refusal,) = [each for each in verdicts if isinstance(each, Refuse)]
    assert (refusal.reply, refusal.account_id) == (REFUSED, None)
    assert refusal.reason == "spam score 1000.0: it is the test message for spam filters (+1000.0)"
    assert (findings.of(11).action, findings.sieve_score(11)) == ("reject", 1.0)


@pytest.mark.parametrize(
    ("message", "is_noted"),
    [
        (GTUBE, True),
        (letter(Auto_Submitted="no"), True),
        (letter(Auto_Submitted="auto-replied"), False),
        (letter(Content_Type="multipart/report; report-type=disposition-notification; boundary=b"), False),
    ],
)
def test_users_are_not_scored(message: bytes, is_noted: bool) -> None:
    """To whom they write is noted; what their programs answer is not."""
    written: list[tuple[str, Sequence[AddrSpec]]] = []

    class Noted:
        def note(self, login: str, addresses: Sequence[AddrSpec]) -> None:
            written.append((login, addresses))

    made = Spam(Remembered(), Scorer(), correspondence=Noted())
    seen = subject(message)
    seen = replace(seen, envelope=replace(seen.envelope, is_authenticated=True, login="alice@example.test"))
    assert asyncio.run(_checked(made, seen)) == ()
    assert written == ([("alice@example.test", (ALICE, BOB))] if is_noted else [])


def test_thresholds_are_each_accounts_own() -> None:
    """Whoever tolerates less is served otherwise than the others, with fields that say so; the score is the same."""
    _, verdicts = check(spam(), subject(PILLS))
    score = float(fields(verdicts)["X-Spam-Score"])
    assert 1.0 < score < 15.0
    strict = Known(Thresholds(tag=0.5, junk=1.0, reject=score))
    findings, verdicts = check(spam(Remembered({11: strict})), subject(PILLS))
    assert (findings.of(11).action, findings.of(12).action) == ("reject", Thresholds().action(score))
    assert refused(verdicts) == [11]
    assert fields(verdicts, 11)["X-Spam-Status"].startswith(f"Yes, score={score:.1f} required=1.0")
    assert fields(verdicts, 12)["X-Spam-Status"].startswith(f"{'Yes' if score >= 5 else 'No'}, score={score:.1f}")
    assert fields(verdicts) == {}
    assert points(verdicts, 11) == points(verdicts, 12) == score


def test_what_one_has_taught_holds_for_him() -> None:
    """Bayes judges by each account's own levels, once for all who share them."""
    tokens = tokens_of(Sight(letter()))
    taught = Level(100, 100, dict.fromkeys(tokens, (90, 0)))
    alone, shared = Known(Thresholds(), (taught,)), Known(Thresholds())
    findings, verdicts = check(spam(Remembered({11: alone, 12: shared})), subject(letter()))
    assert findings.of(11).score > findings.of(12).score + 3
    assert "bayes_spam" in fields(verdicts, 11)["X-Spam-Status"]
    assert "bayes" not in fields(verdicts, 12)["X-Spam-Status"]
    assert points(verdicts, 11) == pytest.approx(findings.of(11).score)
    together, _ = check(spam(Remembered({11: alone, 12: alone})), subject(letter()))
    assert (together.own, together.common.score) == ((), findings.of(11).score)


def test_no_word_of_the_message_is_told() -> None:
    """Neither the fields nor what the trace gets have the words that Bayes names."""
    secret = letter("Donaudampfschiff " * 20)
    taught = Level(100, 100, dict.fromkeys(tokens_of(Sight(secret)), (90, 0)))
    findings, verdicts = check(spam(Remembered({11: Known(Thresholds(), (taught,))})), subject(secret))
    assert "donau" in findings.of(11).verdict.explained().lower()
    assert "donau" not in str([each for each in verdicts if not isinstance(each, Finding)]).lower()


@pytest.mark.parametrize(
    ("standing", "rule"),
    [
        (Standing(answered=1), "sender_answered"),
        (Standing(kept=3), "sender_kept"),
        (Standing(junked=2), "sender_junked"),
    ],
)
def test_reputation_of_the_sender(standing: Standing, rule: str) -> None:
    """It counts for the account that has it."""
    memory = Remembered({11: Known(Thresholds(), standing=standing)})
    findings, _ = check(spam(memory), subject(letter(), PROVEN))
    assert [rule in [each.name for each in findings.of(account).reasons] for account in (11, 12)] == [True, False]
    assert memory.asked == [(ACCOUNTS, "anna@example.org")]


def test_an_address_that_was_given_away() -> None:
    """Mail for alice+example@ from example.org counts as asked for, unless somebody else gets it too."""
    alice = AddrSpec("alice+Example", "example.test")
    findings, _ = check(spam(), subject(PILLS, PROVEN, paths=[alice]))
    assert "address_given" in {each.name for each in findings.common.reasons}
    findings, _ = check(spam(), subject(PILLS, PROVEN, paths=[alice, BOB]))
    assert "address_given" not in {each.name for each in findings.common.reasons}


def test_nobody_gains_by_a_forged_name() -> None:
    """SPF of the forger's own domain, or his own signature, do not make him the friend whose name he writes."""
    forged = Results(SpfResult("pass", "forger.example", "mfrom"), dkim=(DkimResult("pass", "forger.example"),))
    memory = Remembered({11: Known(Thresholds(), standing=Standing(answered=5, kept=5))})
    findings, _ = check(spam(memory), subject(letter(), forged, paths=[ALICE]))
    assert not {"sender_answered", "sender_kept"} & {each.name for each in findings.common.reasons}


def test_the_good_name_of_a_domain_above_counts() -> None:
    """Signed by example.org, mail of list.example.org is proven."""
    author = letter(From="anna@list.example.org")
    memory = Remembered({11: Known(Thresholds(), standing=Standing(answered=1))})
    results = Results(dkim=(DkimResult("pass", "example.org"),))
    findings, _ = check(spam(memory), subject(author, results, paths=[ALICE]))
    assert "sender_answered" in {each.name for each in findings.common.reasons}


def test_allowed_senders_beat_every_score() -> None:
    """For who has allowed them, and nobody else."""
    entry = Entry("example.org", "allowed", is_own=True)
    listings = Listings({11: Match((True, 1, 11, True), entry)})
    findings, verdicts = check(spam(), subject(GTUBE, listings))
    assert (findings.of(11).score, findings.of(11).action, findings.sieve_score(11)) == (-100.0, "pass", 0.0)
    assert refused(verdicts) == [12]
    assert fields(verdicts, 11)["X-Spam-Status"].startswith("No, score=-100.0")
    assert "the recipient always allows this sender (-1100.0)" in fields(verdicts, 11)["X-Spam-Reasons"]


def test_who_has_no_account_here_is_judged_by_what_holds_for_all() -> None:
    """An account's own thresholds do not decide about mail that is passed on to somebody else."""
    strict = Remembered({11: Known(Thresholds(0.1, 0.1, 0.1))})
    elsewhere = AddrSpec("zoe", "example.net")
    _, verdicts = check(spam(strict), subject(PILLS, paths=[ALICE, elsewhere]))
    assert refused(verdicts) == [11]
    _, verdicts = check(spam(strict), subject(PILLS, paths=[ALICE]))
    assert refused(verdicts) == [None]


def test_filing_is_the_recipients_decision() -> None:
    """Without the operator's word nobody's mail goes into Junk; with it, everybody's that counts as spam."""
    memory = Remembered(common=Known(Thresholds(0.1, 0.1, 15.0)))
    assert not [each for each in check(spam(memory), subject(PILLS))[1] if isinstance(each, Junk)]
    _, verdicts = check(spam(memory, filing="always"), subject(PILLS))
    (junk,) = [each for each in verdicts if isinstance(each, Junk)]
    assert junk.account_id is None
    assert not [each for each in check(spam(filing="always"), subject(letter()))[1] if isinstance(each, Junk)]


def test_other_scorers_are_added() -> None:
    """Their points count by their weight, their tests are named; one that is away says so and adds nothing."""
    engines = Weighed(Fixed(8.0, "rspamd"), 0.5), Weighed(Fixed(None, "spamd"))
    alone, _ = check(spam(), subject(letter()))
    findings, verdicts = check(spam(None, *engines), subject(letter()))
    assert findings.common.score == alone.common.score + 4.0
    told = fields(verdicts)
    assert "rspamd finds A, B (+4.0)" in told["X-Spam-Reasons"]
    assert "spamd_unavailable" in told["X-Spam-Status"]


def test_other_scorers_alone() -> None:
    """Without our own rules only theirs count, and what was taught is not asked for."""
    findings, _ = check(spam(None, Weighed(Fixed(15.0, "rspamd")), scorer=None), subject(PILLS))
    assert (findings.common.score, [each.name for each in findings.common.reasons]) == (15.0, ["rspamd"])
    assert findings.common.action == "reject"


class Names:
    """A DNS with one host that has a name, one whose name leads elsewhere, and one that gives no answer."""

    async def pointers(self, address: str) -> Sequence[str]:
        if address == "8.8.4.4":
            raise TimeoutError
        return {"8.8.8.8": ["mx.example.org"], "1.1.1.1": ["liar.example.org"]}.get(address, [])

    async def addresses(self, name: str) -> Sequence[str]:
        return {"mx.example.org": ["8.8.8.8"], "liar.example.org": ["9.9.9.9"]}.get(name, [])

    async def texts(self, name: str) -> Sequence[bytes]:
        return []

    async def family(self, name: str, kind: str) -> Sequence[str]:
        return []

    async def exchangers(self, name: str) -> Sequence[tuple[int, str]]:
        return []

    async def exists(self, name: str) -> bool:
        return False


@pytest.mark.parametrize(
    ("peer", "is_nameless"),
    [("8.8.8.8", False), ("1.1.1.1", True), ("9.9.9.9", True), ("8.8.4.4", False), ("192.168.1.1", False), ("", False)],
)
def test_hosts_without_a_name(peer: str, is_nameless: bool) -> None:
    """A name counts when it leads back to the address; what cannot be known, and hosts of private networks, cost nothing."""
    made = Spam(Remembered(), Scorer(), resolver=Names())
    seen = subject(letter())
    findings, _ = check(made, replace(seen, envelope=replace(seen.envelope, peer=peer)))
    assert ("no_pointer" in [each.name for each in findings.common.reasons]) is is_nameless


@pytest.mark.parametrize(
    ("score", "told"), [(-3.0, 0.0), (0.0, 0.0), (2.5, 0.2777), (5.0, 0.5555), (10.0, 0.7777), (15.0, 1.0), (99.0, 1.0)]
)
def test_scale_of_sieve(score: float, told: float) -> None:
    """RFC 5235: spamtest is 6 from where spam begins, and 10 where mail is refused."""
    finding = SpamFinding(SpamVerdict(score), Thresholds())
    assert finding.sieve_score == pytest.approx(told, abs=0.001)
    assert (1 + int(finding.sieve_score * 9 + 1e-9) >= 6) is finding.is_spam
