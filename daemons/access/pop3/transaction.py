"""The TRANSACTION state of a POP3 session: the maildrop's listing and its messages. RFC 1939 §5."""

import secrets
from collections.abc import AsyncGenerator
from contextlib import aclosing

from daemons.logs import logger
from daemons.sockets import Connection
from protocol.pop3 import response
from protocol.pop3.command import Command, Dele, List, Noop, Retr, Rset, Stat, Top, Uidl
from protocol.pop3.response import Code, Stuffing, TopCut
from protocol.pop3.session import ServerSession
from storage.blobs.store import BlobReader
from storage.errors import CorruptError, NotFoundError, StorageError
from storage.maildrops import Listing

log = logger("pop3")

_STREAM_ABOVE_OCTETS = 256 * 1024  # larger messages go out in pieces, and are never whole in memory
_LOCATED_AHEAD = 200  # clients read on from where they are: one query locates so many messages


class Transaction:
    """What a logged-in client does with its maildrop. Deleting is a mark until the session ends it with QUIT."""

    def __init__(self, session: ServerSession, connection: Connection, blobs: BlobReader, listing: Listing) -> None:
        self._session = session
        self._connection = connection
        self._blobs = blobs
        self._listing = listing
        self._deleted: set[int] = set()  # message numbers
        self._deleted_octets = 0
        self._located = range(0)  # indexes whose messages have been located

    def deleted_uids(self) -> list[int]:
        """The UIDs that QUIT has to remove, ascending."""
        return [self._listing.uids[number - 1] for number in sorted(self._deleted)]

    async def handle(self, command: Command) -> None:
        """Answer one command of the TRANSACTION state, all but CAPA and QUIT."""
        match command:
            case Retr(number):
                await self._retr(number)
            case Dele(number):
                self._dele(number)
            case Uidl(number):
                self._uidl(number)
            case List(number):
                self._list(number)
            case Stat():
                self._session.ok(f"{self._count} {self._octets}")
            case Top(number, lines):
                await self._top(number, lines)
            case Rset():
                self._deleted.clear()
                self._deleted_octets = 0
                self._session.ok()
            case Noop():
                self._session.ok()
            case _:
                raise AssertionError(f"no command of the TRANSACTION state: {command!r}")

    @property
    def _count(self) -> int:
        return len(self._listing) - len(self._deleted)

    @property
    def _octets(self) -> int:
        return self._listing.size_octets - self._deleted_octets

    def _index(self, number: int) -> int | None:
        """Where the message is, or None, answered, where there is none."""
        if 1 <= number <= len(self._listing) and number not in self._deleted:
            return number - 1
        self._session.refuse("no such message")
        return None

    # -- listings ---------------------------------------------------------------------------------------------------

    def _list(self, number: int | None) -> None:
        sizes = self._listing.sizes
        if number is None:
            first = f"{self._count} messages ({self._octets} octets)"
            self._session.ok(first, response.numbered(sizes, self._deleted))
        elif (index := self._index(number)) is not None:
            self._session.ok(f"{number} {sizes[index]}")

    def _uidl(self, number: int | None) -> None:
        """The unique-id is UIDVALIDITY.UID: IMAP promises that neither is ever used for another message."""
        uids, prefix = self._listing.uids, f"{self._listing.uidvalidity}."
        if number is None:
            self._session.ok("", response.numbered(uids, self._deleted, prefix))
        elif (index := self._index(number)) is not None:
            self._session.ok(f"{number} {prefix}{uids[index]}")

    def _dele(self, number: int) -> None:
        if (index := self._index(number)) is not None:
            self._deleted.add(number)
            self._deleted_octets += self._listing.sizes[index]
            self._session.ok(f"message {number} deleted")

    # -- messages ---------------------------------------------------------------------------------------------------

    async def _retr(self, number: int) -> None:
        index = self._index(number)
        if index is None:
            return
        size_octets = self._listing.sizes[index]
        first = response.ok(f"{size_octets} octets")
        try:
            await self._locate(index)
            if size_octets <= _STREAM_ABOVE_OCTETS:
                octets = await self._blobs.message(self._listing.content_ids[index])
                self._session.ok_octets(first + response.stuffed_message(octets))
                return
        except StorageError as error:
            self._refuse(error)
            return
        await self._stream(first, index, None)

    async def _top(self, number: int, lines: int) -> None:
        index = self._index(number)
        if index is None:
            return
        try:
            await self._locate(index)
        except StorageError as error:
            self._refuse(error)
            return
        await self._stream(response.ok(), index, TopCut(lines))

    async def _stream(self, first: bytes, index: int, cutting: TopCut | None) -> None:
        """Send a message, or the top of it, piece by piece; a client that reads slowly holds one piece in memory."""
        stuffing, has_begun = Stuffing(), False
        try:
            async with aclosing(self._pieces(index)) as pieces:
                async for piece in pieces:
                    if not has_begun:  # until here a failure can still be told
                        self._session.ok_octets(first)
                        has_begun = True
                    wanted = piece if cutting is None else cutting.feed(piece)
                    self._session.add_octets(stuffing.feed(wanted))
                    if cutting is not None and cutting.is_done:
                        break
                    await self._connection.send(self._session.take_output())
        except StorageError as error:
            self._refuse(error) if not has_begun else self._break_off(error)
            return
        if not has_begun:
            self._session.ok_octets(first)
        self._session.add_octets(stuffing.end())

    async def _pieces(self, index: int) -> AsyncGenerator[bytes, None]:
        content_id = self._listing.content_ids[index]
        if self._listing.sizes[index] <= _STREAM_ABOVE_OCTETS:
            yield await self._blobs.message(content_id)
            return
        async for piece in self._blobs.stream(content_id):
            yield piece

    async def _locate(self, index: int) -> None:
        """Locate this message, and the next ones with it when the client reads in sequence."""
        if index in self._located:
            return
        is_in_sequence = index == self._located.stop
        stop = min(index + (_LOCATED_AHEAD if is_in_sequence else 1), len(self._listing))
        await self._blobs.prefetch(self._listing.content_ids[index:stop])
        self._located = range(index, stop)

    def _refuse(self, error: StorageError) -> None:
        if isinstance(error, NotFoundError):
            self._session.refuse("message was removed")  # by IMAP, since this session began
            return
        error_id = secrets.token_hex(6)
        log.error("message cannot be read", error_id=error_id, error=repr(error))
        code = Code.SYS_PERM if isinstance(error, CorruptError) else Code.SYS_TEMP
        self._session.refuse(f"message cannot be read ({error_id})", code)

    def _break_off(self, error: StorageError) -> None:
        """Within a message there is no way to tell a failure but to end the connection before its last line."""
        log.error("message cannot be read", error_id=secrets.token_hex(6), error=repr(error))
        self._session.end()
        self._session.take_output()
        self._connection.abort()
