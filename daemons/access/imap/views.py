r"""All mailbox views of one process: loaded once, counted, and kept a while after the last session has left.

A view is of a mailbox, or of a mailbox and a viewer where each has a \Seen of its own: then the viewer is an account, else 0.

The only place that subscribes to change notifications for IMAP. A notification that is lost costs latency only: a view
that has not been checked for poll_seconds asks the database at the next occasion, and views with sessions in IDLE are
polled.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable

from daemons.access.imap.view import Rows, View
from storage.columns import read_columns
from storage.notifications import ChangeHub
from storage.pool import Pool, reported

# While the connection for notifications is up it loses none: polling thousands of idle mailboxes would be for nothing.
_CONNECTED_FACTOR = 10


Key = tuple[int, int]  # mailbox, viewer


class Views:
    """Views by mailbox and viewer. acquire() and release() come in pairs."""

    def __init__(self, pool: Pool, changes: ChangeHub, *, cached_messages: int, poll_seconds: float) -> None:
        self._pool = pool
        self._changes = changes
        self._cached_messages = cached_messages
        self.poll_seconds = poll_seconds
        self._loading: dict[Key, asyncio.Lock] = {}
        self._views: dict[Key, View] = {}
        self._viewers: dict[int, tuple[int, ...]] = {}  # of the mailboxes with views; nearly always (0,)
        self._sessions: dict[Key, int] = {}
        self._unsubscribe: dict[Key, Callable[[], None]] = {}
        self._resting: OrderedDict[Key, int] = OrderedDict()  # views without sessions -> messages, least recent first

    async def acquire(self, mailbox_id: int, viewer: int = 0, *, modseq: int = 0) -> View:
        """The current view of a mailbox, one more session counted. Raises StorageError.

        modseq: what the database is known to have come to; a view behind it is read on, notified or not.
        """
        key = (mailbox_id, viewer)
        self._sessions[key] = self._sessions.get(key, 0) + 1
        self._resting.pop(key, None)
        try:
            lock = self._loading.setdefault(key, asyncio.Lock())
            async with lock:
                view = self._views.get(key)
                if view is None:
                    view = await self._load(key)
            view.is_stale |= view.highestmodseq < modseq
            await self.freshen(view)
        except BaseException:
            self._leave(key)
            raise
        return view

    def release(self, view: View) -> None:
        """One session less; the last one leaves the view to the cache."""
        self._leave((view.mailbox_id, view.viewer))

    def peek(self, mailbox_id: int, viewer: int = 0) -> View | None:
        """The view if it is in memory, as it is."""
        return self._views.get((mailbox_id, viewer))

    def touch(self, mailbox_id: int, *, but: View | None = None) -> None:
        """This process has just changed the mailbox: nobody need wait for the notification. `but` knows it already."""
        for viewer in self._viewers.get(mailbox_id, ()):
            view = self._views[mailbox_id, viewer]
            if view is not but:
                view.touch()

    async def freshen(self, view: View) -> None:
        """Make the view current; no SQL when nothing has happened and the last check is recent. Raises StorageError."""
        now = asyncio.get_running_loop().time()
        if view.is_behind or now - view.checked_at > self.poll_seconds:
            await view.refresh(now)

    def forget(self, mailbox_id: int) -> None:
        """Drop the views of a mailbox that is gone, whoever still holds them."""
        for viewer in self._viewers.get(mailbox_id, ()):
            self._drop((mailbox_id, viewer))

    def _drop(self, key: Key) -> None:
        if self._views.pop(key, None) is not None:
            mailbox_id, gone = key
            rest = tuple(viewer for viewer in self._viewers[mailbox_id] if viewer != gone)
            if rest:
                self._viewers[mailbox_id] = rest
            else:
                del self._viewers[mailbox_id]
        self._resting.pop(key, None)
        unsubscribe = self._unsubscribe.pop(key, None)
        if unsubscribe is not None:
            unsubscribe()

    async def poll(self) -> None:
        """Until cancelled: let sessions in IDLE look by themselves now and then, often while notifications are away."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(self.poll_seconds)
            patience = self.poll_seconds * (_CONNECTED_FACTOR if self._changes.is_connected else 1)
            for view in tuple(self._views.values()):
                if view.listeners and loop.time() - view.checked_at > patience:
                    view.touch()

    def close(self) -> None:
        """End all subscriptions."""
        for key in list(self._views):
            self._drop(key)

    async def _load(self, key: Key) -> View:
        # Subscribed before the snapshot, so that no change falls between; one that is in both costs an empty query.
        mailbox_id, viewer = key
        has_changed = False

        def changed(modseq: int) -> None:
            nonlocal has_changed
            has_changed = True
            view = self._views.get(key)
            if view is not None:
                view.touch(modseq)

        unsubscribe = self._changes.subscribe(mailbox_id, changed)
        try:
            now = asyncio.get_running_loop().time()
            async with reported(), self._pool.acquire() as connection:
                mailbox, columns = await read_columns(connection, mailbox_id, viewer)
            view = View(self._pool, mailbox, Rows.of(columns), now, viewer)
        except BaseException:
            unsubscribe()
            raise
        view.is_stale = has_changed
        self._views[key] = view
        self._viewers[mailbox_id] = (*self._viewers.get(mailbox_id, ()), viewer)
        self._unsubscribe[key] = unsubscribe
        return view

    def _leave(self, key: Key) -> None:
        self._sessions[key] -= 1
        if self._sessions[key]:
            return
        del self._sessions[key]
        self._loading.pop(key, None)
        view = self._views.get(key)
        if view is not None:
            self._resting[key] = len(view.rows.uids) + 100  # an empty view has a price, too
        while self._resting and sum(self._resting.values()) > self._cached_messages:
            self._drop(next(iter(self._resting)))
