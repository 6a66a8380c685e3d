"""The messages of one APPEND or REPLACE, from their first octet until they can be stored: spooled as they come, within limits."""

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from daemons.access.imap import permissions
from daemons.access.imap.catenating import octets_of
from daemons.access.imap.limiting import check_saved
from daemons.access.imap.rights import viewer_of
from daemons.access.imap.session import EndOfInputError, RefusalError, Session, log
from daemons.access.imap.storing import spelled
from daemons.delivery import mapped, prepare
from protocol.imap import response
from protocol.imap.events import (
    AppendEnds,
    AppendLiteral,
    AppendMessage,
    AppendOctets,
    AppendUrl,
    Continue,
    Rejected,
)
from protocol.imap.flags import bits_of
from protocol.message import scan
from protocol.message.transfer import UnknownEncodingError, without_nul
from storage.errors import StorageError
from storage.messages import KEYWORDS, store_flags
from storage.rows import SEEN, Mailbox, NewMessage, Placement
from storage.spool import MEMORY_LIMIT, SpoolFile

_MEMORY_OCTETS = 4 * MEMORY_LIMIT  # what all messages of one command may hold in memory; the others lie in files


@dataclass(slots=True)
class _Message:
    spooled: SpoolFile
    placement: Placement
    is_seen: bool = False  # for whoever appends it, where each viewer has a \Seen of its own
    is_binary: bool = False  # some of it came in a literal8


class Arriving:
    """Reads messages for one mailbox. `stack` removes what was spooled when it is left."""

    def __init__(
        self,
        session: Session,
        mailbox: Mailbox,
        rights: frozenset[str],
        stack: AsyncExitStack,
        *,
        freed_octets: int | None = None,
    ) -> None:
        self._session = session
        self._settings = session.shared.settings
        self._mailbox = mailbox
        self._viewer = viewer_of(session, mailbox)
        self._may = permissions.changeable(rights)  # flags that the client may not set are left out (RFC 4314 §4)
        self._stack = stack
        self._messages: list[_Message] = []
        self._memory_octets = _MEMORY_OCTETS
        self._keywords: dict[str, str] = {}  # of all messages, by upper case
        self._freed_octets = freed_octets  # of a message of the same account that goes for them
        self._is_open = True  # the reader has more to tell about this command

    @property
    def size_octets(self) -> int:
        """Octets of all messages so far."""
        return sum(message.spooled.size_octets for message in self._messages)

    @property
    def count(self) -> int:
        """How many messages there are so far."""
        return len(self._messages)

    @property
    def room(self) -> tuple[int, int]:
        """(octets, messages) that must be free in the account."""
        if self._freed_octets is None:
            return self.size_octets, self.count
        return max(0, self.size_octets - self._freed_octets), self.count - 1

    # -- reading ----------------------------------------------------------------------------------------------------

    async def read(self) -> bool:
        """Spool everything. False when the command was no good, which has been answered then.

        Raises RefusalError, StorageError; what is still to come of the command has been read past then, or the next one would
        be lost in a message.
        """
        try:
            return await self._read()
        except (ConnectionError, EndOfInputError, TimeoutError):
            raise
        except Exception:
            await self._pass_over()
            raise

    async def _read(self) -> bool:
        while True:
            event = await self._session.next_event()
            match event:
                case AppendMessage():
                    self._end_message()
                    await self._begin_message(event)
                case AppendLiteral():
                    await self._take(event)
                case AppendOctets():
                    self._messages[-1].spooled.write(event.octets)
                case AppendUrl():
                    async for octets in octets_of(self._session, event.url):
                        self._check_size(len(octets))
                        self._messages[-1].spooled.write(octets)
                case Continue():
                    self._session.put(response.continuation())
                case Rejected():
                    self._is_open = False
                    self._session.reject(event)
                    return False
                case AppendEnds():
                    self._is_open = False
                    self._end_message()
                    return True

    async def _pass_over(self) -> None:
        while self._is_open:
            event = await self._session.next_event()
            if isinstance(event, AppendLiteral):
                self._refuse()
            elif isinstance(event, Rejected):
                self._is_open = False
                if event.is_fatal:
                    self._session.bye("cannot go on after this")
            elif isinstance(event, AppendEnds):
                self._is_open = False

    def _refuse(self) -> None:
        self._session.reader.refuse()
        self._is_open = False

    async def _begin_message(self, begins: AppendMessage) -> None:
        if self.count >= self._settings.append_messages:
            raise RefusalError.no(b"LIMIT", "too many messages in one command")
        check_saved(self._session, self.count + 1)
        placement = await self._placement(begins)
        is_seen = bool(self._viewer and placement.flags & SEEN)
        if is_seen:
            placement = replace(placement, flags=placement.flags & ~SEEN)
        memory_octets = min(MEMORY_LIMIT, self._memory_octets)
        spooled = await self._stack.enter_async_context(self._session.shared.spool.open(memory_octets))
        self._messages.append(_Message(spooled, placement, is_seen))

    def _end_message(self) -> None:
        if not self._messages:
            return
        size_octets = self._messages[-1].spooled.size_octets
        if not size_octets:
            raise RefusalError.no(b"CANNOT", "the message is empty")
        if size_octets <= min(MEMORY_LIMIT, self._memory_octets):
            self._memory_octets -= size_octets

    async def _take(self, literal: AppendLiteral) -> None:
        """Look at what a literal announces before a waiting client is told to send it (RFC 3501 §7.5)."""
        try:
            if literal.is_utf8 and not self._session.is_utf8:
                raise RefusalError.bad("UTF8 needs ENABLE UTF8=ACCEPT")  # RFC 6855 §4
            self._check_size(literal.size_octets)
            octets, messages = self.room
            await self._session.shared.rooms.check(self._mailbox.account_id, octets + literal.size_octets, messages)
        except BaseException:
            self._refuse()
            raise
        self._messages[-1].is_binary |= literal.is_binary
        self._session.reader.accept()
        if literal.is_synchronizing:
            self._session.put(response.continuation())

    def _check_size(self, more_octets: int) -> None:
        if self._messages[-1].spooled.size_octets + more_octets > self._settings.append_limit:
            raise RefusalError.no(b"TOOBIG", "message too large")  # RFC 4469 §4
        if self.size_octets + more_octets > self._settings.append_total:
            raise RefusalError.no(b"TOOBIG", "the messages are too large together")

    async def _placement(self, begins: AppendMessage) -> Placement:
        bits, keywords = bits_of(begins.flags)
        if keywords and self._may & KEYWORDS:
            bits, keywords = await self._spelled(begins.flags)
        return Placement(
            self._mailbox.mailbox_id,
            bits & self._may,
            tuple(keywords) if self._may & KEYWORDS else (),
            begins.internaldate,
        )

    async def _spelled(self, flags: tuple[bytes, ...]) -> tuple[int, list[str]]:
        """Bits and keywords as the mailbox spells them; with those of the messages before they must not become too many."""
        views = self._session.shared.views
        view = await views.acquire(self._mailbox.mailbox_id, self._viewer)
        try:
            bits, keywords = spelled(self._session, view, flags, is_adding=True)
            for at, keyword in enumerate(keywords):
                keywords[at] = self._keywords.setdefault(keyword.upper(), keyword)
            known = view.table.spellings.keys()
            if len(known | self._keywords.keys()) > max(self._settings.keyword_limit, len(known)):
                raise RefusalError.no(b"LIMIT", "too many keywords in this mailbox")
        finally:
            views.release(view)
        return bits, keywords

    # -- what was read ----------------------------------------------------------------------------------------------

    async def prepared(self, replaces: tuple[int, int] | None = None) -> list[NewMessage]:
        """The messages as storage takes them. Raises RefusalError (UNKNOWN-CTE), StorageError."""
        tenant_id = self._mailbox.tenant_id
        found = []
        for message in self._messages:
            original = message.spooled.original
            if message.is_binary and await asyncio.to_thread(_has_nul, original):
                original = await self._transcoded(original)
            new = await prepare(tenant_id, b"", original, [message.placement])
            found.append(NewMessage(tenant_id, b"", original, new.facts, new.placements, replaces=replaces))
        return found

    async def mark_seen(self, uids: list[int]) -> None:
        r"""Set the viewer's own \Seen on the messages, now stored under these UIDs, that were given it.

        Raises nothing: the messages are stored, and who is told otherwise stores them again.
        """
        seen = [uid for uid, message in zip(uids, self._messages, strict=True) if message.is_seen and uid]
        if not seen:
            return
        try:
            async with self._session.database() as connection:
                mailbox_id = self._mailbox.mailbox_id
                await store_flags(connection, mailbox_id, seen, "add", SEEN, (), viewer=self._viewer)
        except StorageError as error:
            log.warning("new messages not marked as seen", reason=str(error))

    async def _transcoded(self, original: bytes | Path) -> bytes | Path:
        """The message with base64 where there were NULs: nothing but literal8 could give those to a client (RFC 3516 §4.3)."""
        spooled = await self._stack.enter_async_context(self._session.shared.spool.open(0))

        def transcode() -> None:
            with mapped(original) as octets:
                for piece in without_nul(octets, scan(octets)):
                    spooled.write(piece)

        try:
            await asyncio.to_thread(transcode)
        except UnknownEncodingError:
            raise RefusalError.no(b"UNKNOWN-CTE", "NUL where no encoding can be given") from None
        return spooled.original


def _has_nul(original: bytes | Path) -> bool:
    with mapped(original) as octets:
        return octets.find(b"\0") >= 0
