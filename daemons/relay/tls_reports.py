"""Reports of TLS, RFC 8460: sessions with domains that ask for reports are counted, and every day each of these domains is told.

Counts are kept in memory for a minute, then in the database, for all processes together. They hold hosts and policies, never a
sender or a recipient. Whichever process finds a day over makes the report; that of one that dies over it goes to another one.
"""

import asyncio
import gzip
import json
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, date, datetime
from functools import partial

from config.transport import Transport
from daemons.daily_reports import FLUSH_SECONDS, DailyReporter, Send, bounds, mailed, new_report_id
from daemons.logs import logger
from daemons.relay.resolver import LookupFailedError, Resolver
from daemons.relay.tls_policy import TlsFailure, TlsPolicy, TlsResult
from daemons.relay.web import Web, WebError
from protocol.address import AddrSpec
from protocol.tls_rpt import FailureType, Sessions, TlsReport, mailto, parse_record, render_json, render_mail
from storage import transport
from storage.pool import Pool

_REASON_LIMIT = 200


class TlsReports(DailyReporter):
    """One per process."""

    log = logger("tls-reports")
    counted = "tls-outcomes"
    setting = "transport.report_from"
    reports = transport.REPORTS

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
        organization = settings.report_organization or hostname
        super().__init__(settings.report_from, organization, pool, transport.count_sessions, now)
        self._resolver = resolver
        self._web = web
        self._send = send

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
        await asyncio.sleep(FLUSH_SECONDS)  # what other processes have counted is there by then
        await super().run()

    async def _places(self, domain: str) -> list[str]:
        with suppress(LookupFailedError):
            return parse_record(await self._resolver.txt(f"_smtp._tls.{domain}"))
        return []

    async def _report(self, author: AddrSpec, day: date, domain: str) -> list[str]:
        places = await self._places(domain)
        if not places:
            return []
        sessions = [_sessions(kind, count) for kind, count in await transport.sessions_of(self._pool, day, domain)]
        start, end = bounds(day)
        report = TlsReport(
            domain=domain,
            organization=self._organization,
            contact=author,
            report_id=new_report_id(day),
            start=start,
            end=end,
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
        render = partial(render_mail, report, compressed, address, date=self._now())
        return await mailed(self._send, report.contact, address, render)


def _plain(text: str) -> str:
    """Without what neither a database nor a reader of reports can take: strangers have chosen some of it."""
    return "".join(character if " " <= character <= "~" else "?" for character in text)


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
