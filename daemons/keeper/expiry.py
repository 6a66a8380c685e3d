"""What has its time: traces, Junk, reports, notifications, counts of senders that send no more, mail that nobody would release."""

import asyncio
from dataclasses import dataclass

from prometheus_client import Counter

from config.settings import Settings
from config.units import DAY, HOUR
from daemons.greylist import terms_of
from daemons.logs import logger
from storage import greylist, memory, notifying, rates, reports, sending, traces
from storage import settings as simple_settings
from storage.outbound_changes import release
from storage.outbound_listing import Selection
from storage.pool import Connection

_log = logger("keeper")
_COUNTS_DAYS = 180  # a habit has faded by then to less than a hundredth
_JUNK = Counter("postwerk_expired_junk", "Messages removed from Junk, where they lay for as long as their owner wants.")
_TRACES = Counter("postwerk_expired_traces", "Records of the delivery trace and entries of its index removed in time.")


@dataclass(slots=True)
class Expired:
    """What one round did."""

    traces: int = 0
    counts: int = 0
    released: int = 0  # recipients
    reports: int = 0  # batches of them
    junk: int = 0  # messages
    notifications: int = 0
    strangers: int = 0  # what greylisting and rates remember
    memory: int = 0  # of scripts: whom they answered, what they saw


@dataclass(frozen=True, slots=True)
class Expiry:
    """Rounds over one database."""

    settings: Settings

    async def round(self, connection: Connection, stopping: asyncio.Event) -> Expired:
        """Go over everything once, in transactions of bounded size. Ends early when told to stop."""
        done = Expired()
        limit, retention = self.settings.keeper.batch_limit, self.settings.trace.retention
        while not stopping.is_set():
            removed = await traces.forget(connection, limit, older_than_seconds=retention)
            done.traces += removed
            if not removed:
                break
        while not stopping.is_set():
            removed = await simple_settings.remove_expired_junk(connection, limit)
            done.junk += removed
            if not removed:
                break
        done.reports = await self._forget_reports(connection, stopping)
        done.notifications = await self._forget_notifications(connection, stopping)
        done.strangers = await self._forget_strangers(connection, stopping)
        while not stopping.is_set():
            removed = await memory.forget(connection, limit)
            done.memory += removed
            if not removed:
                break
        done.counts = await sending.forget_counts(connection, older_than_days=_COUNTS_DAYS)
        for account_id in await sending.wrongly_held(connection):
            selection = Selection(account_id=account_id, state="held", held_reason=sending.HELD_FOR_SUSPENSION)
            done.released += len(await release(connection, selection))
            _log.info("mail released that was held for no suspension", account_id=account_id)
        _TRACES.inc(done.traces)
        _JUNK.inc(done.junk)
        return done

    async def _forget_strangers(self, connection: Connection, stopping: asyncio.Event) -> int:
        forgotten, removed, limit = 0, 1, self.settings.keeper.batch_limit
        while removed and not stopping.is_set():
            removed = await greylist.forget(connection, limit, terms=terms_of(self.settings.greylisting))
            removed += await rates.forget(connection, limit, older_than_seconds=HOUR)
            forgotten += removed
        return forgotten

    async def _forget_notifications(self, connection: Connection, stopping: asyncio.Event) -> int:
        settings, forgotten = self.settings, 0
        limit, counts_days = settings.keeper.batch_limit, int(settings.notifier.count_memory // DAY)
        while not stopping.is_set():
            removed = await notifying.forget(
                connection, limit, finished_seconds=settings.keeper.queue_memory, counts_days=counts_days
            )
            forgotten += removed
            if removed < limit:
                break
        return forgotten

    async def _forget_reports(self, connection: Connection, stopping: asyncio.Event) -> int:
        settings, limit, batches = self.settings.reports, self.settings.keeper.batch_limit, 0
        while not stopping.is_set():
            removed = await reports.forget(
                connection, limit, report_seconds=settings.retention, bounce_seconds=settings.bounce_retention
            )
            batches += removed > 0
            if removed < limit:
                break
        return batches
