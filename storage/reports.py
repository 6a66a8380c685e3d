"""Received reports: which mailboxes they are read out of, and what was found in them.

A mailbox is one process's for the time of a batch; how far it was read moves in the transaction that stores what was found, so
nothing is counted twice and nothing is missed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from ipaddress import IPv4Address, IPv6Address
from typing import TypeAlias

from storage.errors import NotFoundError, StorageError
from storage.pool import Connection

Address: TypeAlias = IPv4Address | IPv6Address

_TAKE = """
WITH due AS MATERIALIZED (
    SELECT s.mailbox_id, m.uidnext FROM report_source AS s JOIN mailbox AS m USING (mailbox_id)
     WHERE m.uidnext > s.next_uid AND s.leased_until < now() ORDER BY s.leased_until LIMIT 1 FOR UPDATE OF s SKIP LOCKED)
UPDATE report_source AS s SET leased_until = now() + make_interval(secs => $1)
  FROM due WHERE s.mailbox_id = due.mailbox_id
RETURNING s.mailbox_id, s.tenant_id, s.next_uid, due.uidnext
"""
_MESSAGES = """
SELECT uid, content_id, internaldate FROM message WHERE mailbox_id = $1 AND uid >= $2 AND uid < $3 ORDER BY uid LIMIT $4
"""
_ADVANCE = """
UPDATE report_source SET next_uid = $3, leased_until = '-infinity', taken = taken + $4, unreadable = unreadable + $5
 WHERE mailbox_id = $1 AND next_uid = $2 RETURNING mailbox_id
"""
_KEEP_DMARC = """
INSERT INTO dmarc_report (tenant_id, domain, organization, email, report_id, begins_at, ends_at, policy, subdomain_policy, adkim,
                          aspf, percent, is_test, errors, messages, passed, received_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)
    ON CONFLICT DO NOTHING RETURNING dmarc_report_id
"""
_KEEP_SOURCES = """
INSERT INTO dmarc_source (dmarc_report_id, ordinal, address, messages, disposition, dkim, spf, header_from, envelope_from,
                          envelope_to, details)
SELECT $1, s.ordinal, s.address, s.messages, s.disposition, s.dkim, s.spf, s.header_from, s.envelope_from, s.envelope_to,
       s.details::jsonb
  FROM unnest($2::inet[], $3::bigint[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[], $10::text[])
       WITH ORDINALITY AS s (address, messages, disposition, dkim, spf, header_from, envelope_from, envelope_to, details, ordinal)
"""
_KEEP_TLS = """
INSERT INTO tls_report (tenant_id, domain, organization, contact, report_id, ordinal, begins_at, ends_at, policy_type,
                        policy_strings, mx_hosts, successes, failures, received_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)
    ON CONFLICT DO NOTHING RETURNING tls_report_id
"""
_KEEP_FAILURES = """
INSERT INTO tls_failure (tls_report_id, ordinal, result_type, sessions, source, host, helo, address, information, reason)
SELECT $1, f.ordinal, f.result_type, f.sessions, f.source, f.host, f.helo, f.address, f.information, f.reason
  FROM unnest($2::text[], $3::bigint[], $4::inet[], $5::text[], $6::text[], $7::inet[], $8::text[], $9::text[])
       WITH ORDINALITY AS f (result_type, sessions, source, host, helo, address, information, reason, ordinal)
"""
_KEEP_BOUNCES = """
INSERT INTO received_bounce (tenant_id, kind, address, action, status, code, reason, is_hard, diagnostic, remote_mta, message_id,
                             envid, feedback_type, received_at)
SELECT $1, * FROM unnest($2::text[], $3::text[], $4::text[], $5::text[], $6::integer[], $7::text[], $8::boolean[], $9::text[],
                         $10::text[], $11::text[], $12::text[], $13::text[], $14::timestamptz[])
"""
_WATCH = """
INSERT INTO report_source (mailbox_id, tenant_id)
SELECT mailbox_id, m.tenant_id FROM mailbox AS m JOIN account AS a USING (account_id)
 WHERE a.login = lower($1) AND m.name = $2 AND m.is_selectable
    ON CONFLICT (mailbox_id) DO UPDATE SET mailbox_id = EXCLUDED.mailbox_id
RETURNING mailbox_id
"""
_UNWATCH = """
DELETE FROM report_source AS s USING mailbox AS m, account AS a
 WHERE m.mailbox_id = s.mailbox_id AND a.account_id = m.account_id AND a.login = lower($1) AND m.name = $2
RETURNING s.mailbox_id
"""
_FORGET = """
WITH old AS MATERIALIZED (
    SELECT {key} FROM {table} WHERE received_at < now() - make_interval(secs => $1) ORDER BY received_at LIMIT $2),
gone AS (DELETE FROM {table} AS r USING old WHERE r.{key} = old.{key} RETURNING 1)
SELECT count(*) FROM gone
"""
_FORGET_DMARC = _FORGET.format(table="dmarc_report", key="dmarc_report_id")
_FORGET_TLS = _FORGET.format(table="tls_report", key="tls_report_id")
_FORGET_BOUNCES = _FORGET.format(table="received_bounce", key="bounce_id")


class TakenError(StorageError):
    """Another process has read on from there: what this one found is known already."""


@dataclass(frozen=True, slots=True)
class Source:
    """A mailbox that is this process's to read until its lease runs out."""

    mailbox_id: int
    tenant_id: int
    next_uid: int
    uidnext: int  # when it was taken


@dataclass(frozen=True, slots=True)
class Waiting:
    """A message that was not looked at."""

    uid: int
    content_id: int
    received_at: datetime


@dataclass(frozen=True, slots=True)
class DmarcSource:
    """Messages of one source with one outcome."""

    address: Address | None
    messages: int
    disposition: str
    dkim: str
    spf: str
    header_from: str
    envelope_from: str
    envelope_to: str
    details: str  # JSON


@dataclass(frozen=True, slots=True)
class DmarcReport:
    """One aggregate report."""

    domain: str
    organization: str
    email: str
    report_id: str
    begins_at: datetime
    ends_at: datetime
    policy: str
    subdomain_policy: str
    adkim: str
    aspf: str
    percent: int | None
    is_test: bool
    errors: Sequence[str]
    passed: int  # messages
    sources: Sequence[DmarcSource]
    received_at: datetime


@dataclass(frozen=True, slots=True)
class TlsFailure:
    """Failed sessions of one kind."""

    result_type: str
    sessions: int
    source: Address | None
    host: str
    helo: str
    address: Address | None
    information: str
    reason: str


@dataclass(frozen=True, slots=True)
class TlsReport:
    """One policy of a TLS report."""

    domain: str
    organization: str
    contact: str
    report_id: str
    ordinal: int
    begins_at: datetime
    ends_at: datetime
    policy_type: str
    policy_strings: Sequence[str]
    mx_hosts: Sequence[str]
    successes: int
    failures: int
    details: Sequence[TlsFailure]
    received_at: datetime


@dataclass(frozen=True, slots=True)
class Bounce:
    """One recipient of one bounce or complaint."""

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
    received_at: datetime


async def take(connection: Connection, *, lease_seconds: float) -> Source | None:
    """One mailbox with messages that were not looked at, and that nobody else reads; None when there is none."""
    row = await connection.fetchrow(_TAKE, lease_seconds)
    return None if row is None else Source(*row)


async def waiting(connection: Connection, source: Source, limit: int) -> list[Waiting]:
    """The next messages of a mailbox that was taken, in order."""
    rows = await connection.fetch(_MESSAGES, source.mailbox_id, source.next_uid, source.uidnext, limit)
    return [Waiting(*row) for row in rows]


async def keep(
    connection: Connection,
    source: Source,
    next_uid: int,
    found: Sequence[DmarcReport | TlsReport | Bounce],
    *,
    unreadable: int = 0,
) -> int:
    """Store what was found up to next_uid, and let the mailbox go. Returns how many were not known already. Raises TakenError."""
    async with connection.transaction():
        advanced = await connection.fetchval(
            _ADVANCE, source.mailbox_id, source.next_uid, next_uid, len(found), unreadable
        )
        if advanced is None:
            raise TakenError("read by another process")
        stored = 0
        for one in found:
            match one:
                case DmarcReport():
                    stored += await _keep_dmarc(connection, source.tenant_id, one)
                case TlsReport():
                    stored += await _keep_tls(connection, source.tenant_id, one)
        bounces = [one for one in found if isinstance(one, Bounce)]
        if bounces:
            await connection.execute(_KEEP_BOUNCES, source.tenant_id, *_columns(bounces, Bounce))
        return stored + len(bounces)


async def _keep_dmarc(connection: Connection, tenant_id: int, report: DmarcReport) -> int:
    messages = sum(source.messages for source in report.sources)
    key = await connection.fetchval(
        _KEEP_DMARC, tenant_id, report.domain, report.organization, report.email, report.report_id, report.begins_at,
        report.ends_at, report.policy, report.subdomain_policy, report.adkim, report.aspf, report.percent, report.is_test,
        list(report.errors), messages, report.passed, report.received_at,
    )  # fmt: skip
    if key is None:
        return 0
    if report.sources:
        await connection.execute(_KEEP_SOURCES, key, *_columns(report.sources, DmarcSource))
    return 1


async def _keep_tls(connection: Connection, tenant_id: int, report: TlsReport) -> int:
    key = await connection.fetchval(
        _KEEP_TLS, tenant_id, report.domain, report.organization, report.contact, report.report_id, report.ordinal,
        report.begins_at, report.ends_at, report.policy_type, list(report.policy_strings), list(report.mx_hosts),
        report.successes, report.failures, report.received_at,
    )  # fmt: skip
    if key is None:
        return 0
    if report.details:
        await connection.execute(_KEEP_FAILURES, key, *_columns(report.details, TlsFailure))
    return 1


def _columns(rows: Sequence[object], kind: type) -> list[list[object]]:
    """The rows' values, field by field, for unnest."""
    return [[getattr(row, name) for row in rows] for name in kind.__dataclass_fields__]  # type: ignore[attr-defined]


async def watch(connection: Connection, login: str, mailbox: str) -> None:
    """Read reports out of that mailbox from its first message on. Raises NotFoundError."""
    if await connection.fetchval(_WATCH, login, mailbox) is None:
        raise NotFoundError(f"mailbox {mailbox} of {login}")


async def unwatch(connection: Connection, login: str, mailbox: str) -> None:
    """Read no more of them out of it. What was found stays. Raises NotFoundError."""
    if await connection.fetchval(_UNWATCH, login, mailbox) is None:
        raise NotFoundError(f"mailbox {mailbox} of {login} is not watched")


async def forget(connection: Connection, limit: int, *, report_seconds: float, bounce_seconds: float) -> int:
    """Remove what was kept for its time, at most `limit` of each kind. Returns how many of the kind with most."""
    removed: list[int] = [
        await connection.fetchval(_FORGET_DMARC, report_seconds, limit),
        await connection.fetchval(_FORGET_TLS, report_seconds, limit),
        await connection.fetchval(_FORGET_BOUNCES, bounce_seconds, limit),
    ]
    return max(removed)
