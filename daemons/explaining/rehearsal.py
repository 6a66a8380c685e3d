"""Takes a message through the stages that the SMTP service has, with the service's own code, and keeps what each of them said.

The context is one for rehearsals: whatever is changed in the database on the way is undone at once.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from daemons.authentication.identity import Identity
from daemons.context import Context
from daemons.delivery import facts_of
from daemons.envelope import build_policing
from daemons.explaining.given import Given
from daemons.filtering import build_pipeline
from daemons.forwarding import Forwarding
from daemons.postmaster import postmaster_of
from daemons.scripting.owners import AccountOwner
from daemons.scripting.running import Scripting
from daemons.smtp import replies
from daemons.smtp.delivering.incoming import Delivery, Incoming, refused
from daemons.smtp.delivering.planning import Delivering
from daemons.smtp.forwards import Forwards, refusal_of
from daemons.smtp.reports import Reports
from daemons.smtp.transaction import Addressee, Forwarded, Origin, Transaction
from daemons.smtp.treatment import treating
from filters.pipeline import Decision, Result, found_by
from filters.sieve.actions import Result as ScriptResult
from filters.spam.findings import SpamFinding, SpamFindings
from filters.subject import Account, Envelope, Subject
from protocol.address import AddrSpec
from protocol.smtp.command import Mail, Rcpt
from protocol.smtp.parameters import NO_MAIL_PARAMETERS, NO_RCPT_PARAMETERS
from protocol.smtp.received import Hop, render_received, with_protocol
from protocol.smtp.reply import Reply
from storage.rows import Recipient
from storage.spool import Spool

Moment = Literal["connect", "rcpt", "content"]


@dataclass(frozen=True, slots=True)
class Check:
    """What one filter said."""

    moment: Moment
    result: Result
    forward_path: str = ""  # of which recipient it was asked


@dataclass(slots=True)
class Fate:
    """What would become of the message for one recipient."""

    forward_path: str
    reply: Reply | None = None  # that refuses it at RCPT, or in the end
    account_id: int | None = None
    done: list[str] = field(default_factory=list)  # what delivery would do, in words
    spam: SpamFinding | None = None
    script: ScriptResult | None = None  # None: no script concerns the account


@dataclass(slots=True)
class Explanation:
    """All of it."""

    given: Given
    checks: list[Check] = field(default_factory=list)
    reply: Reply | None = None  # to the message, or that ended the session before
    fates: list[Fate] = field(default_factory=list)
    decision: Decision | None = None


class _Traced(Scripting):
    """Keeps what scripts did, step by step."""

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.results: dict[int, ScriptResult] = {}

    async def run(self, owner: AccountOwner, *arguments: Any, **options: Any) -> ScriptResult | None:
        """Scripting.run."""
        found = await super().run(owner, *arguments, **options | {"is_traced": True})
        if found is not None:
            self.results[owner.account_id] = found
        return found


class Rehearsal:
    """One per process; explains one message after the other."""

    def __init__(self, context: Context) -> None:
        """Raises StorageError where the settings contradict each other."""
        settings = context.settings
        self._context = context
        self._limits = settings.smtp
        self._policing = build_policing(context, observe=self._observe)
        self._pipeline = build_pipeline(context, settings.smtp.filters, observe=self._observe)
        forwarding = Forwarding(context)
        postmaster = postmaster_of(settings.smtp, settings.hostname)
        reports = Reports(context, postmaster, settings.smtp.report_language)
        self._forwards = Forwards(context.directory, forwarding, settings.smtp)
        self._delivering = Delivering(context, settings.smtp, forwarding, reports)
        self._scripting = _Traced(context)
        self._delivering.means = replace(self._delivering.means, scripting=self._scripting)
        context.closing.callback(forwarding.close)
        context.closing.callback(self._scripting.close)
        self._moment: Moment = "connect"
        self._path = ""
        self._checks: list[Check] = []

    def _observe(self, result: Result) -> None:
        self._checks.append(Check(self._moment, result, self._path))

    async def explain(self, given: Given) -> Explanation:
        """What would become of it. Raises StorageError."""
        self._checks = []
        explanation = Explanation(given, self._checks)
        self._scripting.results.clear()
        transaction = _transaction(self._context, given)
        origin = await self._origin(given)
        is_policed = origin.identity is None and self._policing.concerns(given.peer)
        if is_policed:
            self._moment = "connect"
            refusal = await self._policing.admit(given.peer)
            if refusal is not None:
                explanation.reply = refusal.reply
                return explanation
        self._moment = "rcpt"
        for path in given.forward_paths:
            self._path = str(path)
            await self._take(explanation, transaction, origin, path, is_policed=is_policed)
        self._moment, self._path = "content", ""
        await self._check_content(explanation, transaction, origin)
        return explanation

    async def _take(
        self, explanation: Explanation, transaction: Transaction, origin: Origin, path: AddrSpec, *, is_policed: bool
    ) -> None:
        """One RCPT, as a session takes it."""
        fate = Fate(str(path))
        explanation.fates.append(fate)
        rcpt = Rcpt(path, NO_RCPT_PARAMETERS)
        found = await self._context.directory.destination(path.local_part, path.domain)
        if found is None:
            if origin.identity is not None and not await self._context.directory.domain_is_local(path.domain):
                fate.done.append("queued for another host")
                return
            fate.reply = replies.MAILBOX_UNKNOWN
            return
        addressees: Sequence[Addressee]
        behind: Recipient | Forwarded
        if found.is_plain and found.recipient is not None:
            fate.reply = refusal_of(found.recipient, self._limits)
            behind, addressees = found.recipient, [Addressee(rcpt, found.recipient)]
        else:
            forwarded = await self._forwards.expanded(rcpt, path, found, transaction.mail.reverse_path)
            if isinstance(forwarded, Reply):
                fate.reply = forwarded
                return
            behind, addressees = forwarded, forwarded.local
            fate.done += [f"forwarded to {onward.rcpt.forward_path}" for onward in forwarded.onward]
        if fate.reply is None and is_policed:
            refusal = await self._policing.judge(transaction, origin, rcpt, behind)
            fate.reply = refusal.reply if refusal is not None else None
        if fate.reply is None:
            transaction.addressees += addressees
            fate.account_id = addressees[0].recipient.account_id if len(addressees) == 1 else None
            for each in addressees if len(addressees) > 1 else ():
                fate.done.append(f"forwarded to {each.rcpt.forward_path}")
                explanation.fates.append(Fate(str(each.rcpt.forward_path), account_id=each.recipient.account_id))

    async def _check_content(self, explanation: Explanation, transaction: Transaction, origin: Origin) -> None:
        given, addressees = explanation.given, transaction.addressees
        envelope = Envelope(
            transaction_id=given.trace_id,
            peer=given.peer,
            helo=given.helo,
            is_secure=given.is_secure,
            is_authenticated=origin.identity is not None,
            reverse_path=given.reverse_path,
            forward_paths=given.forward_paths,
            tenant_ids=tuple(dict.fromkeys(each.recipient.tenant_id for each in addressees)),
            accounts=_accounts(addressees),
            login=given.login,
            notes=transaction.policed.notes,
        )
        decision = explanation.decision = await self._pipeline.check_content(Subject(envelope, given.octets))
        notes = found_by(decision.results)
        spam = next((note for note in notes if isinstance(note, SpamFindings)), None)
        for fate in explanation.fates:
            fate.spam = spam.of(fate.account_id) if spam is not None and fate.account_id is not None else None
        if decision.refusal is not None:
            explanation.reply = decision.refusal.reply
            return
        if addressees:
            await self._plan(explanation, transaction, origin, decision)

    async def _plan(
        self, explanation: Explanation, transaction: Transaction, origin: Origin, decision: Decision
    ) -> None:
        given, addressees = explanation.given, transaction.addressees
        tenants = {each.recipient.tenant_id for each in addressees}
        facts = await facts_of(given.octets)
        async with treating(self._context, decision, given.octets, tenants, given.trace_id) as treated:
            incoming = Incoming(
                mail=transaction.mail,
                origin=origin,
                trace_id=given.trace_id,
                received_at=given.received_at,
                received=self._received(given),
                decision=decision,
                original=given.octets,
                facts=facts,
                treated=treated,
            )
            deliveries = await self._delivering.plan(incoming, addressees, "all")
        refusal = refused(deliveries)
        if refusal is not None:
            explanation.reply = refusal.reply
        known = {delivery.account_id: delivery for each in deliveries for delivery in each.everyone()}
        self._tell(explanation, known)

    def _tell(self, explanation: Explanation, deliveries: Mapping[int, Delivery]) -> None:
        told: set[int] = set()
        for fate in explanation.fates:
            delivery = deliveries.get(fate.account_id) if fate.account_id is not None else None
            if delivery is None or delivery.account_id in told:
                continue
            told.add(delivery.account_id)
            fate.script = self._scripting.results.get(delivery.account_id)
            fate.done += delivery.done or ["kept"]
            fate.reply = delivery.refusal.reply if delivery.refusal is not None else None
        for account_id, delivery in deliveries.items():
            if account_id not in told:  # somebody's script sends it on
                path = str(delivery.addressee.rcpt.forward_path)
                script = self._scripting.results.get(account_id)
                done = delivery.done or ["kept"]
                explanation.fates.append(Fate(path, account_id=account_id, done=done, script=script))

    def _received(self, given: Given) -> bytes:
        protocol = with_protocol(is_extended=True, is_secure=given.is_secure, is_authenticated=bool(given.login))
        only = given.forward_paths[0] if len(given.forward_paths) == 1 else None
        hostname = self._context.settings.hostname
        return render_received(Hop(given.helo, given.peer, hostname, protocol, given.trace_id, only, given.received_at))

    async def _origin(self, given: Given) -> Origin:
        identity = None
        if given.login:
            found = await self._context.directory.login(given.login)
            identity = Identity(found.account_id, found.tenant_id, given.login) if found is not None else None
        tls = ("TLS", "") if given.is_secure else None
        return Origin(given.peer, given.helo, "ESMTP", tls, identity)


def _transaction(context: Context, given: Given) -> Transaction:
    mail = Mail(given.reverse_path, NO_MAIL_PARAMETERS)
    spool = Spool(context.settings.spool_directory)
    return Transaction(mail, spool.open(), trace_id=given.trace_id)


def _accounts(addressees: Sequence[Addressee]) -> tuple[Account, ...]:
    """Each once."""
    found: dict[int, Account] = {}
    for each in addressees:
        recipient = each.recipient
        found.setdefault(
            recipient.account_id, Account(recipient.tenant_id, recipient.account_id, each.rcpt.forward_path)
        )
    return tuple(found.values())
