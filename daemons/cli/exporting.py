"""An account's mail into files: single messages, mbox files or a Maildir, each message as it is stored."""

import os
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Protocol

from daemons.context import Context
from protocol import maildir
from protocol.imap.flags import SYSTEM_FLAGS
from protocol.mbox import MboxWriter
from storage import messages
from storage.errors import CorruptError, NotFoundError
from storage.rows import Mailbox, MessageRow

_LOCATED = 500  # contents located by one query
_WHOLE_OCTETS = 256 * 1024  # larger messages are copied in pieces


class Target(Protocol):
    """Where messages go. Calls, for each mailbox: open_mailbox, for each message begin, write..., end or abandon; close_mailbox."""

    def open_mailbox(self, mailbox: Mailbox, rows: Sequence[MessageRow]) -> None: ...
    def begin(self, row: MessageRow) -> None: ...
    def write(self, octets: bytes) -> None: ...
    def end(self) -> None: ...
    def abandon(self) -> None: ...
    def close_mailbox(self) -> None: ...


@dataclass(slots=True)
class Outcome:
    """What came of an export."""

    messages: int = 0
    octets: int = 0
    unreadable: list[str] = field(default_factory=list)


async def export_mailboxes(
    context: Context, chosen: Sequence[Mailbox], target: Target, progressed: Callable[[int], None]
) -> Outcome:
    """Copy the messages of the mailboxes. Raises StorageError and OSError; a message that is damaged is told in the outcome."""
    outcome = Outcome()
    for mailbox in chosen:
        async with context.pool.acquire() as connection:
            found, rows = await messages.snapshot(connection, mailbox.mailbox_id)
        target.open_mailbox(found, rows)
        for number, row in enumerate(rows):
            if number % _LOCATED == 0:
                await context.blobs.prefetch([each.content_id for each in rows[number : number + _LOCATED]])
            await _copy(context, found, row, target, outcome)
            progressed(1)
        target.close_mailbox()
    return outcome


async def _copy(context: Context, mailbox: Mailbox, row: MessageRow, target: Target, outcome: Outcome) -> None:
    pieces = context.blobs.stream(row.content_id) if row.size_octets > _WHOLE_OCTETS else _whole(context, row)
    target.begin(row)
    try:
        async for piece in pieces:
            target.write(piece)
    except NotFoundError:  # expunged since the snapshot
        target.abandon()
        return
    except CorruptError as error:
        target.abandon()
        outcome.unreadable.append(f"{mailbox.name}, UID {row.uid}: {error}")
        return
    target.end()
    outcome.messages += 1
    outcome.octets += row.size_octets


async def _whole(context: Context, row: MessageRow) -> AsyncIterator[bytes]:
    yield await context.blobs.message(row.content_id)


class _PartFile:
    """A file that gets its name only when it is complete."""

    def __init__(self, part: Path) -> None:
        self._part = part
        self._file: BinaryIO = part.open("wb")
        self.write = self._file.write

    def end(self, path: Path, timestamp: float) -> None:
        self._file.close()
        os.utime(self._part, (timestamp, timestamp))
        self._part.replace(path)

    def abandon(self) -> None:
        self._file.close()
        self._part.unlink()


class EmlFiles:
    """DIRECTORY/MAILBOX/UID.eml, changed at the internal date. is_single: of one mailbox, without a directory of its own."""

    def __init__(self, directory: Path, *, is_single: bool) -> None:
        self._root = self._directory = directory
        self._is_single = is_single
        self._file: _PartFile
        self._row: MessageRow

    def open_mailbox(self, mailbox: Mailbox, rows: Sequence[MessageRow]) -> None:
        self._directory = self._root if self._is_single else self._root.joinpath(*_levels(mailbox.name))
        self._directory.mkdir(parents=True, exist_ok=True)

    def begin(self, row: MessageRow) -> None:
        self._row = row
        self._file = _PartFile(self._directory / f".{row.uid:08}.part")

    def write(self, octets: bytes) -> None:
        self._file.write(octets)

    def end(self) -> None:
        self._file.end(self._directory / f"{self._row.uid:08}.eml", self._row.internaldate.timestamp())

    def abandon(self) -> None:
        self._file.abandon()

    def close_mailbox(self) -> None:
        """Nothing is open between messages."""


class MboxFiles:
    """DIRECTORY/MAILBOX.mbox for all mailboxes, or the file or stream `place` for one."""

    def __init__(self, place: Path | BinaryIO, *, is_single: bool) -> None:
        self._place = place
        self._is_single = is_single
        self._file: BinaryIO
        self._writer = MboxWriter()
        self._begins_at = 0

    def open_mailbox(self, mailbox: Mailbox, rows: Sequence[MessageRow]) -> None:
        if not isinstance(self._place, Path):
            self._file = self._place
            return
        path = self._place
        if not self._is_single:
            *parents, name = _levels(mailbox.name)
            path = path.joinpath(*parents, f"{name}.mbox")
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("xb")  # another run's file is never added to or overwritten

    def begin(self, row: MessageRow) -> None:
        self._begins_at = self._file.tell() if self._file.seekable() else 0
        self._file.write(self._writer.begin(row.internaldate))

    def write(self, octets: bytes) -> None:
        self._file.write(self._writer.feed(octets))

    def end(self) -> None:
        self._file.write(self._writer.finish())

    def abandon(self) -> None:
        """Take back what was written; on a stream that cannot, the message stays as far as it got."""
        rest = self._writer.finish()
        if self._file.seekable():
            self._file.seek(self._begins_at)
            self._file.truncate()
        else:
            self._file.write(rest)

    def close_mailbox(self) -> None:
        if isinstance(self._place, Path):
            self._file.close()
        else:
            self._file.flush()


class MaildirFolders:
    """A Maildir++: the inbox (or the one mailbox) in DIRECTORY, the others in folders of it; with dovecot-keywords."""

    def __init__(self, directory: Path, *, is_single: bool) -> None:
        self._root = self._folder = directory
        self._is_single = is_single
        self._keywords: list[bytes] = []
        self._uidvalidity = 0
        self._file: _PartFile
        self._row: MessageRow

    def open_mailbox(self, mailbox: Mailbox, rows: Sequence[MessageRow]) -> None:
        is_root = self._is_single or mailbox.name == "INBOX"
        self._folder = self._root if is_root else self._root / maildir.directory_of(mailbox.name)
        for part in ("cur", "new", "tmp"):
            (self._folder / part).mkdir(parents=True, exist_ok=True)
        if not is_root:
            (self._folder / "maildirfolder").touch()
        self._uidvalidity = mailbox.uidvalidity
        self._keywords = sorted({keyword.encode("ascii") for row in rows for keyword in row.keywords} - {b"$Forwarded"})
        if self._keywords:
            (self._folder / maildir.KEYWORDS_FILE).write_bytes(maildir.keywords_file(self._keywords))

    def begin(self, row: MessageRow) -> None:
        self._row = row
        self._file = _PartFile(self._folder / "tmp" / self._unique(row))

    def write(self, octets: bytes) -> None:
        self._file.write(octets)

    def end(self) -> None:
        row = self._row
        flags = [flag for flag, bit in SYSTEM_FLAGS.items() if row.flags & bit]
        suffix = maildir.file_suffix([*flags, *(keyword.encode("ascii") for keyword in row.keywords)], self._keywords)
        self._file.end(self._folder / "cur" / (self._unique(row) + suffix), row.internaldate.timestamp())

    def abandon(self) -> None:
        self._file.abandon()

    def close_mailbox(self) -> None:
        """Nothing is open between messages."""

    def _unique(self, row: MessageRow) -> str:
        """The unique part of the name: the time, then what no other message of this account has."""
        seconds = max(0, int(row.internaldate.timestamp()))
        return f"{seconds}.V{self._uidvalidity}U{row.uid}.postwerk,S={row.size_octets}"


def _levels(name: str) -> list[str]:
    """The mailbox's levels as file names: nothing in them leads elsewhere."""
    return [level.replace(".", "%2E", 1) if level.startswith(".") else level for level in name.split("/")]
