"""The step from a complete message to durable mail: hop count, content filters, trace fields, journal, storage, replies.

A reply that is positive has been made true before: Ingest.store has returned. One transaction is one group, whatever number
of tenants its recipients belong to, and so is stored whole or not at all; a tenant's journal names only its own recipients.
The report of delivery that the sender asked for is stored in the same group.
"""

import mmap
import secrets
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from config.smtp import Smtp
from daemons import metrics
from daemons.context import Context
from daemons.delivery import facts_of, mapped
from daemons.logs import logger
from daemons.outgoing import messages_of, new_transaction_id
from daemons.smtp import replies
from daemons.smtp.circles import passed_by, without_circles
from daemons.smtp.delivering import successes
from daemons.smtp.delivering.groups import caused, shares
from daemons.smtp.delivering.incoming import Delivery, Incoming, Refusal, refused
from daemons.smtp.delivering.onward import Ways, ways_of
from daemons.smtp.delivering.planning import Delivering, Refusals
from daemons.smtp.delivering.successes import Fared
from daemons.smtp.journal import journal_envelope
from daemons.smtp.notes import Notes
from daemons.smtp.reports import Reports, Success
from daemons.smtp.transaction import Addressee, Forwarded, Origin, Transaction
from daemons.smtp.treatment import treating
from filters.pipeline import Decision, Pipeline, decide
from filters.subject import HEADER_LIMIT, Account, Envelope, Subject
from filters.verdict import Refuse
from protocol.smtp.command import Rcpt
from protocol.smtp.received import Hop, render_received
from protocol.smtp.reply import Reply
from protocol.status import enhanced
from storage.errors import MailboxNotFoundError, NotFoundError, OverQuotaError, StorageError
from storage.memory import AlreadyRememberedError
from storage.rows import JournalEntry, NewMessage

log = logger("smtp")

_ACCEPTED = enhanced("2.0.0")
_UNTREATED = Refuse(replies.POLICY, "a filter's verdict that cannot be acted on")
_TOO_MANY_HOPS = Decision(refusal=Refuse(replies.HOP_LIMIT, "hop limit"))
_IN_CIRCLES = Refuse(replies.FORWARDS_IN_CIRCLES, "forwarded before by the same address")
PLANS = 3  # how often a message is planned anew because somebody else was faster


@dataclass(frozen=True, slots=True)
class Made:
    """What is stored together, and for whom."""

    group: Sequence[NewMessage]
    deliveries: Sequence[Delivery] = ()


class Acceptance:
    """Accepts complete messages. One per process, and one for each kind of listener."""

    def __init__(
        self, context: Context, limits: Smtp, pipeline: Pipeline, reports: Reports, delivering: Delivering
    ) -> None:
        self._context = context
        self._hostname = context.settings.hostname
        self._limits = limits
        self._ingest = context.ingest
        self._pipeline = pipeline
        self._reports = reports
        self.delivering = delivering
        names = ("smtp", "lmtp", "submission")
        self._counted = {name: metrics.messages_accepted.labels(name) for name in names}

    async def accept(self, transaction: Transaction, origin: Origin, *, is_lmtp: bool) -> list[Reply]:
        """Take responsibility for the message, or say why not: one reply per addressee, in their order, and one at least.

        Over SMTP all replies are the same. Never raises: what nobody foresaw is logged with an id and becomes 451 4.3.0.
        """
        transaction_id = transaction.trace_id or new_transaction_id()
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
        notes = Notes(self._context.recorder, transaction, origin, transaction_id)
        notes.checked(decision)
        if decision.refusal is None and not is_lmtp and any(each.onward for each in transaction.forwarded):
            decision = await self._without_circles(transaction, decision)
        if decision.refusal is not None:
            return [self._refused(notes, decision.refusal)] * transaction.answer_count
        facts = await facts_of(transaction.file.original, transaction.scanned)
        notes.read(facts)
        original, tenant_ids = transaction.file.original, _concerned(transaction)
        async with treating(self._context, decision, original, tenant_ids, transaction_id) as treated:
            incoming = Incoming(
                mail=transaction.mail,
                origin=origin,
                trace_id=transaction_id,
                received_at=received_at,
                received=self._received(transaction, origin, transaction_id, received_at),
                decision=decision,
                original=original,
                facts=facts,
                treated=treated,
            )
            if is_lmtp:
                return await self._deliver_each(incoming, transaction, notes)
            return [await self._deliver_all(incoming, transaction, notes, {})]

    def _refused(self, notes: Notes, refusal: Refuse | Refusal) -> Reply:
        log.info("message refused", id=notes.trace_id, reason=refusal.reason)
        notes.refused(refusal.reply, refusal.reason)
        return refusal.reply

    async def _decide(self, transaction: Transaction, origin: Origin, transaction_id: str) -> Decision:
        """Run the content filters. What they want and cannot be done is refused."""
        with mapped(transaction.file.original) as octets:
            decision = await self._check(transaction, origin, transaction_id, octets)
        is_whole = origin.identity is not None or bool(transaction.returned)  # what goes elsewhere goes as it came
        if decision.refusal is None and decision.is_treated and is_whole:
            return replace(decision, refusal=_UNTREATED)
        return decision

    async def _without_circles(self, transaction: Transaction, decision: Decision) -> Decision:
        """No address forwards what it has forwarded before: its account gets it, and where there is none, it is refused."""
        passed = await passed_by(transaction.file.original, self._hostname)
        forwarded = [without_circles(each, passed) for each in transaction.forwarded]
        if not all(each.local or each.onward for each in forwarded):
            return replace(decision, refusal=_IN_CIRCLES)
        transaction.forwarded = forwarded
        return decision

    def _received(self, transaction: Transaction, origin: Origin, transaction_id: str, received_at: datetime) -> bytes:
        """Our Received field."""
        rcpts = (
            [addressee.rcpt for addressee in transaction.addressees] if transaction.addressees else transaction.remote
        )
        only = rcpts[0].forward_path if transaction.recipient_count == len(rcpts) == 1 else None
        return render_received(
            Hop(
                helo=origin.helo,
                peer=origin.peer,
                hostname=self._hostname,
                protocol=origin.protocol,
                transaction_id=transaction_id,
                forward_path=only if only is not None and only.domain else None,  # <Postmaster> is no Path
                received_at=received_at,
                priority=transaction.mail.parameters.priority,
            )
        )

    async def _check(
        self, transaction: Transaction, origin: Origin, transaction_id: str, octets: bytes | mmap.mmap
    ) -> Decision:
        if hop_count(octets) >= self._limits.hop_limit:
            return _TOO_MANY_HOPS
        if not self._pipeline.concerns(octets):
            return decide(transaction.policed.results)
        envelope = Envelope(
            transaction_id=transaction_id,
            peer=origin.peer,
            helo=origin.helo,
            is_secure=origin.tls is not None,
            is_authenticated=origin.identity is not None,
            reverse_path=transaction.mail.reverse_path,
            forward_paths=tuple(rcpt.forward_path for rcpt in transaction.rcpts),
            tenant_ids=_tenant_ids(transaction),
            accounts=_accounts(transaction),
            login=origin.identity.login if origin.identity is not None else "",
            notes=transaction.policed.notes,
        )
        subject = Subject(envelope, octets)
        decision = await self._pipeline.check_content(subject)
        transaction.scanned = subject.known_scan
        earlier = transaction.policed.results
        return decide([*earlier, *decision.results]) if earlier else decision

    # -- delivering -------------------------------------------------------------------------------------------------

    async def _deliver_all(self, incoming: Incoming, transaction: Transaction, notes: Notes, has_it: Fared) -> Reply:
        """One answer for everybody: all are served, or none, and nobody is refused unless all are.

        has_it: accounts that have the message already; those that get it now are added.
        """
        ways = await ways_of(self.delivering, incoming, transaction.forwarded) if transaction.forwarded else Ways()
        if isinstance(ways, Ways) and not (ways.ways or ways.stayed or transaction.everyone or transaction.returned):
            ways = ways.refusal or ways
        if isinstance(ways, Refuse):
            return self._refused(notes, ways)
        everyone = [each for each in (*transaction.everyone, *ways.stayed) if each.recipient.account_id not in has_it]
        refusals: Refusals = "none" if ways.ways or transaction.returned else "all"
        planned: list[Delivery] = []

        async def made() -> Made | Reply:
            deliveries = await self.delivering.plan(incoming, everyone, refusals, has_it)
            planned[:] = deliveries
            refusal = refused(deliveries)
            if refusal is not None:
                return self._refused(notes, refusal)
            group = self._group(incoming, transaction, deliveries)
            if transaction.returned:
                group += self._returns(incoming, transaction)
            if ways.ways:
                group += await ways.messages(self.delivering, incoming)
            group += await self._reports_of(incoming, transaction, deliveries, has_it, ways.untold)
            return Made(group, deliveries)

        answer = await self._stored(made, notes)
        if answer.is_positive:
            has_it |= successes.fared(planned)
        return answer

    async def _deliver_each(self, incoming: Incoming, transaction: Transaction, notes: Notes) -> list[Reply]:
        """LMTP answers for each recipient (RFC 2033 §4.2): accounts first, then each address that forwards."""
        if not transaction.forwarded:
            answers, _ = await self._serve_accounts(incoming, transaction, notes)
            return [answers[each.recipient.account_id] for each in transaction.addressees]
        told: dict[Rcpt, Reply] = {}
        has_it: Fared = {}
        if transaction.addressees:
            part = replace(transaction, forwarded=[], expanded=[])
            answers, has_it = await self._serve_accounts(incoming, part, notes.of(part))
            told = {each.rcpt: answers[each.recipient.account_id] for each in transaction.addressees}
        for forwarded in transaction.forwarded:
            if forwarded.rcpt not in told:
                told[forwarded.rcpt] = await self._pass_on(incoming, transaction, forwarded, notes, has_it)
        return [told[rcpt] for rcpt in transaction.named]

    async def _pass_on(
        self, incoming: Incoming, transaction: Transaction, address: Forwarded, notes: Notes, has_it: Fared
    ) -> Reply:
        """What an address that forwards answers by itself. What the others were answered stays true."""
        part = replace(
            transaction, addressees=[], forwarded=[address], expanded=[address] if address.is_expanded else []
        )
        notes = notes.of(part)
        try:
            decision = await self._without_circles(part, incoming.decision)
            if decision.refusal is not None:
                return self._refused(notes, decision.refusal)
            return await self._deliver_all(incoming, part, notes, has_it)
        except StorageError as error:
            log.warning("message deferred", id=incoming.trace_id, reason=type(error).__name__, detail=str(error))
        except Exception:
            log.exception("message deferred by an internal error", id=incoming.trace_id)
        return replies.UNAVAILABLE

    async def _serve_accounts(
        self, incoming: Incoming, transaction: Transaction, notes: Notes
    ) -> tuple[dict[int, Reply], Fared]:
        """What each account answers, and who has the message then. Those that cannot be served together are served alone."""
        done: list[Delivery] = []
        answers = await self._serve(incoming, transaction, transaction.addressees, notes, done)
        accounts: dict[int, list[Addressee]] = {}
        for addressee in transaction.addressees:
            if addressee.recipient.account_id not in answers:
                accounts.setdefault(addressee.recipient.account_id, []).append(addressee)
        failed = list(accounts)
        for account_id in failed:
            try:
                answers |= await self._serve(incoming, transaction, accounts[account_id], notes, done)
            except StorageError:  # the others' positive replies stay true
                answers[account_id] = replies.UNAVAILABLE
        if failed:
            served = [each for account_id in failed if answers[account_id].is_positive for each in accounts[account_id]]
            await self._report_late(incoming, transaction, successes.of_accounts(served, done))
        return answers, successes.fared(done)

    async def _serve(
        self,
        incoming: Incoming,
        transaction: Transaction,
        addressees: Sequence[Addressee],
        notes: Notes,
        done: list[Delivery],
    ) -> dict[int, Reply]:
        """What each of the accounts answers; those of several that cannot be served together are missing.

        done: takes what becomes of it. Who is served alone is reported on later, together with others.
        """
        account_ids, everybody = _account_ids(addressees), _account_ids(transaction.addressees)
        answers: dict[int, Reply] = {}
        rejected: list[Delivery] = []
        accepted: list[Delivery] = []

        async def made() -> Made | Reply:
            deliveries = await self.delivering.plan(incoming, addressees, "each", everybody)
            taken = [each for each in deliveries if each.refusal is None]
            accepted[:] = taken
            rejected[:] = [each for each in deliveries if each.refusal is not None]
            answers.clear()
            answers.update((each.account_id, each.refusal.reply) for each in rejected if each.refusal is not None)
            if not taken:
                return next(iter(answers.values()))
            served = [each for each in addressees if each.recipient.account_id not in answers]
            is_whole = len(served) == len(transaction.addressees)
            part = transaction if is_whole else replace(transaction, addressees=served)
            group = self._group(incoming, part, taken)
            if account_ids == everybody:
                group += await self._reports_of(incoming, part, taken)
            return Made(group, taken)

        answer = await self._stored(made, notes)
        notes.rejected(rejected)
        waiting = account_ids - answers.keys()
        if answer.is_positive or len(waiting) == 1:
            answers |= dict.fromkeys(waiting, answer)
        if answer.is_positive:
            done += accepted
        return answers

    def _group(self, incoming: Incoming, transaction: Transaction, deliveries: Sequence[Delivery]) -> list[NewMessage]:
        """What is stored for accounts of this host, with what their rules cause; the journals name who is theirs.

        Whose address forwards has it in the journal, too; in its mailboxes it may be in none.
        """
        rcpts: dict[int, list[Rcpt]] = {}
        for addressee in transaction.addressees:
            rcpts.setdefault(addressee.recipient.tenant_id, []).append(addressee.rcpt)
        for each in transaction.forwarded:
            rcpts.setdefault(each.tenant_id, []).append(each.rcpt)
            _tell_others(rcpts, each.tenant_id, each.local)
        for delivery in deliveries:
            if delivery.further:
                _tell_others(rcpts, delivery.tenant_id, [each.addressee for each in delivery.others()])
        group: list[NewMessage] = []
        for tenant_id, share in shares(incoming.whole, deliveries, rcpts).items():
            treated = incoming.treated.get(tenant_id)
            envelope = journal_envelope(
                incoming.mail,
                rcpts.get(tenant_id, []),
                incoming.origin,
                incoming.trace_id,
                incoming.received_at,
                None if treated is None else treated.mark,
            )
            group += share.messages(JournalEntry("in", envelope, incoming.received_at))
        return group + caused(deliveries)

    def _returns(self, incoming: Incoming, transaction: Transaction) -> list[NewMessage]:
        """Bounces to senders that we had rewritten: one NewMessage for each tenant whose forwarding it was."""
        tenants: dict[int, list[Rcpt]] = {}
        for rerouted in transaction.returned:
            rcpt = Rcpt(rerouted.returned.forward_path, rerouted.rcpt.parameters)
            tenants.setdefault(rerouted.returned.tenant_id, []).append(rcpt)
        redirects = self.delivering.redirects
        return [
            message
            for tenant_id, rcpts in tenants.items()
            for message in messages_of(redirects.outgoing(incoming, incoming.whole, tenant_id, incoming.mail, rcpts))
        ]

    async def _reports_of(
        self,
        incoming: Incoming,
        transaction: Transaction,
        deliveries: Sequence[Delivery],
        earlier: Fared | None = None,
        untold: Sequence[Forwarded] = (),
    ) -> list[NewMessage]:
        """The report of success that the sender asked for: on those who have it, and on addresses that pass it on."""
        if not transaction.asks_for_success:
            return []
        expanded = [each for each in transaction.expanded if not _is_discarded(incoming, each.tenant_id)]
        reported = successes.of_accounts(transaction.everyone, deliveries, earlier)
        reported += successes.of_addresses(expanded, untold)
        return await self._reports.of_delivery(transaction, reported, incoming.trace_id, incoming.received_at)

    async def _report_late(self, incoming: Incoming, transaction: Transaction, served: Sequence[Success]) -> None:
        """One report for all who were served alone. It cannot undo what they were answered: if it fails, it is lost."""
        try:
            reports = await self._reports.of_delivery(transaction, served, incoming.trace_id, incoming.received_at)
            if reports:
                await self._ingest.store(reports)
        except Exception:
            log.exception("report lost", id=incoming.trace_id)

    async def _stored(self, make: Callable[[], Awaitable[Made | Reply]], notes: Notes) -> Reply:
        """Store what is made, all of it or nothing. It is made anew when somebody was faster: has answered, removed a mailbox.

        Raises StorageError when nobody can be served now.
        """
        for _ in range(PLANS):
            made = await make()
            if isinstance(made, Reply):
                return made
            try:
                return await self._store(made, notes)
            except (AlreadyRememberedError, MailboxNotFoundError) as error:
                log.debug("planned anew", id=notes.trace_id, reason=type(error).__name__)
        return replies.MAILBOX_GONE  # asked again at the next RCPT, it will be known to be gone

    async def _store(self, made: Made, notes: Notes) -> Reply:
        try:
            stored = await self._ingest.store(made.group)
        except OverQuotaError:
            return replies.MAILBOX_FULL if self._limits.over_quota_is_permanent else replies.MAILBOX_FULL_FOR_NOW
        except MailboxNotFoundError:
            raise
        except NotFoundError:
            return replies.MAILBOX_GONE
        notes.stored(made.group, stored, made.deliveries)
        recipients = sum(len(new.placements) for new in made.group)
        log.info("message accepted", id=notes.trace_id, size_octets=notes.size_octets, recipients=recipients)
        return Reply(250, _ACCEPTED, (f"accepted as {notes.trace_id}",))


def _concerned(transaction: Transaction) -> list[int]:
    """Whose recipients they are, and whose addresses pass them on; each once."""
    own = [addressee.recipient.tenant_id for addressee in transaction.addressees]
    return list(dict.fromkeys(own + [each for forwarded in transaction.forwarded for each in forwarded.tenant_ids]))


def _tenant_ids(transaction: Transaction) -> tuple[int, ...]:
    """Whose recipients they are; none when some of them are elsewhere, where no tenant decides."""
    if transaction.remote or transaction.returned:
        return ()
    return tuple(_concerned(transaction))


def _accounts(transaction: Transaction) -> tuple[Account, ...]:
    """Those that get it here, or forward it, each once."""
    concerned = [(each.recipient, each.rcpt.forward_path) for each in transaction.everyone]
    for forwarded in transaction.forwarded:
        concerned += [(each.account, each.forwarder) for each in forwarded.onward if each.account is not None]
    found: dict[int, Account] = {}
    for recipient, path in concerned:
        found.setdefault(recipient.account_id, Account(recipient.tenant_id, recipient.account_id, path))
    return tuple(found.values())


def _account_ids(addressees: Sequence[Addressee]) -> set[int]:
    return {each.recipient.account_id for each in addressees}


def _tell_others(rcpts: dict[int, list[Rcpt]], tenant_id: int, led_to: Sequence[Addressee]) -> None:
    """To whom of other tenants a recipient of this tenant led: its own journal has him by the name that was given."""
    for each in led_to:
        if each.recipient.tenant_id != tenant_id:
            rcpts.setdefault(each.recipient.tenant_id, []).append(each.rcpt)


def _is_discarded(incoming: Incoming, tenant_id: int) -> bool:
    """Whether the tenant's people do not get it."""
    treated = incoming.treated.get(tenant_id)
    return treated is not None and treated.rest is None


def hop_count(octets: bytes | mmap.mmap) -> int:
    """How many Received fields the header has: each server on the way added one (RFC 5321 §6.3)."""
    if octets[:2] == b"\r\n":
        return 0  # no header at all
    end = octets.find(b"\r\n\r\n", 0, HEADER_LIMIT)
    header = octets[: end if end >= 0 else HEADER_LIMIT].lower()
    return header.count(b"\r\nreceived:") + header.startswith(b"received:")
