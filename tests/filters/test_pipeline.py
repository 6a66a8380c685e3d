"""The pipeline: how verdicts fold into one decision, and that a filter which fails never loses mail."""

import asyncio
from collections.abc import Sequence

import pytest

from filters.pipeline import FILTER_UNAVAILABLE, PASSED, Pipeline, Policy, Result
from filters.ports import OnFailure
from filters.subject import Envelope, Subject
from filters.verdict import (
    AddField,
    Drop,
    Finding,
    Junk,
    Quarantine,
    Refuse,
    Score,
    StripPart,
    Verdict,
)
from protocol.address import AddrSpec
from protocol.smtp.reply import reply

ALICE = AddrSpec("alice", "example.test")
ENVELOPE = Envelope("id", "192.0.2.1", "client.example", False, False, None, (ALICE,))
SUBJECT = Subject(ENVELOPE, b"Subject: x\r\n\r\nbody\r\n")
REJECT = Refuse(reply(550, "5.7.1", "refused"), "test")
DEFER = Refuse(reply(451, "4.7.1", "later"), "test")


class Fixed:
    """A filter of both stages with a fixed opinion."""

    def __init__(
        self,
        *verdicts: Verdict,
        name: str = "fixed",
        on_failure: OnFailure = "defer",
        error: Exception | None = None,
    ) -> None:
        self.name = name
        self.on_failure: OnFailure = on_failure
        self.needs: Sequence[str] = ()
        self.limit_seconds = 0.05
        self.runs = 0
        self._verdicts = verdicts
        self._error = error

    async def check(self, subject: Envelope | Subject) -> Sequence[Verdict]:
        self.runs += 1
        if self._error is not None:
            raise self._error
        return self._verdicts


class Stuck(Fixed):
    """A filter that never comes back."""

    async def check(self, subject: Envelope | Subject) -> Sequence[Verdict]:
        await asyncio.Event().wait()
        raise AssertionError


async def test_without_filters_everything_passes() -> None:
    """No filter, no objection."""
    pipeline = Pipeline()
    assert await pipeline.check_content(SUBJECT) is PASSED
    assert (await pipeline.check_envelope(ENVELOPE)).refusal is None
    assert not pipeline.concerns(SUBJECT.original)


async def test_verdicts_are_folded_in_the_configured_order() -> None:
    """Scores add up, fields stand in order, the first quarantine counts, stripped parts are collected."""
    first = Fixed(Score(2.5, "a"), AddField("X-A", "1"), StripPart((2, 1), "virus"), name="first")
    second = Fixed(Score(-1.0, "b"), AddField("X-B", "2\r\n\tfolded"), Quarantine("b"), name="second")
    decision = await Pipeline(content=[first, second]).check_content(SUBJECT)
    assert decision.score == 1.5
    assert decision.fields == b"X-A: 1\r\nX-B: 2\r\n\tfolded\r\n"
    assert decision.quarantine == Quarantine("b")
    assert decision.stripped == (StripPart((2, 1), "virus"),)
    assert decision.refusal is None
    assert [result.name for result in decision.results] == ["first", "second"]


async def test_a_rejection_goes_before_a_deferral() -> None:
    """When one filter defers and a later one rejects, the message is rejected: waiting would not help."""
    assert (await Pipeline(content=[Fixed(DEFER), Fixed(REJECT)]).check_content(SUBJECT)).refusal == REJECT


async def test_envelope_filters_stop_at_the_first_refusal() -> None:
    """A filter behind one that refused is not asked."""
    last = Fixed()
    decision = await Pipeline(envelope=[Fixed(Score(1, "a")), Fixed(DEFER), last]).check_envelope(ENVELOPE)
    assert decision.refusal == DEFER
    assert last.runs == 0


@pytest.mark.parametrize("kind", ["raises", "stuck"])
@pytest.mark.parametrize("on_failure", ["defer", "pass"])
async def test_a_failing_filter_follows_its_policy(on_failure: OnFailure, kind: str) -> None:
    """A filter that raises or takes too long defers the message or passes it, and says so in its result."""
    broken = Stuck(on_failure=on_failure) if kind == "stuck" else Fixed(on_failure=on_failure, error=OSError("x"))
    decision = await Pipeline(content=[broken, Fixed(Score(1, "a"))]).check_content(SUBJECT)
    assert decision.results[0].failure == ("TimeoutError" if kind == "stuck" else "OSError")
    assert decision.score == 1
    assert (decision.refusal is not None) == (on_failure == "defer")
    if decision.refusal is not None:
        assert decision.refusal.reply is FILTER_UNAVAILABLE


async def test_content_filters_run_at_the_same_time() -> None:
    """Each of two filters waits until the other has begun."""
    begun = [asyncio.Event(), asyncio.Event()]

    class Meeting(Fixed):
        async def check(self, subject: Envelope | Subject) -> Sequence[Verdict]:
            number = int(self.name)
            begun[number].set()
            await begun[1 - number].wait()
            return [Score(1, self.name)]

    decision = await Pipeline(content=[Meeting(name="0"), Meeting(name="1")]).check_content(SUBJECT)
    assert decision.score == 2


async def test_cancelling_ends_the_filters() -> None:
    """A cancelled check is cancelled, not deferred."""
    task = asyncio.create_task(Pipeline(content=[Stuck()]).check_content(SUBJECT))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.parametrize(
    ("name", "value"), [("X A", "1"), ("", "1"), ("X:", "1"), ("X", "1\r\nBcc: x"), ("X", "a\nb"), ("X", "a\rb")]
)
def test_a_field_cannot_smuggle_another(name: str, value: str) -> None:
    """Names and values that would become something else in a header are refused where they are made."""
    with pytest.raises(ValueError, match="not a header field"):
        AddField(name, value)


def test_a_refusal_is_negative() -> None:
    """A filter cannot refuse with a positive reply."""
    with pytest.raises(ValueError, match="4yz or 5yz"):
        Refuse(reply(250, "2.0.0", "ok"), "test")


@pytest.mark.parametrize(
    ("original", "header"),
    [
        (b"A: 1\r\nB: 2\r\n\r\nbody", b"A: 1\r\nB: 2\r\n"),
        (b"\r\nA: 1\r\n\r\n", b""),
        (b"A: 1\r\n", b"A: 1\r\n"),
        (b"", b""),
    ],
)
def test_header(original: bytes, header: bytes) -> None:
    """The header section ends at the first empty line; a message without one is all header."""
    assert Subject(ENVELOPE, original).header == header


class Reader:
    """A filter that scores by what another one found out."""

    name = "reader"
    on_failure: OnFailure = "pass"
    limit_seconds = 1.0
    needs = ("finder",)

    async def check(self, subject: Subject) -> Sequence[Verdict]:
        return [Score(float(subject.noted(int) or -1), "as it was told")]


async def test_a_filter_is_told_what_those_it_needs_have_found() -> None:
    """Of a filter that it does not need, or that failed, it hears nothing."""
    found = Fixed(Finding(7), name="finder")
    other = Fixed(Finding(8), name="other")
    assert (await Pipeline(content=[found, other, Reader()]).check_content(SUBJECT)).score == 7
    failing = Fixed(name="finder", on_failure="pass", error=RuntimeError())
    assert (await Pipeline(content=[other, failing, Reader()]).check_content(SUBJECT)).score == -1


async def test_what_is_meant_for_one_account_concerns_no_other() -> None:
    """Scores, fields, refusals and what becomes of the copy, each for one account or for all."""
    verdicts: list[Verdict] = [
        Score(1, "all"), Score(2, "one", 5), AddField("X-A", "all"), AddField("X-B", "one", 5),
        Refuse(REJECT.reply, "one", 6), Drop("one", 1, 7), Junk("tenant", 2),
    ]  # fmt: skip
    decision = await Pipeline(content=[Fixed(*verdicts)]).check_content(SUBJECT)
    assert (decision.score, decision.fields, decision.refusal, decision.drop) == (1, b"X-A: all\r\n", None, None)
    own = decision.for_account(1, 5)
    assert (own.score, own.fields, own.junk) == (3, b"X-A: all\r\nX-B: one\r\n", None)
    assert decision.for_account(1, 6).refusal == Refuse(REJECT.reply, "one")
    assert decision.for_account(1, 7).drop is not None
    assert decision.for_account(2, 8).junk is not None


async def test_the_configuration_goes_before_the_filter() -> None:
    """What becomes of mail when a filter fails, and how long it may take, is the operator's choice."""
    passing = Pipeline(content=[Fixed(error=OSError("x"))], policies={"fixed": Policy(on_failure="pass")})
    assert (await passing.check_content(SUBJECT)).refusal is None
    stuck = Stuck(on_failure="pass")
    stuck.limit_seconds = 60.0
    deferring = Pipeline(content=[stuck], policies={"fixed": Policy("defer", 0.001)})
    decision = await deferring.check_content(SUBJECT)
    assert decision.refusal is not None
    assert decision.refusal.reply is FILTER_UNAVAILABLE
    assert decision.results[0].elapsed_seconds < stuck.limit_seconds


async def test_every_result_is_told() -> None:
    """Whoever counts hears of each filter, of both stages, once; of the failures with what was wrong."""
    heard: list[Result] = []
    error = ValueError("x")
    pipeline = Pipeline(
        envelope=[Fixed(name="first")],
        content=[Fixed(Score(1, "a"), name="second"), Fixed(name="third", error=error)],
        observe=heard.append,
    )
    await pipeline.check_envelope(ENVELOPE)
    await pipeline.check_content(SUBJECT)
    assert [(each.name, each.failure) for each in heard] == [("first", ""), ("second", ""), ("third", "ValueError")]
    assert heard[2].error is error


async def test_what_is_no_verdict_is_a_failure() -> None:
    """A filter that returns anything else has failed, and its policy decides."""
    decision = await Pipeline(content=[Fixed("reject")]).check_content(SUBJECT)  # type: ignore[arg-type]
    assert decision.results[0].failure == "TypeError"
    assert decision.refusal is not None


async def test_a_message_is_read_once() -> None:
    """All filters look at the same tree of parts, whatever the size of the message."""
    scans: list[object] = []

    class Looking(Fixed):
        async def check(self, subject: Envelope | Subject) -> Sequence[Verdict]:
            assert isinstance(subject, Subject)
            scans.append(subject.scanned)
            return ()

    first, second = Looking(name="first"), Looking(name="second")
    second.needs = ["first"]
    for size in (10, 100_000):
        scans.clear()
        await Pipeline(content=[first, second]).check_content(Subject(ENVELOPE, b"Subject: x\r\n\r\n" + b"x" * size))
        assert len({id(each) for each in scans}) == 1
        assert len(scans) == 2


async def test_junk_of_one_tenant_is_not_another_ones() -> None:
    """What a filter wants for the people of one tenant does not touch those of others."""
    decision = await Pipeline(content=[Fixed(Junk("theirs", tenant_id=1))]).check_content(SUBJECT)
    assert decision.for_tenant(1).junk == Junk("theirs", tenant_id=1)
    assert decision.for_tenant(2).junk is None
    assert decision.for_account(2, 7).junk is None
