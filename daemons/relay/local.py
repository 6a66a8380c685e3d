"""Recipients in the queue that are our own: what was held or was to be sent later, and domains that have moved in since.

They get the message as at acceptance: placements, the other tenants' journal entries, the end of the wait and the report of
delivery, all in one transaction.
"""

import asyncio
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime

from daemons.context import Context
from daemons.delivery import THREAD_OCTETS, facts_of
from daemons.logs import logger
from daemons.relay.attempt import Attempt, Kind, text_of
from daemons.relay.bounces import Bounces
from daemons.relay.content import without_return_path
from daemons.relay.dispatcher import Dispatcher
from daemons.relay.schedule import settle
from daemons.relay.settling import Settler
from daemons.smtp import replies
from daemons.smtp.journal import journal_envelope
from daemons.smtp.transaction import Origin
from protocol.address import AddressError, AddrSpec, parse_addr_spec
from protocol.smtp.command import Mail, Rcpt
from protocol.smtp.parameters import MailParameters, RcptParameters
from protocol.smtp.received import render_return_path
from protocol.smtp.reply import Reply, reply
from protocol.status import Enhanced
from storage.errors import LeaseLostError, OverQuotaError, StorageError, UnavailableError
from storage.outbound import Leased
from storage.rows import JournalEntry, NewMessage, Placement, Recipient, Stored

_log = logger("relay")
_DELIVERED = reply(250, "2.1.5", "delivered")
_UNKNOWN_NOW = reply(451, "4.3.0", "not delivered yet")


@dataclass(frozen=True, slots=True)
class _Addressed:
    """A recipient who can have the message now."""

    leased: Leased
    forward_path: AddrSpec
    recipient: Recipient


class LocalDelivery:
    """One per process."""

    def __init__(self, context: Context, settler: Settler, bounces: Bounces) -> None:
        self._context = context
        self._settler = settler
        self._bounces = bounces
        self._reading = asyncio.Lock()  # a large message is held whole

    async def takes(self, domain: str) -> bool:
        """Whether the domain is ours. Raises UnavailableError."""
        return not domain.startswith("[") and await self._context.directory.domain_is_local(domain)

    async def deliver(self, dispatcher: Dispatcher, group: Sequence[Leased]) -> None:
        """Deliver to these, whatever messages they are recipients of. Raises UnavailableError for those that are still leased."""
        messages: dict[int, list[Leased]] = {}
        for each in group:
            messages.setdefault(each.outbound_id, []).append(each)
        for recipients in messages.values():
            await self._deliver(dispatcher, recipients)

    async def _deliver(self, dispatcher: Dispatcher, recipients: Sequence[Leased]) -> None:
        addressed: list[_Addressed] = []
        others: list[tuple[Leased, Attempt]] = []
        try:
            for leased in recipients:
                found = await self._addressed(leased)
                if isinstance(found, Reply):
                    others.append((leased, self._attempt(found)))
                else:
                    addressed.append(found)
            if addressed:
                await self._place(addressed)
                dispatcher.release(each.leased for each in addressed)
        except LeaseLostError:
            dispatcher.release(each.leased for each in addressed)
        except UnavailableError:
            raise  # before anything was stored: the dispatcher comes again with those that are still leased
        except (StorageError, OSError) as error:
            _log.error("not delivered locally", trace=recipients[0].trace_id, error=f"{type(error).__name__}: {error}")
            answer = replies.MAILBOX_FULL_FOR_NOW if isinstance(error, OverQuotaError) else _UNKNOWN_NOW
            told = {leased.recipient_id for leased, _ in others}
            others += [(each, self._attempt(answer)) for each in recipients if each.recipient_id not in told]
        if others:
            await dispatcher.settle_each(others)

    async def _addressed(self, leased: Leased) -> "_Addressed | Reply":
        """Who the recipient is here, or why there is nobody."""
        try:
            forward_path = parse_addr_spec(leased.forward_path)
        except AddressError:
            return replies.MAILBOX_UNKNOWN
        found = await self._context.directory.resolve(forward_path.local_part, leased.domain)
        if found is None:
            return replies.MAILBOX_UNKNOWN
        if found.is_disabled:
            return replies.MAILBOX_DISABLED
        if found.is_over_quota:
            is_permanent = self._context.settings.smtp.over_quota_is_permanent
            return replies.MAILBOX_FULL if is_permanent else replies.MAILBOX_FULL_FOR_NOW
        return _Addressed(leased, forward_path, found)

    async def _place(self, addressed: Sequence[_Addressed]) -> None:
        first = addressed[0].leased
        delivered = self._attempt(_DELIVERED)
        settled = [settle(self._context.settings.relay, each.leased, delivered) for each in addressed]
        layout = await self._context.blobs.layout(first.content_id)
        async with self._reading if layout.original_octets > THREAD_OCTETS else nullcontext():
            messages = await self._messages(addressed, layout.head, await self._context.blobs.read(first.content_id))
            stored = await self._settler.store(settled, [*messages, *await self._bounces.of(settled)])
        self._note(addressed, stored)

    async def _messages(self, addressed: Sequence[_Addressed], head: bytes, original: bytes) -> list[NewMessage]:
        """One per tenant."""
        first, now = addressed[0].leased, datetime.now(UTC)
        reverse_path = parse_addr_spec(first.reverse_path) if first.reverse_path else None
        facts = await facts_of(original)
        head = render_return_path(reverse_path) + without_return_path(head)
        tenants: dict[int, list[_Addressed]] = {}
        for each in addressed:
            tenants.setdefault(each.recipient.tenant_id, []).append(each)
        return [
            NewMessage(
                tenant_id,
                head,
                original,
                facts,
                [Placement(inbox, internaldate=now) for inbox in dict.fromkeys(one.recipient.inbox_id for one in own)],
                # The sender's own tenant has the message in its journal since it was accepted.
                None if tenant_id == first.tenant_id else self._entry(reverse_path, own, now),
            )
            for tenant_id, own in tenants.items()
        ]

    def _entry(self, reverse_path: AddrSpec | None, own: Sequence[_Addressed], now: datetime) -> JournalEntry:
        first = own[0].leased
        parameters = MailParameters(body=first.body, is_smtputf8=first.is_smtputf8, ret=first.ret, envid=first.envid)
        rcpts = [Rcpt(each.forward_path, RcptParameters(each.leased.notify, each.leased.orcpt)) for each in own]
        origin = Origin(peer="", helo=self._context.settings.hostname, protocol="", tls=None)
        return JournalEntry(
            "in", journal_envelope(Mail(reverse_path, parameters), rcpts, origin, first.trace_id, now), now
        )

    def _attempt(self, answer: Reply) -> Attempt:
        """Our own answer as the outcome of an attempt."""
        status = answer.enhanced or Enhanced(answer.code // 100, 0, 0)
        kind: Kind = "delivered" if answer.code < 300 else "deferred" if answer.is_temporary else "failed"
        hostname = self._context.settings.hostname
        return Attempt(kind, status, text_of(answer), datetime.now(UTC), host=hostname, is_final=True)

    def _note(self, addressed: Sequence[_Addressed], stored: Sequence[Stored]) -> None:
        placed = {one.mailbox_id: one for each in stored for one in each.placed}
        for each in addressed:
            one = placed.get(each.recipient.inbox_id)
            if one is not None:
                self._context.recorder.note(
                    each.recipient.tenant_id,
                    each.leased.trace_id,
                    "stored",
                    forward_path=each.leased.forward_path,
                    mailbox_id=one.mailbox_id,
                    uidvalidity=one.uidvalidity,
                    uid=one.uid,
                )
