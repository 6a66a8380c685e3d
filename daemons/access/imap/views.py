"""All mailbox views of one process: loaded once, counted, and kept a while after the last session has left.

The only place that subscribes to change notifications for IMAP. A notification that is lost costs latency only: a view
that has not been checked for poll_seconds asks the database at the next occasion, and views with sessions in IDLE are
polled.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable

from daemons.access.imap.view import View
from storage import messages
from storage.notifications import ChangeHub
from storage.pool import Pool, reported

# While the connection for notifications is up it loses none: polling thousands of idle mailboxes would be for nothing.
_CONNECTED_FACTOR = 10


class Views:
    """Views by mailbox. acquire() and release() come in pairs."""

    def __init__(self, pool: Pool, changes: ChangeHub, *, cached_messages: int, poll_seconds: float) -> None:
        self._pool = pool
        self._changes = changes
        self._cached_messages = cached_messages
        self.poll_seconds = poll_seconds
        self._loading: dict[int, asyncio.Lock] = {}
        self._views: dict[int, View] = {}
        self._sessions: dict[int, int] = {}
        self._unsubscribe: dict[int, Callable[[], None]] = {}
        self._resting: OrderedDict[int, int] = OrderedDict()  # views without sessions -> messages, least recent first

    async def acquire(self, mailbox_id: int, viewer: int = 0) -> View:
        r"""The current view of a mailbox, one more session counted. Raises StorageError.

        `viewer` is the account whose own \Seen flags the view shows, 0 where the mailbox has one set for all.
        """
        assert not viewer
        self._sessions[mailbox_id] = self._sessions.get(mailbox_id, 0) + 1
        self._resting.pop(mailbox_id, None)
        try:
            lock = self._loading.setdefault(mailbox_id, asyncio.Lock())
            async with lock:
                view = self._views.get(mailbox_id)
                if view is None:
                    view = await self._load(mailbox_id)
            await self.freshen(view)
        except BaseException:
            self._leave(mailbox_id)
            raise
        return view

    def release(self, view: View) -> None:
        """One session less; the last one leaves the view to the cache."""
        self._leave(view.mailbox_id)

    def peek(self, mailbox_id: int) -> View | None:
        """The view if it is in memory, as it is."""
        return self._views.get(mailbox_id)

    def touch(self, mailbox_id: int) -> None:
        """This process has just changed the mailbox: nobody need wait for the notification."""
        view = self._views.get(mailbox_id)
        if view is not None:
            view.touch()

    async def freshen(self, view: View) -> None:
        """Make the view current; no SQL when nothing has happened and the last check is recent. Raises StorageError."""
        now = asyncio.get_running_loop().time()
        if view.is_stale or now - view.checked_at > self.poll_seconds:
            await view.refresh(now)

    def forget(self, mailbox_id: int) -> None:
        """Drop a view whose mailbox is gone, whoever still holds it."""
        self._views.pop(mailbox_id, None)
        self._resting.pop(mailbox_id, None)
        unsubscribe = self._unsubscribe.pop(mailbox_id, None)
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
        for mailbox_id in list(self._views):
            self.forget(mailbox_id)

    async def _load(self, mailbox_id: int) -> View:
        # Subscribed before the snapshot, so that no change falls between; one that is in both costs an empty query.
        has_changed = False

        def changed() -> None:
            nonlocal has_changed
            has_changed = True
            view = self._views.get(mailbox_id)
            if view is not None:
                view.touch()

        unsubscribe = self._changes.subscribe(mailbox_id, changed)
        try:
            now = asyncio.get_running_loop().time()
            async with reported(), self._pool.acquire() as connection:
                mailbox, rows = await messages.snapshot(connection, mailbox_id)
            view = View(self._pool, mailbox, rows, now)
        except BaseException:
            unsubscribe()
            raise
        view.is_stale = has_changed
        self._views[mailbox_id] = view
        self._unsubscribe[mailbox_id] = unsubscribe
        return view

    def _leave(self, mailbox_id: int) -> None:
        self._sessions[mailbox_id] -= 1
        if self._sessions[mailbox_id]:
            return
        del self._sessions[mailbox_id]
        self._loading.pop(mailbox_id, None)
        view = self._views.get(mailbox_id)
        if view is not None:
            self._resting[mailbox_id] = len(view.rows.uids) + 100  # an empty view has a price, too
        while self._resting and sum(self._resting.values()) > self._cached_messages:
            self.forget(next(iter(self._resting)))
