"""APPEND, RFC 3501 §6.3.11: messages are spooled as they come, then stored like any other, all of them or none.

With several messages (MULTIAPPEND, RFC 3502), in parts (CATENATE, RFC 4469), in a literal8 (RFC 3516), and in UTF8 (RFC 6855).
"""

from contextlib import AsyncExitStack

from daemons.access.imap.mailboxes import find
from daemons.access.imap.session import Completion, RefusalError, Session
from daemons.access.imap.storing import spelled
from daemons.delivery import prepare
from protocol.imap import response
from protocol.imap.events import (
    AppendEnds,
    AppendLiteral,
    AppendMessage,
    AppendOctets,
    AppendStarts,
    AppendUrl,
    Continue,
    Rejected,
)
from protocol.imap.flags import bits_of
from storage.errors import MailboxNotFoundError
from storage.rows import Mailbox, NewMessage, Placement
from storage.spool import SpoolFile


async def append(session: Session, starts: AppendStarts) -> Completion | None:
    """Take or refuse the messages that begin. None: the command was refused while it was read, and that has been answered.

    Mailbox, quota and flags are looked at before a waiting client is told to send (RFC 3501 §6.3.11, §7.5).
    """
    try:
        mailbox = await find(session, starts.mailbox, needs="i", missing=b"TRYCREATE")
        if starts.replaced is not None:
            raise RefusalError.bad("REPLACE is not offered")
    except BaseException:
        session.reader.refuse()
        raise
    session.reader.accept()
    async with AsyncExitStack() as stack:
        arriving = Arriving(session, mailbox, stack)
        try:
            is_whole = await arriving.read()
        except Exception:
            await arriving.pass_over()
            raise
        if not is_whole:
            return None
        try:
            prepared = await arriving.prepared()
            async with session.shared.rooms.held(mailbox.account_id, arriving.size_octets, len(prepared)):
                stored = await session.shared.context.ingest.store(prepared)
        except MailboxNotFoundError:
            raise RefusalError.no(b"TRYCREATE", "no such mailbox") from None
    session.shared.views.touch(mailbox.mailbox_id)
    placed = [one.placed[0] for one in stored]
    if not all(
        one.uid for one in placed
    ):  # the database died with the outcome unknown, and some have been moved on since
        return Completion("appended")
    return Completion("appended", response.appenduid(placed[0].uidvalidity, [one.uid for one in placed]))


class Arriving:
    """The messages of one command, from the first octet until they can be stored."""

    def __init__(self, session: Session, mailbox: Mailbox, stack: AsyncExitStack) -> None:
        self._session = session
        self._mailbox = mailbox
        self._stack = stack
        self._messages: list[tuple[SpoolFile, Placement]] = []
        self.size_octets = 0  # of all of them
        self._is_open = True  # the reader has more to tell about this command

    async def read(self) -> bool:
        """Spool everything. False when the command was no good, which has been answered then.

        Raises RefusalError, StorageError; call pass_over() then, or the next command would be lost in a message.
        """
        while True:
            event = await self._session.next_event()
            match event:
                case AppendMessage():
                    self._check_last()
                    spooled = await self._stack.enter_async_context(self._session.shared.spool.open())
                    self._messages.append((spooled, self._placement(event)))
                case AppendLiteral():
                    await self._take(event)
                case AppendOctets():
                    self._messages[-1][0].write(event.octets)
                case AppendUrl():
                    raise RefusalError.bad("CATENATE is not offered")
                case Continue():
                    self._session.put(response.continuation())
                case Rejected():
                    self._is_open = False
                    self._session.reject(event)
                    return False
                case AppendEnds():
                    self._is_open = False
                    self._check_last()
                    return True

    async def pass_over(self) -> None:
        """Read past what is still to come of a command that has failed."""
        while self._is_open:
            event = await self._session.next_event()
            if isinstance(event, AppendLiteral):
                self._session.reader.refuse()
                self._is_open = False
            elif isinstance(event, Rejected):
                self._is_open = False
                if event.is_fatal:
                    self._session.bye("cannot go on after this")
            else:
                self._is_open = not isinstance(event, AppendEnds)

    async def _take(self, literal: AppendLiteral) -> None:
        try:
            if literal.is_binary:
                raise RefusalError.no(b"UNKNOWN-CTE", "BINARY is not offered")
            self.size_octets += literal.size_octets
            await self._session.shared.rooms.check(self._mailbox.account_id, self.size_octets, len(self._messages))
        except BaseException:
            self._session.reader.refuse()
            self._is_open = False
            raise
        self._session.reader.accept()
        if literal.is_synchronizing:
            self._session.put(response.continuation())

    def _check_last(self) -> None:
        if self._messages and not self._messages[-1][0].size_octets:
            raise RefusalError.no(b"CANNOT", "the message is empty")

    def _placement(self, message: AppendMessage) -> Placement:
        session, mailbox_id = self._session, self._mailbox.mailbox_id
        view = session.shared.views.peek(mailbox_id)
        bits, keywords = (
            bits_of(message.flags) if view is None else spelled(session, view, message.flags, is_adding=True)
        )
        if len(keywords) > session.shared.settings.keyword_limit:
            raise RefusalError.no(b"LIMIT", "too many keywords")
        return Placement(mailbox_id, bits, tuple(keywords), message.internaldate)

    async def prepared(self) -> list[NewMessage]:
        """The messages as storage takes them."""
        tenant_id = self._session.account.tenant_id
        return [await prepare(tenant_id, b"", spooled.original, [placement]) for spooled, placement in self._messages]
