"""Carries out what a script decided for one account: nothing is stored here, all of it goes into the account's Delivery.

What cannot be done as it was meant loses no mail: an unknown mailbox is the inbox, and what cannot be sent on stays here.
"""

from collections.abc import Sequence
from dataclasses import replace

from daemons.delivery import facts_of
from daemons.smtp.delivering.case import Case, Means, Seen
from daemons.smtp.delivering.incoming import Delivery, Filed, Form, Refusal
from daemons.smtp.delivering.rejections import rejection
from daemons.smtp.delivering.sending_on import SendingOn
from daemons.smtp.delivering.trust import may_be_answered
from filters.sieve.actions import Discard, Fcc, FileInto, Keep, Notify, Redirect, Reject, Result, Vacation
from protocol.imap.flags import bits_of
from storage.effects import Effect
from storage.memory import Remember
from storage.rows import NewMessage, Placement


class Actions:
    """Of one account and one message."""

    def __init__(self, means: Means, case: Case, delivery: Delivery) -> None:
        self._means = means
        self._case = case
        self._delivery = delivery
        self._told: set[str] = set()  # by notifications

    async def carry_out(self, result: Result, seen: Seen) -> None:
        """All of them, in their order; the message is sent on last, since that depends on whether a copy is kept.

        Raises StorageError.
        """
        delivery, redirects = self._delivery, []
        for action in result.actions:
            match action:
                case Keep():
                    await self.keep(action)
                case FileInto():
                    await self._file(action)
                case Redirect():
                    redirects.append(action)
                case Reject():
                    await self._reject(action)
                case Vacation():
                    await self._answer(action, seen)
                case Notify():
                    await self._notify(action, seen)
                case Discard():
                    delivery.done.append("discarded")
        if delivery.refusal is not None:
            return
        if redirects:
            owner = seen.surroundings.owner
            await SendingOn(self._means, self._case, delivery, owner.addresses).carry_out(redirects)
            if not delivery.is_handled:
                await self.keep(Keep())
        account_id = self._case.owner.account_id
        for each in result.tracked:
            delivery.effects.append(Remember(account_id, "duplicate", each.unique_id, each.seconds))

    # -- mailboxes --------------------------------------------------------------------------------------------------

    async def keep(self, action: Keep) -> None:
        """Into the inbox; what filters call junk, and no rule wants to have, goes to the junk mailbox."""
        form, junk = await self._case.form_of(action.message), self._case.own.junk
        if action.is_implicit and junk is not None:
            found = await self._means.mailboxes.junk(self._case.owner)
            if found is not None:
                self._put(form, found, action.flags)
                self._delivery.done.append(f"filed as junk: {junk.reason}")
                return
        self._put(form, self._delivery.addressee.recipient.inbox_id, action.flags)
        if not action.is_implicit:
            self._delivery.done.append("kept")

    async def _file(self, action: FileInto) -> None:
        form, found = await self._case.form_of(action.message), await self._means.mailboxes.of(self._case.owner, action)
        if found is None:
            self._delivery.done.append(f"kept: there is no mailbox {action.mailbox!r} to file it into")
            self._put(form, self._delivery.addressee.recipient.inbox_id, action.flags)
        else:
            self._delivery.done.append(f"filed into {action.mailbox!r}")
            self._put(form, found, action.flags)

    def _put(self, form: Form, mailbox_id: int, flags: Sequence[str]) -> None:
        """The same message lies in a mailbox once, whatever was said how often: RFC 5228 §2.10.3."""
        new, filed = _placement(self._case, mailbox_id, flags), self._delivery.filed
        for at, each in enumerate(filed):
            old = each.placement
            if old is not None and old.mailbox_id == mailbox_id and each.form.key == form.key:
                keywords = tuple(dict.fromkeys((*old.keywords, *new.keywords)))
                filed[at] = replace(each, placement=replace(old, flags=old.flags | new.flags, keywords=keywords))
                return
        filed.append(Filed(form, new))

    # -- refusing, answering, notifying -----------------------------------------------------------------------------

    async def _reject(self, action: Reject) -> None:
        case, delivery = self._case, self._delivery
        if case.can_refuse:
            delivery.refusal = Refusal(rejection(action.reason), "a rule of the recipient")
            return
        messages: list[NewMessage] = []
        if self._may_be_answered():
            incoming = case.incoming
            messages = await self._means.reports.of_rejection(
                incoming.mail, delivery.addressee, action.reason, incoming.original, incoming.received_at
            )
        delivery.messages += messages
        delivery.done.append("rejected, the sender is told" if messages else "rejected, nobody is told")

    async def _answer(self, action: Vacation, seen: Seen) -> None:
        case = self._case
        if case.incoming.mail.reverse_path is not None and not self._may_be_answered():
            self._delivery.done.append("no answer: it is spam, or the sender is forged")
            return
        now = case.incoming.received_at
        answer = await self._means.answers.vacation(case.owner, action, seen.view, seen.surroundings, now=now)
        self._delivery.done.append(answer.note)
        await self._add(answer.messages, answer.effects, answer.copy, action.fcc)

    async def _notify(self, action: Notify, seen: Seen) -> None:
        incoming = self._case.incoming
        planned = await self._means.notifications.plan(
            self._case.owner,
            action,
            seen.view,
            seen.surroundings,
            now=incoming.received_at,
            trace_id=incoming.trace_id,
            told=self._told,
        )
        self._delivery.done.append(planned.note)
        await self._add(planned.messages, planned.effects, planned.copy, action.fcc)

    async def _add(
        self, messages: Sequence[NewMessage], effects: Sequence[Effect], copy: bytes | None, fcc: Fcc | None
    ) -> None:
        """What is sent, with the account's own copy of it (RFC 8580)."""
        self._delivery.messages += messages
        self._delivery.effects += effects
        if copy is None or fcc is None:
            return
        found = await self._means.mailboxes.of(self._case.owner, fcc)
        if found is None:
            found = self._delivery.addressee.recipient.inbox_id
        placement = _placement(self._case, found, fcc.flags)
        tenant_id = self._case.owner.tenant_id
        self._delivery.messages.append(NewMessage(tenant_id, b"", copy, await facts_of(copy), [placement]))

    def _may_be_answered(self) -> bool:
        incoming = self._case.incoming
        return may_be_answered(incoming.mail.reverse_path, incoming.origin, self._case.own, self._case.owner.account_id)


def _placement(case: Case, mailbox_id: int, flags: Sequence[str]) -> Placement:
    bits, keywords = bits_of(flag.encode("ascii") for flag in flags)
    return Placement(mailbox_id, bits, tuple(keywords), case.incoming.received_at)
