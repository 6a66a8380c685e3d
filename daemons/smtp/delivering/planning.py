"""What becomes of a message for each account that gets it: what filters want for that account, then what its scripts decide.

Nothing is stored here, and nothing is remembered: a plan may be thrown away and made again. Whatever goes wrong for one
account while its rules run, that account has the message in its inbox, and the others never notice.
"""

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Literal

from config.smtp import Smtp
from daemons.context import Context
from daemons.forwarding import Forwarding
from daemons.logs import logger
from daemons.notifying import Notifications
from daemons.postmaster import postmaster_of
from daemons.quarantine import Quarantines
from daemons.scripting.mailboxes import Mailboxes
from daemons.scripting.owners import AccountOwner
from daemons.scripting.running import Scripting
from daemons.smtp.delivering.actions import Actions
from daemons.smtp.delivering.answers import Answers
from daemons.smtp.delivering.case import Case, Means, Seen
from daemons.smtp.delivering.incoming import Delivery, Filed, Form, Incoming, Readings, Refusal, lost, refused
from daemons.smtp.delivering.redirects import Redirects
from daemons.smtp.delivering.trust import spam_score, virus_number
from daemons.smtp.reports import Reports
from daemons.smtp.transaction import Addressee
from filters.pipeline import Decision
from filters.sieve.actions import Keep, Result
from filters.sieve.message import Message
from filters.sieve.ports import Envelope
from filters.verdict import Junk, Refuse
from storage.errors import UnavailableError
from storage.quarantine import Quarantined
from storage.spool import Spool

log = logger("delivery")

Refusals = Literal["each", "all", "none"]  # LMTP answers for each account; SMTP once, so all must refuse, or nobody can


class Delivering:
    """One per process."""

    def __init__(self, context: Context, limits: Smtp, forwarding: Forwarding, reports: Reports) -> None:
        self._postmaster = postmaster_of(limits, context.settings.hostname)
        self._quarantines = Quarantines(context)
        self.spool = Spool(context.settings.spool_directory)
        self.means = Means(
            context=context,
            scripting=Scripting(context),
            answers=Answers(context, reports.author),
            mailboxes=Mailboxes(context),
            notifications=Notifications(context),
            redirects=Redirects(context, limits, forwarding),
            reports=reports,
        )

    @property
    def redirects(self) -> Redirects:
        """For addresses that forward."""
        return self.means.redirects

    def close(self) -> None:
        """Stop listening for changes."""
        self.means.scripting.close()

    async def plan(
        self, incoming: Incoming, addressees: Sequence[Addressee], refusals: Refusals, others: Collection[int] = ()
    ) -> list[Delivery]:
        """One Delivery for each account among the addressees, in their order. others: accounts that have it besides.

        Raises UnavailableError.
        """
        first: dict[int, Addressee] = {}
        for addressee in addressees:
            first.setdefault(addressee.recipient.account_id, self._with_domain(addressee))
        planning = _Planning(self, incoming, {*first, *others})
        try:
            deliveries = [await planning.of(each, can_refuse=refusals != "none") for each in first.values()]
            if refusals == "all" and refused(deliveries) is None:
                deliveries = [
                    each if each.refusal is None else await planning.of(each.addressee, can_refuse=False)
                    for each in deliveries
                ]
            while circle := lost(deliveries):
                planning.keep(circle[0])
            return deliveries
        finally:
            planning.readings.close()

    def _with_domain(self, addressee: Addressee) -> Addressee:
        """<Postmaster> may come without one."""
        if addressee.rcpt.forward_path.domain:
            return addressee
        return replace(addressee, rcpt=replace(addressee.rcpt, forward_path=self._postmaster))

    async def decision_for(self, decision: Decision, tenant_id: int, account_id: int) -> Decision:
        """What the filters want for one account. Raises UnavailableError."""
        own = decision.for_account(tenant_id, account_id)
        return own if own.quarantine is None else await self._quarantines.placed(tenant_id, own)


class _Planning:
    """Of one message."""

    def __init__(self, service: Delivering, incoming: Incoming, account_ids: set[int]) -> None:
        self._service = service
        self._incoming = incoming
        self._account_ids = account_ids  # who gets it, whoever sends it on to whom: each once
        self.readings = Readings(service.spool)

    async def of(self, addressee: Addressee, *, can_refuse: bool, edited: Form | None = None) -> Delivery:
        """For one account. edited: what was sent on to it is not what came. Raises UnavailableError."""
        incoming, recipient = self._incoming, addressee.recipient
        own = await self._service.decision_for(incoming.decision, recipient.tenant_id, recipient.account_id)
        delivery = Delivery(addressee)
        if own.refusal is not None:
            if can_refuse:
                delivery.refusal = Refusal(own.refusal.reply, own.refusal.reason)
                return delivery
            own = _unrefused(own, own.refusal)
        form = incoming.form(recipient.tenant_id, own)
        if edited is not None:
            form = replace(edited, head=form.head)
        delivery.form = form
        if own.drop is not None:
            delivery.done.append(f"discarded by a filter: {own.drop.reason}")
        elif own.quarantine is not None:
            delivery.filed.append(Filed(form, effects=(self._quarantined(addressee, own.quarantine.reason),)))
            delivery.done.append(f"put in quarantine: {own.quarantine.reason}")
        else:
            await self._by_rules(delivery, own, form, can_refuse=can_refuse)
        return delivery

    def keep(self, delivery: Delivery) -> None:
        """What would go in circles stays with the first of them."""
        assert delivery.form is not None
        delivery.keep(delivery.form, self._incoming.received_at)
        delivery.done.append("kept: nobody whom it is sent on to would have it")

    async def _by_rules(self, delivery: Delivery, own: Decision, form: Form, *, can_refuse: bool) -> None:
        recipient = delivery.addressee.recipient
        owner = AccountOwner(recipient.tenant_id, recipient.account_id)
        try:
            if await self._service.means.scripting.concerns(owner):
                await self._run(Case(self._incoming, own, form, owner, can_refuse, self._further), delivery)
                return
        except UnavailableError:
            raise
        except Exception:
            log.exception("rules of an account failed", id=self._incoming.trace_id, account_id=owner.account_id)
            self._account_ids -= {each.account_id for each in delivery.others()}
            delivery.forget()
            delivery.done.append("kept: the rules could not be carried out")
        if own.junk is None:
            delivery.keep(form, self._incoming.received_at)
        else:
            case = Case(self._incoming, own, form, owner, can_refuse, self._further)
            await Actions(self._service.means, case, delivery).keep(Keep(is_implicit=True))

    async def _run(self, case: Case, delivery: Delivery) -> None:
        """Run the scripts and do as they say. Raises whatever is wrong with us."""
        incoming, own, account_id = self._incoming, case.own, case.owner.account_id
        envelope = _envelope(incoming, delivery.addressee)
        score, virus = spam_score(own, account_id), virus_number(own)
        remote = {"remote-ip": incoming.origin.peer} if incoming.origin.peer else {}
        octets = await self.readings.of(case.form)
        scripting = self._service.means.scripting
        result = await scripting.run(
            case.owner,
            octets,
            envelope,
            spam_score=score,
            virus=virus,
            now=incoming.received_at,
            remote=remote,
        )
        actions = Actions(self._service.means, case, delivery)
        if result is None:
            await actions.keep(Keep(is_implicit=True))
            return
        surroundings = await scripting.surroundings(case.owner, envelope, spam_score=score, virus=virus, remote=remote)
        await actions.carry_out(result, Seen(Message(octets).view, surroundings))
        if result.error is not None:
            await self._tell_of_fault(case, delivery, result)

    async def _tell_of_fault(self, case: Case, delivery: Delivery, result: Result) -> None:
        assert result.error is not None
        delivery.fault = f"{result.error_script}: {result.error}"
        version = await self._service.means.scripting.version(case.owner)
        address = delivery.addressee.rcpt.forward_path
        answer = await self._service.means.answers.fault(
            case.owner, address, result.error_script, result.error, version
        )
        delivery.messages += answer.messages
        delivery.effects += answer.effects
        delivery.done.append(answer.note)

    async def _further(self, addressee: Addressee, edited: Form | None) -> Delivery | None:
        account_id = addressee.recipient.account_id
        if account_id in self._account_ids:
            return None
        self._account_ids.add(account_id)
        return await self.of(addressee, can_refuse=False, edited=edited)

    def _quarantined(self, addressee: Addressee, reason: str) -> Quarantined:
        incoming, recipient = self._incoming, addressee.recipient
        return Quarantined(
            tenant_id=recipient.tenant_id,
            account_id=recipient.account_id,
            reason=reason,
            reverse_path=str(incoming.mail.reverse_path or ""),
            forward_path=str(addressee.rcpt.forward_path),
            trace_id=incoming.trace_id,
            received_at=incoming.received_at,
            sender_login=incoming.login,
            orcpt=addressee.rcpt.parameters.orcpt,
        )


def _unrefused(own: Decision, refusal: Refuse) -> Decision:
    """The account would refuse the message, but others take it, and there is one reply for all: it is junk there."""
    return replace(own, refusal=None, junk=own.junk or Junk(refusal.reason))


def _envelope(incoming: Incoming, addressee: Addressee) -> Envelope:
    """As scripts see it."""
    path = str(addressee.rcpt.forward_path)
    kind, _, original = (addressee.rcpt.parameters.orcpt or "").partition(";")
    if kind.lower() not in ("rfc822", "utf-8") or original.lower() == path.lower():
        original = ""
    return Envelope(
        reverse_path=str(incoming.mail.reverse_path or ""),
        forward_path=path,
        original_recipient=original,
        login=incoming.login,
    )
