"""What tests of delivery share: accounts with rules, filters that say what they are told to, and a look into mailboxes."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from email import policy
from email.message import EmailMessage
from email.parser import BytesParser
from typing import Any

import asyncpg

from filters.authentication.results import Results, SpfResult
from filters.pipeline import Pipeline
from filters.verdict import Finding, Verdict
from storage import mailboxes, messages
from storage.rows import SEEN
from tests.conftest import Owner, Person
from tests.daemons.scripting.conftest import activate
from tests.daemons.smtp.conftest import Intake
from tests.daemons.smtp.test_acceptance import Judge, send
from tests.daemons.smtp.test_traces import traced

PROVEN = Finding(Results(spf=SpfResult("pass", "elsewhere.example", "mfrom")))
FORGED = Finding(Results(spf=SpfResult("fail", "elsewhere.example", "mfrom")))
CAROL = "carol@elsewhere.example"
LETTER = (
    b"From: carol@elsewhere.example\r\nTo: alice@example.test\r\nSubject: news\r\n"
    b"Message-ID: <1@elsewhere.example>\r\n\r\nHello.\r\n"
)


@dataclass(frozen=True, slots=True)
class Lying:
    """A message in a mailbox."""

    octets: bytes
    flags: int
    keywords: tuple[str, ...]

    @property
    def is_seen(self) -> bool:
        return bool(self.flags & SEEN)


async def lying(intake: Intake, person: Person, name: str = "INBOX") -> list[Lying]:
    """What is in a mailbox, oldest first; nothing in one that does not exist."""
    async with intake.context.pool.acquire() as connection:
        found = await mailboxes.find(connection, person.account_id, name)
        if found is None:
            return []
        _, rows = await messages.snapshot(connection, found.mailbox_id)
    return [Lying(await intake.context.blobs.message(row.content_id), row.flags, row.keywords) for row in rows]


async def rules(owner: Owner, person: Person, source: str, *, name: str = "rules") -> None:
    """Give the person a script, with all that it requires."""
    extensions = (
        '"fileinto", "reject", "ereject", "envelope", "vacation", "vacation-seconds", "imap4flags", "copy", "mailbox", "fcc", '
        '"mailboxid", "special-use", "enotify", "editheader", "duplicate", "spamtest", "spamtestplus", "virustest", "relational", '
        '"comparator-i;ascii-numeric", "redirect-dsn", "extlists", "variables", "environment", "body", "replace", "regex"'
    )
    await activate(owner, person, f"require [{extensions}];\n{source}", name)


async def changed_rules(intake: Intake, owner: Owner, person: Person, source: str) -> None:
    """The same for rules that this process knows already: it has heard of the change then."""
    heard = asyncio.Event()
    end = intake.context.changes.subscribe_scripts(lambda _: heard.set())
    await rules(owner, person, source)
    async with asyncio.timeout(20):
        await heard.wait()
    end()


def filtered(intake: Intake, *verdicts: Verdict, **limits: Any) -> dict[str, Any]:
    """What greeted() needs for a filter that says this."""
    return intake.limited(Pipeline(content=[Judge(*verdicts)]), **limits)


async def deliver(
    intake: Intake,
    *recipients: str,
    message: bytes = LETTER,
    sender: str = CAROL,
    verdicts: Sequence[Verdict] = (PROVEN,),
    is_lmtp: bool = False,
) -> list[bytes]:
    """The replies to a message: one over SMTP, one for each recipient over LMTP."""
    client = await intake.greeted(is_lmtp=is_lmtp, **filtered(intake, *verdicts))
    paths = recipients or ("alice@example.test",)
    envelope = f"MAIL FROM:<{sender}>\r\n" + "".join(
        f"RCPT TO:{path if path.startswith('<') else f'<{path}>'}\r\n" for path in paths
    )
    first = await send(client, message, envelope.encode())
    replies = first.splitlines()
    while is_lmtp and len(replies) < len(paths):
        replies += (await client.hear(1)).splitlines()
    return replies


async def queue(intake: Intake) -> Sequence[asyncpg.Record]:
    """The recipients in the queue, in their order."""
    return await intake.context.pool.fetch(
        "SELECT * FROM outbound_message JOIN outbound_recipient USING (outbound_id) ORDER BY recipient_id"
    )


def parsed(octets: bytes) -> EmailMessage:
    """As a mail program reads it."""
    made = BytesParser(policy=policy.default).parsebytes(octets)
    assert isinstance(made, EmailMessage)
    return made


async def notes(intake: Intake, answer: bytes, kind: str) -> list[Mapping[str, Any]]:
    """What the trace has of a message, by the reply to it."""
    found = await traced(intake.context, answer.split()[-1].decode())
    return [note.facts for note in found.notes if note.kind == kind]
