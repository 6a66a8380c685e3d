"""What lies in the outbound queue, for people: lists by what they look for, one message with its attempts, sums."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from storage.pool import Connection

UNFINISHED = ("waiting", "held")
STATES = (*UNFINISHED, "delivered", "failed", "deleted")
GROUPS = {"domain": "r.domain", "tenant": "t.name", "sender": "m.reverse_path", "state": "r.state"}

_LIST = """
SELECT m.trace_id, r.recipient_id, r.state, t.name AS tenant, m.reverse_path, r.forward_path, r.domain, m.created_at,
       r.next_attempt_at, r.tries, r.leased_by IS NOT NULL AND r.next_attempt_at > now() AS is_leased, r.held_reason, r.last_reply
  FROM outbound_recipient AS r JOIN outbound_message AS m USING (outbound_id) JOIN tenant AS t ON t.tenant_id = r.tenant_id
 WHERE {conditions} ORDER BY r.recipient_id LIMIT {limit:d}
"""
_MESSAGE = """
SELECT m.outbound_id, m.trace_id, t.name AS tenant, a.login AS account, m.reverse_path, m.envid, m.ret, m.body, m.is_smtputf8,
       m.is_requiretls, m.priority, m.deliver_by, m.deliver_by_mode, m.created_at, m.expires_at, c.size_octets, c.subject
  FROM outbound_message AS m JOIN tenant AS t USING (tenant_id) JOIN content AS c USING (content_id)
  LEFT JOIN account AS a ON a.account_id = m.account_id
 WHERE m.trace_id = $1 ORDER BY m.outbound_id
"""
_RECIPIENTS = """
SELECT recipient_id, outbound_id, forward_path, domain, notify, orcpt, state, tries, next_attempt_at, leased_by, held_reason,
       last_reply, delay_told_at, finished_at
  FROM outbound_recipient WHERE outbound_id = ANY ($1::bigint[]) ORDER BY recipient_id
"""
_ATTEMPTS = """
SELECT recipient_id, attempt, tried_at, state, host, tls, reply FROM outbound_attempt
 WHERE recipient_id = ANY ($1::bigint[]) ORDER BY recipient_id, attempt
"""
_REMOVALS = """
SELECT v.recipient_id, t.name AS tenant, v.trace_id, v.domain, v.removed_at, v.removed_by, v.reason, v.is_told
  FROM outbound_removal AS v JOIN tenant AS t USING (tenant_id) WHERE v.trace_id = $1 ORDER BY v.removal_id
"""
_STATS = """
SELECT {group} AS name, count(*) FILTER (WHERE r.state = 'waiting') AS waiting,
       count(*) FILTER (WHERE r.state = 'waiting' AND r.next_attempt_at <= now()) AS due,
       count(*) FILTER (WHERE r.state = 'waiting' AND r.next_attempt_at > now() AND r.leased_by IS NOT NULL) AS leased,
       count(*) FILTER (WHERE r.state = 'held') AS held, count(*) FILTER (WHERE r.tries > 0) AS deferred,
       min(m.created_at) AS oldest_at
  FROM outbound_recipient AS r JOIN outbound_message AS m USING (outbound_id) JOIN tenant AS t ON t.tenant_id = r.tenant_id
 WHERE {conditions} GROUP BY 1 ORDER BY 2 DESC, 5 DESC, 1 LIMIT {limit:d}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which recipients: those for which everything holds that is given."""

    trace_id: str | None = None
    reverse_path: str | None = None  # an address, "@domain" for all of one, "" for the null reverse-path
    forward_path: str | None = None  # an address, or "@domain"
    domain: str | None = None  # where the mail goes
    tenant: str | None = None
    account_id: int | None = None
    state: str | None = None  # None: all that are not finished
    older_seconds: float | None = None
    held_reason: str | None = None  # how it begins

    def conditions(self, arguments: list[Any], states: Sequence[str] = UNFINISHED) -> str:
        """As SQL over r, m and t; what it needs is added to the arguments. Of `states`, those that the selection allows."""
        allowed = [state for state in states if self.state in (None, state)]
        terms = [" OR ".join(f"r.state = '{state}'" for state in allowed) or "false"]

        def add(term: str, argument: object) -> None:
            arguments.append(argument)
            terms.append(term.format(f"${len(arguments)}"))

        for column, path in (("m.reverse_path", self.reverse_path), ("r.forward_path", self.forward_path)):
            if path is not None and path.startswith("@"):
                add("lower(" + column + ") LIKE '%' || {}", _literal(path.lower()))
            elif path is not None:
                add("lower(" + column + ") = {}", path.lower())
        for column, wanted in (
            ("m.trace_id", self.trace_id),
            ("r.domain", self.domain),
            ("t.name", self.tenant),
            ("m.account_id", self.account_id),
        ):
            if wanted is not None:
                add(column + " = {}", wanted)
        if self.held_reason is not None:
            add("starts_with(r.held_reason, {})", self.held_reason)
        if self.older_seconds is not None:
            add("m.created_at < now() - make_interval(secs => {})", self.older_seconds)
        return " AND ".join(f"({term})" for term in terms)


def _literal(text: str) -> str:
    """The text as a LIKE pattern that matches it alone."""
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")


@dataclass(frozen=True, slots=True)
class QueueRow:
    """One recipient, in a list."""

    trace_id: str
    recipient_id: int
    state: str
    tenant: str
    reverse_path: str
    forward_path: str
    domain: str
    created_at: datetime
    next_attempt_at: datetime
    tries: int
    is_leased: bool  # being delivered now, or its relay died just now
    held_reason: str | None
    last_reply: str | None


@dataclass(frozen=True, slots=True)
class StatsRow:
    """Sums of what is not finished, of one domain, tenant, sender or state."""

    name: str
    waiting: int
    due: int
    leased: int
    held: int
    deferred: int  # tried before
    oldest_at: datetime


@dataclass(frozen=True, slots=True)
class Shown:
    """Everything that the queue knows of one id. Messages: one for each tenant, most often one."""

    messages: list[dict[str, Any]]  # each with its recipients, each of them with its attempts
    removals: list[dict[str, Any]]  # by hand; they outlive the messages


async def listed(connection: Connection, selection: Selection, limit: int) -> list[QueueRow]:
    """The recipients of a selection, the oldest first."""
    arguments: list[Any] = []
    conditions = selection.conditions(arguments, STATES if selection.state else UNFINISHED)
    rows = await connection.fetch(_LIST.format(conditions=conditions, limit=limit), *arguments)
    return [QueueRow(*row) for row in rows]


async def shown(connection: Connection, trace_id: str) -> Shown:
    """All of one id, finished or not."""
    messages = [dict(row) for row in await connection.fetch(_MESSAGE, trace_id)]
    recipients = [dict(row) for row in await connection.fetch(_RECIPIENTS, [each["outbound_id"] for each in messages])]
    attempts = [dict(row) for row in await connection.fetch(_ATTEMPTS, [each["recipient_id"] for each in recipients])]
    for recipient in recipients:
        number = recipient["recipient_id"]
        recipient["attempts"] = [each for each in attempts if each["recipient_id"] == number]
    for message in messages:
        number = message["outbound_id"]
        message["recipients"] = [each for each in recipients if each["outbound_id"] == number]
    return Shown(messages, [dict(row) for row in await connection.fetch(_REMOVALS, trace_id)])


async def stats(connection: Connection, selection: Selection, by: str, limit: int) -> list[StatsRow]:
    """Sums over what is not finished, by one of GROUPS, the largest first."""
    arguments: list[Any] = []
    query = _STATS.format(group=GROUPS[by], conditions=selection.conditions(arguments), limit=limit)
    return [StatsRow(*row) for row in await connection.fetch(query, *arguments)]
