"""Received reports as the command line, and later a viewer, shows them."""

from dataclasses import dataclass
from datetime import datetime

from storage.pool import Connection

_OF = """
  JOIN tenant AS t USING (tenant_id)
 WHERE ($1::text IS NULL OR t.name = $1) AND ($2::text IS NULL OR r.domain = lower($2)) AND r.ends_at >= $3
"""
_DMARC = f"""
SELECT r.dmarc_report_id, t.name, r.domain, r.organization, r.begins_at, r.ends_at, r.policy, r.messages, r.passed,
       r.messages - r.passed AS failed
  FROM dmarc_report AS r {_OF} AND (r.messages > r.passed OR NOT $4) ORDER BY r.ends_at DESC, r.dmarc_report_id DESC LIMIT $5
"""
_DMARC_SOURCES = """
SELECT host(s.address) AS address, s.messages, s.disposition, s.dkim, s.spf, s.header_from, s.envelope_from, s.envelope_to,
       s.details::text
  FROM dmarc_source AS s JOIN dmarc_report AS r USING (dmarc_report_id) JOIN tenant AS t USING (tenant_id)
 WHERE s.dmarc_report_id = $1 AND ($2::text IS NULL OR t.name = $2) ORDER BY s.messages DESC, s.ordinal LIMIT $3
"""
_TLS = f"""
SELECT r.tls_report_id, t.name, r.domain, r.organization, r.begins_at, r.ends_at, r.policy_type, r.successes, r.failures,
       coalesce((SELECT string_agg(DISTINCT result_type, ' ') FROM tls_failure AS f WHERE f.tls_report_id = r.tls_report_id), '')
  FROM tls_report AS r {_OF} AND (r.failures > 0 OR NOT $4) ORDER BY r.ends_at DESC, r.tls_report_id DESC LIMIT $5
"""
_TLS_FAILURES = """
SELECT f.result_type, f.sessions, host(f.source) AS source, f.host, f.helo, host(f.address) AS address, f.reason, f.information
  FROM tls_failure AS f JOIN tls_report AS r USING (tls_report_id) JOIN tenant AS t USING (tenant_id)
 WHERE f.tls_report_id = $1 AND ($2::text IS NULL OR t.name = $2) ORDER BY f.sessions DESC, f.ordinal LIMIT $3
"""
_BOUNCES = """
SELECT r.received_at, t.name, r.kind, r.address, r.action, r.status, r.code, r.reason, r.is_hard, r.diagnostic, r.remote_mta,
       r.message_id, r.envid, r.feedback_type
  FROM received_bounce AS r JOIN tenant AS t USING (tenant_id)
 WHERE ($1::text IS NULL OR t.name = $1) AND ($2::text IS NULL OR lower(r.address) LIKE '%@' || lower($2)) AND r.received_at >= $3
   AND (r.is_hard OR NOT $4) ORDER BY r.received_at DESC, r.bounce_id DESC LIMIT $5
"""
_SOURCES = """
SELECT t.name, a.login, m.name, s.taken, s.unreadable, greatest(m.uidnext - s.next_uid, 0)
  FROM report_source AS s JOIN mailbox AS m USING (mailbox_id) JOIN account AS a USING (account_id)
  JOIN tenant AS t ON t.tenant_id = s.tenant_id ORDER BY t.name, a.login, m.name
"""


@dataclass(frozen=True, slots=True)
class DmarcRow:
    """One aggregate report."""

    id: int
    tenant: str
    domain: str
    organization: str
    begins_at: datetime
    ends_at: datetime
    policy: str
    messages: int
    passed: int
    failed: int


@dataclass(frozen=True, slots=True)
class DmarcSourceRow:
    """Messages of one source of a report."""

    address: str | None
    messages: int
    disposition: str
    dkim: str
    spf: str
    header_from: str
    envelope_from: str
    envelope_to: str
    details: str  # JSON


@dataclass(frozen=True, slots=True)
class TlsRow:
    """One policy of a TLS report."""

    id: int
    tenant: str
    domain: str
    organization: str
    begins_at: datetime
    ends_at: datetime
    policy_type: str
    successes: int
    failures: int
    result_types: str


@dataclass(frozen=True, slots=True)
class TlsFailureRow:
    """Failed sessions of one kind."""

    result_type: str
    sessions: int
    source: str | None
    host: str
    helo: str
    address: str | None
    reason: str
    information: str


@dataclass(frozen=True, slots=True)
class BounceRow:
    """One recipient of a bounce or complaint."""

    received_at: datetime
    tenant: str
    kind: str
    address: str
    action: str
    status: str | None
    code: int | None
    reason: str
    is_hard: bool
    diagnostic: str
    remote_mta: str | None
    message_id: str | None
    envid: str | None
    feedback_type: str | None


@dataclass(frozen=True, slots=True)
class SourceRow:
    """A mailbox that reports are read out of."""

    tenant: str
    login: str
    mailbox: str
    taken: int
    unreadable: int
    waiting: int


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which reports: None is all."""

    tenant: str | None
    domain: str | None
    since: datetime
    bad_only: bool = False  # with failures; of bounces the hard ones
    limit: int = 1000


async def list_dmarc(connection: Connection, wanted: Wanted) -> list[DmarcRow]:
    """Aggregate reports, the latest first."""
    return [DmarcRow(*row) for row in await connection.fetch(_DMARC, *_arguments(wanted))]


async def list_dmarc_sources(
    connection: Connection, report: int, tenant: str | None, limit: int
) -> list[DmarcSourceRow]:
    """The sources of one report, those with most messages first."""
    return [DmarcSourceRow(*row) for row in await connection.fetch(_DMARC_SOURCES, report, tenant, limit)]


async def list_tls(connection: Connection, wanted: Wanted) -> list[TlsRow]:
    """TLS reports by policy, the latest first."""
    return [TlsRow(*row) for row in await connection.fetch(_TLS, *_arguments(wanted))]


async def list_tls_failures(connection: Connection, report: int, tenant: str | None, limit: int) -> list[TlsFailureRow]:
    """The failures of one report, the most frequent first."""
    return [TlsFailureRow(*row) for row in await connection.fetch(_TLS_FAILURES, report, tenant, limit)]


async def list_bounces(connection: Connection, wanted: Wanted) -> list[BounceRow]:
    """Bounces and complaints, the latest first. The domain is the recipient's."""
    return [BounceRow(*row) for row in await connection.fetch(_BOUNCES, *_arguments(wanted))]


async def list_sources(connection: Connection) -> list[SourceRow]:
    """The mailboxes that are watched."""
    return [SourceRow(*row) for row in await connection.fetch(_SOURCES)]


def _arguments(wanted: Wanted) -> tuple[object, ...]:
    return wanted.tenant, wanted.domain, wanted.since, wanted.bad_only, wanted.limit
