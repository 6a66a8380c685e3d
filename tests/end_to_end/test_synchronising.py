"""Programs that keep a Maildir and the account alike, both ways: mbsync and OfflineIMAP, many mails, flags, deletions, names."""

import mailbox
import re
from collections.abc import Callable
from pathlib import Path

from bench.mails import mails
from bench.suite import Suite
from bench.system import Account
from tests.end_to_end.suite import bodies, imap
from tests.end_to_end.tools import Tool, as_wire, fill, numbered, send, written

_MESSAGE_ID = re.compile(rb"^Message-ID: (\S+)", re.MULTILINE)
_UMLAUTS, _UMLAUTS_7BIT = "Entwürfe/Größe № 1", "Entw&APw-rfe/Gr&APYA3w-e &IRY- 1"
_KANJI, _KANJI_7BIT = "日本語 2026", "&ZeVnLIqe- 2026"
# A Maildir's letters are the flags of RFC 9051 §2.3.2 by the first one of each.
_FLAGS = {"S": "Seen", "F": "Flagged", "R": "Answered", "D": "Draft"}

_MBSYNCRC = """
FSync no

IMAPStore remote
Host localhost
Port {port}
User {login}
Pass "{password}"
SSLType IMAPS
CertificateFile {authority}

MaildirStore local
Path {home}/mail/
Inbox {home}/mail/inbox
SubFolders Verbatim

Channel all
Far :remote:
Near :local:
Patterns *
Create Both
Expunge Both
Sync All
SyncState *
"""

_OFFLINEIMAPRC = """
[general]
accounts = all
maxsyncaccounts = 1
metadata = {home}/state
fsync = false

[Account all]
localrepository = local
remoterepository = remote
utf8foldernames = yes

[Repository local]
type = Maildir
localfolders = {home}/mail
sep = /

[Repository remote]
type = IMAP
remotehost = localhost
remoteport = {port}
remoteuser = {login}
remotepass = {password}
ssl = yes
sslcacertfile = {authority}
maxconnections = 2
"""


class Maildirs:
    """The Maildirs that a program keeps below a directory, as files: the flags of a message end its file's name."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        directory.mkdir()

    def names(self) -> set[str]:
        """Relative paths of all Maildirs."""
        return {str(path.parent.relative_to(self._directory)) for path in self._directory.rglob("cur")}

    def open(self, name: str) -> mailbox.Maildir:
        """One of them, made when it is not there."""
        return mailbox.Maildir(self._directory / name, factory=None)

    def files(self, name: str) -> dict[str, Path]:
        """Message-ID -> file of every message."""
        found = {}
        for path in [*(self._directory / name / "cur").iterdir(), *(self._directory / name / "new").iterdir()]:
            identity = _MESSAGE_ID.search(path.read_bytes())
            assert identity, path
            found[identity[1].decode()] = path
        return found

    def flags(self, name: str) -> dict[str, str]:
        """Message-ID -> flags, as letters in their order, of every message."""
        return {identity: path.name.partition(":2,")[2] for identity, path in self.files(name).items()}

    def flag(self, name: str, flags: dict[str, str]) -> None:
        """Give messages flags, by their Message-ID."""
        files = self.files(name)
        for identity, letters in flags.items():
            path = files[identity]
            path.rename(path.parent.with_name("cur") / f"{path.name.partition(':2,')[0]}:2,{letters}")

    def remove(self, name: str, identities: set[str]) -> None:
        """Remove messages, by their Message-ID."""
        files = self.files(name)
        for identity in identities:
            files[identity].unlink()


def _identity(number: int) -> str:
    return f"<{number}.numbered@sender.test>"


def _values(suite: Suite, account: Account, home: Path) -> dict[str, object]:
    access = {"login": account.login, "password": account.password, "authority": suite.endpoints["ca"]}
    return {**access, "port": suite.endpoint("imaps")[1], "home": home}


def _flags_there(suite: Suite, account: Account, name: str) -> dict[str, str]:
    """The same as Maildirs.flags, of the server's mailbox."""
    item = "BODY[HEADER.FIELDS (MESSAGE-ID)]"
    with imap(suite, account) as client:
        client.command("ENABLE IMAP4rev2")  # names are UTF-8 from here on, RFC 9051 §5.1
        client.select(name)
        found = {}
        for fetched in client.fetch("1:*", f"FLAGS {item.replace('BODY', 'BODY.PEEK')}"):
            flags = fetched.items[b"FLAGS"]
            assert isinstance(flags, list)
            letters = [letter for letter, flag in _FLAGS.items() if b"\\" + flag.encode() in flags]
            found[fetched.octets(item).decode().partition(": ")[2].strip()] = "".join(sorted(letters))
        return found


def test_mbsync_carries_octets(suite: Suite, account: Account, tool: Tool, tmp_path: Path) -> None:
    """mbsync brings 100 realistic mails to a Maildir and 100 others back, octet for octet but for its own field."""
    configuration = written(tmp_path / "mbsyncrc", _MBSYNCRC.format(**_values(suite, account, tmp_path)))
    here = Maildirs(tmp_path / "mail")
    originals = send(suite, account, 100)
    tool("mbsync", "--config", str(configuration), "--all", home=tmp_path)
    local = here.open("inbox")
    there = sorted(_without_tuid(as_wire(local.get_bytes(key))) for key in sorted(local.keys()))
    assert there == sorted(bodies(suite, account))
    assert len(there) == len(originals)

    ours = [mail.octets for mail in mails(100, seed=4711)]
    archive = here.open("Archive")
    for octets in ours:
        archive.add(mailbox.MaildirMessage(octets.replace(b"\r\n", b"\n")))
    tool("mbsync", "--config", str(configuration), "--all", home=tmp_path)
    assert sorted(_without_tuid(octets) for octets in bodies(suite, account, "Archive")) == sorted(ours)


def _without_tuid(octets: bytes) -> bytes:
    """Without the field by which mbsync finds its mails again."""
    return b"".join(line for line in octets.splitlines(keepends=True) if not line.startswith(b"X-TUID: "))


def test_mbsync_both_ways(suite: Suite, account: Account, tool: Tool, tmp_path: Path) -> None:
    """mbsync keeps 2,000 messages alike both ways: flags, deletions, new messages and mailboxes with names beyond ASCII."""
    configuration = written(tmp_path / "mbsyncrc", _MBSYNCRC.format(**_values(suite, account, tmp_path)))

    def synchronise() -> None:
        tool("mbsync", "--config", str(configuration), "--all", home=tmp_path)

    # The name stays in modified UTF-7 (RFC 3501 §5.1.3) on disk: mbsync 1.4 takes names as they come.
    _both_ways(suite, account, Maildirs(tmp_path / "mail"), synchronise, ("inbox", _UMLAUTS_7BIT, _KANJI_7BIT), 2000)


def test_offlineimap_both_ways(suite: Suite, account: Account, tool: Tool, tmp_path: Path) -> None:
    """OfflineIMAP keeps 400 messages alike both ways: flags, deletions, new messages and mailboxes with names beyond ASCII."""
    configuration = written(tmp_path / "offlineimaprc", _OFFLINEIMAPRC.format(**_values(suite, account, tmp_path)))

    def synchronise() -> None:
        tool("offlineimap", "-o", "-u", "basic", "-c", str(configuration), home=tmp_path)

    _both_ways(suite, account, Maildirs(tmp_path / "mail"), synchronise, ("INBOX", _UMLAUTS, _KANJI), 400)


def _both_ways(
    suite: Suite,
    account: Account,
    here: Maildirs,
    synchronise: Callable[[], None],
    names: tuple[str, str, str],
    count: int,
) -> None:
    """Changes on both sides between runs, and both sides the same after each. names: as they are in the file system."""
    inbox, umlauts, kanji = names
    pairs = {"INBOX": inbox, _UMLAUTS: umlauts, _KANJI: kanji}
    flags = Expected(count)
    originals = numbered(count + 60)
    fill(suite, account, "INBOX", originals[:count])
    with imap(suite, account) as client:
        client.command("ENABLE IMAP4rev2")
        client.command(f'CREATE "{_UMLAUTS}"')
        client.append(_UMLAUTS, *originals[count : count + 20])
        client.select()
        for verb, letter, numbers in flags.at_first():
            client.command(f"UID STORE {_uids(numbers)} {verb}FLAGS.SILENT (\\{_FLAGS[letter]})")
    synchronise()
    assert {inbox, umlauts} <= here.names()
    assert here.flags(inbox) == _flags_there(suite, account, "INBOX") == flags.flags
    assert set(here.flags(umlauts)) == {_identity(number) for number in range(count, count + 20)}

    here.flag(inbox, flags.change_here())
    here.remove(inbox, flags.remove(range(count - 50, count - 25)))
    for number in range(count + 20, count + 40):
        message = mailbox.MaildirMessage(originals[number].replace(b"\r\n", b"\n"))
        message.set_flags("FS" if number % 2 else "S")
        message.set_subdir("cur")
        here.open(kanji).add(message)
    with imap(suite, account) as client:
        client.select()
        for verb, letter, numbers in flags.change_there():
            client.command(f"UID STORE {_uids(numbers)} {verb}FLAGS.SILENT (\\{_FLAGS[letter]})")
        gone = range(count - 25, count)
        flags.remove(gone)
        client.command(f"UID STORE {_uids(gone)} +FLAGS.SILENT (\\Deleted)")
        client.command(f"UID EXPUNGE {_uids(gone)}")
    flags.add(range(count + 40, count + 60))
    fill(suite, account, "INBOX", originals[count + 40 :])
    synchronise()
    assert here.flags(inbox) == flags.flags
    there = {name: _flags_there(suite, account, name) for name in pairs}
    assert there["INBOX"] == flags.flags
    assert sorted(there[_KANJI].values()) == ["FS"] * 10 + ["S"] * 10
    assert {name: here.flags(path) for name, path in pairs.items()} == there

    files = {path: here.files(path) for path in pairs.values()}
    synchronise()
    assert {path: here.files(path) for path in pairs.values()} == files
    assert {name: _flags_there(suite, account, name) for name in pairs} == there


def _uids(numbers: range) -> str:
    """The first message is number 0 and has the UID 1."""
    return f"{numbers.start + 1}:{numbers.stop}"


class Expected:
    """What INBOX must look like on both sides: Message-ID -> flags. Its methods change that, and tell what to do for it."""

    def __init__(self, count: int) -> None:
        self._part = count // 20
        self.flags: dict[str, str] = {}
        self.add(range(count))

    def add(self, numbers: range) -> None:
        """New messages without flags."""
        self.flags |= {_identity(number): "" for number in numbers}

    def at_first(self) -> list[tuple[str, str, range]]:
        """Commands for the server, (+ or -, flag, numbers)."""
        part = self._part
        return self._stored([("+", "S", range(5 * part)), ("+", "F", range(4 * part, 6 * part))])

    def change_there(self) -> list[tuple[str, str, range]]:
        """The same between the runs: none of them touches what changes here."""
        part = self._part
        answered = range(15 * part, 16 * part)
        return self._stored([("+", "R", answered), ("+", "D", answered), ("-", "S", range(4 * part, 5 * part))])

    def change_here(self) -> dict[str, str]:
        """What to set in the Maildir: some are answered, some unread again."""
        part = self._part
        changed = {_identity(number): "RS" for number in range(10 * part, 11 * part)}
        changed |= {_identity(number): "" for number in range(part)}
        self.flags |= changed
        return changed

    def remove(self, numbers: range) -> set[str]:
        """These are gone."""
        gone = {_identity(number) for number in numbers}
        self.flags = {identity: letters for identity, letters in self.flags.items() if identity not in gone}
        return gone

    def _stored(self, commands: list[tuple[str, str, range]]) -> list[tuple[str, str, range]]:
        for verb, letter, numbers in commands:
            for number in numbers:
                kept = set(self.flags[_identity(number)])
                self.flags[_identity(number)] = "".join(sorted(kept | {letter} if verb == "+" else kept - {letter}))
        return commands
