"""The TRANSACTION state of a POP3 session: the maildrop's listing and its messages. RFC 1939 §5."""

import secrets
from collections.abc import AsyncGenerator
from contextlib import aclosing

from daemons.context import Context
from daemons.logs import logger
from daemons.sockets import Connection
from protocol.message import downgrade, scan, unpack
from protocol.message.downgrade import Surrogate
from protocol.pop3 import response
from protocol.pop3.command import Command, Dele, List, Noop, Retr, Rset, Stat, Top, Uidl
from protocol.pop3.response import Code, Stuffing, TopCut
from protocol.pop3.session import ServerSession
from protocol.pop3.texts import Text
from storage import messages
from storage.errors import CorruptError, NotFoundError, StorageError
from storage.maildrops import Listing
from storage.pool import reported

log = logger("pop3")

_STREAM_ABOVE_OCTETS = 256 * 1024  # larger messages go out in pieces, and are never whole in memory
_LOCATED_AHEAD = 200  # clients read on from where they are: one query locates so many messages


class Transaction:
    """What a logged-in client does with its maildrop. Deleting is a mark until the session ends it with QUIT.

    removes_retrieved: what was retrieved is as good as deleted (RFC 2449 §6.7, EXPIRE 0).
    """

    def __init__(
        self,
        session: ServerSession,
        connection: Connection,
        context: Context,
        listing: Listing,
        *,
        removes_retrieved: bool = False,
    ) -> None:
        self._session = session
        self._connection = connection
        self._pool = context.pool
        self._blobs = context.blobs
        self._gives_surrogates = context.settings.pop3.surrogates
        self._listing = listing
        self._removes_retrieved = removes_retrieved
        self._retrieved: set[int] = set()  # message numbers, where they count
        self._deleted: set[int] = set()  # message numbers
        self._deleted_octets = 0
        self._located = range(0)  # indexes whose messages have been located

    def deleted_uids(self) -> list[int]:
        """The UIDs that QUIT has to remove, ascending."""
        return [self._listing.uids[number - 1] for number in sorted(self._deleted | self._retrieved)]

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
            case Rset():  # what was retrieved stays so
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
        self._session.refuse(Text.NO_MESSAGE)
        return None

    # -- listings ---------------------------------------------------------------------------------------------------

    def _list(self, number: int | None) -> None:
        sizes = self._listing.sizes
        if number is None:
            first = self._session.status(Text.MAILDROP, count=self._count, octets=self._octets)
            self._session.ok_octets(first + response.numbered(sizes, self._deleted))
        elif (index := self._index(number)) is not None:
            self._session.ok(f"{number} {sizes[index]}")

    def _uidl(self, number: int | None) -> None:
        """The unique-id is UIDVALIDITY.UID: IMAP promises that neither is ever used for another message."""
        uids, prefix = self._listing.uids, f"{self._listing.uidvalidity}."
        if number is None:
            self._session.ok_octets(response.ok() + response.numbered(uids, self._deleted, prefix))
        elif (index := self._index(number)) is not None:
            self._session.ok(f"{number} {prefix}{uids[index]}")

    def _dele(self, number: int) -> None:
        if (index := self._index(number)) is not None:
            self._deleted.add(number)
            self._deleted_octets += self._listing.sizes[index]
            self._session.ok(Text.DELETED, number=number)

    # -- messages ---------------------------------------------------------------------------------------------------

    async def _retr(self, number: int) -> None:
        index = self._index(number)
        if index is None:
            return
        size_octets = self._listing.sizes[index]
        try:
            await self._locate(index)
            if size_octets <= _STREAM_ABOVE_OCTETS:
                octets = self._shown(await self._blobs.message(self._listing.content_ids[index]))
                first = self._session.status(Text.SIZE, octets=len(octets))
                self._session.ok_octets(first + response.stuffed_message(octets))
                self._retrieve(number)
                return
        except StorageError as error:
            self._refuse(error)
            return
        if await self._stream(self._session.status(Text.SIZE, octets=size_octets), index, None):
            self._retrieve(number)

    def _retrieve(self, number: int) -> None:
        if self._removes_retrieved:
            self._retrieved.add(number)

    @property
    def _is_as_accepted(self) -> bool:
        return self._session.is_utf8 or not self._gives_surrogates

    def _shown(self, octets: bytes) -> bytes:
        """The message as this client gets it: where so configured, without UTF8 headers are in ASCII (RFC 6856 §1.2, RFC 6858)."""
        if self._is_as_accepted or octets.isascii():
            return octets
        surrogate = Surrogate(downgrade.header_ranges(scan(octets)))
        return surrogate.feed(octets) + surrogate.end()

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

    async def _stream(self, first: bytes, index: int, cutting: TopCut | None) -> bool:
        """Send a message, or the top of it, piece by piece; a client that reads slowly holds one piece in memory.

        Tells whether it could.
        """
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
            return False
        if not has_begun:
            self._session.ok_octets(first)
        self._session.add_octets(stuffing.end())
        return True

    async def _pieces(self, index: int) -> AsyncGenerator[bytes, None]:
        content_id = self._listing.content_ids[index]
        if self._listing.sizes[index] <= _STREAM_ABOVE_OCTETS:
            yield self._shown(await self._blobs.message(content_id))
            return
        surrogate = Surrogate(() if self._is_as_accepted else await self._header_ranges(content_id))
        async for piece in self._blobs.stream(content_id):
            yield surrogate.feed(piece)
        yield surrogate.end()

    async def _header_ranges(self, content_id: int) -> list[tuple[int, int]]:
        """Where the header sections of a large message lie, the fields that we added on top included."""
        async with reported(), self._pool.acquire() as connection:
            found = await messages.facts(connection, [content_id], ["structure", "head"])
        if content_id not in found:
            raise NotFoundError(f"content {content_id}")
        added = len(found[content_id]["head"])
        try:
            ranges = downgrade.header_ranges(unpack(found[content_id]["structure"]))
        except ValueError as error:
            raise CorruptError(f"structure of content {content_id}") from error
        return [(start + added, end + added) for start, end in ranges]

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
            self._session.refuse(Text.GONE)  # by IMAP, since this session began
            return
        error_id = secrets.token_hex(6)
        log.error("message cannot be read", error_id=error_id, error=repr(error))
        code = Code.SYS_PERM if isinstance(error, CorruptError) else Code.SYS_TEMP
        self._session.refuse(Text.UNREADABLE, code, error_id=error_id)

    def _break_off(self, error: StorageError) -> None:
        """Within a message there is no way to tell a failure but to end the connection before its last line."""
        log.error("message cannot be read", error_id=secrets.token_hex(6), error=repr(error))
        self._session.end()
        self._session.take_output()
        self._connection.abort()
