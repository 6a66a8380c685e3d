"""Reports of TLS, RFC 8460: sessions with domains that ask for reports are counted, and every day each of these domains is told.

Counts are kept in memory for a minute, then in the database, for all processes together. They hold hosts and policies, never a
sender or a recipient. Whichever process finds a day over makes the report; that of one that dies over it goes to another one.
"""

import asyncio
import gzip
import json
import secrets
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, date, datetime, time, timedelta
from functools import partial

import asyncpg

from config.transport import Transport
from daemons.logs import logger
from daemons.relay.resolver import LookupFailedError, Resolver
from daemons.relay.tls_policy import TlsFailure, TlsPolicy, TlsResult
from daemons.relay.web import Web, WebError
from daemons.tally import Tally
from protocol.address import AddressError, AddrSpec, parse_addr_spec
from protocol.tls_rpt import FailureType, Sessions, TlsReport, mailto, parse_record, render_json, render_mail
from storage import transport
from storage.errors import StorageError
from storage.pool import Pool

_log = logger("tls-reports")
_FLUSH_SECONDS = 60.0
_SEND_SECONDS = 600.0
_CLAIM_SECONDS = 1800.0  # longer than sending a few reports takes
_AT_ONCE = 20
_KINDS_LIMIT = (
    20_000  # kinds of sessions that are kept in memory while the database is away; then the oldest counts are lost
)
_SPREAD_SECONDS = 4 * 3600  # reports of all senders must not arrive at once (RFC 8460 §4.1)
_TRIED_FOR = timedelta(days=2)  # then a report that no place takes is given up (RFC 8460 §5.4 asks for a day)
_REASON_LIMIT = 200

Send = Callable[[AddrSpec, AddrSpec, bytes, str], Awaitable[bool]]  # from, to, message, id; whether it is on its way


class TlsReports:
    """One per process."""

    def __init__(
        self,
        settings: Transport,
        hostname: str,
        pool: Pool,
        resolver: Resolver,
        web: Web,
        send: Send,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._settings = settings
        self._organization = settings.report_organization or hostname
        self._contact = _contact(settings.report_from)
        self._pool = pool
        self._resolver = resolver
        self._web = web
        self._send = send
        self._now = now
        self._counted: Tally[tuple[date, str, str]] = Tally(
            "tls-outcomes", partial(transport.count_sessions, pool), limit=_KINDS_LIMIT, seconds=_FLUSH_SECONDS
        )
        self.flush, self.close, self.drop = self._counted.flush, self._counted.close, self._counted.drop

    @property
    def is_on(self) -> bool:
        """Whether reports are sent at all."""
        return self._contact is not None

    async def wanted(self, domain: str) -> bool:
        """Whether the domain asks for reports. What cannot be known now counts as no."""
        return self.is_on and bool(await self._places(domain))

    def note(
        self,
        domain: str,
        policy: TlsPolicy,
        outcome: TlsResult | TlsFailure,
        *,
        host: str = "",
        address: str = "",
        source: str = "",
    ) -> None:
        """Count one session with a host of a domain whose route is_reported: its result, or what ended it.

        source is our own address in it. Of a session that TLS was given up for only the failure is noted.
        """
        failure = outcome if isinstance(outcome, TlsFailure) else outcome.failure
        if isinstance(outcome, TlsResult) and failure is None and not outcome.version:
            failure = TlsFailure("starttls-not-supported", "")
        kind: dict[str, object] = {
            "policy_type": policy.policy_type,
            "policy_strings": policy.policy_strings,
            "mx_patterns": policy.mx_patterns,
        }
        if failure is not None:
            reason = _plain(str(failure)[:_REASON_LIMIT])
            kind |= {
                "failure": failure.kind,
                "host": _plain(host),
                "address": address,
                "source": source,
                "reason": reason,
            }
        self._count(domain, kind)

    def note_failure(self, domain: str, failure: FailureType, reason: str, policy: TlsPolicy, host: str = "") -> None:
        """Count what failed before there was a session: a policy that cannot be had, a record that is bogus."""
        self.note(domain, policy, TlsFailure(failure, reason), host=host)

    async def run(self) -> None:
        """Send reports until cancelled."""
        await asyncio.sleep(_FLUSH_SECONDS)  # what other processes have counted is there by then
        while True:
            try:
                await self.send_due()
            except (StorageError, asyncpg.PostgresError) as error:
                _log.error("reports cannot be sent", error=f"{type(error).__name__}: {error}")
            await asyncio.sleep(_SEND_SECONDS)

    async def send_due(self) -> int:
        """Send the reports of days that are over. Returns how many were sent. Raises StorageError."""
        if self._contact is None:
            return 0
        sent, now = 0, self._now()
        while claimed := await transport.REPORTS.claim(
            self._pool, now, _AT_ONCE, claim_seconds=_CLAIM_SECONDS, spread_seconds=_SPREAD_SECONDS
        ):
            for day, domain in claimed:
                outcomes = await self._report(self._contact, day, domain)
                is_sent = any(outcome.startswith("sent") for outcome in outcomes)
                if is_sent or not outcomes or now.date() - day > _TRIED_FOR:
                    await transport.REPORTS.done(self._pool, day, domain, "; ".join(outcomes))
                sent += is_sent
        return sent

    def _count(self, domain: str, kind: dict[str, object]) -> None:
        text = json.dumps(kind, sort_keys=True, ensure_ascii=False)
        self._counted.add((self._now().date(), domain, text))

    async def _places(self, domain: str) -> list[str]:
        with suppress(LookupFailedError):
            return parse_record(await self._resolver.txt(f"_smtp._tls.{domain}"))
        return []

    async def _report(self, contact: AddrSpec, day: date, domain: str) -> list[str]:
        """Make and send one. Returns what became of it at each place that asks for it, for people."""
        places = await self._places(domain)
        if not places:
            return []
        sessions = [_sessions(kind, count) for kind, count in await transport.sessions_of(self._pool, day, domain)]
        start = datetime.combine(day, time(), UTC)
        report = TlsReport(
            domain=domain,
            organization=self._organization,
            contact=contact,
            report_id=f"{start:%Y%m%d}.{secrets.token_hex(8)}",
            start=start,
            end=start + timedelta(days=1, seconds=-1),
            sessions=sessions,
        )
        compressed = gzip.compress(render_json(report), mtime=0)
        return [await self._hand_in(report, compressed, place) for place in places]

    async def _hand_in(self, report: TlsReport, compressed: bytes, place: str) -> str:
        if place.lower().startswith("https://"):
            try:
                await self._web.post(place, compressed, media_type="application/tlsrpt+gzip")
            except WebError as error:
                return f"https: {error}"
            return "sent by https"
        address = mailto(place)
        if address is None:
            return "mailto: no address"
        trace_id = secrets.token_hex(8)
        octets = render_mail(report, compressed, address, boundary=f"=_{trace_id}", date=self._now())
        is_sent = await self._send(report.contact, address, octets, trace_id)
        return f"sent by mail, id {trace_id}" if is_sent else "mail: cannot be sent"


def _plain(text: str) -> str:
    """Without what neither a database nor a reader of reports can take: strangers have chosen some of it."""
    return "".join(character if " " <= character <= "~" else "?" for character in text)


def _contact(text: str) -> AddrSpec | None:
    try:
        return parse_addr_spec(text) if text else None
    except AddressError as error:
        _log.error("transport.report_from cannot be used", error=str(error))
        return None


def _sessions(kind: str, count: int) -> Sessions:
    told = json.loads(kind)
    return Sessions(
        policy_type=told["policy_type"],
        policy_strings=tuple(told["policy_strings"]),
        mx_patterns=tuple(told["mx_patterns"]),
        failure=told.get("failure"),
        count=count,
        host=told.get("host", ""),
        address=told.get("address", ""),
        source=told.get("source", ""),
        reason=told.get("reason", ""),
    )
