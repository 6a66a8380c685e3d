"""Outcomes become durable here, many recipients by one statement, and with them the reports and the trace.

While one batch is being committed the next one gathers. Whoever settles waits: a connection sends its next message only
when the last one's outcome is durable, so a process that dies leaves one message in doubt per connection, and no more.
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta

import asyncpg
from prometheus_client import Counter

from config.relay import Relay
from daemons.context import Context
from daemons.logs import logger
from daemons.relay.attempt import Settled
from daemons.relay.bounces import Bounces, action_of, record_dropped
from daemons.relay.returns import may_come_back
from daemons.relay.schedule import wait_seconds
from storage import outbound
from storage.errors import LeaseLostError, StorageError, UnavailableError
from storage.pool import reported
from storage.rows import NewMessage, Settlement, Stored

_log = logger("relay")
_RETRY_SECONDS = (0.1, 0.3, 1.0, 3.0)  # between tries while the database is away; the last one is repeated
_REPORTS_AT_ONCE = 32
_REPORT_TRIES = 3  # what makes a report impossible may pass, as a mailbox that is being removed

_OUTCOMES = Counter("postwerk_relay_outcomes", "Attempts per recipient, by outcome.", ["outcome"])
_LOST = Counter("postwerk_relay_lost_leases", "Outcomes of recipients whose lease had run out.")


class Settler:
    """One per process."""

    def __init__(self, context: Context, bounces: Bounces) -> None:
        self._context = context
        self._settings: Relay = context.settings.relay
        self._bounces = bounces
        self._waiting: list[tuple[Sequence[Settled], asyncio.Future[None]]] = []
        self._flushing: asyncio.Task[None] | None = None
        self._reporting = asyncio.Semaphore(_REPORTS_AT_ONCE)  # each may hold a whole message

    def __repr__(self) -> str:
        return f"<Settler {len(self._waiting)} waiting>"

    async def settle(self, settled: Sequence[Settled]) -> None:
        """Make it durable, with the reports that are due. Returns when that is done, however long the database is away."""
        plain: list[Settled] = []
        groups: dict[int, list[Settled]] = {}
        for each in settled:
            if action_of(each) is not None or may_come_back(each):
                groups.setdefault(each.leased.outbound_id, []).append(each)
            else:
                plain.append(each)
        work = [self._with_report(group) for group in groups.values()]
        if plain:
            work.append(self._together(plain))
        if len(work) == 1:
            await work[0]
        else:
            await asyncio.gather(*work)

    async def _together(self, settled: Sequence[Settled]) -> None:
        done = asyncio.get_running_loop().create_future()
        self._waiting.append((settled, done))
        if self._flushing is None:
            self._flushing = asyncio.create_task(self._flush())
        await done

    async def _flush(self) -> None:
        """Commit what waits until nothing does."""
        try:
            while self._waiting:
                batch, size = [], 0
                while self._waiting and size < self._settings.batch_limit:
                    batch.append(self._waiting.pop(0))
                    size += len(batch[-1][0])
                try:
                    await self._commit([each for settled, _ in batch for each in settled])
                except Exception as error:  # whoever waits must hear of it, whatever it is
                    for _, done in batch:
                        if not done.done():
                            done.set_exception(error)
                for _, done in batch:
                    if not done.done():
                        done.set_result(None)
        finally:
            self._flushing = None

    async def _commit(self, settled: Sequence[Settled]) -> None:
        settlements = [settlement_of(each) for each in settled]
        tries = 0
        while True:
            try:
                async with reported(), self._context.pool.acquire() as connection:
                    counted = await outbound.settle(connection, settlements)
                break
            except (StorageError, asyncpg.PostgresError) as error:
                await self._pause(error, tries)
                tries += 1
        self._note(settled, counted)

    async def _with_report(self, settled: Sequence[Settled]) -> None:
        async with self._reporting:
            await self._reported(settled)

    async def _reported(self, settled: Sequence[Settled]) -> None:
        """One message's outcomes, and the report on them, in one transaction."""
        for tries in range(_REPORT_TRIES):
            try:
                messages = await self._bounces.of(settled)
                if messages:
                    await self.store(settled, messages)
                else:
                    await self._together(settled)
            except LeaseLostError:
                break  # of one of them; the others count on their own, and are reported on when they are tried again
            except UnavailableError as error:
                await self._pause(error, tries)
            except StorageError as error:
                _log.warning("report cannot be stored", trace=settled[0].leased.trace_id, error=str(error))
                await asyncio.sleep(_RETRY_SECONDS[1])
            else:
                return
        await self._together([self._postponed(each) for each in settled])

    async def store(self, settled: Sequence[Settled], messages: Sequence[NewMessage]) -> list[Stored]:
        """Make outcomes durable in the transaction that stores these messages.

        Raises LeaseLostError when one of them is somebody else's by now, StorageError when the messages cannot be stored.
        """
        settlements = [settlement_of(each) for each in settled]
        tries = 0
        while True:
            try:
                stored = await self._context.ingest.store([replace(messages[0], settles=settlements), *messages[1:]])
            except UnavailableError as error:
                await self._pause(error, tries)
                tries += 1
            else:
                break
        self._note(settled, {each.leased.recipient_id for each in settled})
        return stored

    def _postponed(self, settled: Settled) -> Settled:
        """What was delivered stays so; of what failed the sender has to hear, so it waits until that is possible."""
        attempt = settled.attempt
        if attempt.kind == "delivered":
            return settled
        wait = timedelta(seconds=wait_seconds(self._settings, settled.leased.tries + 1))
        return replace(settled, next_attempt_at=settled.next_attempt_at or attempt.at + wait, is_delay_due=False)

    async def _pause(self, error: Exception, tries: int) -> None:
        _log.error("outcomes cannot be stored yet", error=f"{type(error).__name__}: {error}", tries=tries + 1)
        with suppress(StorageError, asyncpg.PostgresError):
            async with reported():
                await self._context.pool.expire_connections()
        await asyncio.sleep(_RETRY_SECONDS[min(tries, len(_RETRY_SECONDS) - 1)])

    def _note(self, settled: Sequence[Settled], counted: set[int]) -> None:
        """Tell trace and metrics what is durable now."""
        note = self._context.recorder.note
        for each in settled:
            leased, attempt = each.leased, each.attempt
            if leased.recipient_id not in counted:
                _LOST.inc()
                continue
            _OUTCOMES.labels(attempt.kind).inc()
            note(
                leased.tenant_id,
                leased.trace_id,
                "attempt",
                forward_path=leased.forward_path,
                attempt=leased.tries + 1,
                host=attempt.host,
                address=attempt.address,
                tls=attempt.tls,
                reply=attempt.reply,
                outcome=attempt.kind,
                next_attempt_at=each.next_attempt_at,
            )
            if attempt.kind == "delivered" or attempt.kind == "failed":
                note(
                    leased.tenant_id,
                    leased.trace_id,
                    attempt.kind,
                    forward_path=leased.forward_path,
                    host=attempt.host,
                    reply=attempt.reply,
                )
            if attempt.kind == "failed" and not leased.reverse_path:
                record_dropped(self._context, leased, "null reverse path")


def settlement_of(settled: Settled) -> Settlement:
    """The same for storage."""
    leased, attempt = settled.leased, settled.attempt
    state = "waiting" if settled.next_attempt_at is not None else attempt.kind
    host = f"{attempt.host} [{attempt.address}]" if attempt.address else attempt.host
    return Settlement(
        leased.recipient_id,
        leased.attempts,
        state,
        attempt.reply,
        settled.next_attempt_at,
        host,
        attempt.tls,
        settled.is_delay_due,
    )
