"""Reports of what a day was like, to the domains that ask for them: of TLS (RFC 8460) and of DMARC (RFC 9990).

What is counted stays in memory for a minute, then in the database, for all processes together. Whichever process finds a day over
makes the report; that of one that dies over it goes to another one.
"""

import asyncio
import json
import secrets
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import UTC, date, datetime, time, timedelta
from functools import partial
from typing import ClassVar

import asyncpg
from structlog.typing import FilteringBoundLogger

from daemons.tally import Tally
from protocol.address import AddressError, AddrSpec, parse_addr_spec
from storage.daily_reports import DailyReports
from storage.errors import StorageError
from storage.pool import Pool

FLUSH_SECONDS = 60.0
_SEND_SECONDS = 600.0
_CLAIM_SECONDS = 1800.0  # longer than sending a few reports takes
_AT_ONCE = 20
_KINDS_LIMIT = 20_000  # that are kept in memory while the database is away; then the oldest counts are lost
_SPREAD_SECONDS = 4 * 3600  # reports of all senders must not arrive at once (RFC 8460 §4.1)
_TRIED_FOR = timedelta(days=2)  # then a report that no place takes is given up (RFC 8460 §5.4 asks for a day)

Kind = tuple[date, str, str]  # day, domain, and what is counted, in JSON
Send = Callable[[AddrSpec, AddrSpec, bytes, str], Awaitable[bool]]  # from, to, message, id; whether it is on its way


class DailyReporter(ABC):
    """Counts, and tells each domain of its days. One of a kind per process."""

    log: ClassVar[FilteringBoundLogger]
    counted: ClassVar[str]  # what is counted, as its task is called
    setting: ClassVar[str]  # that has the author's address
    reports: ClassVar[DailyReports]

    def __init__(
        self,
        author: str,
        organization: str,
        pool: Pool,
        write: Callable[[Pool, Counter[Kind]], Awaitable[object]],
        now: Callable[[], datetime],
    ) -> None:
        self._author = self._parsed(author)
        self._organization = organization
        self._pool = pool
        self._now = now
        self._tally: Tally[Kind] = Tally(self.counted, partial(write, pool), limit=_KINDS_LIMIT, seconds=FLUSH_SECONDS)
        self.flush, self.close, self.drop = self._tally.flush, self._tally.close, self._tally.drop

    def _parsed(self, text: str) -> AddrSpec | None:
        try:
            return parse_addr_spec(text) if text else None
        except AddressError as error:
            self.log.error(f"{self.setting} cannot be used", error=str(error))
            return None

    @property
    def is_on(self) -> bool:
        """Whether reports are sent at all."""
        return self._author is not None

    def _count(self, domain: str, kind: dict[str, object]) -> None:
        self._tally.add((self._now().date(), domain, json.dumps(kind, sort_keys=True, ensure_ascii=False)))

    async def run(self) -> None:
        """Send reports until cancelled."""
        while True:
            try:
                await self.send_due()
            except (StorageError, asyncpg.PostgresError) as error:
                self.log.error("reports cannot be sent", error=f"{type(error).__name__}: {error}")
            await asyncio.sleep(_SEND_SECONDS)

    async def send_due(self) -> int:
        """Send the reports of days that are over. Returns how many domains were told. Raises StorageError."""
        if self._author is None:
            return 0
        sent, now = 0, self._now()
        while claimed := await self.reports.claim(
            self._pool, now, _AT_ONCE, claim_seconds=_CLAIM_SECONDS, spread_seconds=_SPREAD_SECONDS
        ):
            for day, domain in claimed:
                outcomes = await self._report(self._author, day, domain)
                is_sent = any(outcome.startswith("sent") for outcome in outcomes)
                if is_sent or not outcomes or now.date() - day > _TRIED_FOR:
                    await self.reports.done(self._pool, day, domain, "; ".join(outcomes))
                sent += is_sent
        return sent

    @abstractmethod
    async def _report(self, author: AddrSpec, day: date, domain: str) -> list[str]:
        """Make and send a day's report. Returns what became of it at each place, for people; nothing: nobody wants it."""


async def mailed(send: Send, author: AddrSpec, address: AddrSpec, render: Callable[..., bytes]) -> str:
    """Send a report by mail; what became of it, for people. render: gives the message with a `boundary`."""
    trace_id = secrets.token_hex(8)
    is_sent = await send(author, address, render(boundary=f"=_{trace_id}"), trace_id)
    return f"sent by mail, id {trace_id}" if is_sent else "mail: cannot be sent"


def bounds(day: date) -> tuple[datetime, datetime]:
    """The first and the last second of a day."""
    start = datetime.combine(day, time(), UTC)
    return start, start + timedelta(days=1, seconds=-1)


def new_report_id(day: date) -> str:
    """No two reports of ours have the same."""
    return f"{day:%Y%m%d}.{secrets.token_hex(8)}"
