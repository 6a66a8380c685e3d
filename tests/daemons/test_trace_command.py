"""`postwerk trace` and `postwerk tenant trace`."""

import asyncio
import json
import os
from collections.abc import Awaitable, Callable

import asyncpg
import pytest

from config.settings import Settings
from daemons.traces import Recorder
from protocol.address import AddrSpec
from storage.blobs.keys import KeyRing
from storage.pool import open_pool
from tests.daemons.test_cli import Ended, Postwerk, configuration, populated, postwerk

__all__ = ["configuration", "populated", "postwerk"]  # fixtures

ID = "0123456789abcdef"
Work = Callable[[Recorder, "asyncpg.Connection[asyncpg.Record]"], Awaitable[None]]


def write(settings: Settings, work: Work) -> None:
    """Let a daemon note something."""

    async def run() -> None:
        assert settings.database.dsn is not None
        connection = await asyncpg.connect(settings.database.dsn)
        async with open_pool(settings.database.dsn, size=1, role="postwerk_daemon") as pool:
            recorder = Recorder(settings.trace, pool, KeyRing(settings.master_key_file))
            await work(recorder, connection)
            await recorder.flush()
        await connection.close()

    asyncio.run(run())


async def _incoming(recorder: Recorder, connection: "asyncpg.Connection[asyncpg.Record]") -> None:
    tenant_id, inbox_id = await connection.fetchrow("SELECT tenant_id, mailbox_id FROM mailbox WHERE name = 'INBOX'")  # type: ignore[misc]
    bob, alice = AddrSpec("bob", "remote.test"), AddrSpec("alice", "example.test")
    recorder.note(tenant_id, ID, "received", reverse_path=bob, forward_paths=[alice], peer="192.0.2.7", helo="mx.remote.test",
                  protocol="ESMTPS", tls="TLSv1.3 TLS_AES_256_GCM_SHA384", size_octets=2048)  # fmt: skip
    recorder.note(tenant_id, ID, "checked", score=1.5, verdicts=["spf pass", "dkim pass"])
    recorder.note(tenant_id, ID, "stored", forward_path=alice, mailbox_id=inbox_id, uidvalidity=3, uid=42)


async def _outgoing(recorder: Recorder, connection: "asyncpg.Connection[asyncpg.Record]") -> None:
    tenant_id = await connection.fetchval("SELECT tenant_id FROM tenant")
    path = AddrSpec("carol", "remote.test")
    recorder.note(tenant_id, ID, "queued", reverse_path=AddrSpec("alice", "example.test"), forward_paths=[path])
    for attempt, reply in ((1, "451 4.7.1 greylisted,\r\ncome back"), (2, "250 2.0.0 taken as 77")):
        recorder.note(tenant_id, ID, "attempt", forward_path=path, attempt=attempt, host="mx.remote.test", address="192.0.2.25",
                      tls="TLSv1.3, DANE", reply=reply)  # fmt: skip


def test_incoming_message(populated: Postwerk, settings: Settings) -> None:
    """Receipt, checks with their score, and the final mailbox with its UID, by id."""
    write(settings, _incoming)
    shown = populated("trace", ID.upper())
    for fact in ("bob@remote.test", "192.0.2.7", "ESMTPS", "TLSv1.3", "2 KiB", "score 1.5", "spf pass", "uid 42"):
        assert fact in shown, shown
    assert "mailbox alice@example.test/INBOX" in shown
    (found,) = json.loads(populated("trace", ID, "--json"))
    assert (found["id"], found["tenant"], found["queue"]) == (ID, "example", [])
    assert [note["kind"] for note in found["notes"]] == ["received", "checked", "stored"]
    assert found["notes"][2]["mailbox"] == "alice@example.test/INBOX"


def test_outgoing_message(populated: Postwerk, settings: Settings) -> None:
    """Every attempt with the remote server's own words and the state of TLS."""
    write(settings, _outgoing)
    lines = populated("trace", "--to", "carol@remote.test").splitlines()
    assert lines[0].split() == [ID, "example"]
    assert [line.split()[2] for line in lines[1:]] == ["queued", "attempt", "attempt"]
    assert lines[2].endswith(": 451 4.7.1 greylisted, come back")
    assert "tls TLSv1.3, DANE" in lines[3]
    assert lines[3].endswith(": 250 2.0.0 taken as 77")


async def _mailing(recorder: Recorder, connection: "asyncpg.Connection[asyncpg.Record]") -> None:
    tenant_id = await connection.fetchval("SELECT tenant_id FROM tenant")
    for number in range(30):
        recorder.note(tenant_id, ID, "deleted", forward_path=f"x{number}@remote.test", by="root", reason="spam")
    recorder.note(tenant_id, ID, "bounced", forward_path="x1@remote.test", action="failed", to="alice@example.test")


def test_what_happened_to_many_alike(populated: Postwerk, settings: Settings) -> None:
    """Recipients to which the same happened at the same time stand in one line, five of them by name."""
    write(settings, _mailing)
    lines = populated("trace", ID).splitlines()
    assert 3 <= len(lines) <= 4  # thirty notes may fall into two seconds
    assert "x4@remote.test and " in lines[1]
    assert lines[1].endswith(" more; by root; reason spam")
    assert lines[-1].endswith("to x1@remote.test; action failed; told alice@example.test")
    assert len(json.loads(populated("trace", ID, "--json"))[0]["notes"]) == 31


def test_searches(populated: Postwerk, settings: Settings) -> None:
    """By sender, recipient and time, singly and together, within a tenant."""
    write(settings, _incoming)

    def ids(*arguments: str) -> list[str]:
        return [found["id"] for found in json.loads(populated("trace", *arguments, "--json"))]

    assert ids("--from", "bob@remote.test") == [ID]
    assert ids("--from", "remote.test", "--to", "Alice@Example.Test", "--since", "1 h") == [ID]
    assert ids("--since", "2020-01-01") == [ID]
    assert ids("--since", "2020-01-01", "--until", "1 h") == []
    assert ids("--since", "1 h", "--tenant", "example", "--limit", "1") == [ID]
    assert ids("--to", "bob@remote.test") == []
    assert populated("trace", "--from", "nobody@remote.test") == ""


@pytest.mark.parametrize(
    ("arguments", "code", "complaint"),
    [
        ([], os.EX_USAGE, "give an ID, or at least one of"),
        ([ID, "--since", "1 h"], os.EX_USAGE, "give an ID, or at least one of"),
        (["xyz"], os.EX_USAGE, "xyz is no id"),
        (["--since", "yesterday"], os.EX_USAGE, "yesterday is no time"),
        (["--since", "1 h", "--tenant", "x"], os.EX_NOUSER, "no tenant x"),
    ],
)
def test_refusals(populated: Postwerk, arguments: list[str], code: int, complaint: str) -> None:
    """What cannot be is said in a line, with a code of sysexits.h."""
    with pytest.raises(Ended, match=complaint) as ended:
        populated("trace", *arguments)
    assert ended.value.code == code


def test_retention_of_a_tenant(populated: Postwerk) -> None:
    """A tenant's own time is shown, set and taken back."""
    assert populated("tenant", "trace", "example") == "30 d, as configured\n"
    assert populated("tenant", "trace", "example", "7") == "7 days\n"
    assert populated("tenant", "trace", "example") == "7 days\n"
    assert populated("tenant", "trace", "example", "default") == "30 d, as configured\n"
    with pytest.raises(Ended, match="number of days"):
        populated("tenant", "trace", "example", "99999")
    with pytest.raises(Ended, match="no tenant nobody"):
        populated("tenant", "trace", "nobody", "7")
