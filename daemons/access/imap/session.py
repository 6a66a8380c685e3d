"""One IMAP session: its state, its connection, its output, and the untagged data that tells it what others changed.

RFC 3501 §3 names the states, §5.2 and §7.4.1 say when untagged data may be sent. Which command does what stands in
commands.py; grammar and rendering are protocol/imap's.
"""

import asyncio
import secrets
import ssl
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Literal

from config.imap import Imap
from daemons.access.imap import permissions
from daemons.access.imap.counters import Counters
from daemons.access.imap.grants import Grants
from daemons.access.imap.selected import Selected
from daemons.access.imap.sortkeys import SortKeyCache
from daemons.access.imap.texts import TextCache
from daemons.access.imap.views import Views
from daemons.authentication import Authenticator, Identity
from daemons.compression import CompressionError
from daemons.context import Context
from daemons.logs import logger
from daemons.scripting.events import EventScripts
from daemons.sockets import Connection
from protocol.imap import response
from protocol.imap.events import Rejected
from protocol.imap.limits import Limits
from protocol.imap.notify import MESSAGE_EVENTS
from protocol.imap.notify import Event as MailboxEvent
from protocol.imap.reader import CommandReader, Event
from storage import mailboxes
from storage.errors import MailboxNotFoundError, StorageError
from storage.policies import Fetches
from storage.pool import Connection as DatabaseConnection
from storage.pool import reported
from storage.quota import Rooms
from storage.spool import Spool

if TYPE_CHECKING:  # they tell a session's changes, so they know it
    from daemons.access.imap.idling import Teller
    from daemons.access.imap.notify import Notifier

log = logger("imap")


class State(Enum):
    """RFC 3501 §3."""

    NOT_AUTHENTICATED = "not authenticated"
    AUTHENTICATED = "authenticated"
    SELECTED = "selected"
    LOGOUT = "logout"


class RefusalError(Exception):
    """A command ends with NO or BAD. The text is for the client."""

    def __init__(self, status: Literal["NO", "BAD"], code: bytes | None, text: str) -> None:
        super().__init__(status, code, text)
        self.status, self.code, self.text = status, code, text

    @classmethod
    def no(cls, code: bytes | None, text: str) -> "RefusalError":
        """The command was understood and cannot be done; code as in RFC 5530 §3."""
        return cls("NO", code, text)

    @classmethod
    def bad(cls, text: str) -> "RefusalError":
        """The command makes no sense here."""
        return cls("BAD", None, text)


@dataclass(frozen=True, slots=True)
class Completion:
    """A command ends with OK."""

    text: str
    code: bytes | None = None


class EndOfInputError(Exception):
    """The client has closed its side."""


@dataclass(slots=True)
class Shared:
    """What all sessions of the process have in common."""

    context: Context
    settings: Imap
    views: Views
    authenticator: Authenticator
    spool: Spool
    grants: Grants
    rooms: Rooms
    sessions: set["Session"] = field(default_factory=set)
    account_sessions: dict[int, int] = field(default_factory=dict)
    sort_keys: SortKeyCache = field(init=False)
    texts: TextCache = field(init=False)
    fetches: Fetches = field(init=False)
    counters: Counters = field(init=False)
    events: EventScripts = field(init=False)

    def __post_init__(self) -> None:
        self.counters = Counters(self.context.pool)
        self.events = EventScripts(self.context, self.rooms)
        self.fetches = Fetches(self.context.pool)
        self.sort_keys = SortKeyCache(self.settings.sort_cache_messages)
        self.texts = TextCache(self.settings.search_cache)


class Session:
    """The server's side of one connection. commands.py drives it."""

    def __init__(self, shared: Shared, connection: Connection) -> None:
        self.shared = shared
        self.connection = connection
        self.state = State.NOT_AUTHENTICATED
        self.identity: Identity | None = None
        self.selected: Selected | None = None
        self.enabled: set[bytes] = set()
        self.bad_count = 0
        self.failed_logins = 0
        self.client = ""  # what it said of itself (RFC 2971), until it logs in
        self.is_stopping = False
        self.origin = secrets.token_hex(6)  # comes back with what the session itself has done
        self.reader = CommandReader(self._limits())
        self.notifier: Notifier | None = None  # after NOTIFY
        self.teller: Teller | None = None  # while changes may be told to the waiting client
        self._events: deque[Event] = deque()
        self._output: list[bytes] = []
        self._output_octets = 0
        self._is_waiting = False
        self._paced_at = 0.0  # when the commands so far would have come at command_rate
        self.connection.send_seconds = shared.settings.send_timeout
        self._login_by = asyncio.get_running_loop().time() + shared.settings.login_timeout

    def __repr__(self) -> str:
        return f"<Session {self.state.value}{' secure' if self.connection.is_secure else ''} {self.selected!r}>"

    def _limits(self) -> Limits:
        settings = self.shared.settings
        if self.identity is None:  # a stranger gets no more than a login needs
            return Limits(literal_octets=4096, command_octets=16384, append_octets=0, discard_octets=65536)
        return Limits(
            line_octets=settings.line_limit,
            literal_octets=settings.literal_limit,
            command_octets=settings.command_limit,
            append_octets=settings.append_limit,
            discard_octets=settings.append_limit + settings.command_limit,
            pending_events=settings.pipeline_limit,
        )

    # -- input ------------------------------------------------------------------------------------------------------

    async def next_event(self) -> Event:
        """What the client sends next. Raises EndOfInputError, TimeoutError, ConnectionError."""
        while not self._events:
            self._events.extend(self.reader.receive(b""))  # what waited for the answer to an event before
            if not self._events:
                await self._receive()
        return self._events.popleft()

    async def _receive(self) -> None:
        await self.flush()
        teller = self.teller
        self._is_waiting = True
        try:
            if teller is not None:
                teller.begin()
            octets = await self.connection.receive(self.patience())
        except CompressionError as error:
            self.bye(str(error))
            raise EndOfInputError from None
        finally:
            self._is_waiting = False
            if teller is not None:
                await teller.hold()
        if not octets:
            raise EndOfInputError
        self._events.extend(self.reader.receive(octets))

    async def pace(self) -> None:
        """Another command is about to run: wait while the client sends them too fast. Raises ConnectionError."""
        if self.connection.is_trusted:
            return
        settings, now = self.shared.settings, asyncio.get_running_loop().time()
        self._paced_at = max(self._paced_at, now) + 1 / settings.command_rate
        ahead = self._paced_at - now - settings.command_burst / settings.command_rate
        if ahead > 0:
            await self.flush()
            await asyncio.sleep(ahead)

    def patience(self) -> float:
        """How many seconds the client may stay silent now."""
        if self.state is State.NOT_AUTHENTICATED:
            return max(0.0, self._login_by - asyncio.get_running_loop().time())
        return self.shared.settings.idle_timeout

    # -- output -----------------------------------------------------------------------------------------------------

    def put(self, octets: bytes) -> None:
        """Add to the output. It goes out before the session waits for the client, or when room() finds it long."""
        self._output.append(octets)
        self._output_octets += len(octets)

    @property
    def unsent_octets(self) -> int:
        """Output that waits in the session."""
        return self._output_octets

    async def room(self) -> None:
        """Send when much has gathered; waits for a client that does not read. Raises ConnectionError."""
        if self._output_octets >= self.shared.settings.response_batch:
            await self.flush()

    async def flush(self) -> None:
        """Send all output. Raises ConnectionError when the client is gone or does not read."""
        if self._output:
            octets = b"".join(self._output)
            self._output.clear()
            self._output_octets = 0
            await self.connection.send(octets)

    def bye(self, text: str, code: bytes | None = None) -> None:
        """Announce the end (RFC 3501 §7.1.5)."""
        if self.state is not State.LOGOUT:
            self.put(response.bye(text, code))
            self.state = State.LOGOUT

    def reject(self, rejected: Rejected) -> None:
        """Answer a command that was refused while it was read."""
        self.put(response.tagged(rejected.tag, rejected.status, rejected.code, rejected.text))
        if rejected.status == "BAD":
            self.count_bad()
        if rejected.is_fatal:
            self.bye("cannot go on after this")

    def count_bad(self) -> None:
        """A BAD was answered: too many end the session."""
        self.bad_count += 1
        if self.bad_count > self.shared.settings.error_limit:
            self.bye("too many errors")

    @property
    def is_over(self) -> bool:
        """Whether BYE has been said."""
        return self.state is State.LOGOUT

    def stop(self) -> None:
        """The process shuts down: end now if the client is silent, else after the command in progress."""
        self.is_stopping = True
        if self._is_waiting:
            self.bye("server is shutting down")
            self.connection.write(b"".join(self._output))
            self._output.clear()
            self.connection.close()

    async def start_tls(self, context: ssl.SSLContext, answer: bytes) -> None:
        """Go on in TLS; what the client had sent in the clear is forgotten (CVE-2011-0411)."""
        await self.flush()
        self._events.clear()
        self.reader = CommandReader(self._limits())
        await self.connection.start_tls(context, answer)

    async def start_compression(self, answer: bytes) -> None:
        """Go on in DEFLATE behind the answer; what the client sent without waiting for it is forgotten (RFC 4978 §3)."""
        self.put(answer)
        await self.flush()
        self._events.clear()
        self.reader.forget()
        self.connection.start_compression(self.shared.settings.inflate_limit)

    # -- state ------------------------------------------------------------------------------------------------------

    def log_in(self, identity: Identity) -> None:
        """Enter the authenticated state. Raises RefusalError when the account has too many sessions."""
        counts = self.shared.account_sessions
        count = counts.get(identity.account_id, 0)
        if count >= self.shared.settings.connections_per_account and not self.connection.is_trusted:
            raise RefusalError.no(b"LIMIT", "too many connections of this account")
        counts[identity.account_id] = count + 1
        self.identity = identity
        self.client = ""
        self.state = State.AUTHENTICATED
        self.reader.limits = self._limits()

    def has(self, token: bytes) -> bool:
        """Whether the client has enabled this (RFC 5161), by name in upper case or by enabling what implies it."""
        return token in self.enabled

    def enable(self, token: bytes) -> None:
        """Turn an extension on, with what it implies. CONDSTORE also comes with the commands of RFC 7162 §3.1."""
        if token in self.enabled:
            return
        self.enabled.add(token)
        self.reader.is_utf8 = self.is_utf8
        if token == b"QRESYNC":
            self.enable(b"CONDSTORE")
        if token == b"CONDSTORE" and self.selected is not None:
            self.put(response.untagged("OK", self.selected.highestmodseq_code, "highest"))

    @property
    def is_utf8(self) -> bool:
        """Whether names go out as UTF-8 (RFC 9051 §5.1, RFC 9755 §3)."""
        return b"IMAP4REV2" in self.enabled or b"UTF8=ACCEPT" in self.enabled

    def mailbox_name(self, name: str) -> bytes:
        """A mailbox name as this client must be told it."""
        return response.mailbox_name(name, is_utf8=self.is_utf8)

    @property
    def message_template(self) -> bytes:
        """The beginning of each response about a message, to be filled with message_number()."""
        return b"* %d UIDFETCH (" if b"UIDONLY" in self.enabled else b"* %d FETCH ("

    def message_number(self, position: int, uid: int) -> int:
        """What names a message in responses: its sequence number, or its UID (RFC 9586 §3.3)."""
        return uid if b"UIDONLY" in self.enabled else position + 1

    def message_head(self, position: int, uid: int) -> bytes:
        """`* 5 FETCH (`, or with UIDONLY `* 4711 UIDFETCH (` (RFC 9586 §3.3)."""
        return self.message_template % self.message_number(position, uid)

    @property
    def account(self) -> Identity:
        """Who has logged in; only in states after login."""
        assert self.identity is not None
        return self.identity

    def deselect(self) -> None:
        """Leave the selected state."""
        if self.selected is not None:
            self.shared.views.release(self.selected.view)
            self.selected = None
        if self.state is State.SELECTED:
            self.state = State.AUTHENTICATED

    def log_out(self) -> None:
        """Go back to the not authenticated state: all but TLS is as it was after the greeting (RFC 8437 §3)."""
        self._leave_account()
        self.enabled.clear()
        self.reader.is_utf8 = False
        self.reader.limits = self._limits()
        self.state = State.NOT_AUTHENTICATED
        self._login_by = asyncio.get_running_loop().time() + self.shared.settings.login_timeout

    def end(self) -> None:
        """Give back everything, whatever the reason for the end."""
        self.shared.sessions.discard(self)
        self._leave_account()

    def _leave_account(self) -> None:
        """Give back what the session has on behalf of its account."""
        self.deselect()
        if self.notifier is not None:
            self.notifier.end()
            self.notifier = None
        if self.identity is not None:
            counts = self.shared.account_sessions
            counts[self.identity.account_id] -= 1
            if not counts[self.identity.account_id]:
                del counts[self.identity.account_id]
            self.identity = None

    @asynccontextmanager
    async def database(self) -> AsyncIterator[DatabaseConnection]:
        """A connection from the pool. Never send to the client inside: a slow one would hold it.

        Raises UnavailableError when the database is away.
        """
        async with reported(), self.shared.context.pool.acquire() as connection:
            yield connection

    # -- what others changed ----------------------------------------------------------------------------------------

    async def recheck(self) -> None:
        """Take over what others changed about the rights on the selected mailbox (RFC 4314 §5.1.1). Raises StorageError.

        Without the right to read the session ends: every command in the selected state would fail, and clients take a
        closed connection better. Costs nothing in a mailbox of one's own, and elsewhere nothing while no list changes.
        """
        selected = self.selected
        if selected is None or selected.view.account_id == self.account.account_id:
            return
        rights = await self.shared.grants.rights(
            self.account.account_id, self.account.tenant_id, selected.view.mailbox_id
        )
        if rights == selected.rights:
            return
        before = permissions.is_read_write(selected)
        selected.rights = rights
        if "r" not in rights:
            self.bye("the selected mailbox may not be read any more")
            return
        self.put(selected.take_flag_lines())
        if not selected.is_read_only and permissions.is_read_write(selected) != before:
            code = b"READ-ONLY" if before else b"READ-WRITE"  # RFC 3501 §7.1
            self.put(response.untagged("OK", code, "rights on this mailbox have changed"))

    async def sync(self, *, tells_expunges: bool) -> None:
        """Put untagged EXPUNGE or VANISHED, EXISTS, RECENT, FLAGS and FETCH of all changes; costs nothing when there are none.

        tells_expunges is False at the end of FETCH, STORE and SEARCH (RFC 3501 §7.4.1). When the database is away,
        the changes are told another time.
        """
        selected = self.selected
        if selected is None:
            return
        try:
            await self.recheck()
            if self.is_over:
                return
            await self.shared.views.freshen(selected.view)
            wants = MESSAGE_EVENTS if self.notifier is None else self.notifier.wants
            if selected.is_current or not wants:
                return
            if tells_expunges:
                if selected.contexts is not None:
                    selected.contexts.tell_expunged()
                self._tell_expunged(selected)
            before = selected.count
            if selected.take_new():
                self.put(response.exists(selected.count))
                if not self.has(b"IMAP4REV2"):
                    await self.claim_recent(selected)
                    self.put(response.recent(selected.recent_count()))
            self.tell_keywords()
            if self.notifier is not None:
                await self.notifier.tell_new(selected, before)
            if MailboxEvent.FLAG_CHANGE in wants:
                self.tell_flags(selected.take_changed(before))
            if selected.contexts is not None:
                await selected.contexts.tell_changed()
        except MailboxNotFoundError:
            self.shared.views.forget(selected.view.mailbox_id)
            self.bye("the selected mailbox is gone")  # RFC 2180 §3.3
        except StorageError as error:
            log.warning("changes not told", reason=str(error))

    def _tell_expunged(self, selected: Selected) -> None:
        gone = selected.take_expunged()
        if self.has(b"QRESYNC") or self.has(b"UIDONLY"):  # RFC 7162 §3.2.10, RFC 9586 §3.4
            self.put(b"".join(response.vanished(sorted(uid for _, uid in gone))))
        else:
            self.put(b"".join([response.expunge(position + 1) for position, _ in gone]))

    def tell_keywords(self) -> None:
        """FLAGS and PERMANENTFLAGS again, before a keyword is told that they did not hold (RFC 3501 §7.2.6)."""
        selected = self.selected
        if selected is not None and not selected.told_keywords.issuperset(selected.view.table.spellings):
            self.put(selected.take_flag_lines())

    def tell_flags(self, found: Iterable[tuple[int, int]]) -> None:
        """FETCH responses nobody asked for, of (position, place in the view's rows)."""
        selected = self.selected
        assert selected is not None
        rows, table = selected.view.rows, selected.view.table
        template = self.message_template
        template += b"FLAGS (%b)" if self.has(b"UIDONLY") else b"UID %d FLAGS (%b)"
        template += b" MODSEQ (%d))\r\n" if self.has(b"CONDSTORE") else b")\r\n"
        for position, place in found:
            uid = rows.uids[place]
            texts = table.recent_texts if selected.is_recent(uid) else table.texts
            flags = texts[rows.kinds[place]]
            values = (uid, flags) if self.has(b"UIDONLY") else (position + 1, uid, flags)
            self.put(template % ((*values, rows.modseqs[place]) if self.has(b"CONDSTORE") else values))

    async def claim_recent(self, selected: Selected) -> None:
        r"""Let this session show \Recent on what no session was told of before. Raises StorageError.

        RFC 3501 §2.3.2: a read-write session takes the mark for itself, a read-only one leaves it. When a message comes in
        between, two sessions may see it as recent, which the section prefers to none.
        """
        view = selected.view
        first, last = view.recent_uid, view.uidnext
        if first < last and permissions.is_read_write(selected):
            view.recent_uid = last  # before the query: the others that were woken with this one need not ask
            try:
                async with self.database() as connection:
                    first = await mailboxes.claim_recent(connection, view.mailbox_id)
            except BaseException:
                view.recent_uid = first
                raise
        selected.add_recent(first, last)

    def listen(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call back on every change of the selected mailbox; gives the function that ends it."""
        assert self.selected is not None
        listeners = self.selected.view.listeners
        listeners.add(callback)
        return lambda: listeners.discard(callback)
