"""Reports to senders on what became of their mail in the queue: failure, delay, and success where it was asked for (RFC 3461 §5.2).

A report has the null reverse path and is stored in the transaction that settles what it is about: neither is without the other.
None is ever made for mail that has a null reverse path itself; what fails then is dropped, with a record.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

from prometheus_client import Counter

from config.relay import Relay
from daemons.context import Context
from daemons.forwarding import Forwarding
from daemons.logs import logger
from daemons.outgoing import compose, new_transaction_id
from daemons.postmaster import postmaster_of
from daemons.relay.attempt import Settled
from daemons.relay.returns import Returns
from protocol.address import AddressError, AddrSpec, parse_addr_spec
from protocol.message.dsn import RETURNED_HEADER_LIMIT, Action, Outcome, Report, language_of, render
from protocol.status import Enhanced
from storage.errors import CorruptError, NotFoundError
from storage.outbound import Leased
from storage.rows import NewMessage

_log = logger("bounces")
_REPORTS = Counter("postwerk_relay_reports", "Reports to senders, by the worst that they tell.", ["action"])
_DROPPED = Counter("postwerk_relay_dropped_reports", "Failures of which nobody could be told, by reason.", ["reason"])
_ACTIONS: tuple[Action, ...] = ("failed", "delayed", "relayed", "expanded", "delivered")  # the worst first


class Bounces:
    """Makes the reports of a process."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._settings: Relay = context.settings.relay
        self._forwarding = Forwarding(context)
        self._returns = Returns(context)
        hostname = context.settings.hostname
        author = postmaster_of(context.settings.smtp, hostname)
        self._author = author if author.is_ascii else AddrSpec("postmaster", hostname)

    def close(self) -> None:
        """Stop listening for changes."""
        self._forwarding.close()

    async def of(self, settled: Sequence[Settled]) -> list[NewMessage]:
        """The reports that are due with these settlements, one for all recipients of a message, and what comes back: often none.

        They go into Ingest.store together with the settlements, in one group. Raises UnavailableError when database or
        segments cannot be asked.
        """
        groups: dict[int, list[tuple[Settled, Action]]] = {}
        for each in settled:
            action = action_of(each)
            if action is not None and each.leased.reverse_path:
                groups.setdefault(each.leased.outbound_id, []).append((each, action))
        messages: list[NewMessage] = []
        for group in groups.values():
            messages += await self._report(group)
        return messages + await self._returns.of(settled)

    async def _report(self, group: Sequence[tuple[Settled, Action]]) -> list[NewMessage]:
        """One report on one message."""
        leased = group[0][0].leased
        try:
            reverse_path = await self._return_path(leased)
        except AddressError:  # submission and SMTP let none in, so somebody wrote into the table
            record_dropped(self._context, leased, "malformed reverse path")
            return []
        outcomes = [_outcome(settled, action) for settled, action in group]
        report = Report(
            hostname=self._context.settings.hostname,
            author=self._author,
            reverse_path=reverse_path,
            outcomes=outcomes,
            arrived_at=leased.created_at,
            envid=leased.envid,
            ret=leased.ret,
            is_smtputf8=leased.is_smtputf8,
            language=language_of(await self._context.directory.language(leased.tenant_id)),
            log_id=leased.trace_id,
            deliver_by=leased.deliver_by,
        )
        report, original = await self._original(report, leased.content_id)
        report_id = new_transaction_id()
        octets = render(
            report,
            original,
            boundary=f"=_{report_id}",  # drawn after the last octet of the message
            message_id=f"<{report_id}.report@{report.hostname}>",
            date=datetime.now(UTC),
        )
        # Who logged in to send it is no claim as other reverse paths are, and must hear of it, however full the mailbox.
        is_ours = leased.account_id is not None
        messages = await compose(
            self._context, leased.tenant_id, None, [reverse_path], octets, trace_id=report_id, passes_quota=is_ours
        )
        if not messages:
            record_dropped(self._context, leased, "sender cannot receive")
            return []
        worst = next(action for action in _ACTIONS if any(outcome.action == action for outcome in outcomes))
        _REPORTS.labels(worst).inc()
        for settled, action in group:
            self._note(settled.leased, action, report_id, str(reverse_path))
        for message in messages:
            self._note_report(message, report_id, str(reverse_path))
        return [_protected(message) for message in messages] if leased.is_requiretls else messages

    def _note_report(self, message: NewMessage, report_id: str, to: str) -> None:
        """What the trace has of the report itself, which is a message of its own."""
        note = self._context.recorder.note
        if message.outbound is not None:
            expires_at = message.outbound.expires_at
            note(message.tenant_id, report_id, "queued", reverse_path="", forward_paths=[to], expires_at=expires_at)
        for placement in message.placements:
            note(message.tenant_id, report_id, "stored", forward_path=to, mailbox_id=placement.mailbox_id)

    async def _return_path(self, leased: Leased) -> AddrSpec:
        """Who is told: the sender, also where forwarding had put an address of ours in his place. Raises AddressError."""
        reverse_path = parse_addr_spec(leased.reverse_path)
        returned = await self._forwarding.reverse_of(reverse_path)
        return reverse_path if returned is None else returned.forward_path

    async def _original(self, report: Report, content_id: int) -> tuple[Report, bytes]:
        """What is given back of the message, and the report as far as that is possible."""
        try:
            if report.returns_message:
                layout = await self._context.blobs.layout(content_id)
                if layout.original_octets <= self._settings.report_message_limit:
                    return report, await self._context.blobs.read(content_id)
                report = replace(report, ret="HDRS")
            return report, await self._context.blobs.read(content_id, 0, RETURNED_HEADER_LIMIT)
        except (NotFoundError, CorruptError) as error:
            _log.error("message cannot be read for its report", content=content_id, error=str(error))
            return replace(report, ret="HDRS"), b""

    def _note(self, leased: Leased, action: str, report_id: str, to: str) -> None:
        self._context.recorder.note(
            leased.tenant_id,
            leased.trace_id,
            "bounced",
            forward_path=leased.forward_path,
            action=action,
            report=report_id,
            to=to,
        )


def record_dropped(context: Context, leased: Leased, reason: str) -> None:
    """Note in trace, log and metrics that a failure is reported to nobody: a bounce that itself failed, most of the time."""
    _DROPPED.labels(reason).inc()
    _log.info("report dropped", id=leased.trace_id, reason=reason)
    context.recorder.note(
        leased.tenant_id, leased.trace_id, "bounced", forward_path=leased.forward_path, action="dropped", reason=reason
    )


def action_of(settled: Settled) -> Action | None:
    """What the sender is to be told of, by NOTIFY (RFC 3461 §4.1); None: nothing. The null reverse path is not looked at."""
    attempt, notify = settled.attempt, settled.leased.notify
    match attempt.kind:
        case "failed":
            return "failed" if notify is None or "FAILURE" in notify else None
        case "deferred":
            return "delayed" if settled.is_delay_due and (notify is None or "DELAY" in notify) else None
        case "delivered":
            if attempt.is_final or attempt.is_expanded:
                action: Action = "delivered" if attempt.is_final else "expanded"
                return action if notify is not None and "SUCCESS" in notify else None
            if notify is not None and "SUCCESS" in notify and not attempt.is_reported_by_peer:
                return "relayed"
            return "relayed" if _leaves_deadlines(settled) else None


def _leaves_deadlines(settled: Settled) -> bool:
    """Whether the sender is to hear that nobody watches a deadline any more, or where each relay is to tell of itself.

    RFC 2852 §4.1.4: both unless NOTIFY is NEVER.
    """
    mode, notify = settled.leased.deliver_by_mode, settled.leased.notify
    if mode is None or (notify is not None and "NEVER" in notify):
        return False
    return mode.endswith("T") or (mode == "N" and not settled.attempt.knows_deadline)


def _outcome(settled: Settled, action: Action) -> Outcome:
    leased, attempt = settled.leased, settled.attempt
    status_class = {"failed": 5, "delayed": 4}.get(action, 2)
    status = attempt.status
    if status.status_class != status_class:  # the class says what the action says: RFC 3464 §2.3.4
        detail = (status.subject, status.detail) if status_class != 2 else (0, 0)
        status = Enhanced(status_class, *detail)
    return Outcome(
        recipient=_forward_path(leased.forward_path),
        action=action,
        status=status,
        orcpt=leased.orcpt,
        remote_mta=attempt.host or (f"[{attempt.address}]" if attempt.address else None),
        diagnostic=attempt.reply or None,
        is_reply=attempt.is_remote,
        last_attempt_at=attempt.at,
        will_retry_until=leased.expires_at if action == "delayed" else None,
    )


def _forward_path(text: str) -> AddrSpec:
    try:
        return parse_addr_spec(text)
    except AddressError:
        local_part, _, domain = text.rpartition("@")
        return AddrSpec(local_part, domain)


def _protected(message: NewMessage) -> NewMessage:
    """The report with the demand of the message that it tells of: it repeats its header (RFC 8689 §5)."""
    outbound = message.outbound
    return message if outbound is None else replace(message, outbound=replace(outbound, is_requiretls=True))
