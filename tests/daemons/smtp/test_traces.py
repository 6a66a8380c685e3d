"""The delivery trace of whole sessions: what came in, what users send, what was refused, from one id."""

import asyncio
from collections.abc import Sequence
from typing import Any, Literal

from daemons.context import Context
from filters.pipeline import Pipeline
from filters.subject import Subject
from filters.verdict import AddField, Refuse, Score, Verdict
from protocol.smtp.reply import reply
from storage import traces
from storage.traces import Trace
from tests.conftest import Person
from tests.daemons.smtp.conftest import MESSAGE, Intake


class Judging:
    """A content filter that says what it is told to."""

    name = "judging"
    on_failure: Literal["defer", "pass"] = "pass"
    needs: tuple[str, ...] = ()
    limit_seconds = 5.0

    def __init__(self, *verdicts: Verdict) -> None:
        self._verdicts = verdicts

    async def check(self, subject: Subject) -> Sequence[Verdict]:
        """ContentFilter."""
        return self._verdicts


async def traced(context: Context, trace_id: str) -> Trace:
    """The one trace of the id."""
    await context.recorder.flush()
    (found,) = await traces.by_id(context.pool, context.keys, trace_id)
    return found


async def sent(intake: Intake, **limited: Any) -> str:
    """The reply to a message to alice."""
    client = await intake.greeted(**limited)
    await client.ask(b"MAIL FROM:<sender@client.example>", 1)
    await client.ask(b"RCPT TO:<alice@example.test>", 1)
    await client.ask(b"DATA", 1)
    answer: bytes = await client.ask(MESSAGE + b".", 1)
    return answer.decode()


async def test_received_checked_stored(intake: Intake, account: Person) -> None:
    """The id of our reply leads from the receipt over the filters' verdicts and their score to mailbox and UID."""
    pipeline = Pipeline(content=[Judging(Score(1.5, "looks odd"), AddField("X-Spam-Score", "1.5"))])
    answer = await sent(intake, **intake.limited(pipeline))
    assert answer.startswith("250 2.0.0 accepted as ")
    found = await traced(intake.context, answer.split()[-1])
    facts = {note.kind: note.facts for note in found.notes}
    assert list(facts) == ["received", "checked", "stored"]
    assert facts["received"]["reverse_path"] == "sender@client.example"
    assert facts["received"]["forward_paths"] == ["alice@example.test"]
    assert facts["received"]["peer"] == "192.0.2.1"
    assert facts["checked"] == {"score": 1.5, "verdicts": ["judging: +1.5 (looks odd), X-Spam-Score: 1.5"]}
    assert facts["stored"]["uid"] == 1
    names = await traces.mailboxes_of(intake.context.pool, [found])
    assert names == {facts["stored"]["mailbox_id"]: "alice@example.test/INBOX"}


async def test_refused(intake: Intake, account: Person) -> None:
    """A message that filters refused is found by its sender, with our reply and the reason."""
    refusal = Refuse(reply(554, "5.7.1", "not here"), "too odd")
    assert (await sent(intake, **intake.limited(Pipeline(content=[Judging(refusal)])))).startswith("554 5.7.1")
    await intake.context.recorder.flush()
    row = await intake.context.pool.fetchrow("SELECT trace_id FROM trace_record")
    assert row is not None
    found = await traced(intake.context, row["trace_id"].hex())
    facts = {note.kind: note.facts for note in found.notes}
    assert list(facts) == ["checked", "refused"]
    assert facts["refused"]["reply"] == "554 5.7.1 not here"
    assert facts["refused"]["reason"] == "too odd"


async def test_intake_never_waits_for_the_trace(intake: Intake, account: Person) -> None:
    """While the trace cannot be written mail is accepted as ever."""
    async with intake.context.pool.acquire() as connection, connection.transaction():
        await connection.execute("LOCK TABLE trace_record IN SHARE MODE")
        writing = asyncio.create_task(intake.context.recorder.flush())
        answers = [await sent(intake) for _ in range(3)]
        assert all(answer.startswith("250") for answer in answers)
    await writing
    for answer in answers:
        assert [note.kind for note in (await traced(intake.context, answer.split()[-1])).notes] == [
            "received",
            "stored",
        ]
