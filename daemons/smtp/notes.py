"""What the delivery trace is told of a message that came in: to each tenant its own part of it, and nothing of the others."""

from collections.abc import Iterable, Mapping, Sequence
from copy import copy

from prometheus_client import Counter

from daemons.smtp.authors import read_heading
from daemons.smtp.delivering.incoming import Delivery
from daemons.smtp.transaction import Origin, Transaction
from daemons.traces import Kind, Recorder
from filters.pipeline import Decision
from filters.words import told
from protocol.smtp.command import Rcpt
from protocol.smtp.reply import Reply
from storage.rows import ContentFacts, NewMessage, Placed, Stored

_DELIVERIES = Counter("postwerk_deliveries", "Messages of accounts, by what became of them.", ["outcome"])
_STORED = _DELIVERIES.labels("stored")
_FAULTS = Counter("postwerk_sieve_faults", "Messages over which a script made a mistake.")


class Notes:
    """Of one message."""

    def __init__(self, recorder: Recorder, transaction: Transaction, origin: Origin, trace_id: str) -> None:
        self.trace_id = trace_id
        self._recorder = recorder
        self._transaction = transaction
        self._sender = origin.identity
        self._checks: Decision | None = None
        self.size_octets = transaction.file.size_octets
        self._facts: dict[str, object] = {
            "protocol": origin.protocol,
            "reverse_path": str(transaction.mail.reverse_path or ""),
            "size_octets": self.size_octets,
        }
        if origin.tls is not None:
            self._facts["tls"] = " ".join(origin.tls)
        self._source: dict[str, object] = {"peer": origin.peer, "helo": origin.helo}
        if self._sender is not None:
            self._source["login"] = self._sender.login

    def of(self, transaction: Transaction) -> "Notes":
        """Of some of the recipients, who are answered by themselves."""
        part = copy(self)
        part._transaction = transaction
        return part

    def read(self, facts: ContentFacts) -> None:
        """What was found in the message."""
        self._facts["authors"] = [str(author) for author in read_heading(facts.header_cache).authors]
        if facts.message_id is not None:
            self._facts["message_id"] = facts.message_id.decode("utf-8", "replace")

    def checked(self, decision: Decision) -> None:
        """What the filters made of it."""
        self._checks = decision if decision.results else None

    def refused(self, answer: Reply, reason: str) -> None:
        """Nobody gets it."""
        said = _said(answer)
        for tenant_id, paths in self._concerned():
            self._note_checks(tenant_id)
            self._note(tenant_id, "refused", paths, reply=said, reason=reason)

    def rejected(self, deliveries: Sequence[Delivery]) -> None:
        """Accounts that do not take what others have, over LMTP."""
        for each in deliveries:
            if each.refusal is not None:
                reply, reason = _said(each.refusal.reply), each.refusal.reason
                self._note(each.tenant_id, "refused", [_path(each.addressee.rcpt)], reply=reply, reason=reason)

    def stored(self, group: Sequence[NewMessage], stored: Sequence[Stored], deliveries: Sequence[Delivery]) -> None:
        """It is stored: received, and placed or queued, each tenant its part. What else is in the group is no part of it."""
        placed = {
            (new.tenant_id, one.mailbox_id): one for new, done in zip(group, stored, strict=True) for one in done.placed
        }
        tenants = dict(self._concerned())
        for each in [each for delivery in deliveries if delivery.further for each in delivery.others()]:
            if each.tenant_id not in tenants:  # a rule has sent it on to there
                tenants[each.tenant_id] = [_path(each.addressee.rcpt)]
        for tenant_id, paths in tenants.items():
            self._note(tenant_id, "received", paths)
            self._note_checks(tenant_id)
        for delivery in deliveries:
            note_delivery(self._recorder, self.trace_id, delivery, placed)
        for new in group:
            if new.outbound is not None and new.outbound.trace_id == self.trace_id:
                self._queued(new)

    def _queued(self, new: NewMessage) -> None:
        outbound = new.outbound
        assert outbound is not None
        paths = [recipient.forward_path for recipient in outbound.recipients]
        told = {"reverse_path": outbound.reverse_path, "forward_paths": paths, "expires_at": outbound.expires_at}
        self._recorder.note(new.tenant_id, self.trace_id, "queued", **told)
        if outbound.held_reason is not None:
            self._recorder.note(new.tenant_id, self.trace_id, "held", reason=outbound.held_reason, forward_paths=paths)

    def _note(self, tenant_id: int, kind: Kind, paths: Sequence[str], **facts: object) -> None:
        if (
            self._sender is None or self._sender.tenant_id == tenant_id
        ):  # where a user sits is its own tenant's business
            facts |= self._source
        self._recorder.note(tenant_id, self.trace_id, kind, **self._facts, forward_paths=paths, **facts)

    def _note_checks(self, tenant_id: int) -> None:
        if self._checks is not None:
            checks = self._checks.for_tenant(tenant_id)
            accounts = {
                each.recipient.account_id: _path(each.rcpt)
                for each in self._transaction.everyone
                if each.recipient.tenant_id == tenant_id
            }
            said = [f"{result.name}: {told(result, accounts)}" for result in checks.results]
            self._recorder.note(tenant_id, self.trace_id, "checked", score=checks.score, verdicts=said)

    def _concerned(self) -> Iterable[tuple[int, list[str]]]:
        """The tenants that may know of the message, each with what it may know of the recipients."""
        tenants: dict[int, list[str]] = {}
        if self._sender is not None:
            tenants[self._sender.tenant_id] = [_path(rcpt) for rcpt in self._transaction.rcpts]
        for addressee in self._transaction.addressees:
            if self._sender is not None and addressee.recipient.tenant_id == self._sender.tenant_id:
                continue
            tenants.setdefault(addressee.recipient.tenant_id, []).append(_path(addressee.rcpt))
        for forwarded in self._transaction.forwarded:
            tenants.setdefault(forwarded.tenant_id, []).append(_path(forwarded.rcpt))
            foreign = [(each.recipient.tenant_id, each.rcpt) for each in forwarded.local]
            foreign += [(each.tenant_id, each.rcpt) for each in forwarded.onward]
            for tenant_id, rcpt in foreign:
                if tenant_id != forwarded.tenant_id:
                    tenants.setdefault(tenant_id, []).append(_path(rcpt))
        for rerouted in self._transaction.returned:
            tenants.setdefault(rerouted.returned.tenant_id, []).append(_path(rerouted.rcpt))
        return tenants.items()


def note_delivery(
    recorder: Recorder, trace_id: str, delivery: Delivery, placed: Mapping[tuple[int, int], Placed]
) -> None:
    """Note and count what became of a message for one account, and for those that its rules sent it on to.

    placed: by tenant and mailbox.
    """
    for each in delivery.everyone():
        tenant_id, path = each.tenant_id, _path(each.addressee.rcpt)
        (_STORED if each.is_kept else _DELIVERIES.labels(each.outcome)).inc()
        if each.fault:
            _FAULTS.inc()
        done = [text for text in each.done if text]
        if done or each.fault:
            facts = {"error": each.fault} if each.fault else {}
            recorder.note(tenant_id, trace_id, "filtered", forward_path=path, actions=done, **facts)
        for filed in each.filed:
            one = None if filed.placement is None else placed.get((tenant_id, filed.placement.mailbox_id))
            if one is not None:
                recorder.note(
                    tenant_id,
                    trace_id,
                    "stored",
                    forward_path=path,
                    mailbox_id=one.mailbox_id,
                    uidvalidity=one.uidvalidity,
                    uid=one.uid,
                )


def _path(rcpt: Rcpt) -> str:
    return str(rcpt.forward_path)


def _said(answer: Reply) -> str:
    return f"{answer.code} {answer.enhanced or ''} {' '.join(answer.lines)}"
