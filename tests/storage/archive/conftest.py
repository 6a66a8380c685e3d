"""An evidence log with real messages in it: stored through the ingest path, archived by real archivers."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from daemons.archiver.service import Archiver
from daemons.context import Context
from storage.rows import ContentFacts, JournalEntry, NewMessage, Placement, Stored
from tests.conftest import Person

FACTS = ContentFacts(b"()", b"()", b"\x90", b"", None, None, "", ())


def heads_of(context: Context) -> Path:
    """Where the copies of the newest checkpoints lie."""
    return Path(context.settings.state) / "archive"


def new_archiver(context: Context) -> Archiver:
    """One more archiver on the context's database."""
    settings = context.settings
    return Archiver(context.pool, settings.archive, settings.hostname, settings.archive_key_file, heads_of(context))


@pytest.fixture
def archiver(context: Context) -> Archiver:
    """An archiver that is stepped by hand."""
    return new_archiver(context)


Deliver = Callable[..., Awaitable[list[Stored]]]


@pytest.fixture
def deliver(context: Context, account: Person) -> Deliver:
    """Store `count` journaled messages of alice's tenant (or another's inbox), numbered from `first`."""

    async def store(
        count: int, *, first: int = 0, tenant_id: int = account.tenant_id, login: str = account.login, body: int = 200
    ) -> list[Stored]:
        local_part, _, domain = login.partition("@")
        recipient = await context.directory.resolve(local_part, domain)
        assert recipient is not None
        group = [
            NewMessage(
                tenant_id,
                b"Received: here\r\n",
                f"Subject: {number}\r\n\r\n".encode() + b"%08d\r\n" % number * (body // 10),
                FACTS,
                [Placement(recipient.inbox_id)],
                JournalEntry("in", f'{{"from": "bob@example.test", "number": {number}}}'.encode(), datetime.now(UTC)),
            )
            for number in range(first, first + count)
        ]
        return [stored for message in group for stored in await context.ingest.store([message])]

    return store
