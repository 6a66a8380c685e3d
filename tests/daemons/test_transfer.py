"""`postwerk import` and `postwerk export`, run as a user runs them, against a real store."""

import asyncio
import os
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from config.loader import dump
from config.settings import Settings
from daemons.cli import main
from daemons.context import Context
from storage import mailboxes, messages
from storage.rows import MessageRow
from tests.conftest import Person
from tests.mails import MAILS

FILES = Path(__file__).parents[1] / "mbox_files"
MAIL = b"From: bob@example.test\r\nDate: Mon, 2 Nov 2026 03:04:05 +0000\r\nSubject: hello\r\n\r\nLine\r\n"


class Runner:
    """Runs commands with the settings of the test, in a thread: they bring their own loop."""

    def __init__(self, settings: Settings) -> None:
        self._config = Path(settings.state) / "postwerk.toml"
        self._config.write_text(dump(settings), "utf-8")

    async def __call__(self, *arguments: object, given: bytes | None = None, code: int = 0) -> Result:
        words = [*map(str, arguments), "--config", str(self._config)]
        result = await asyncio.to_thread(lambda: CliRunner().invoke(main, words, input=given))
        assert result.exit_code == code, (result.exception, result.output)
        return result


@pytest.fixture
def postwerk(settings: Settings, account: Person) -> Runner:
    """Commands for alice's suite."""
    return Runner(settings)


class Stored(list[tuple[MessageRow, bytes]]):
    """The messages of a mailbox in UID order."""

    @property
    def octets(self) -> list[bytes]:
        return [octets for _, octets in self]


async def stored(context: Context, person: Person, name: str = "INBOX") -> Stored:
    async with context.pool.acquire() as connection:
        mailbox = await mailboxes.find(connection, person.account_id, name)
        assert mailbox is not None, f"no mailbox {name}"
        _, rows = await messages.snapshot(connection, mailbox.mailbox_id)
    return Stored([(row, await context.blobs.message(row.content_id)) for row in rows])


def write(directory: Path, files: Iterable[tuple[str, bytes]]) -> None:
    for name, octets in files:
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_bytes(octets)


def read(directory: Path) -> dict[str, bytes]:
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


async def test_eml_file(postwerk: Runner, context: Context, account: Person, tmp_path: Path) -> None:
    """A file becomes one message of the inbox, to the octet, dated by its Date field."""
    (tmp_path / "a.eml").write_bytes(MAIL)
    result = await postwerk("import", "eml", tmp_path / "a.eml", "--account", account.login.upper())
    assert "1 messages" in result.stdout
    ((row, octets),) = await stored(context, account)
    assert octets == MAIL
    assert row.internaldate == datetime(2026, 11, 2, 3, 4, 5, tzinfo=UTC)
    assert (row.flags, row.keywords) == (0, ())


async def test_unix_line_ends(postwerk: Runner, context: Context, account: Person, tmp_path: Path) -> None:
    """A Unix file's line ends become CRLF; a file in wire form keeps even its odd ones."""
    odd = b"A: 1\r\n\r\nbare\nline\rends"
    write(tmp_path, [("1.eml", MAIL.replace(b"\r\n", b"\n")), ("2.eml", odd)])
    await postwerk("import", "eml", tmp_path, "--account", account.login)
    assert (await stored(context, account)).octets == [MAIL, odd]


async def test_eml_directory(postwerk: Runner, context: Context, account: Person, tmp_path: Path) -> None:
    """All files below a directory are taken in the order of their names; what is empty or hidden is not."""
    write(tmp_path, [("b/2.eml", MAIL + b"2\r\n"), ("1.eml", MAIL + b"1\r\n"), ("empty.eml", b""), (".hidden", MAIL)])
    os.utime(tmp_path / "1.eml", (1e9, 1e9))
    result = await postwerk("import", "eml", tmp_path, "--account", account.login, "--mailbox", "New/Place", code=65)
    assert "empty.eml: empty" in result.stderr
    assert (await stored(context, account, "New/Place")).octets == [MAIL + b"1\r\n", MAIL + b"2\r\n"]


async def test_standard_input(postwerk: Runner, context: Context, account: Person) -> None:
    """A message and an mbox file can come from standard input."""
    await postwerk("import", "eml", "-", "--account", account.login, given=MAIL)
    mbox = b"From - Mon Nov  2 03:04:05 2026\n" + MAIL.replace(b"\r\n", b"\n") + b"\n"
    await postwerk("import", "mbox", "-", "--account", account.login, given=mbox * 2)
    assert (await stored(context, account)).octets == [MAIL] * 3


async def test_mbox_file(postwerk: Runner, context: Context, account: Person, tmp_path: Path) -> None:
    """The messages of an mbox file come with the dates of their From_ lines and the flags of their Status fields."""
    text = (
        b"From bob Sat Oct 31 00:00:00 2026\nStatus: RO\nX-Status: F\nX-Keywords: work\nSubject: 1\n\n>From here\n\n"
        b"From bob Sun Nov  1 00:00:00 2026\nSubject: 2\n\ntext\n\n"
    )
    (tmp_path / "mail").write_bytes(text)
    await postwerk("import", "mbox", tmp_path / "mail", "--account", account.login)
    first, second = await stored(context, account)
    assert first[1].endswith(b"Subject: 1\r\n\r\nFrom here\r\n")
    assert (first[0].flags, first[0].keywords) == (1 | 4, ("work",))
    assert first[0].internaldate == datetime(2026, 10, 31, tzinfo=UTC)
    assert second[1] == b"Subject: 2\r\n\r\ntext\r\n"
    assert (second[0].flags, second[0].internaldate) == (0, datetime(2026, 11, 1, tzinfo=UTC))


async def test_mbox_directory(postwerk: Runner, context: Context, account: Person, tmp_path: Path) -> None:
    """Each file of a directory becomes a mailbox; a file that is no mbox is named, and the others are imported."""
    write(
        tmp_path,
        [
            ("Work.mbox", (FILES / "simple.mbox").read_bytes()),
            ("Lists.sbd/rlug", (FILES / "rlug.mbox").read_bytes()),
            ("Lists.msf", b"index"),
            ("notes", b"no mail"),
        ],
    )
    result = await postwerk("import", "mbox", tmp_path, "--account", account.login, "--mailbox", "Old", code=65)
    assert "notes: no mbox file" in result.stderr
    assert len(await stored(context, account, "Old/Work")) == 3
    assert len(await stored(context, account, "Old/Lists/rlug")) == 5


async def test_maildir(postwerk: Runner, context: Context, account: Person, tmp_path: Path) -> None:
    """A Maildir comes with its folders, flags, keywords and the times of its files, in the order of arrival."""
    write(
        tmp_path,
        [
            ("cur/20.b:2,FS", MAIL + b"2\r\n"),
            ("cur/9.a:2,Ra", MAIL + b"1\r\n"),
            ("new/30.c", MAIL + b"3\r\n"),
            ("tmp/40.d", MAIL + b"4\r\n"),
            ("dovecot-keywords", b"0 $Label1\n"),
            (".Entw&APw-rfe.2024/cur/1.x:2,DT", MAIL),
            ("nested/deep/cur/1.x", MAIL),
        ],
    )
    os.utime(tmp_path / "cur/9.a:2,Ra", (1e9, 1e9))
    await postwerk("import", "maildir", tmp_path, "--account", account.login)
    inbox = await stored(context, account)
    assert inbox.octets == [MAIL + b"%d\r\n" % number for number in (1, 2, 3)]
    assert [row.flags for row, _ in inbox] == [2, 1 | 4, 0]
    assert inbox[0][0].keywords == ("$Label1",)
    assert inbox[0][0].internaldate == datetime.fromtimestamp(1e9, UTC)
    assert [row.flags for row, _ in await stored(context, account, "Entwürfe/2024")] == [8 | 16]
    assert len(await stored(context, account, "nested/deep")) == 1


async def test_no_maildir(postwerk: Runner, account: Person, tmp_path: Path) -> None:
    """A directory without cur is refused as a Maildir."""
    await postwerk("import", "maildir", tmp_path, "--account", account.login, code=os.EX_DATAERR)


async def test_unknown_account(postwerk: Runner, tmp_path: Path) -> None:
    """An account that does not exist is refused, for import and for export."""
    await postwerk("import", "mbox", FILES / "simple.mbox", "--account", "nobody@example.test", code=os.EX_NOUSER)
    await postwerk(
        "export", tmp_path, "--account", "nobody@example.test", "--format", "eml", code=os.EX_NOUSER
    )  # fmt: skip


async def test_unknown_mailbox(postwerk: Runner, account: Person, tmp_path: Path) -> None:
    """A mailbox that does not exist cannot be exported."""
    arguments = ("--account", account.login, "--mailbox", "Nowhere", "--format", "eml")
    await postwerk("export", tmp_path, *arguments, code=os.EX_NOINPUT)


async def test_many_and_large_messages_keep_their_order(
    postwerk: Runner, context: Context, account: Person, tmp_path: Path
) -> None:
    """More messages than a batch holds, large ones among them, get UIDs in their order."""
    mails = [MAIL + b"%d\r\n" % number for number in range(250)]
    mails[120] += b"x" * 70 * 30_000 + b"\r\n"
    write(tmp_path, [(f"{number:03}.eml", mail) for number, mail in enumerate(mails)])
    await postwerk("import", "eml", tmp_path, "--account", account.login)
    found = await stored(context, account)
    assert found.octets == mails
    assert [row.uid for row, _ in found] == list(range(1, 251))


def corpus() -> list[bytes]:
    """Some real and odd mails, one of each folder."""
    chosen = {path.parent: path for path in MAILS if path.stat().st_size}
    return [path.read_bytes() for path in chosen.values()]


async def test_eml_round_trip(postwerk: Runner, context: Context, account: Person, tmp_path: Path) -> None:
    """Real mails that are imported, exported, and imported again are the same octets each time, with the same dates."""
    write(tmp_path / "in", [(f"{number:04}.eml", mail) for number, mail in enumerate(corpus())])
    await postwerk("import", "eml", tmp_path / "in", "--account", account.login)
    first = await stored(context, account)
    arguments = ("--account", account.login, "--mailbox", "inbox", "--format", "eml")
    await postwerk("export", tmp_path / "out", *arguments)
    exported = read(tmp_path / "out")
    assert [exported[name] for name in sorted(exported)] == first.octets
    await postwerk("import", "eml", tmp_path / "out", "--account", account.login, "--mailbox", "Again")
    again = await stored(context, account, "Again")
    in_wire_form = [number for number, octets in enumerate(first.octets) if octets.split(b"\n", 1)[0].endswith(b"\r")]
    assert len(in_wire_form) > 50
    for number in in_wire_form:
        assert again[number][1] == first[number][1]
        assert abs(again[number][0].internaldate - first[number][0].internaldate).total_seconds() < 1


async def test_maildir_round_trip(postwerk: Runner, context: Context, account: Person, tmp_path: Path) -> None:
    """A Maildir that is imported, exported, and imported elsewhere is the same: octets, flags, keywords, dates, folders."""
    write(
        tmp_path / "in",
        [
            (f"cur/{number}.x:2,{flags}", MAIL + bytes([number]) + b"\r\n")
            for number, flags in enumerate(["", "S", "FRSb", "DPTa"])
        ]
        + [("dovecot-keywords", b"0 $Label1\n1 work\n"), (".A.B &AOQ-/cur/1.y:2,S".replace("/cur", "/cur"), MAIL)],
    )
    for number in range(4):
        (path,) = (tmp_path / "in/cur").glob(f"{number}.*")
        os.utime(path, (1e9 + number, 1e9 + number))
    await postwerk("import", "maildir", tmp_path / "in", "--account", account.login)
    await postwerk("export", tmp_path / "out", "--account", account.login, "--format", "maildir")
    assert (tmp_path / "out" / ".A.B &AOQ-" / "maildirfolder").exists()
    assert not list((tmp_path / "out" / "tmp").iterdir())
    await postwerk("import", "maildir", tmp_path / "out", "--account", account.login, "--mailbox", "Copy")
    for name in ("INBOX", "A/B ä"):
        before = await stored(context, account, name)
        after = await stored(context, account, "Copy" if name == "INBOX" else f"Copy/{name}")
        assert before
        assert after.octets == before.octets
        for (old, _), (new, _) in zip(before, after, strict=True):
            assert (old.flags, set(old.keywords), old.internaldate) == (new.flags, set(new.keywords), new.internaldate)


async def test_mbox_round_trip(postwerk: Runner, context: Context, account: Person, tmp_path: Path) -> None:
    """Messages exported as mbox and imported again are the same, From_ lines in their text included."""
    mails = [MAIL + b"\r\nFrom here on\r\n>From there\r\n", MAIL * 2, MAIL + b"x" * 70_000 + b"\r\n\r\n"]
    write(tmp_path / "in", [(f"{number}.eml", mail) for number, mail in enumerate(mails)])
    await postwerk("import", "eml", tmp_path / "in", "--account", account.login)
    arguments = ("--account", account.login, "--mailbox", "INBOX", "--format", "mbox")
    await postwerk("export", tmp_path / "out.mbox", *arguments)
    result = await postwerk("export", "-", *arguments)
    assert result.stdout_bytes == (tmp_path / "out.mbox").read_bytes()
    await postwerk("export", tmp_path / "out.mbox", *arguments, code=os.EX_CANTCREAT)
    await postwerk("import", "mbox", tmp_path / "out.mbox", "--account", account.login, "--mailbox", "Again")
    assert (await stored(context, account, "Again")).octets == mails


async def test_export_of_all_mailboxes(postwerk: Runner, context: Context, account: Person, tmp_path: Path) -> None:
    """Without --mailbox each mailbox gets a place of its own, and no name leads out of the directory."""
    for name in ("INBOX", "A/../B", "A/.hidden"):
        await postwerk("import", "eml", "-", "--account", account.login, "--mailbox", name, given=MAIL)
    await postwerk("export", tmp_path / "eml", "--account", account.login, "--format", "eml")
    assert set(read(tmp_path / "eml")) == {
        "INBOX/00000001.eml",
        "A/%2E./B/00000001.eml",
        "A/%2Ehidden/00000001.eml",
    }
    await postwerk("export", tmp_path / "mbox", "--account", account.login, "--format", "mbox")
    filled = {name for name, octets in read(tmp_path / "mbox").items() if octets}
    assert filled == {"INBOX.mbox", "A/%2E./B.mbox", "A/%2Ehidden.mbox"}
