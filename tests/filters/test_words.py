"""What filters said is told to each tenant in words: what concerns all, and its own accounts, and nobody else's."""

from filters.pipeline import Result
from filters.verdict import AddField, Drop, Finding, Junk, Quarantine, Refuse, RemoveField, Score, StripPart, Verdict
from filters.words import kinds_of, told
from protocol.smtp.reply import reply

REJECT = Refuse(reply(550, "5.7.1", "refused"), "a virus")
DEFER = Refuse(reply(451, "4.7.1", "later"), "no scanner")


def result(*verdicts: Verdict, failure: str = "") -> Result:
    """Of the filter `test`."""
    return Result("test", verdicts, 0.001, failure)


def test_every_verdict_has_words() -> None:
    """What a filter found out for others is left out: it says nothing about the message."""
    verdicts: list[Verdict] = [
        REJECT, DEFER, Score(-1.5, "known"), AddField("X-A", "b\r\n c"), Quarantine("q"),
        Junk("j"), Drop("d"), StripPart((2, 1), "s"), RemoveField(b"X: y\r\n", "X"), Finding(1),
    ]  # fmt: skip
    assert told(result(*verdicts), {}) == (
        "refuse (a virus), defer (no scanner), -1.5 (known), X-A: b c, quarantine (q), junk (j), discard (d), strip 2.1 (s), "
        "remove field X"
    )
    assert told(result(), {}) == "pass"
    assert told(result(DEFER, failure="OSError"), {}) == "defer (no scanner), failed (OSError)"


def test_each_is_told_of_its_own_accounts() -> None:
    """What is said of several accounts alike is said once; of accounts that the reader does not have nothing is said."""
    found = result(Score(2, "spam", 1), Score(2, "spam", 2), Score(9, "spam", 3), Score(1, "all"))
    assert told(found, {1: "a@x.test", 2: "b@x.test"}) == "+2 (spam) for a@x.test, b@x.test, +1 (all)"
    assert told(found, {}) == "+1 (all)"


def test_kinds_for_the_metrics() -> None:
    """Each kind of verdict counts once for each message; a field alone is no objection."""
    assert kinds_of(result(Score(1, "a"), Score(2, "b"), REJECT, DEFER)) == ["defer", "refuse", "score"]
    assert kinds_of(result()) == ["pass"]
    assert kinds_of(result(Score(0, "nothing"))) == ["pass"]
    assert kinds_of(result(AddField("X-A", "b"), Finding(1))) == ["field", "pass"]
    assert kinds_of(result(DEFER, failure="OSError")) == ["failed"]
