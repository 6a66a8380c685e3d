"""The queue's side of the relay: recipients are leased while there is room for them, kept leased, and given back at the end."""

import asyncio
import os
import secrets
import socket
import time
from collections.abc import Sequence
from contextlib import suppress

import asyncpg
from prometheus_client import Gauge

from config.relay import Relay
from daemons.archiver.working import is_set_within, work
from daemons.context import Context
from daemons.logs import logger
from daemons.relay.dispatcher import Dispatcher
from storage import outbound
from storage.errors import StorageError
from storage.notifications import OUTBOUND
from storage.outbound import Leased
from storage.pool import Pool, reported

_log = logger("relay")
_WAITING = Gauge("postwerk_outbound_waiting", "Recipients that wait for delivery.", multiprocess_mode="mostrecent")
_LEASE_SHARE = 3  # leases are renewed when a third of their time is over
_LEAST_PAUSE_SECONDS = 0.05  # between two looks that found what others were taking
_SHORT_SECONDS = 1.0
_COUNT_SECONDS = 60.0  # counting what waits reads all of it


class Leasing:
    """One per process: `run` goes on until it is told to stop."""

    def __init__(self, context: Context, dispatcher: Dispatcher) -> None:
        self._pool: Pool = context.pool
        self._blobs = context.blobs
        self._changes = context.changes
        self._settings: Relay = context.settings.relay
        self._dispatcher = dispatcher
        self._wake = asyncio.Event()
        self._name = f"{socket.gethostname()} {os.getpid()} {secrets.token_hex(2)}"  # nobody else's
        self._counted_at = float("-inf")
        self._is_short = False
        self._is_in_doubt = False  # whether the last lease succeeded without our hearing of it
        dispatcher.on_room = self._wake.set

    async def run(self, stopping: asyncio.Event) -> None:
        """Lease and renew until `stopping` is set; then give back what has not begun, and wait for what has."""
        forget = self._changes.on(OUTBOUND, self._wake.set)
        renewing = asyncio.create_task(self._renew())
        try:
            await work(stopping, self._wake, self._step, self._rest, self._failed)
            await self._drain()
        finally:
            renewing.cancel()
            forget()

    async def _step(self) -> bool:
        """Lease one batch. Returns whether there may be more, and room for it."""
        self._wake.clear()
        dispatcher, settings = self._dispatcher, self._settings
        limit = min(dispatcher.room, settings.batch_limit)
        domains, senders = dispatcher.full_domains(), dispatcher.full_senders()
        leased: list[Leased] = []
        if limit:
            until = time.monotonic() + settings.lease
            async with reported(), self._pool.acquire() as connection:
                if self._is_in_doubt:
                    known = [each.recipient_id for each in dispatcher.held]
                    await outbound.give_back_unknown(connection, self._name, known)
                self._is_in_doubt = True
                leased = await outbound.lease(
                    connection,
                    limit,
                    lease_seconds=settings.lease,
                    leased_by=self._name,
                    excluded_domains=domains,
                    excluded_senders=senders,
                )
            self._is_in_doubt = False
            with suppress(StorageError):  # learnt together: one by one it would cost a query for each message
                await self._blobs.prefetch(list(dict.fromkeys(each.content_id for each in leased)))
            dispatcher.take(leased, until)
        self._is_short = not limit or bool(domains or senders)
        dispatcher.wants_more(is_short=self._is_short)
        return bool(limit) and len(leased) == limit

    async def _rest(self) -> None:
        """Wait for a wake-up, for room, or until something is due."""
        if self._wake.is_set():
            return
        if self._is_short:  # something may be due that there is no room for: the dispatcher tells when there is
            await is_set_within(self._wake, min(self._settings.poll, _SHORT_SECONDS))
            return
        pause = await look(self._pool, is_counted=self._is_count_due())
        await is_set_within(self._wake, max(min(self._settings.poll, pause), _LEAST_PAUSE_SECONDS))

    def _is_count_due(self) -> bool:
        now = time.monotonic()
        if now - self._counted_at < _COUNT_SECONDS:
            return False
        self._counted_at = now
        return True

    @staticmethod
    def _failed(error: Exception, failures: int) -> None:
        _log.error("queue cannot be read", error=f"{type(error).__name__}: {error}", failures=failures)

    async def _renew(self) -> None:
        """Keep what is held ours. While the database is away nothing is renewed, and nothing new is begun when time is over."""
        settings = self._settings
        while True:
            await asyncio.sleep(settings.lease / _LEASE_SHARE)
            held = self._dispatcher.held
            for at in range(0, len(held), settings.batch_limit):
                some = held[at : at + settings.batch_limit]
                until = time.monotonic() + settings.lease
                try:
                    async with reported(), self._pool.acquire() as connection:
                        kept = await outbound.extend(connection, some, lease_seconds=settings.lease)
                except (StorageError, asyncpg.PostgresError) as error:
                    _log.error("leases cannot be renewed", error=f"{type(error).__name__}: {error}")
                    break
                self._dispatcher.renewed(kept, until)
                self._dispatcher.lost({each.recipient_id for each in some} - kept)

    async def _drain(self) -> None:
        await self._give_back(await self._dispatcher.drain())
        unknown = await self._dispatcher.ended()
        if unknown:
            _log.warning("deliveries cut off", recipients=len(unknown))
        await self._give_back(unknown)

    async def _give_back(self, leased: Sequence[Leased]) -> None:
        with suppress(StorageError, asyncpg.PostgresError):  # they come back by time
            for at in range(0, len(leased), self._settings.batch_limit):
                async with reported(), self._pool.acquire() as connection:
                    await outbound.give_back(connection, leased[at : at + self._settings.batch_limit])


async def look(pool: Pool, *, is_counted: bool = True) -> float:
    """In how many seconds the queue has to be looked at again: infinite when nothing waits. Counts what waits for the metrics."""
    async with reported(), pool.acquire() as connection:
        if is_counted:
            waiting, next_seconds = await outbound.standing(connection)
            _WAITING.set(waiting)
        else:
            next_seconds = await outbound.next_due(connection)
    return float("inf") if next_seconds is None else max(next_seconds, 0.0)
