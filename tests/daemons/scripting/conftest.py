"""A process that runs scripts, and accounts that have some."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime

import pytest

from daemons.context import Context
from daemons.scripting.owners import AccountOwner
from daemons.scripting.running import Scripting
from filters.sieve.actions import Result
from filters.sieve.ports import Envelope
from storage import scripts
from storage.scripts import Bounds
from tests.conftest import Owner, Person

BOUNDS = Bounds(100, 1 << 20)
MAIL = b"From: Bob <bob@example.org>\r\nTo: alice@example.test\r\nSubject: news\r\nMessage-ID: <1@example.org>\r\n\r\nhello\r\n"
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)

Filtered = Callable[..., Awaitable[Result | None]]


@pytest.fixture
async def scripting(context: Context, account: Person) -> AsyncIterator[Scripting]:
    """Of a process that is told of changes."""
    listening = asyncio.Event()
    end = context.changes.subscribe_scripts(lambda _: listening.set())
    made = Scripting(context)
    async with asyncio.timeout(20):
        await listening.wait()
    end()
    yield made
    made.close()


@pytest.fixture
def filtered(scripting: Scripting, account: Person) -> Filtered:
    """What becomes of a message to alice."""

    async def run(octets: bytes = MAIL, sender: str = "bob@example.org") -> Result | None:
        owner = AccountOwner(account.tenant_id, account.account_id)
        return await scripting.run(owner, octets, Envelope(sender, account.login), now=NOW)

    return run


async def activate(owner: Owner, person: Person, source: str, name: str = "rules") -> None:
    """Give the person an active script."""
    await scripts.put(owner, person.account_id, name, source.encode(), BOUNDS)
    await scripts.activate(owner, person.account_id, name)
