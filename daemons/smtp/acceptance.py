"""The step from a complete message to durable mail: hop count, content filters, trace fields, journal, storage, replies.

A reply that is positive has been made true before: Ingest.store has returned. One transaction is one group, whatever number
of tenants its recipients belong to, and so is stored whole or not at all; a tenant's journal names only its own recipients.
The report of delivery that the sender asked for is stored in the same group.
"""

import asyncio
import mmap
import secrets
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from config.smtp import Smtp
from daemons import metrics
from daemons.context import Context
from daemons.delivery import facts_of, mapped
from daemons.logs import logger
from daemons.outgoing import Outgoing, is_ascii, messages_of, new_transaction_id
from daemons.smtp import replies
from daemons.smtp.journal import journal_envelope
from daemons.smtp.notes import Notes
from daemons.smtp.reports import Reports
from daemons.smtp.transaction import Addressee, Forwarded, Origin, Transaction
from daemons.smtp.treatment import Treated, treating
from filters.pipeline import PASSED, Decision, Pipeline
from filters.subject import HEADER_LIMIT, Envelope, Subject
from filters.verdict import Refuse
from protocol.address import AddrSpec
from protocol.smtp.command import Mail, Rcpt
from protocol.smtp.received import Hop, render_received, render_return_path
from protocol.smtp.reply import Reply
from protocol.status import enhanced
from storage.errors import MailboxNotFoundError, NotFoundError, OverQuotaError, StorageError
from storage.rows import ContentFacts, JournalEntry, NewMessage, Placement

log = logger("smtp")

_ACCEPTED = enhanced("2.0.0")
_UNTREATED = Refuse(replies.POLICY, "a filter's verdict that cannot be acted on")
_IN_CIRCLES = Decision(refusal=Refuse(replies.HOP_LIMIT, "hop limit"))


class Acceptance:
    """Accepts complete messages. One per process, and one for each kind of listener."""

    def __init__(self, context: Context, limits: Smtp, pipeline: Pipeline, reports: Reports) -> None:
        self._context = context
        self._hostname = context.settings.hostname
        self._limits = limits
        self._ingest = context.ingest
        self._pipeline = pipeline
        self._reports = reports
        names = ("smtp", "lmtp", "submission")
        self._counted = {name: metrics.messages_accepted.labels(name) for name in names}

    async def accept(self, transaction: Transaction, origin: Origin, *, is_lmtp: bool) -> list[Reply]:
        """Take responsibility for the message, or say why not: one reply per addressee, in their order, and one at least.

        Over SMTP all replies are the same. Never raises: what nobody foresaw is logged with an id and becomes 451 4.3.0.
        """
        transaction_id = new_transaction_id()
        number = transaction.answer_count
        try:
            answers = await self._accept(transaction, origin, transaction_id, is_lmtp=is_lmtp)
        except StorageError as error:
            log.warning("message deferred", id=transaction_id, reason=type(error).__name__, detail=str(error))
            answers = [replies.UNAVAILABLE] * number
        except Exception:
            log.exception("message deferred by an internal error", id=transaction_id, error_id=secrets.token_hex(6))
            answers = [replies.UNAVAILABLE] * number
        if any(answer.is_positive for answer in answers):
            self._counted["submission" if origin.identity is not None else "lmtp" if is_lmtp else "smtp"].inc()
        return answers

    async def _accept(
        self, transaction: Transaction, origin: Origin, transaction_id: str, *, is_lmtp: bool
    ) -> list[Reply]:
        received_at = datetime.now(UTC)
        decision = await self._decide(transaction, origin, transaction_id)
        message = _Message(transaction, origin, transaction_id, received_at)
        notes = Notes(self._context.recorder, transaction, origin, transaction_id)
        notes.checked(decision)
        if decision.refusal is not None:
            log.info("message refused", id=transaction_id, reason=decision.refusal.reason)
            notes.refused(decision.refusal.reply, decision.refusal.reason)
            return [decision.refusal.reply] * transaction.answer_count
        message.head = self._head(transaction, origin, transaction_id, received_at, decision)
        message.facts = await facts_of(transaction.file.original)
        notes.read(message.facts)
        tenant_ids = _concerned(transaction)
        original = transaction.file.original
        async with treating(self._context, decision, original, tenant_ids, transaction_id) as message.treated:
            return await (self._store_each(message, notes) if is_lmtp else self._store_all(message, notes))

    async def _decide(self, transaction: Transaction, origin: Origin, transaction_id: str) -> Decision:
        """Run the content filters. What they want and nobody can do is refused."""
        with mapped(transaction.file.original) as octets:
            decision = await self._check(transaction, origin, transaction_id, octets)
        if decision.refusal is None and decision.is_treated:
            is_whole = origin.identity is not None or bool(transaction.returned)  # what goes elsewhere goes as it came
            if is_whole or decision.quarantine is not None:
                return replace(decision, refusal=_UNTREATED)
        return decision

    def _head(
        self, transaction: Transaction, origin: Origin, transaction_id: str, received_at: datetime, decision: Decision
    ) -> bytes:
        """The trace fields, what filters add among them."""
        rcpts = (
            [addressee.rcpt for addressee in transaction.addressees] if transaction.addressees else transaction.remote
        )
        only = rcpts[0].forward_path if transaction.recipient_count == len(rcpts) == 1 else None
        hop = Hop(
            helo=origin.helo,
            peer=origin.peer,
            hostname=self._hostname,
            protocol=origin.protocol,
            transaction_id=transaction_id,
            forward_path=only if only is not None and only.domain else None,  # <Postmaster> is no Path
            received_at=received_at,
            priority=transaction.mail.parameters.priority,
        )
        return render_return_path(transaction.mail.reverse_path) + decision.fields + render_received(hop)

    async def _check(
        self, transaction: Transaction, origin: Origin, transaction_id: str, octets: bytes | mmap.mmap
    ) -> Decision:
        if hop_count(octets) >= self._limits.hop_limit:
            return _IN_CIRCLES
        if not self._pipeline.has_content_filters:
            return PASSED
        envelope = Envelope(
            transaction_id=transaction_id,
            peer=origin.peer,
            helo=origin.helo,
            is_secure=origin.tls is not None,
            is_authenticated=origin.identity is not None,
            reverse_path=transaction.mail.reverse_path,
            forward_paths=tuple(rcpt.forward_path for rcpt in transaction.rcpts),
            tenant_ids=_tenant_ids(transaction),
        )
        return await self._pipeline.check_content(Subject(envelope, octets))

    async def _store_all(self, message: "_Message", notes: Notes) -> list[Reply]:
        transaction = message.transaction
        group = message.for_tenants_of(transaction.addressees, transaction.forwarded)
        group += [*self._returns(message), *await self._onward(message)]
        group += await self._reports_of(message, transaction.everyone)
        answer = await self._store(group, transaction, notes)
        return [answer] * transaction.answer_count

    async def _store_each(self, message: "_Message", notes: Notes) -> list[Reply]:
        """LMTP answers for each recipient (RFC 2033 §4.2): when they cannot be served together, each is served alone.

        With one that forwards they are served together or not at all: what is passed on is passed on once.
        """
        if message.transaction.forwarded:
            return await self._store_all(message, notes)
        everyone = message.transaction.addressees
        group = [*message.for_tenants_of(everyone), *await self._reports_of(message, everyone)]
        together = await self._store(group, message.transaction, notes)
        accounts = {addressee.recipient.account_id for addressee in everyone}
        if together.is_positive or len(accounts) == 1:
            return [together] * len(everyone)
        answers: dict[int, Reply] = {}
        for account_id in accounts:
            alone = [addressee for addressee in everyone if addressee.recipient.account_id == account_id]
            try:
                answers[account_id] = await self._store(message.for_tenants_of(alone), message.transaction, notes)
            except StorageError:
                answers[account_id] = replies.UNAVAILABLE  # the others' positive replies stay true
        await self._report_late(message, [each for each in everyone if answers[each.recipient.account_id].is_positive])
        return [answers[addressee.recipient.account_id] for addressee in everyone]

    def _returns(self, message: "_Message") -> list[NewMessage]:
        """Bounces to senders that we had rewritten, queued for the tenant whose forwarding it was."""
        if not message.transaction.returned:
            return []
        return message.returns(self._context.settings.relay.lifetime)

    async def _onward(self, message: "_Message") -> list[NewMessage]:
        """What addresses of ours forward to other hosts, queued for the tenants that forward."""
        if not any(forwarded.onward for forwarded in message.transaction.forwarded):
            return []
        # A large message is a file: what it needs is found out by reading that.
        return await asyncio.to_thread(message.onward, self._context.settings.relay.lifetime)

    async def _reports_of(self, message: "_Message", addressees: Sequence[Addressee]) -> list[NewMessage]:
        served = [each for each in addressees if not message.is_discarded_by(each.recipient.tenant_id)]
        expanded = [each for each in message.transaction.expanded if not message.is_discarded_by(each.tenant_id)]
        return await self._reports.of_delivery(
            message.transaction, served, message.transaction_id, message.received_at, expanded
        )

    async def _report_late(self, message: "_Message", stored: Sequence[Addressee]) -> None:
        """One report for all who were served alone. It cannot undo what they were answered: if it fails, it is lost."""
        try:
            reports = await self._reports_of(message, stored)
            if reports:
                await self._ingest.store(reports)
        except Exception:
            log.exception("report lost", id=message.transaction_id)

    async def _store(self, group: Sequence[NewMessage], transaction: Transaction, notes: Notes) -> Reply:
        """Store the group, all of it or nothing. Raises StorageError when nobody could be served now."""
        try:
            stored = await self._ingest.store(group)
        except OverQuotaError:
            return replies.MAILBOX_FULL if self._limits.over_quota_is_permanent else replies.MAILBOX_FULL_FOR_NOW
        except (MailboxNotFoundError, NotFoundError):
            return replies.MAILBOX_GONE  # asked again at the next RCPT, it will be known to be gone
        notes.stored(group, stored)
        size_octets = transaction.file.size_octets
        recipients = sum(len(new.placements) for new in group)
        log.info("message accepted", id=notes.trace_id, size_octets=size_octets, recipients=recipients)
        return Reply(250, _ACCEPTED, (f"accepted as {notes.trace_id}",))


class _Message:
    """A message that came in, with everything that its copies share."""

    head: bytes
    facts: ContentFacts

    def __init__(self, transaction: Transaction, origin: Origin, transaction_id: str, received_at: datetime) -> None:
        self.transaction = transaction
        self.transaction_id = transaction_id
        self._origin = origin
        self.received_at = received_at
        self.treated: Mapping[int, Treated] = {}

    def is_discarded_by(self, tenant_id: int) -> bool:
        """Whether the tenant's people do not get it."""
        return tenant_id in self.treated and self.treated[tenant_id].rest is None

    def for_tenants_of(self, addressees: Sequence[Addressee], forwarded: Sequence[Forwarded] = ()) -> list[NewMessage]:
        """One NewMessage per tenant, with one placement per mailbox, however often the mailbox is addressed.

        Whose address forwards has it in the journal, too; in its mailboxes it may be in none.
        """
        tenants: dict[int, _Own] = defaultdict(_Own)
        for addressee in addressees:
            tenants[addressee.recipient.tenant_id].add(addressee)
        for each in forwarded:
            tenants[each.tenant_id].rcpts.append(each.rcpt)
            for addressee in each.local:
                is_told = addressee.recipient.tenant_id == each.tenant_id
                tenants[addressee.recipient.tenant_id].add(addressee, is_told=is_told)
        return [message for tenant_id, own in tenants.items() for message in self._for_tenant(tenant_id, own)]

    def _for_tenant(self, tenant_id: int, own: "_Own") -> list[NewMessage]:
        treated = self.treated.get(tenant_id)
        whole = NewMessage(
            tenant_id=tenant_id,
            head=self.head,
            original=self.transaction.file.original,
            facts=self.facts,
            placements=[
                Placement(inbox_id, internaldate=self.received_at) for inbox_id in dict.fromkeys(own.inbox_ids)
            ],
            journal=JournalEntry("in", self._envelope(own.rcpts, treated.mark if treated else None), self.received_at),
        )
        messages = [whole] if treated is None else treated.applied(whole)
        return [
            each for each in messages if each.journal is not None or each.placements
        ]  # what all forward is not kept

    def returns(self, lifetime_seconds: float) -> list[NewMessage]:
        """One NewMessage per tenant with bounces that go back by the queue."""
        tenants: dict[int, list[Rcpt]] = {}
        for rerouted in self.transaction.returned:
            rcpt = Rcpt(rerouted.returned.forward_path, rerouted.rcpt.parameters)
            tenants.setdefault(rerouted.returned.tenant_id, []).append(rcpt)
        mail = self.transaction.mail
        return [
            message
            for tenant_id, rcpts in tenants.items()
            for message in messages_of(self._outgoing(tenant_id, mail, rcpts, lifetime_seconds))
        ]

    def onward(self, lifetime_seconds: float) -> list[NewMessage]:
        """One NewMessage per tenant and envelope sender with what is forwarded to other hosts. Reads files: blocking I/O."""
        senders: dict[tuple[int, AddrSpec | None], list[Rcpt]] = {}
        for forwarded in self.transaction.forwarded:
            for each in forwarded.onward:
                if not (self.is_discarded_by(forwarded.tenant_id) or self.is_discarded_by(each.tenant_id)):
                    senders.setdefault((each.tenant_id, each.reverse_path), []).append(each.rcpt)
        messages = []
        for (tenant_id, reverse_path), rcpts in senders.items():
            mail = replace(self.transaction.mail, reverse_path=reverse_path)
            messages += messages_of(self._outgoing(tenant_id, mail, rcpts, lifetime_seconds))
        return messages

    def _outgoing(self, tenant_id: int, mail: Mail, rcpts: Sequence[Rcpt], lifetime_seconds: float) -> Outgoing:
        """As it came, or as the tenant's people get it."""
        original, facts = self.transaction.file.original, self.facts
        treated = self.treated.get(tenant_id)
        if treated is not None and treated.rest is not None and treated.facts is not None:
            original, facts = treated.rest, treated.facts
        return Outgoing(
            tenant_id=tenant_id,
            account_id=None,
            mail=mail,
            addressees=(),
            remote=rcpts,
            origin=self._origin,
            trace_id=self.transaction_id,
            accepted_at=self.received_at,
            expires_at=self.received_at + timedelta(seconds=lifetime_seconds),
            head=self.head,
            original=original,
            facts=facts,
            body="7BIT" if is_ascii(original) else "8BITMIME",
            is_smtputf8=mail.parameters.is_smtputf8,
        )

    def _envelope(self, rcpts: Sequence[Rcpt], mark: Mapping[str, object] | None) -> bytes:
        return journal_envelope(self.transaction.mail, rcpts, self._origin, self.transaction_id, self.received_at, mark)


@dataclass(slots=True)
class _Own:
    """A tenant's part of a message."""

    rcpts: list[Rcpt] = field(default_factory=list)  # as the journal names them
    inbox_ids: list[int] = field(default_factory=list)

    def add(self, addressee: Addressee, *, is_told: bool = False) -> None:
        """is_told: the journal has the recipient by another name."""
        self.inbox_ids.append(addressee.recipient.inbox_id)
        if not is_told:
            self.rcpts.append(addressee.rcpt)


def _concerned(transaction: Transaction) -> list[int]:
    """Whose recipients they are, and whose addresses pass them on; each once."""
    own = [addressee.recipient.tenant_id for addressee in transaction.addressees]
    return list(dict.fromkeys(own + [each for forwarded in transaction.forwarded for each in forwarded.tenant_ids]))


def _tenant_ids(transaction: Transaction) -> tuple[int, ...]:
    """Whose recipients they are; none when some of them are elsewhere, where no tenant decides."""
    if transaction.remote or transaction.returned:
        return ()
    return tuple(_concerned(transaction))


def hop_count(octets: bytes | mmap.mmap) -> int:
    """How many Received fields the header has: each server on the way added one (RFC 5321 §6.3)."""
    if octets[:2] == b"\r\n":
        return 0  # no header at all
    end = octets.find(b"\r\n\r\n", 0, HEADER_LIMIT)
    header = octets[: end if end >= 0 else HEADER_LIMIT].lower()
    return header.count(b"\r\nreceived:") + header.startswith(b"received:")
