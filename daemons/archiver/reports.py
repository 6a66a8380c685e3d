"""Takes up reports of other servers: reads DMARC and TLS reports and bounces out of the mailboxes that are watched for them.

Intake knows nothing of it: a report is mail like any other, and stays where it was delivered. Several processes may do this at
once, each with a mailbox of its own. What cannot be read is counted and passed over: it is a stranger's, and may be made to harm.
"""

import asyncio
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import TypeAlias

import msgspec
from prometheus_client import Counter

from config.reports import Reports
from daemons.archiver.working import is_set_within, work
from daemons.context import Context
from daemons.logs import logger
from protocol.message import bounces
from protocol.reports import mail
from protocol.reports.dmarc import AggregateReport, Source
from protocol.reports.tls import ReceivedTlsReport
from storage import reports
from storage.errors import CorruptError, NotFoundError
from storage.pool import reported
from storage.reports import Bounce, DmarcReport, DmarcSource, TakenError, TlsFailure, TlsReport, Waiting

_log = logger("reports")
_TAKEN = Counter("postwerk_received_reports", "Reports and bounces read out of watched mailboxes.", ["kind"])
_UNREADABLE = Counter("postwerk_unreadable_reports", "What looked like a report and could not be read.")

Row: TypeAlias = DmarcReport | TlsReport | Bounce


class ReportReader:
    """One worker. `run` goes on until it is told to stop; read_batch is its step."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._settings: Reports = context.settings.reports
        self._wake = asyncio.Event()

    async def run(self, stopping: asyncio.Event) -> None:
        """Read until `stopping` is set. What is not read then waits for the next start."""
        await work(stopping, self._wake, self.read_batch, self._until_woken, self._failed)

    async def read_batch(self) -> bool:
        """Read one batch of one mailbox. Returns whether there was any. Raises StorageError."""
        settings = self._settings
        async with reported(), self._context.pool.acquire() as connection:
            source = await reports.take(connection, lease_seconds=settings.lease)
            if source is None:
                return False
            waiting = await reports.waiting(connection, source, settings.batch_limit)
        found: list[Row] = []
        unreadable = 0
        for message in waiting:
            rows, problems = await self._read(message)
            found += rows
            unreadable += problems
        is_all = len(waiting) < settings.batch_limit
        next_uid = source.uidnext if is_all else waiting[-1].uid + 1
        try:
            async with reported(), self._context.pool.acquire() as connection:
                await reports.keep(connection, source, next_uid, found, unreadable=unreadable)
        except TakenError:
            return True  # the lease was too short; nothing is lost
        for row in found:
            _TAKEN.labels(_kind_of(row)).inc()
        _UNREADABLE.inc(unreadable)
        return True

    async def _read(self, message: Waiting) -> tuple[list[Row], int]:
        """What one message holds, and how much of it cannot be read."""
        blobs, content_id = self._context.blobs, message.content_id
        try:
            layout = await blobs.layout(content_id)
            if layout.original_octets > self._settings.message_limit:
                return [], 1
            octets = await blobs.read(content_id)
        except NotFoundError:
            return [], 0  # deleted since
        except CorruptError as error:
            _log.error("a content cannot be read", content=content_id, reason=str(error))
            return [], 1
        try:
            rows, problems = await asyncio.to_thread(_rows, octets, message.received_at)
        except Exception:  # a stranger's octets must not stop the others
            _log.exception("a report stopped its reader", content=content_id)
            return [], 1
        for problem in problems:
            _log.info("report cannot be read", content=content_id, reason=problem)
        return rows, len(problems)

    async def _until_woken(self) -> None:
        await is_set_within(self._wake, self._settings.poll)

    @staticmethod
    def _failed(error: Exception, failures: int) -> None:
        _log.error("reports cannot be taken up", error=f"{type(error).__name__}: {error}", failures=failures)


def _rows(octets: bytes, received_at: datetime) -> tuple[list[Row], Sequence[str]]:
    """What storage keeps of a mail."""
    found = mail.read(octets)
    rows: list[Row] = []
    for report in found.reports:
        match report:
            case AggregateReport():
                rows.append(_dmarc(report, received_at))
            case ReceivedTlsReport():
                rows += _tls(report, received_at)
    if not rows and not found.problems:
        rows += _bounces(octets, received_at)
    return rows, found.problems


def _dmarc(report: AggregateReport, received_at: datetime) -> DmarcReport:
    return DmarcReport(
        domain=report.domain,
        organization=report.organization,
        email=report.email,
        report_id=report.report_id,
        begins_at=report.begins_at,
        ends_at=report.ends_at,
        policy=report.policy,
        subdomain_policy=report.subdomain_policy,
        adkim=report.adkim,
        aspf=report.aspf,
        percent=report.percent,
        is_test=report.is_test,
        errors=report.errors,
        passed=sum(source.count for source in report.sources if source.passes),
        sources=[_source(source) for source in report.sources],
        received_at=received_at,
    )


def _source(source: Source) -> DmarcSource:
    details = {"reasons": source.reasons, "authentications": [_result(one) for one in source.authentications]}
    return DmarcSource(
        source.address,
        source.count,
        source.disposition,
        source.dkim,
        source.spf,
        source.header_from,
        source.envelope_from,
        source.envelope_to,
        msgspec.json.encode(details).decode(),
    )


def _result(one: object) -> dict[str, str]:
    """Without what the report left out."""
    return {name: value for name, value in msgspec.to_builtins(one).items() if value}


def _tls(report: ReceivedTlsReport, received_at: datetime) -> Iterator[TlsReport]:
    for ordinal, policy in enumerate(report.policies):
        details = [
            TlsFailure(
                one.result_type, one.count, one.source, one.host, one.helo, one.address, one.information, one.reason
            )
            for one in policy.details
        ]
        yield TlsReport(
            domain=policy.domain,
            organization=report.organization,
            contact=report.contact,
            report_id=report.report_id,
            ordinal=ordinal,
            begins_at=report.begins_at,
            ends_at=report.ends_at,
            policy_type=policy.policy_type,
            policy_strings=policy.strings,
            mx_hosts=policy.mx_hosts,
            successes=policy.successes,
            failures=policy.failures,
            details=details,
            received_at=received_at,
        )


def _bounces(octets: bytes, received_at: datetime) -> Iterator[Bounce]:
    found = bounces.classify(octets)
    if found is None or found.kind == "automatic":
        return
    for one in found.recipients:
        yield Bounce(
            kind=found.kind,
            address=one.address,
            action=one.action,
            status=str(one.status) if one.status is not None else None,
            code=one.code,
            reason=one.reason,
            is_hard=one.is_hard,
            diagnostic=one.diagnostic,
            remote_mta=one.remote_mta,
            message_id=found.message_id,
            envid=found.envid,
            feedback_type=found.feedback_type,
            received_at=received_at,
        )


def _kind_of(row: Row) -> str:
    match row:
        case DmarcReport():
            return "dmarc"
        case TlsReport():
            return "tls"
    return "bounce"
