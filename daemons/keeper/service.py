"""keeper: clears away what nothing refers to any more. One is active at a time, wherever it runs; the others wait.

It learns from what people sort, and runs scripts that other processes have left.

Retention, backup and quota recount belong here too, and are not there yet.
"""

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import asyncpg
from prometheus_client import Counter

from config.keeper import Keeper as KeeperSettings
from daemons import rules
from daemons.context import Context
from daemons.keeper.expiry import Expiry
from daemons.keeper.quarantining import Quarantining
from daemons.keeper.rotation import Rotation
from daemons.logs import logger
from daemons.relay.resolver import Resolver
from daemons.runtime import Ready
from daemons.scripting.left import running_left
from daemons.spam_lessons import learning
from storage import outbound_changes, policies
from storage.blobs import sweep
from storage.credentials import forget_attacks
from storage.dmarc import forget_dmarc
from storage.errors import StorageError
from storage.pool import Connection, reported, server_settings
from storage.transport import forget_transport

_log = logger("keeper")
_LOCK = 0x50574B50  # "PWKP": the advisory lock of the active keeper, held by its connection
_AGAIN_SECONDS = 30.0  # until a keeper that is not active, or whose database is away, tries again
_EXPIRED = Counter("postwerk_expired_messages", "Messages removed from inboxes because their retention had ended.")
_CONTENTS = Counter("postwerk_swept_contents", "Contents removed because nothing referred to them.")
_BLOBS = Counter("postwerk_swept_blobs", "Blobs removed because no content was made of them.")
_OCTETS = Counter("postwerk_swept_segment_octets", "Octets of segments removed because no blob in them was alive.")


@dataclass(slots=True)
class Round:
    """What one round removed."""

    finished: int = 0  # recipients of the outbound queue
    attacks: int = 0  # events whose time was over
    expired: int = 0  # messages that lay in an inbox for longer than its policy says
    contents: int = 0
    blobs: int = 0
    mailboxes: int = 0  # whose memory of expunges was cut
    sealed: int = 0
    segment_octets: int = 0


@dataclass(slots=True)
class Keeper:
    """Rounds over one database, all on the connection that holds the lock: who loses the one has lost the other."""

    settings: KeeperSettings
    segments: Path
    _highestmodseq: dict[int, int] = field(default_factory=dict)  # of mailboxes with a long history, one round ago

    async def round(self, connection: Connection, stopping: asyncio.Event) -> Round:
        """Go over everything once, in transactions of bounded size. Ends early when told to stop."""
        settings, done = self.settings, Round()
        done.expired = await policies.remove_expired(connection)
        done.attacks = await self._forget_attacks(connection, stopping)
        done.finished = await self._clear_queue(connection, stopping)
        after: int | None = 0
        while after is not None and not stopping.is_set():
            removed, after = await sweep.sweep_contents(
                connection, after, settings.batch_limit, grace_seconds=settings.content_grace
            )
            done.contents += removed
        name: tuple[int, bytes] | None = (0, b"")
        while name is not None and not stopping.is_set():
            removed, name = await sweep.sweep_blobs(connection, name, settings.batch_limit)
            done.blobs += removed
        if not stopping.is_set():
            await self._rest(connection, done)
        _EXPIRED.inc(done.expired)
        _CONTENTS.inc(done.contents)
        _BLOBS.inc(done.blobs)
        _OCTETS.inc(done.segment_octets)
        return done

    async def _forget_attacks(self, connection: Connection, stopping: asyncio.Event) -> int:
        """Remove the attack events that would be too old before the next round."""
        settings, forgotten = self.settings, 0
        memory = max(0.0, settings.attack_memory - settings.interval)
        while not stopping.is_set():
            removed = await forget_attacks(connection, settings.batch_limit, older_than_seconds=memory)
            forgotten += removed
            if removed < settings.batch_limit:
                break
        return forgotten

    async def _clear_queue(self, connection: Connection, stopping: asyncio.Event) -> int:
        """Remove what the outbound queue has finished, and old records of what was deleted from it by hand."""
        settings, cleared, limit = self.settings, 0, self.settings.batch_limit
        await outbound_changes.mend(connection)
        while not stopping.is_set():
            removed = await outbound_changes.forget_finished(
                connection, limit, older_than_seconds=settings.queue_memory
            )
            cleared += removed
            if removed < limit:
                break
        await outbound_changes.forget_removals(connection, limit, older_than_seconds=settings.removal_memory)
        return cleared

    async def _rest(self, connection: Connection, done: Round) -> None:
        settings = self.settings
        limit = settings.expunged_limit
        done.mailboxes = await sweep.forget_expunged(connection, limit, up_to=self._highestmodseq)
        self._highestmodseq = await sweep.long_histories(connection, limit)
        await sweep.forget_changes(connection, settings.change_limit)
        await forget_transport(connection, older_than_seconds=settings.transport_memory)
        await forget_dmarc(connection, older_than_seconds=settings.transport_memory)
        grace = settings.segment_grace
        done.sealed = await sweep.seal_abandoned(connection, self.segments, grace_seconds=grace)
        done.segment_octets = await sweep.sweep_segments(
            connection, self.segments, settings.batch_limit, grace_seconds=grace
        )


async def become_active(connection: Connection) -> bool:
    """Whether this connection now is the one active keeper's; it stays so until the connection ends."""
    is_active: bool = await connection.fetchval("SELECT pg_try_advisory_lock($1)", _LOCK)
    return is_active


async def serve(context: Context, stopping: asyncio.Event, ready: Ready) -> None:
    """Keep going round until `stopping` is set."""
    ready({})
    keeper = Keeper(context.settings.keeper, context.settings.segments_directory)
    async with learning(context), running_left(context):
        while not stopping.is_set():
            try:
                async with reported():
                    await _keep(context, keeper, stopping)
            except (StorageError, asyncpg.PostgresError, OSError) as error:
                _log.error("round failed", error=f"{type(error).__name__}: {error}")
            await _pause(stopping, _AGAIN_SECONDS)


async def _keep(context: Context, keeper: Keeper, stopping: asyncio.Event) -> None:
    """Go round on a connection of our own as long as it holds the lock. Returns at once if another keeper is active."""
    database = context.settings.database
    connection = await asyncpg.connect(database.dsn, server_settings=server_settings(database.role), timeout=10)
    quarantining = Quarantining(context)
    rotation = Rotation(context.settings, context.keys, Resolver(context.settings.transport))
    is_first = True
    try:
        while not stopping.is_set() and await become_active(connection):
            if is_first:
                is_first = False
                await _recompile(context, connection, stopping)
            done = await keeper.round(connection, stopping)
            await Expiry(context.settings).round(connection, stopping)
            await quarantining.round(connection, stopping)
            await rotation.round(connection, stopping)
            _log.info("round done", contents=done.contents, blobs=done.blobs, segment_octets=done.segment_octets)
            await _pause(stopping, keeper.settings.interval)
    finally:
        await rotation.resolver.close()
        connection.terminate()


async def _recompile(context: Context, connection: Connection, stopping: asyncio.Event) -> None:
    """Have everybody's simple settings fit the host's, which may have changed before this start."""
    failed = await rules.recompile(connection, context.settings, stopping.is_set)
    if failed:
        _log.warning(
            "settings of accounts do not fit [rules] and [sieve]: `postwerk rules recompile`", accounts=len(failed)
        )


async def _pause(stopping: asyncio.Event, seconds: float) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await stopping.wait()
