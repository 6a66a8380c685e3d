"""Notifications on their way out: leased from their queue, sent over HTTP, tried again while that can help.

Whoever dies between a server's answer and the note of it sends once more when the lease is over; the request bears an id by
which the server may know it. What it cost is counted with the note, so never twice.

Users' web servers are reached like those of any stranger: over TLS, and never in our own networks. Gateways are the operator's.
"""

import asyncio
import json
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import msgspec
from prometheus_client import Counter

from daemons.archiver.working import is_set_within, work
from daemons.context import Context
from daemons.logs import logger
from daemons.notifying import gateway_for
from daemons.relay import gateways
from daemons.relay.reach import PrivateReach, Reach
from daemons.relay.resolver import Resolver
from daemons.relay.web import Answered, Web, WebError
from storage import notifying
from storage.errors import StorageError
from storage.notifying import LeasedNotification
from storage.pool import Connection, reported

_log = logger("notifier")
_SENT = Counter("postwerk_notifications", "Attempts to notify over HTTP, by outcome.", ["kind", "outcome"])
_POLL_SECONDS = 60.0  # should a notification of the database be lost
_LEAST_PAUSE_SECONDS = 0.05  # between two looks that found what others were taking
_SETTLING_SECONDS = (0.2, 1.0, 5.0, 15.0)  # between attempts to note what became of one
_LEASE_SECONDS = 30.0  # besides the server's time: longer than settling is tried
_BODY_LIMIT = 4096  # octets of an answer that are looked at
_REPLY_LIMIT = 200  # characters of it that are kept
_AGAIN = frozenset((408, 425, 429))  # and whatever is the server's fault


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one attempt."""

    reply: str  # for people
    is_sent: bool = False
    cost: int = 0
    wait_seconds: float | None = None  # until the next attempt; None: there is none


class Notices:
    """One per relay process."""

    def __init__(self, context: Context, resolver: Resolver) -> None:
        self._context = context
        self._settings = settings = context.settings.notifier
        self._lease_seconds = 2 * settings.timeout + _LEASE_SECONDS
        transport = context.settings.transport
        strangers = Reach(msgspec.structs.replace(transport, private_networks=settings.private_networks))
        options: dict[str, Any] = {"timeout": settings.timeout, "authority": settings.authority}
        self._strangers = Web(resolver, strangers, **options)
        self._gateways = Web(resolver, Reach(transport), **options)
        self._plain_gateways = Web(resolver, PrivateReach(transport), is_plain=True, **options)
        self._wake = asyncio.Event()
        self._running: dict[asyncio.Task[None], int] = {}  # by account

    def __repr__(self) -> str:
        return f"<Notices {len(self._running)} under way>"

    async def run(self, stopping: asyncio.Event) -> None:
        """Send until `stopping` is set; then wait for what is under way."""
        forget: Callable[[], None] = self._context.changes.on(notifying.CHANNEL, self._wake.set)
        try:
            await work(stopping, self._wake, self._step, self._rest, self._failed)
            if self._running:
                await asyncio.wait(self._running, timeout=self._settings.timeout)
        finally:
            forget()
            for task in self._running:
                task.cancel()
            await asyncio.gather(*self._running, return_exceptions=True)
            await self.close()

    async def close(self) -> None:
        """End the connections; run() does it at its end."""
        for web in (self._strangers, self._gateways, self._plain_gateways):
            await web.close()

    async def _step(self) -> bool:
        """Begin with what is due, as far as there is room."""
        self._wake.clear()
        room = self._settings.at_once - len(self._running)
        if room <= 0:
            return False
        async with reported(), self._context.pool.acquire() as connection:
            leased = await notifying.lease(
                connection,
                room,
                lease_seconds=self._lease_seconds,
                busy=list(set(self._running.values())),
                per_account=self._settings.account_at_once,
            )
        for each in leased:
            task = asyncio.create_task(self._deliver(each), name=f"notification {each.notification_id}")
            self._running[task] = each.account_id
            task.add_done_callback(self._ended)
        return bool(leased)

    def _ended(self, task: asyncio.Task[None]) -> None:
        del self._running[task]
        self._wake.set()
        if not task.cancelled() and (error := task.exception()) is not None:  # it comes back when its lease ends
            _log.error("notification failed", error=f"{type(error).__name__}: {error}")

    async def _rest(self) -> None:
        """Wait until there is news, room, or something due."""
        pause = _POLL_SECONDS
        if len(self._running) < self._settings.at_once:
            async with reported(), self._context.pool.acquire() as connection:
                due = await notifying.next_due(connection, busy=list(set(self._running.values())))
            pause = min(pause, max(due, _LEAST_PAUSE_SECONDS)) if due is not None else pause
        await is_set_within(self._wake, pause)

    @staticmethod
    def _failed(error: Exception, failures: int) -> None:
        _log.error("notifications cannot be read", error=f"{type(error).__name__}: {error}", failures=failures)

    async def _deliver(self, leased: LeasedNotification) -> None:
        outcome = await self.attempt(leased)
        if outcome.wait_seconds is not None and datetime.now(UTC) >= leased.expires_at:
            outcome = Outcome(f"given up: {outcome.reply}")
        if await self._settle(leased, outcome):
            word = "sent" if outcome.is_sent else "failed" if outcome.wait_seconds is None else "deferred"
            _SENT.labels(leased.kind, word).inc()
            self._context.recorder.note(
                leased.tenant_id,
                leased.trace_id,
                "notified",
                method=leased.kind,
                outcome=word,
                target=target_of(leased.kind, leased.target),
                reply=outcome.reply,
            )

    async def attempt(self, leased: LeasedNotification) -> Outcome:
        """Send it once. What became of it is not noted."""
        facts: Mapping[str, object] = json.loads(leased.facts)
        price, accepted, web = 0, "", self._strangers
        try:
            if leased.kind == "web":
                request = gateways.webhook(leased.target, facts)
            else:
                gateway = gateway_for(self._settings, leased.target)
                if gateway is None:
                    return Outcome("no gateway for this number")
                request = gateways.sms(gateway, leased.target, facts)
                price, accepted = gateway.price, gateway.accepted
                web = self._plain_gateways if gateway.url.startswith("http:") else self._gateways
            answer = await web.ask(request.method, request.url, request.octets, request.headers, limit=_BODY_LIMIT)
        except (WebError, gateways.SecretError) as error:
            return Outcome(str(error), wait_seconds=self._wait(leased))
        text = answer.body.decode("utf-8", "replace")
        # What a user's server answers is not kept: it may not be his, and this no way to read it.
        reply = f"status {answer.status}" + (f": {_plain(text)}" if leased.kind == "sms" and text else "")
        if 200 <= answer.status < 300:
            if re.search(accepted, text) is None:
                return Outcome(f"not accepted: {reply}")
            return Outcome(reply, is_sent=True, cost=price * leased.parts)
        if answer.status in _AGAIN or answer.status >= 500:
            return Outcome(reply, wait_seconds=self._wait(leased, answer))
        return Outcome(reply)

    def _wait(self, leased: LeasedNotification, answer: Answered | None = None) -> float:
        """Until the next attempt: as configured, longer when the server asks for that."""
        waits = self._settings.retry_waits
        wait: float = waits[min(leased.attempts, len(waits)) - 1]
        asked = answer.retry_after if answer is not None else ""
        return max(wait, float(asked)) if asked.isascii() and asked.isdigit() and len(asked) < 8 else wait

    async def _settle(self, leased: LeasedNotification, outcome: Outcome) -> bool:
        """Note what became of it; trying again is better than sending again."""
        for pause in (*_SETTLING_SECONDS, None):
            try:
                async with reported(), self._context.pool.acquire() as connection:
                    return await _settled(connection, leased, outcome)
            except (StorageError, asyncpg.PostgresError) as error:
                _log.error("notification not settled", error=f"{type(error).__name__}: {error}")
                if pause is None:
                    break
                await asyncio.sleep(pause)
        return False


async def _settled(connection: Connection, leased: LeasedNotification, outcome: Outcome) -> bool:
    if outcome.is_sent:
        return await notifying.sent(connection, leased, outcome.reply, outcome.cost)
    if outcome.wait_seconds is None:
        return await notifying.failed(connection, leased, outcome.reply)
    return await notifying.deferred(connection, leased, outcome.reply, outcome.wait_seconds)


def target_of(kind: str, target: str) -> str:
    """What may be shown of a target: paths of webhooks are as good as passwords."""
    if kind != "web":
        return target
    with suppress(ValueError):
        return urlsplit(target).hostname or ""
    return ""


def _plain(text: str) -> str:
    return "".join(character if character.isprintable() else " " for character in text[:_REPLY_LIMIT]).strip()
