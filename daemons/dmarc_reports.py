"""Aggregate reports of DMARC, RFC 9990: mail in the name of domains that ask for reports is counted, and every day they are told.

Counts are kept in memory for a minute, then in the database, for all processes together. They hold addresses of hosts, domains and
results, never a local part or a recipient. Whichever process finds a day over makes the report; that of one that dies over it
goes to another one.
"""

import asyncio
import gzip
import json
from collections import defaultdict
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime
from functools import partial
from ipaddress import IPv6Address, ip_address
from typing import Any

from config.authenticity import Authenticity
from daemons.daily_reports import DailyReporter, Send, bounds, mailed, new_report_id
from daemons.logs import logger
from filters.authentication.checker import Evidence
from filters.authentication.dmarc import organization_of
from filters.ports import Resolver
from filters.subject import Envelope
from protocol.address import AddrSpec
from protocol.dmarc import parse_record, permits_reports, record_name, report_permission_name
from protocol.domain import a_labels
from protocol.reports.dmarc import AggregateReport, Authentication, Source
from protocol.reports.dmarc_writing import render_mail, render_xml
from protocol.tls_rpt import mailto
from storage import dmarc
from storage.pool import Pool

_SOURCES_LIMIT = 10_000  # of one report; rarer ones are left out, and the report says so
_SIGNATURES = 10  # results of DKIM that one kind tells


class DmarcReports(DailyReporter):
    """One per process. send: None where mail is counted and nothing is sent."""

    log = logger("dmarc-reports")
    counted = "dmarc-outcomes"
    setting = "authenticity.report_from"
    reports = dmarc.REPORTS

    def __init__(
        self,
        settings: Authenticity,
        hostname: str,
        pool: Pool,
        resolver: Resolver,
        send: Send | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        organization = settings.report_organization or hostname
        super().__init__(settings.report_from, organization, pool, dmarc.count_outcomes, now)
        self._resolver = resolver
        self._send = send

    def note(self, envelope: Envelope, evidence: Evidence) -> None:
        """Count one message, if its author's domain asks for reports."""
        applied = evidence.applied
        if not self.is_on or applied is None or not applied.record.rua:
            return
        source = _address(envelope.peer)
        if source is None:
            return  # a socket of this host
        self._count(applied.domain, _kind(source, envelope, evidence))

    async def _report(self, author: AddrSpec, day: date, domain: str) -> list[str]:
        assert self._send is not None, "nothing is sent here"
        try:
            addresses = await self._places(domain)
        except TimeoutError:
            return ["no answer from the DNS"]
        if not addresses:
            return []
        outcomes = []
        for report in await self._reports(author, day, domain):
            compressed = await asyncio.to_thread(_compressed, report)
            for address in addresses:
                render = partial(render_mail, report, compressed, author, address, date=self._now())
                outcomes.append(await mailed(self._send, author, address, render))
        return outcomes

    async def _places(self, domain: str) -> list[AddrSpec]:
        """Who wants the reports today, and may have them (RFC 9990 §4). Raises TimeoutError."""
        record = parse_record(await self._resolver.texts(record_name(domain)))
        if record is None:
            return []
        own = await organization_of(self._resolver, domain)
        wanted = [address for address in map(mailto, record.rua) if address is not None]
        return [address for address in dict.fromkeys(wanted) if await self._is_permitted(domain, own, address)]

    async def _is_permitted(self, domain: str, own: str, address: AddrSpec) -> bool:
        receiver = a_labels(address.domain)
        if await organization_of(self._resolver, receiver) == own:
            return True
        return permits_reports(await self._resolver.texts(report_permission_name(domain, receiver)))

    async def _reports(self, author: AddrSpec, day: date, domain: str) -> list[AggregateReport]:
        """One for each policy that the domain has had on that day."""
        kinds = await dmarc.outcomes_of(self._pool, day, domain, _SOURCES_LIMIT + 1)
        by_policy: dict[str, list[tuple[dict[str, Any], int]]] = defaultdict(list)
        for text, count in kinds[:_SOURCES_LIMIT]:
            kind = json.loads(text)
            by_policy[json.dumps(kind["policy"], sort_keys=True)].append((kind, count))
        errors = ("sources with few messages are left out",) if len(kinds) > _SOURCES_LIMIT else ()
        return [_aggregate(sources, domain, self._organization, author, day, errors) for sources in by_policy.values()]


def _aggregate(
    sources: Sequence[tuple[dict[str, Any], int]],
    domain: str,
    organization: str,
    author: AddrSpec,
    day: date,
    errors: tuple[str, ...],
) -> AggregateReport:
    policy = sources[0][0]["policy"]
    start, end = bounds(day)
    return AggregateReport(
        organization=organization,
        email=str(author),
        report_id=new_report_id(day),
        domain=domain,
        begins_at=start,
        ends_at=end,
        policy=policy["p"],
        subdomain_policy=policy["sp"],
        adkim=policy["adkim"],
        aspf=policy["aspf"],
        percent=None,
        is_test=policy["t"],
        errors=errors,
        sources=tuple(_source(kind, count) for kind, count in sources),
        nonexistent_policy=policy["np"],
    )


def _source(kind: dict[str, Any], count: int) -> Source:
    return Source(
        address=ip_address(kind["source"]),
        count=count,
        disposition=kind["disposition"],
        dkim=kind["dkim"],
        spf=kind["spf"],
        header_from=kind["header_from"],
        envelope_from=kind["envelope_from"],
        reasons=tuple(kind["reasons"]),
        authentications=tuple(Authentication(**each) for each in kind["results"]),
    )


def _kind(source: str, envelope: Envelope, evidence: Evidence) -> dict[str, Any]:
    """What a report tells of a message, and nothing else."""
    results, applied = evidence.results, evidence.applied
    assert applied is not None
    record, judged = applied.record, results.dmarc
    told = [
        {"method": "dkim", "domain": each.domain, "selector": each.selector, "result": each.result}
        for each in results.dkim
        if each.domain
    ][:_SIGNATURES]
    if results.spf.domain:
        scope = results.spf.scope
        told.append({"method": "spf", "domain": results.spf.domain, "scope": scope, "result": results.spf.result})
    passes = judged.result == "pass"
    return {
        "policy": {
            "p": record.p,
            "sp": record.sp or record.p,
            "np": record.np or record.sp or record.p,
            "adkim": record.adkim,
            "aspf": record.aspf,
            "t": record.is_testing,
        },
        "source": source,
        "disposition": "pass" if passes else results.disposition,
        "dkim": "pass" if judged.dkim_aligned else "fail",
        "spf": "pass" if judged.spf_aligned else "fail",
        "reasons": [f"{each.kind}: {each.comment}" if each.comment else each.kind for each in results.overrides],
        "header_from": judged.author_domain,
        "envelope_from": a_labels(envelope.reverse_path.domain) if envelope.reverse_path is not None else "",
        "results": told,
    }


def _address(peer: str) -> str | None:
    try:
        address = ip_address(peer.partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return str(mapped or address)


def _compressed(report: AggregateReport) -> bytes:
    return gzip.compress(render_xml(report), mtime=0)
