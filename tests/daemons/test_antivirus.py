"""The scanner and the filter on a real clamd: what it finds, where it is, and that silence is never taken for a clean bill."""

import asyncio
import mmap
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pyclamd
import pytest
from structlog.testing import capture_logs

from config.antivirus import Antivirus as Limits
from config.units import Octets, Seconds
from daemons.antivirus import ClamdError, ClamdScanner, Freshness, scans, signatures_date, signatures_timestamp
from filters.antivirus import INFECTED, TOO_LARGE, UNAVAILABLE, Antivirus, Scanned
from filters.ports import InfectedAction, TooLargeError
from filters.subject import Envelope, Subject
from filters.verdict import AddField, Finding, Refuse, StripPart
from protocol.smtp.reply import Reply
from tests.clamd import EICAR, FOUND, MADE_AT, STREAM_LIMIT, Clamd, zipped
from tests.mime import attached

HEADER = b"From: a@client.example\r\nTo: alice@example.test\r\nSubject: x\r\n"


@asynccontextmanager
async def scanner(place: str | Path, **changed: Any) -> AsyncIterator[ClamdScanner]:
    """A scanner on this clamd."""
    made = ClamdScanner(Limits(clamd=str(place), **changed))
    try:
        yield made
    finally:
        made.close()


class Wishes:
    """What tenants want."""

    def __init__(self, **actions: InfectedAction) -> None:
        self.actions = {int(name.removeprefix("tenant_")): action for name, action in actions.items()}

    async def action_of(self, tenant_id: int) -> InfectedAction:
        return self.actions[tenant_id]


def subject(message: bytes, *tenant_ids: int) -> Subject:
    return Subject(Envelope("id", "192.0.2.1", "client.example", False, False, None, (), tenant_ids), message)


@pytest.mark.parametrize(
    ("message", "found"),
    [
        (EICAR, FOUND),
        (HEADER + b"\r\n" + EICAR + b"\r\n", FOUND),
        (attached(("a.bin", EICAR)), FOUND),
        (attached(("a.zip", zipped(EICAR))), FOUND),
        (attached(("a.zip", zipped(zipped(EICAR), "b.zip"))), FOUND),
        (attached(("a.bin", b"nothing")), None),
        (b"", None),
        (bytes(256 << 10), None),  # as large as one piece that is sent
        (bytes(3 * (256 << 10) + 1) + EICAR, FOUND),
    ],
    ids=["raw", "body", "MIME", "zip", "zip in zip", "clean", "empty", "one piece", "pieces"],
)
async def test_what_is_found(message: bytes, found: str | None, running_clamd: Clamd) -> None:
    """EICAR is found raw, in MIME and in archives, over the Unix socket and over TCP alike."""
    async with scanner(running_clamd.socket) as unix, scanner(f"localhost:{running_clamd.port}") as tcp:
        assert await unix.scan(message) == found
        assert await tcp.scan(message) == found


async def test_mapped_file(running_clamd: Clamd, tmp_path: Path) -> None:
    """A message in a spool file is scanned as it lies there."""
    path = tmp_path / "message"
    path.write_bytes(attached(("a.bin", bytes(1 << 20)), ("b.bin", EICAR)))
    async with scanner(running_clamd.socket) as clamd:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as octets:
            assert await clamd.scan(octets) == FOUND


async def test_many_at_once(running_clamd: Clamd) -> None:
    """Many scans wait for a few threads, and each gets its own answer."""
    async with scanner(running_clamd.socket, threads=3) as clamd:
        found = await asyncio.gather(*(clamd.scan(EICAR if number % 3 else b"nothing") for number in range(60)))
    assert found == [FOUND if number % 3 else None for number in range(60)]


async def test_over_the_limit(running_clamd: Clamd) -> None:
    """What is above our limit is not sent; what is above clamd's is told apart from a clamd that is away."""
    large = bytes(STREAM_LIMIT + 1)
    async with scanner("/nonexistent", stream_limit=Octets(STREAM_LIMIT)) as clamd:
        with pytest.raises(TooLargeError):
            await clamd.scan(large)
    async with scanner(running_clamd.socket, stream_limit=Octets(64 << 20)) as clamd:
        with pytest.raises(TooLargeError):
            await clamd.scan(bytes(16 << 20))
        assert await clamd.scan(bytes(STREAM_LIMIT - 1)) is None


async def test_killed_in_the_middle(running_clamd: Clamd) -> None:
    """A clamd that dies while it scans has found nothing, and has not found that there is nothing either."""
    async with scanner(running_clamd.socket) as clamd:
        running_clamd.suspend()
        scan = asyncio.create_task(clamd.scan(EICAR))
        await _until(lambda: _connections(running_clamd.socket) > 0)
        running_clamd.kill()
        with pytest.raises((ClamdError, ConnectionError, pyclamd.ConnectionError)):
            await scan
        with pytest.raises((ConnectionRefusedError, FileNotFoundError)):
            await clamd.scan(b"nothing")  # not there at all
        running_clamd.start()
        assert await clamd.scan(EICAR) == FOUND


async def test_time_limit(running_clamd: Clamd) -> None:
    """A clamd that hangs is given up in time, and the threads are free again."""
    running_clamd.suspend()
    try:
        async with scanner(running_clamd.socket, threads=1, time_limit=Seconds(0.2)) as clamd:
            for octets in (b"small", bytes(8 << 20)):  # waiting for the answer, and for room to send
                with pytest.raises(TimeoutError):
                    await clamd.scan(octets)
            async with asyncio.timeout(30):
                await asyncio.wrap_future(clamd._threads.submit(int))
    finally:
        running_clamd.resume()


@pytest.mark.parametrize("answer", [b"", b"stream: ", b"OK", b"nonsense\n", b"stream: Can't allocate memory ERROR\n"])
async def test_other_answers(answer: bytes, tmp_path: Path) -> None:
    """Only clamd's own OK is one: nothing, or anything else, is no answer."""
    path = tmp_path / "clamd.sock"

    async def reply(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\0\0\0\0")
        writer.write(answer)
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_unix_server(reply, path), scanner(path) as clamd:
        if answer == b"OK":
            assert await clamd.scan(b"x") is None
        else:
            with pytest.raises(ClamdError):
                await clamd.scan(b"x")


async def test_outcomes_are_counted(running_clamd: Clamd) -> None:
    """Each scan counts under its outcome."""

    def counted() -> list[float]:
        return [scans.labels(name)._value.get() for name in ("clean", "infected", "too large", "unavailable")]

    before = counted()
    async with scanner(running_clamd.socket, stream_limit=Octets(100)) as clamd, scanner("/nonexistent") as away:
        await clamd.scan(b"x")
        await clamd.scan(EICAR)
        with pytest.raises(TooLargeError):
            await clamd.scan(bytes(101))
        with pytest.raises(FileNotFoundError):
            await away.scan(b"x")
    assert [after - earlier for after, earlier in zip(counted(), before, strict=True)] == [1, 1, 1, 1]


async def test_freshness(running_clamd: Clamd) -> None:
    """The date of the signatures is a metric, and what is too old is warned of."""
    limits = Limits(clamd=str(running_clamd.socket), signatures_age=Seconds(1))
    async with scanner(running_clamd.socket) as clamd:
        with capture_logs() as logged:
            await Freshness(limits, clamd).look()
            await Freshness(msgspec.structs.replace(limits, signatures_age=Seconds(10**9)), clamd).look()
    assert [entry["event"] for entry in logged] == ["signatures are too old: is freshclam running?"]
    assert abs(signatures_timestamp._value.get() - MADE_AT.timestamp()) < 86400  # it tells them in the time of its host
    async with scanner("/nonexistent") as clamd:
        with capture_logs() as logged:
            await Freshness(limits, clamd).look()
    assert [entry["event"] for entry in logged] == ["clamd gave no answer"]


def test_signature_dates() -> None:
    """clamd's words on its version are read, and no date is made up where there is none."""
    made_at = signatures_date("ClamAV 1.4.6/27500/Mon Nov 16 08:20:11 2026")
    assert made_at is not None
    assert (made_at.year, made_at.day, made_at.hour, made_at.second) == (2026, 16, 8, 11)
    assert signatures_date("ClamAV 1.4.6") is None
    assert signatures_date("ClamAV 1.4.6/27500/yesterday") is None


@pytest.mark.parametrize(
    ("changed", "expected"),
    [({}, UNAVAILABLE), ({"unavailable": "pass"}, "unchecked (scanner unavailable)")],
    ids=["defer", "pass"],
)
async def test_clamd_away(changed: dict[str, Any], expected: Reply | str) -> None:
    """Without clamd, mail is put off with 451 4.7.1, or passes with a field that says so, as configured."""
    async with scanner("/nonexistent") as clamd:
        (verdict,) = await Antivirus(clamd, Wishes(), **changed).check(subject(HEADER + b"\r\nx\r\n", 1))
    if isinstance(expected, Reply):
        assert isinstance(verdict, Refuse)
        assert verdict.reply == expected
        assert expected.octets.startswith(b"451 4.7.1 ")
    else:
        assert verdict == AddField("X-Virus-Status", expected)


async def test_large_messages_are_scanned_by_part(running_clamd: Clamd) -> None:
    """A message above the limit is scanned part by part; only one with a part above it cannot be checked."""
    half = bytes(range(256)) * (STREAM_LIMIT // 512)
    async with scanner(running_clamd.socket, stream_limit=Octets(STREAM_LIMIT)) as clamd:
        virus = Antivirus(clamd, Wishes(tenant_1="reject"))
        clean = subject(attached(("a", half), ("b", half)), 1)
        assert await virus.check(clean) == [AddField("X-Virus-Status", "clean"), Finding(Scanned(None))]
        (verdict,) = await virus.check(subject(attached(("a", half), ("b", EICAR), ("c", half)), 1))
        assert isinstance(verdict, Refuse)
        assert verdict.reply == INFECTED
        large = subject(attached(("a", 3 * half)), 1)
        (verdict,) = await virus.check(large)
        assert isinstance(verdict, Refuse)
        assert verdict.reply == TOO_LARGE
        passing = Antivirus(clamd, Wishes(), too_large="pass")
        assert await passing.check(large) == [AddField("X-Virus-Status", "unchecked (too large)")]


async def test_infected_part_is_named(running_clamd: Clamd) -> None:
    """For tenants that strip, the infected parts are found, in archives too, and no others."""
    message = attached(("a.txt", b"fine"), ("b.zip", zipped(EICAR)), ("c.bin", EICAR))
    async with scanner(running_clamd.socket) as clamd:
        verdicts = await Antivirus(clamd, Wishes(tenant_7="strip")).check(subject(message, 7))
    assert verdicts == [
        AddField("X-Virus-Status", f"infected ({FOUND})"),
        Finding(Scanned(FOUND)),
        StripPart((3,), FOUND, 7, "virus"),
        StripPart((4,), FOUND, 7, "virus"),
    ]


async def test_what_cannot_be_taken_out_is_refused(running_clamd: Clamd) -> None:
    """Where the infection is in no part (here: in front of the first), nobody gets the message, whatever the tenant wants."""
    message = attached(("a.txt", b"fine")).replace(b"\r\n\r\n--", b"\r\n\r\n" + EICAR + b"\r\n--", 1)
    async with scanner(running_clamd.socket) as clamd:
        (verdict,) = await Antivirus(clamd, Wishes(tenant_7="strip")).check(subject(message, 7))
    assert isinstance(verdict, Refuse)
    assert verdict.reply == INFECTED


async def _until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not holds():
            await asyncio.sleep(0)


def _connections(place: Path) -> int:
    """How many sockets bear the name of the Unix socket besides the one that listens."""
    return Path("/proc/net/unix").read_text().count(str(place)) - 1
