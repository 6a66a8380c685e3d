"""What other processes changed: one LISTEN connection per process, callbacks by mailbox and by account.

A lost notification only costs latency: whoever subscribes also polls. While the connection is down, and once after it came
back, every subscriber is called, since anything may have changed in between.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

import asyncpg

from storage.pool import AWAY, server_settings

_RECONNECT_SECONDS = 0.5
_PROBE_SECONDS = 10.0
MAILBOX, DIRECTORY, JOURNAL, OUTBOUND, ACCOUNT, SHARING, SCRIPTS, LISTED = (
    "postwerk_mailbox",
    "postwerk_directory",
    "postwerk_journal",
    "postwerk_outbound",
    "postwerk_account",
    "postwerk_sharing",
    "postwerk_scripts",
    "postwerk_listed",
)

Callback = Callable[[], None]
MailboxCallback = Callable[[int], None]  # the MODSEQ of the change; 0: not known, anything may have changed
_Registered = TypeVar("_Registered", bound=Callable[..., None])


@dataclass(frozen=True, slots=True)
class AccountEvent:
    """What changed for an account, besides messages."""

    kind: str  # "mailboxes" (names, uses, rights), "subscriptions", "metadata"
    mailbox_id: int = 0  # of "metadata"; 0 is the server
    entry: str = ""  # of "metadata"
    origin: str = ""  # who did it, in the words of the one who did: to be passed over by himself


AccountCallback = Callable[[AccountEvent | None], None]  # None: anything may have changed
ScriptsCallback = Callable[[int], None]  # the account; 0: it may be any


class ChangeHub:
    """Calls back, in the loop, when something may have changed. `run` must be running.

    Only channels that somebody asked for are listened to: every notification wakes the process.
    """

    def __init__(self, dsn: str, role: str | None) -> None:
        self._dsn = dsn
        self._role = role
        # A tuple for each, not a set: nearly all have one subscriber, and there may be tens of thousands of them.
        self._mailboxes: dict[int, tuple[MailboxCallback, ...]] = {}
        self._accounts: dict[tuple[str, int], tuple[AccountCallback, ...]] = {}
        self._channels: dict[str, tuple[Callback, ...]] = {}
        self._scripts: dict[str, tuple[ScriptsCallback, ...]] = {}
        self._wanted: set[str] = set()
        self._news = asyncio.Event()  # wanted has grown, or the connection has ended
        self.is_connected = False  # True: all that is wanted is heard

    def subscribe(self, mailbox_id: int, callback: MailboxCallback) -> Callback:
        """Call back whenever that mailbox may have changed in any process. Returns the function that ends it."""
        self.want(MAILBOX)
        return _subscribe(self._mailboxes, mailbox_id, callback)

    def subscribe_account(self, account_id: int, callback: AccountCallback) -> Callback:
        """Call back when the account's mailboxes, subscriptions or annotations changed. Returns the function that ends it."""
        self.want(ACCOUNT)
        return _subscribe(self._accounts, ("account", account_id), callback)

    def subscribe_tenant(self, tenant_id: int, callback: AccountCallback) -> Callback:
        """Call back when annotations changed that all accounts of the tenant share. Returns the function that ends it."""
        self.want(ACCOUNT)
        return _subscribe(self._accounts, ("tenant", tenant_id), callback)

    def subscribe_scripts(self, callback: ScriptsCallback) -> Callback:
        """Call back when what runs over an account's mail may have changed. Returns the function that ends it."""
        self.want(SCRIPTS)
        return _subscribe(self._scripts, SCRIPTS, callback)

    def on(self, channel: str, callback: Callback) -> Callback:
        """Call back on every notification of DIRECTORY, JOURNAL, OUTBOUND or SHARING. Returns the function that ends it."""
        self.want(channel)
        return _subscribe(self._channels, channel, callback)

    def want(self, channel: str) -> None:
        """Listen to a channel before anybody subscribes: what happens until then is not told."""
        if channel not in self._wanted:
            self._wanted.add(channel)
            self.is_connected = False
            self._news.set()

    async def run(self) -> None:
        """Listen until cancelled, reconnecting as often as needed."""
        while True:
            try:
                await self._listen()
            except AWAY:
                pass
            finally:
                self.is_connected = False
            self._call_all()
            await asyncio.sleep(_RECONNECT_SECONDS)

    async def _listen(self) -> None:
        connection = await asyncpg.connect(self._dsn, server_settings=server_settings(self._role), timeout=10)
        connection.add_termination_listener(lambda _: self._news.set())
        listening: set[str] = set()
        heard = {MAILBOX: self._on_mailbox, ACCOUNT: self._on_account, SCRIPTS: self._on_scripts}
        try:
            while not connection.is_closed():
                self._news.clear()
                if fresh := self._wanted - listening:
                    for channel in sorted(fresh):
                        await connection.add_listener(channel, heard.get(channel, self._on_channel))
                    listening |= fresh
                    self.is_connected = self._wanted == listening
                    self._call_all()  # anything may have changed before we listened
                with suppress(TimeoutError):
                    async with asyncio.timeout(_PROBE_SECONDS):
                        await self._news.wait()
                        continue
                await connection.execute("SELECT 1", timeout=_PROBE_SECONDS)  # notices a server that vanished silently
        finally:
            connection.terminate()

    def _on_mailbox(self, _connection: Any, _process: int, _channel: str, payload: object) -> None:
        """The payload has `mailbox_id` or `mailbox_id:modseq` of each mailbox."""
        for told in str(payload).split():
            mailbox_id, _, modseq = told.partition(":")
            for callback in self._mailboxes.get(int(mailbox_id), ()):
                callback(int(modseq or 0))

    def _on_account(self, _connection: Any, _process: int, _channel: str, payload: object) -> None:
        whose, number, kind, *rest = str(payload).split(" ", 5)
        mailbox_id, origin, entry = rest or ("0", "", "")
        event = AccountEvent(kind, int(mailbox_id), entry, origin)
        for callback in self._accounts.get((whose, int(number)), ()):
            callback(event)

    def _on_scripts(self, _connection: Any, _process: int, _channel: str, payload: object) -> None:
        for callback in self._scripts.get(SCRIPTS, ()):
            callback(int(str(payload)))

    def _on_channel(self, _connection: Any, _process: int, channel: str, _payload: object) -> None:
        for callback in self._channels.get(channel, ()):
            callback()

    def _call_all(self) -> None:
        for watchers in tuple(self._mailboxes.values()):
            for watcher in watchers:
                watcher(0)
        for callbacks in tuple(self._channels.values()):
            for callback in callbacks:
                callback()
        for readers in tuple(self._scripts.values()):
            for reader in readers:
                reader(0)
        for hearers in tuple(self._accounts.values()):
            for hearer in hearers:
                hearer(None)


_Key = TypeVar("_Key")


def _subscribe(subscribers: dict[_Key, tuple[_Registered, ...]], key: _Key, callback: _Registered) -> Callback:
    """Add the callback under the key. Tuples are replaced, never changed: whoever runs over one runs on safely."""
    subscribers[key] = (*subscribers.get(key, ()), callback)

    is_over = False

    def end() -> None:
        nonlocal is_over
        if is_over:
            return
        is_over = True
        rest = list(subscribers.get(key, ()))
        rest.remove(callback)
        if rest:
            subscribers[key] = tuple(rest)
        else:
            subscribers.pop(key, None)

    return end
