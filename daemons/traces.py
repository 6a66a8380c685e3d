"""The delivery trace: what became of a message, noted where it happens, written soon after, many notes at a time.

Who notes something never waits and never fails. The id is the transaction id that our 250 reply names, the one in Received,
journal and log. A note belongs to one tenant: whoever notes for several tenants tells each its own addresses only.

kind        facts that everybody names alike (all may be left out)
received    peer, helo, protocol, tls, login, reverse_path, forward_paths, authors, size_octets, message_id
checked     score, verdicts
refused     reply, reason, and those of received
filtered    forward_path, actions (what filters and rules of one account did), error (a mistake of its script)
stored      forward_path, mailbox_id, uidvalidity, uid
queued      reverse_path, forward_paths, expires_at
held        reason, forward_paths
attempt     forward_path, attempt, host, address, tls, reply, outcome (delivered, failed, deferred), next_attempt_at
delivered   forward_path, host, reply (the end of a remote recipient)
failed      forward_path, host, reply (the end of a remote recipient)
bounced     forward_path, action, report (the trace id of the report), to
released    forward_path, by
deleted     forward_path, by, reason
notified    forward_path, method (mail, web, sms), outcome (sent, deferred, failed), target, reply

tls is text, "TLSv1.3 TLS_AES_256_GCM_SHA384, DANE"; times are datetimes or text; reply is the server's own words. reverse_path,
authors, forward_path and forward_paths of the kinds received, refused, queued and bounced are what a search by address finds.
"""

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from typing import Literal, TypeAlias

import asyncpg
from prometheus_client import Counter

from config.traces import Trace
from config.units import DAY
from daemons.logs import logger
from protocol.address import AddrSpec
from storage import traces
from storage.blobs.keys import KeyRing
from storage.errors import CorruptError, NotFoundError, StorageError
from storage.pool import Pool
from storage.traces import Batch, NewNote, Sealer

Kind: TypeAlias = Literal[
    "received", "checked", "refused", "filtered", "stored", "queued", "held", "attempt", "delivered", "failed", "bounced",
    "released", "deleted", "notified",
]  # fmt: skip

_log = logger("trace")
_LOST = Counter("postwerk_trace_lost", "Notes of the delivery trace that could not be written.")
_RETRY_SECONDS = (0.2, 1.0, 5.0, 15.0)
_CLOSING_SECONDS = 5.0
_PLAIN = {str, int, float, bool, type(None)}
_TURN = 100  # messages sealed before others get a turn of the loop: about a millisecond


class Recorder:
    """One per process: `context.recorder`. Writes while run() runs, and what is left at close()."""

    def __init__(self, settings: Trace, pool: Pool, keys: KeyRing) -> None:
        self._settings = settings
        self._pool = pool
        self._keys = keys
        self._waiting: deque[NewNote] = deque()
        self._arrived = asyncio.Event()
        self._writing = asyncio.Lock()

    def __repr__(self) -> str:
        return f"<Recorder: {len(self._waiting)} notes waiting>"

    def note(self, tenant_id: int, trace_id: str, kind: Kind, /, **facts: object) -> None:
        """Record that this happened now. The facts are kept as they are: whoever gave a list does not change it any more."""
        if len(self._waiting) >= self._settings.queue_limit:
            _LOST.inc()
            return
        self._waiting.append(NewNote(tenant_id, trace_id, time.time(), kind, facts))
        self._arrived.set()

    async def run(self) -> None:
        """Write what comes, some time after it came, until cancelled."""
        failures = 0
        while True:
            await self._arrived.wait()
            if len(self._waiting) < self._settings.batch_limit:
                await asyncio.sleep(self._settings.delay)
            try:
                await self.flush()
                failures = 0
            except StorageError as error:
                _log.warning("trace not written yet", waiting=len(self._waiting), reason=str(error))
                await asyncio.sleep(_RETRY_SECONDS[min(failures, len(_RETRY_SECONDS) - 1)])
                failures += 1

    async def flush(self) -> None:
        """Write all that waits. Raises UnavailableError; what was not written then waits on."""
        async with self._writing:
            while self._waiting:
                taken = [self._waiting.popleft() for _ in range(min(len(self._waiting), self._settings.batch_limit))]
                try:
                    await self._write(taken)
                except (StorageError, asyncio.CancelledError):
                    self._waiting.extendleft(reversed(taken))
                    raise
                except asyncpg.PostgresError:
                    _LOST.inc(len(taken))
                    _log.exception("trace not written", lost=len(taken))
            self._arrived.clear()

    async def close(self) -> None:
        """Write what is left, unless that takes too long."""
        try:
            async with asyncio.timeout(_CLOSING_SECONDS):
                await self.flush()
        except (StorageError, TimeoutError) as error:
            _LOST.inc(len(self._waiting))
            _log.warning("trace not written", lost=len(self._waiting), reason=str(error))

    async def _write(self, taken: Sequence[NewNote]) -> None:
        messages: dict[tuple[int, str], list[NewNote]] = {}
        for note in taken:
            tenant_id, trace_id, at, kind, facts = note
            spelled = {name: fact if type(fact) in _PLAIN else _spelled(fact) for name, fact in facts.items()}
            messages.setdefault((tenant_id, trace_id), []).append(NewNote(tenant_id, trace_id, at, kind, spelled))
        sealers = {tenant_id: await self._sealer(tenant_id) for tenant_id in {note.tenant_id for note in taken}}
        batch = Batch.empty()
        for number, ((tenant_id, _), notes) in enumerate(messages.items(), start=1):
            sealer = sealers[tenant_id]
            if sealer is None:
                continue
            try:
                batch.add(sealer, notes)
            except (TypeError, ValueError) as error:
                _LOST.inc(len(notes))
                _log.error("notes cannot be written down", kinds=[note.kind for note in notes], reason=repr(error))
            if number % _TURN == 0:
                await asyncio.sleep(0)
        await traces.write(self._pool, batch, default_days=self._settings.retention / DAY)

    async def _sealer(self, tenant_id: int) -> Sealer | None:
        """None for a tenant that was removed meanwhile, or whose key does not open."""
        try:
            return Sealer(tenant_id, await self._keys.tenant(self._pool, tenant_id))
        except (NotFoundError, CorruptError):
            return None


def _spelled(fact: object) -> object:
    """Addresses as text: they may be given as they come."""
    if isinstance(fact, AddrSpec):
        return str(fact)
    if isinstance(fact, list | tuple):
        return [str(each) if isinstance(each, AddrSpec) else each for each in fact]
    return fact
