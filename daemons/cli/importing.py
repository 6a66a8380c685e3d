"""Existing mail into an account: from single files, mbox files and Maildirs, in order and in bounded memory."""

import asyncio
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, TypeAlias

from daemons.context import Context
from daemons.delivery import prepare
from protocol import maildir
from protocol.imap.flags import bits_of
from protocol.imap.names import canonical
from protocol.mbox import (
    MboxError,
    MboxReader,
    MessageEnds,
    MessageOctets,
    MessageStarts,
    WireForm,
    flags_of,
    received_at,
)
from storage import mailboxes
from storage.errors import MailboxNotFoundError, StorageError, UnavailableError
from storage.pool import reported
from storage.rows import Login, NewMessage, Placement
from storage.spool import Spool, SpoolFile

BATCH_MESSAGES = 100
BATCH_OCTETS = 16 << 20
_READ_OCTETS = 256 * 1024
_HEAD_OCTETS = 64 * 1024  # where dates and flags are looked for
_TURN_MESSAGES = 8  # so many are read before the commit in flight gets its turn


@dataclass(frozen=True, slots=True)
class Found:
    """A message in a source, spooled in wire form."""

    name: str  # for complaints
    mailbox: str
    spooled: SpoolFile
    internaldate: datetime | None
    flags: list[bytes]
    progress: int  # of the source's measure: files, or octets of a file


@dataclass(frozen=True, slots=True)
class Unusable:
    """What cannot be imported, and why."""

    name: str
    reason: str
    progress: int = 0


Source: TypeAlias = Iterator[Found | Unusable]


@dataclass(slots=True)
class Outcome:
    """What came of an import."""

    messages: int = 0
    octets: int = 0
    unusable: list[Unusable] = field(default_factory=list)


class Importer:
    """Stores what a source gives. Batches keep the order, so UIDs follow it; while one is committed the next is read."""

    def __init__(self, context: Context, login: Login, progressed: Callable[[int], None]) -> None:
        self._context = context
        self._login = login
        self._progressed = progressed
        self._mailbox_ids: dict[str, int] = {}
        self.outcome = Outcome()

    async def run(self, source: Source) -> Outcome:
        """Import everything. Raises UnavailableError when the store is away: what was counted so far is stored."""
        batch: list[Found] = []
        storing: asyncio.Task[None] | None = None
        try:
            for number, item in enumerate(source):
                if number % _TURN_MESSAGES == 0:
                    await asyncio.sleep(0)
                if isinstance(item, Unusable):
                    self._refuse(item)
                    continue
                batch.append(item)
                if len(batch) >= BATCH_MESSAGES or sum(each.spooled.size_octets for each in batch) >= BATCH_OCTETS:
                    messages = await self._prepared(batch)
                    if storing is not None:
                        await storing
                    storing, batch = asyncio.create_task(self._store(batch, messages)), []
            if storing is not None:
                await storing
            await self._store(batch, await self._prepared(batch))
        finally:
            for item in batch:
                item.spooled.discard()
            if storing is not None:
                await asyncio.wait([storing])
        return self.outcome

    async def _prepared(self, batch: Iterable[Found]) -> list[NewMessage]:
        return [await self._new_message(item) for item in batch]

    async def _new_message(self, item: Found) -> NewMessage:
        bits, keywords = bits_of(item.flags)
        mailbox_id = await self._mailbox_id(item.mailbox)
        placement = Placement(mailbox_id, bits, tuple(keywords), item.internaldate)
        return await prepare(self._login.tenant_id, b"", item.spooled.original, [placement])

    async def _mailbox_id(self, name: str) -> int:
        """The mailbox of that name, made and subscribed when it is missing."""
        name = canonical(name)
        known = self._mailbox_ids.get(name)
        if known is not None:
            return known
        async with reported(), self._context.pool.acquire() as connection:
            mailbox = await mailboxes.find(connection, self._login.account_id, name)
            if mailbox is None or not mailbox.is_selectable:
                mailbox = await mailboxes.create(connection, self._login.account_id, name)
                await mailboxes.subscribe(connection, self._login.account_id, name)
        self._mailbox_ids[name] = mailbox.mailbox_id
        return mailbox.mailbox_id

    async def _store(self, batch: list[Found], messages: list[NewMessage]) -> None:
        if not batch:
            return
        try:
            await self._context.ingest.store(messages)
        except (UnavailableError, MailboxNotFoundError):
            raise
        except StorageError:  # one of them is bad: let it fail alone
            for item, message in zip(batch, messages, strict=True):
                await self._store_alone(item, message)
        else:
            for item in batch:
                self._count(item)
        finally:
            for item in batch:
                item.spooled.discard()

    async def _store_alone(self, item: Found, message: NewMessage) -> None:
        try:
            await self._context.ingest.store([message])
        except UnavailableError:
            raise
        except StorageError as error:
            self._refuse(Unusable(item.name, str(error), item.progress))
        else:
            self._count(item)

    def _count(self, item: Found) -> None:
        self.outcome.messages += 1
        self.outcome.octets += item.spooled.size_octets
        self._progressed(item.progress)

    def _refuse(self, item: Unusable) -> None:
        self.outcome.unusable.append(item)
        self._progressed(item.progress)


# -- sources ------------------------------------------------------------------------------------------------------------


def eml_files(path: Path) -> Iterator[Path]:
    """The file itself, or all files below a directory by name, hidden ones left out."""
    if not path.is_dir():
        yield path
        return
    for directory, directories, names in os.walk(path):
        directories[:] = sorted(name for name in directories if not name.startswith("."))
        yield from (Path(directory, name) for name in sorted(names) if not name.startswith("."))


def eml(path: Path, mailbox: str, spool: Spool) -> Source:
    """One message per file. Internal date: Received, Date, or else when the file was changed."""
    for file_path in eml_files(path):
        yield _from_file(file_path, mailbox, spool)


def eml_stream(stream: BinaryIO, mailbox: str, spool: Spool) -> Source:
    """One message from a stream."""
    spooled, head = _spooled(stream, spool)
    if spooled.size_octets:
        yield Found("-", mailbox, spooled, received_at(head), [], 1)
    else:
        yield Unusable("-", "empty", 1)


def mbox_files(path: Path, mailbox: str | None) -> Iterator[tuple[Path, str]]:
    """mbox files with the mailboxes they stand for: one file, or a directory of them, as mutt and Thunderbird keep them."""
    if not path.is_dir():
        yield path, mailbox or mailboxes.INBOX
        return
    for file_path in eml_files(path):
        if file_path.suffix == ".msf":  # Thunderbird's index
            continue
        levels = [level.removesuffix(".sbd") for level in file_path.relative_to(path).parts]
        levels[-1] = levels[-1].removesuffix(".mbox")
        yield file_path, mailboxes.SEPARATOR.join([*([mailbox] if mailbox else []), *levels])


def mbox(stream: BinaryIO, name: str, mailbox: str, spool: Spool) -> Source:
    """The messages of one file. Internal date: the From_ line's; flags: Status, X-Status, X-Keywords."""
    reader, read_octets, number = MboxReader(), 0, 0
    spooled, form, head = spool.open(), WireForm(), b""
    delivered_at: datetime | None = None
    try:
        while True:
            chunk = stream.read(_READ_OCTETS)
            read_octets += len(chunk)
            for event in reader.receive(chunk) if chunk else reader.finish():
                match event:
                    case MessageStarts(delivered_at):
                        spooled, form, head = spool.open(), WireForm(), b""
                    case MessageOctets(octets):
                        octets = form.feed(octets)
                        head += octets[: max(0, _HEAD_OCTETS - len(head))]
                        spooled.write(octets)
                    case MessageEnds():
                        spooled.write(form.finish())
                        number, progress, read_octets = number + 1, read_octets, 0
                        if spooled.size_octets:
                            when = delivered_at or received_at(head)
                            yield Found(f"{name}, message {number}", mailbox, spooled, when, flags_of(head), progress)
                        else:
                            yield Unusable(f"{name}, message {number}", "empty", progress)
            if not chunk:
                return
    except MboxError as error:
        yield Unusable(name, f"no mbox file: {error}", read_octets)
    except OSError as error:
        yield Unusable(name, error.strerror or str(error), read_octets)


def maildir_folders(path: Path, mailbox: str | None) -> Iterator[tuple[Path, str]]:
    """The Maildirs at and below a directory with their mailboxes: Maildir++ (".Work.2024") and nested directories."""
    for directory, directories, _ in os.walk(path):
        here = Path(directory)
        is_maildir = "cur" in directories
        if is_maildir:
            levels = [level for level in here.relative_to(path).parts if level]
            names = [maildir.mailbox_name(level) or level for level in levels]
            name = mailboxes.SEPARATOR.join([*([mailbox] if mailbox else []), *names])
            yield here, name or mailboxes.INBOX
        directories[:] = sorted(name for name in directories if not (is_maildir and name in ("cur", "new", "tmp")))


def maildir_files(folder: Path) -> Iterator[Path]:
    """The messages of one Maildir in the order they came: the number that file names begin with."""
    for part in ("cur", "new"):
        if (folder / part).is_dir():
            names = [
                entry.name for entry in os.scandir(folder / part) if not entry.name.startswith(".") and entry.is_file()
            ]
            yield from (folder / part / name for name in sorted(names, key=_arrival))


def maildir_messages(path: Path, mailbox: str | None, spool: Spool) -> Source:
    """The messages of a Maildir and its folders. Internal date: when the file was changed; flags: in its name."""
    for folder, name in maildir_folders(path, mailbox):
        keywords = _maildir_keywords(folder)
        for file_path in maildir_files(folder):
            flags = maildir.flags_of(file_path.name, keywords)
            yield _from_file(file_path, name, spool, is_dated_by_file=True, flags=flags)


def _arrival(name: str) -> tuple[int, str]:
    seconds = name.partition(".")[0]
    return int(seconds) if seconds.isascii() and seconds.isdigit() and len(seconds) < 12 else 0, name


def _maildir_keywords(folder: Path) -> list[bytes]:
    try:
        return maildir.keywords_of((folder / maildir.KEYWORDS_FILE).read_bytes())
    except OSError:
        return []


def _from_file(
    path: Path, mailbox: str, spool: Spool, *, is_dated_by_file: bool = False, flags: list[bytes] | None = None
) -> Found | Unusable:
    try:
        with path.open("rb") as file:
            changed_at = datetime.fromtimestamp(os.fstat(file.fileno()).st_mtime, UTC)
            spooled, head = _spooled(file, spool)
    except OSError as error:
        return Unusable(str(path), error.strerror or str(error), 1)
    if not spooled.size_octets:
        return Unusable(str(path), "empty", 1)
    when = changed_at if is_dated_by_file else received_at(head) or changed_at
    return Found(str(path), mailbox, spooled, when, flags or [], 1)


def _spooled(stream: BinaryIO, spool: Spool) -> tuple[SpoolFile, bytes]:
    """The message in wire form, and its beginning."""
    spooled, form, head = spool.open(), WireForm(), b""
    while chunk := stream.read(_READ_OCTETS):
        octets = form.feed(chunk)
        head += octets[: max(0, _HEAD_OCTETS - len(head))]
        spooled.write(octets)
    spooled.write(form.finish())
    return spooled, head
