"""What a client was promised, when the connection to the database is lost at the worst moment: all of it once, or nothing."""

import asyncpg
import pytest

from tests.daemons.imap.conftest import Service, mail

_LITERAL = b"{6+}\r\nA: b\r\n"


async def _lose_connection(owner: "asyncpg.Connection[asyncpg.Record]", table: str, *, when: str) -> None:
    """The first transaction that inserts into the table loses its connection there, or at its end (DEFERRED)."""
    await owner.execute("CREATE SEQUENCE lost")  # counts on, whatever is rolled back
    await owner.execute(
        "CREATE FUNCTION lose() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN "
        "IF nextval('lost') = 1 THEN PERFORM pg_terminate_backend(pg_backend_pid()); END IF; RETURN NEW; END $$"
    )
    await owner.execute(
        f"CREATE CONSTRAINT TRIGGER losing AFTER INSERT ON {table} {when} FOR EACH ROW EXECUTE FUNCTION lose()"
    )


@pytest.mark.parametrize("when", ["", "DEFERRABLE INITIALLY DEFERRED"])
@pytest.mark.parametrize(
    ("command", "table", "inbox", "archive"),
    [
        (b"APPEND Archive " + _LITERAL, "message", 2, 1),
        (b"APPEND Archive %b %b %b" % (_LITERAL, _LITERAL, _LITERAL), "message", 2, 3),
        (b"REPLACE 1 Archive " + _LITERAL, "expunged", 1, 1),
        (b"REPLACE 1 INBOX " + _LITERAL, "message", 2, 0),
    ],
)
async def test_what_is_stored_is_stored_once(
    service: Service,
    owner: "asyncpg.Connection[asyncpg.Record]",
    command: bytes,
    table: str,
    when: str,
    inbox: int,
    archive: int,
) -> None:
    """APPEND and REPLACE are tried again by ourselves, and leave what they should have left at once."""
    await service.deliver(mail("one"), mail("two"))
    async with await service.client() as client:
        await client.ok(b"SELECT INBOX")
        await _lose_connection(owner, table, when=when)
        *_, done = await client.command(command)
        assert done.startswith(b"t OK")
        for name, count in ((b"INBOX", inbox), (b"Archive", archive)):
            told = await client.ok(b"STATUS %b (MESSAGES)" % name)
            assert b"* STATUS %b (MESSAGES %d)" % (name, count) in told


@pytest.mark.parametrize("when", ["", "DEFERRABLE INITIALLY DEFERRED"])
@pytest.mark.parametrize(
    "command", [b"COPY 1:2 Archive", b"UID COPY 1:2 Archive", b"MOVE 1:2 Archive", b"UID MOVE 1:2 Archive"]
)
async def test_what_is_not_done_is_not_done_at_all(
    service: Service, owner: "asyncpg.Connection[asyncpg.Record]", command: bytes, when: str
) -> None:
    """COPY and MOVE are told to have failed, and leave nothing behind; the next attempt succeeds."""
    await service.deliver(mail("one"), mail("two"))
    is_move = b"MOVE" in command
    async with await service.client() as client:
        await client.ok(b"SELECT INBOX")
        await _lose_connection(owner, "message", when=when)
        *_, refused = await client.command(command)
        assert refused.startswith(b"t NO [UNAVAILABLE] ")
        assert b"* STATUS Archive (MESSAGES 0)" in await client.ok(b"STATUS Archive (MESSAGES)")
        await client.ok(command)
        assert b"* STATUS Archive (MESSAGES 2)" in await client.ok(b"STATUS Archive (MESSAGES)")
        (inbox,) = await client.ok(b"STATUS INBOX (MESSAGES)")
        assert inbox.endswith(b"(MESSAGES 0)" if is_move else b"(MESSAGES 2)")
