"""Learns from what people sort: a lesson waits in the database since the message was moved, and goes with what was learned.

One process learns at a time, wherever it runs, in the order in which people sorted; nobody who moves mail ever waits for it.
Beside the words a lesson teaches the sender's standing: it was thrown into Junk, or fetched out of it. What people read and leave
where it is speaks for its sender, too; that is counted some days later.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

import asyncpg
from prometheus_client import Counter, Gauge

from config.spam import Spam as Limits
from daemons.context import Context
from daemons.logs import logger
from filters.spam.reputation import author_of
from filters.spam.sight import Sight
from filters.spam.tokens import TOKENS_VERSION, tokens_of
from storage import spam, spam_lessons, spam_standing
from storage.errors import CorruptError, NotFoundError, StorageError
from storage.pool import Connection, reported, server_settings
from storage.spam import Level, Whose
from storage.spam_lessons import Lesson
from storage.spam_standing import Standing

_log = logger("spam")
_LESSONS = Counter("postwerk_spam_lessons", "Messages learned from as people sorted them, by kind.", ["kind"])
_WAITING = Gauge(
    "postwerk_spam_lessons_waiting",
    "Messages that people sorted and nobody has learned from yet.",
    multiprocess_mode="mostrecent",
)
_BATCH = 100
_KEPT_BATCH = 500
_KEPT_MOST = 10_000  # at once; what was sorted meanwhile goes before the rest
_LOOK_SECONDS = 60.0  # a notification may be lost
_AGAIN_SECONDS = 30.0  # until one who does not learn, or whose database is away, tries again
_KEPT_SECONDS = 600.0  # between two looks at what people keep
_FORGET_ROWS = 1000
_LARGEST = 64 << 20  # what is larger is text to nobody


class Lessons:
    """Of one database, by whoever holds the lock."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._limits: Limits = context.settings.spam
        self._news = asyncio.Event()

    async def run(self) -> None:
        """Learn until cancelled, as soon as there is something to learn."""
        end = self._context.changes.on(spam_lessons.CHANNEL, self._news.set)
        try:
            while True:
                try:
                    async with reported():
                        await self._learn_alone()
                except (StorageError, asyncpg.PostgresError) as error:
                    _log.error("nothing can be learned", error=f"{type(error).__name__}: {error}")
                await asyncio.sleep(_AGAIN_SECONDS)
        finally:
            end()

    async def learn_waiting(self, connection: Connection) -> int:
        """Learn from all that waits. Returns how many lessons there were. Raises StorageError: what is left waits on."""
        number = 0
        while lessons := await spam_lessons.waiting(connection, _BATCH):
            latest = {(lesson.account_id, lesson.content_id): lesson for lesson in lessons}
            for each, lesson in latest.items():
                understood = await self._understood(lesson)
                async with connection.transaction():
                    if understood is not None:
                        await self._learn(connection, lesson, understood)
                    same = [other.lesson_id for other in lessons if (other.account_id, other.content_id) == each]
                    await spam_lessons.done(connection, same)
            number += len(lessons)
        return number

    async def count_kept(self, connection: Connection, most: int = _KEPT_MOST) -> int:
        """Count what people have read and not thrown away since the last time. Returns how many messages were looked at."""
        number, after = 0, await spam_standing.progress(connection)
        while number < most:
            age = self._limits.kept_after
            stayed = await spam_standing.stayed(connection, after, _KEPT_BATCH, older_than_seconds=age)
            if not stayed:
                break
            after = stayed[-1].content_id
            async with connection.transaction():
                await spam_standing.count(connection, list(_kept(stayed)))
                await spam_standing.advance(connection, after)
            number += len(stayed)
        return number

    async def _learn_alone(self) -> None:
        """On a connection of its own, as long as that holds the lock. Returns at once if another process learns."""
        database = self._context.settings.database
        connection = await asyncpg.connect(database.dsn, server_settings=server_settings(database.role), timeout=10)
        try:
            if not await connection.fetchval("SELECT pg_try_advisory_lock($1)", spam_lessons.LOCK):
                return
            loop = asyncio.get_running_loop()
            next_look = loop.time()
            while True:
                self._news.clear()
                await self.learn_waiting(connection)
                _WAITING.set(await spam_lessons.count_waiting(connection))
                if loop.time() >= next_look:
                    is_behind = await self.count_kept(connection) >= _KEPT_MOST
                    await spam_standing.forget(connection, _FORGET_ROWS, older_than_seconds=self._limits.sender_memory)
                    next_look = loop.time() + (0 if is_behind else _KEPT_SECONDS)
                with suppress(TimeoutError):
                    async with asyncio.timeout(_LOOK_SECONDS if next_look > loop.time() else 0):
                        await self._news.wait()
        finally:
            connection.terminate()

    async def _understood(self, lesson: Lesson) -> "_Understood | None":
        """What the message says; None where it is gone, or cannot be read any more. Raises UnavailableError."""
        blobs = self._context.blobs
        try:
            if (await blobs.layout(lesson.content_id)).original_octets > _LARGEST:
                return None
            return await asyncio.to_thread(_read, await blobs.read(lesson.content_id))
        except (NotFoundError, CorruptError) as error:
            _log.warning("a message that was sorted is gone", content_id=lesson.content_id, reason=type(error).__name__)
        return None

    async def _learn(self, connection: Connection, lesson: Lesson, understood: "_Understood") -> None:
        author, whose = understood.author, Whose(lesson.tenant_id, lesson.account_id)
        was_spam = await spam.taught_as_spam(connection, whose, understood.digest)
        is_new = await spam.learn(
            connection,
            whose,
            understood.digest,
            understood.tokens,
            is_spam=lesson.is_spam,
            version=TOKENS_VERSION,
            widest=Level[self._limits.learning_reaches.upper()],
        )
        if not is_new:
            return
        _LESSONS.labels("spam" if lesson.is_spam else "ham").inc()
        if author and was_spam and not lesson.is_spam:
            await spam_standing.redeem(connection, lesson.account_id, author)
        if author and was_spam != lesson.is_spam:
            change = Standing(junked=1) if lesson.is_spam else Standing(kept=1)
            await spam_standing.count(connection, [(lesson.account_id, author, change)])


@asynccontextmanager
async def learning(context: Context) -> AsyncIterator[None]:
    """Learn meanwhile."""
    task = asyncio.create_task(Lessons(context).run(), name="spam-lessons")
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


@dataclass(frozen=True, slots=True)
class _Understood:
    """What one message teaches."""

    digest: bytes
    author: str
    tokens: list[int]


def _read(octets: bytes) -> _Understood:
    sight = Sight(octets)
    return _Understood(hashlib.sha256(octets).digest(), author_of(sight), list(tokens_of(sight)))


def _kept(stayed: Sequence[spam_standing.Stayed]) -> Iterator[tuple[int, str, Standing]]:
    for each in stayed:
        if each.account_ids and (author := author_of(Sight(each.header_cache))):
            for account_id in each.account_ids:
                yield account_id, author, Standing(kept=1)
