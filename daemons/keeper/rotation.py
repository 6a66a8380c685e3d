"""Keys that come and go by themselves: DKIM keys with their DNS records, and the keys of rewritten senders.

A DKIM key is published, then active, retired, removed. It signs only once its record has been seen in the DNS: where nobody
publishes the successor's, the old key goes on signing, and the log says so each round.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from prometheus_client import Counter, Gauge

from config.settings import Settings
from config.units import DAY
from daemons.forwarding import new_key
from daemons.logs import logger
from daemons.relay.resolver import Resolver
from daemons.signing_keys import DelegationError, Look, add_new_key, look_at_all, note
from protocol.dkim.record import Finding
from storage import signing, srs
from storage.blobs.keys import KeyRing
from storage.errors import ExistsError
from storage.pool import Connection
from storage.signing import KeyRow

_log = logger("keeper")
_ROTATED = Counter("postwerk_dkim_keys", "DKIM keys by what became of them.", ["state"])
_WRONG = Gauge(
    "postwerk_dkim_records_wrong", "Signing DKIM keys whose DNS record is not right.", multiprocess_mode="mostrecent"
)


@dataclass(slots=True)
class Rotated:
    """What one round changed."""

    activated: list[str] = field(default_factory=list)  # selectors
    made: list[str] = field(default_factory=list)
    removed: int = 0
    forgotten: int = 0
    srs_made: int = 0
    srs_removed: int = 0


@dataclass(frozen=True, slots=True)
class Rotation:
    """Rounds over all keys of one database."""

    settings: Settings
    ring: KeyRing
    resolver: Resolver

    async def round(self, connection: Connection, stopping: asyncio.Event) -> Rotated:
        """Look at every key once, and do what is due. Ends early when told to stop."""
        now, done = datetime.now(UTC), Rotated()
        await self._look(connection, now, done, stopping)
        await self._renew(connection, now, done, stopping)
        done.removed = await signing.remove_retired(connection, self.settings.dkim.retirement)
        await self._rewriting_keys(connection, done)
        for state, count in (("active", len(done.activated)), ("published", len(done.made)), ("removed", done.removed)):
            _ROTATED.labels(state).inc(count)
        return done

    async def _look(self, connection: Connection, now: datetime, done: Rotated, stopping: asyncio.Event) -> None:
        rows = [row for row in await signing.list_keys(connection) if row.state != "retired"]
        looks = await self._looked(rows, stopping)
        signs = {(row.domain_id, row.algorithm) for row in rows if row.state == "active"}
        wait = timedelta(seconds=self.settings.dkim.publication_wait)

        def is_due(key: KeyRow) -> bool:
            """A first key has nothing to wait for: nobody remembers another record of that name."""
            is_first = (key.domain_id, key.algorithm) not in signs
            return is_first or (key.seen_at is not None and key.seen_at + wait <= now)

        done.activated = [key.selector for key in await note(connection, looks, is_due)]
        wrong = [seen for seen in looks if seen.key.state == "active" and seen.finding not in (Finding.RIGHT, None)]
        waiting = [
            seen for seen in looks if seen.key.state == "published" and seen.finding not in (Finding.RIGHT, None)
        ]
        _WRONG.set(len(wrong))
        for seen in wrong:
            _log.error("a DKIM key signs whose DNS record is not right", **_facts(seen))
        for seen in waiting:
            _log.warning("a DKIM key waits for its DNS record", **_facts(seen))
        for seen in looks:
            if seen.key.state == "removed" and seen.finding in (Finding.MISSING, Finding.ANOTHER_KEY, Finding.REVOKED):
                await signing.delete_key(connection, seen.key.key_id)
                done.forgotten += 1

    async def _looked(self, rows: Sequence[KeyRow], stopping: asyncio.Event) -> list[Look]:
        """What the DNS shows; nothing when told to stop meanwhile: servers that do not answer take their time."""
        asking, stopped = asyncio.create_task(look_at_all(self.resolver, rows)), asyncio.create_task(stopping.wait())
        try:
            await asyncio.wait((asking, stopped), return_when=asyncio.FIRST_COMPLETED)
            return asking.result() if asking.done() else []
        finally:
            asking.cancel()
            stopped.cancel()
            await asyncio.gather(asking, stopped, return_exceptions=True)

    async def _renew(self, connection: Connection, now: datetime, done: Rotated, stopping: asyncio.Event) -> None:
        settings = self.settings.dkim
        if not settings.rotation:
            return
        for row in await signing.due_for_rotation(connection, settings.rotation):
            if stopping.is_set():
                break
            if row.algorithm not in settings.algorithms:
                continue
            try:
                selector = await add_new_key(
                    connection,
                    self.ring,
                    settings,
                    row.domain,
                    row.algorithm,
                    is_delegated=row.target is not None,
                    today=now.date(),
                )
            except (ExistsError, DelegationError) as error:
                _log.warning("a DKIM key cannot be renewed", selector=row.selector, domain=row.domain, error=str(error))
                continue
            done.made.append(selector)
            _log.info("a DKIM key was made; its DNS record is wanted", selector=selector, domain=row.domain)

    async def _rewriting_keys(self, connection: Connection, done: Rotated) -> None:
        settings = self.settings.srs
        for tenant_id in await srs.tenants_due(connection, settings.rotation):
            await srs.add_key(connection, tenant_id, new_key(await self.ring.tenant(connection, tenant_id)))
            done.srs_made += 1
        # Days are counted whole, and a stored sender is noted as used twice a day: two days more are on the safe side.
        keys, paths = await srs.forget(connection, settings.lifetime + 2 * DAY, self.settings.keeper.batch_limit)
        done.srs_removed = keys + paths


def _facts(seen: Look) -> dict[str, str]:
    assert seen.finding is not None
    return {
        "domain": seen.key.domain,
        "selector": seen.key.selector,
        "record": seen.finding.value,
        "detail": seen.detail,
    }
