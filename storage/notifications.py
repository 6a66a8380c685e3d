"""What other processes changed: one LISTEN connection per process, callbacks by mailbox.

A lost notification only costs latency: whoever subscribes also polls. While the connection is down, and once after it came
back, every subscriber is called, since anything may have changed in between.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import asyncpg

from storage.pool import AWAY, server_settings

_RECONNECT_SECONDS = 0.5
_PROBE_SECONDS = 10.0
MAILBOX, DIRECTORY, JOURNAL, OUTBOUND = (
    "postwerk_mailbox",
    "postwerk_directory",
    "postwerk_journal",
    "postwerk_outbound",
)

Callback = Callable[[], None]


class ChangeHub:
    """Calls back, in the loop, when something may have changed. `run` must be running.

    Only channels that somebody asked for are listened to: every notification wakes the process.
    """

    def __init__(self, dsn: str, role: str | None) -> None:
        self._dsn = dsn
        self._role = role
        self._mailboxes: dict[int, set[Callback]] = {}
        self._channels: dict[str, set[Callback]] = {}
        self._wanted: set[str] = set()
        self._news = asyncio.Event()  # wanted has grown, or the connection has ended
        self.is_connected = False

    def subscribe(self, mailbox_id: int, callback: Callback) -> Callback:
        """Call back whenever that mailbox may have changed in any process. Returns the function that ends it."""
        self._want(MAILBOX)
        return _subscribe(self._mailboxes.setdefault(mailbox_id, set()), callback, lambda: self._forget(mailbox_id))

    def on(self, channel: str, callback: Callback) -> Callback:
        """Call back on every notification of DIRECTORY, JOURNAL or OUTBOUND. Returns the function that ends it."""
        self._want(channel)
        return _subscribe(self._channels.setdefault(channel, set()), callback, lambda: None)

    def _want(self, channel: str) -> None:
        if channel not in self._wanted:
            self._wanted.add(channel)
            self._news.set()

    def _forget(self, mailbox_id: int) -> None:
        if not self._mailboxes.get(mailbox_id, True):
            del self._mailboxes[mailbox_id]

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
        try:
            while not connection.is_closed():
                self._news.clear()
                if fresh := self._wanted - listening:
                    for channel in sorted(fresh):
                        await connection.add_listener(
                            channel, self._on_mailbox if channel == MAILBOX else self._on_channel
                        )
                    listening |= fresh
                    self.is_connected = True
                    self._call_all()  # anything may have changed before we listened
                with suppress(TimeoutError):
                    async with asyncio.timeout(_PROBE_SECONDS):
                        await self._news.wait()
                        continue
                await connection.execute("SELECT 1", timeout=_PROBE_SECONDS)  # notices a server that vanished silently
        finally:
            connection.terminate()

    def _on_mailbox(self, _connection: Any, _process: int, _channel: str, payload: object) -> None:
        for name in str(payload).split():
            for callback in tuple(self._mailboxes.get(int(name), ())):
                callback()

    def _on_channel(self, _connection: Any, _process: int, channel: str, _payload: object) -> None:
        for callback in tuple(self._channels.get(channel, ())):
            callback()

    def _call_all(self) -> None:
        for callbacks in (*self._mailboxes.values(), *self._channels.values()):
            for callback in tuple(callbacks):
                callback()


def _subscribe(callbacks: set[Callback], callback: Callback, then: Callback) -> Callback:
    callbacks.add(callback)

    def end() -> None:
        callbacks.discard(callback)
        then()

    return end
