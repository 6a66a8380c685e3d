"""Copies of what an account sends in its Sent mailbox: when it wants them, and never twice."""

import asyncio
import imaplib

import asyncpg
import pytest
from click.testing import CliRunner

from config.loader import dump
from daemons.access import service as access
from daemons.cli import main
from storage import sent
from tests.conftest import Person
from tests.daemons.smtp.conftest import headless
from tests.daemons.smtp.users import SUBMITTED, Users

BOB = "<bob@example.test>"


@pytest.fixture
async def copying(account: Person, owner: "asyncpg.Connection[asyncpg.Record]") -> Person:
    """alice, whose sent mail is copied."""
    await sent.set_copies(owner, account.login, copies_sent=True)
    return account


async def append(users: Users, person: Person, message: bytes, mailbox: str = "Sent") -> list[bytes]:
    """Store the message by IMAP, as clients do; gives what the server said of it."""
    stopping = asyncio.Event()
    told: asyncio.Future[dict[str, tuple[str, int]]] = asyncio.get_running_loop().create_future()
    serving = asyncio.create_task(access.serve(users.context, stopping, lambda found: told.set_result(dict(found))))
    host, port = (await told)["imaps"]

    def talk() -> list[bytes]:
        with imaplib.IMAP4_SSL("localhost", port, ssl_context=users.tls, timeout=20) as client:
            client.login(person.login, person.password)
            status, said = client.append(mailbox, r"(\Seen)", None, message)
            assert (status, host) == ("OK", "127.0.0.1")
            return [line for line in said if line is not None]

    try:
        return await asyncio.to_thread(talk)
    finally:
        stopping.set()
        await serving


async def test_no_copy_unless_wanted(users: Users, account: Person, bob: Person) -> None:
    """Accounts get no copies by themselves."""
    async with await users.logged_in(account) as client:
        await client.send(SUBMITTED, BOB)
    assert await users.mailbox(account, "Sent") == []


async def test_copy(users: Users, copying: Person, bob: Person, owner: "asyncpg.Connection[asyncpg.Record]") -> None:
    """Who wants copies has each sent message in Sent, read, in the transaction that sends it; one journal entry, as ever."""
    async with await users.logged_in(copying) as client:
        await client.send(SUBMITTED, BOB)
        await client.send(SUBMITTED.replace(b"<1@", b"<2@"), "<x@elsewhere.example>")
        assert (await client.send(SUBMITTED, "<nobody@example.test>")).startswith(b"550 ")
    copies = await users.mailbox(copying, "Sent")
    assert [headless(message) for message in copies] == [SUBMITTED, SUBMITTED.replace(b"<1@", b"<2@")]
    flags = await owner.fetch("SELECT flags FROM message JOIN mailbox USING (mailbox_id) WHERE name = 'Sent'")
    assert [row[0] for row in flags] == [1, 1]
    assert len(await users.journal()) == 2


async def test_client_that_stores_it_afterwards(users: Users, copying: Person, bob: Person) -> None:
    """What a client stores in Sent takes the place of our copy of the same message, and of no other."""
    other = SUBMITTED.replace(b"<1@", b"<2@")
    async with await users.logged_in(copying) as client:
        await client.send(SUBMITTED, BOB)
        await client.send(other, BOB)
    its_own = SUBMITTED.replace(b"Hello", b"Bcc was here. Hello")
    await append(users, copying, its_own)
    first, second = await users.mailbox(copying, "Sent")
    assert headless(first) == other
    assert second == its_own
    await append(users, copying, its_own)  # which is no copy of ours any more
    assert len(await users.mailbox(copying, "Sent")) == 3


async def test_client_that_stores_it_before(users: Users, copying: Person, bob: Person) -> None:
    """What a client stored in Sent before it sent the message keeps our copy away."""
    await append(users, copying, SUBMITTED)
    async with await users.logged_in(copying) as client:
        await client.send(SUBMITTED, BOB)
    assert await users.mailbox(copying, "Sent") == [SUBMITTED]
    assert len(await users.mailbox(bob)) == 1


async def test_other_mailboxes(users: Users, copying: Person, bob: Person) -> None:
    """What is stored elsewhere takes nothing's place."""
    async with await users.logged_in(copying) as client:
        await client.send(SUBMITTED, BOB)
    await append(users, copying, SUBMITTED, "Drafts")
    assert len(await users.mailbox(copying, "Sent")) == 1


async def test_no_sent_mailbox(
    users: Users, copying: Person, bob: Person, owner: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    """Without a mailbox for it there is no copy; the message is sent all the same."""
    await owner.execute("DELETE FROM mailbox WHERE account_id = $1 AND name = 'Sent'", copying.account_id)
    async with await users.logged_in(copying) as client:
        assert (await client.send(SUBMITTED, BOB)).startswith(b"250 ")
    assert len(await users.mailbox(bob)) == 1


@pytest.mark.parametrize(("login", "code"), [("Alice@example.test", 0), ("nobody@example.test", 67)])
async def test_command(login: str, code: int, users: Users, account: Person) -> None:
    """`postwerk account copy-sent` turns it on and off."""
    path = users.context.settings.run_directory / "postwerk.toml"
    path.write_text(dump(users.context.settings))

    def run(choice: str) -> int:
        return CliRunner().invoke(main, ["account", "copy-sent", login, choice, "--config", str(path)]).exit_code

    assert await asyncio.to_thread(run, "on") == code
    assert await users.context.pool.fetchval("SELECT copies_sent FROM account") is (code == 0)
    assert await asyncio.to_thread(run, "off") == code
    assert await users.context.pool.fetchval("SELECT copies_sent FROM account") is False
