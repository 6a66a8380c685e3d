"""Recipients in the queue that are our own: what was held or was to be sent later, and domains that have moved in since.

They get the message as at acceptance: what their own rules say, the other tenants' journal entries, the end of the wait and the
report of delivery, all in one transaction. What we send ourselves, bounces for instance, is not subject to rules.
"""

import asyncio
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from daemons.authentication import Identity
from daemons.context import Context
from daemons.delivery import THREAD_OCTETS, facts_of
from daemons.logs import logger
from daemons.relay.attempt import Attempt, Kind, Settled, text_of
from daemons.relay.bounces import Bounces
from daemons.relay.content import without_return_path
from daemons.relay.dispatcher import Dispatcher
from daemons.relay.schedule import settle
from daemons.relay.settling import Settler
from daemons.smtp import replies
from daemons.smtp.delivering.groups import of_known
from daemons.smtp.delivering.incoming import Delivery, Filed, Incoming
from daemons.smtp.delivering.planning import Delivering
from daemons.smtp.notes import note_delivery
from daemons.smtp.transaction import Addressee, Origin
from filters.pipeline import PASSED
from protocol.address import AddressError, AddrSpec, parse_addr_spec
from protocol.smtp.command import Mail, Rcpt
from protocol.smtp.parameters import MailParameters, RcptParameters
from protocol.smtp.reply import Reply, reply
from protocol.status import Enhanced
from storage.accounts import login_of_account
from storage.errors import LeaseLostError, OverQuotaError, StorageError, UnavailableError
from storage.outbound import Leased
from storage.rows import Placement, Recipient

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

    def __init__(self, context: Context, settler: Settler, bounces: Bounces, delivering: Delivering) -> None:
        self._context = context
        self._settler = settler
        self._bounces = bounces
        self._delivering = delivering
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
        layout = await self._context.blobs.layout(first.content_id)
        async with self._reading if layout.original_octets > THREAD_OCTETS else nullcontext():
            incoming = await self._incoming(first, layout.head, await self._context.blobs.read(first.content_id))
            deliveries = await self._deliveries(incoming, addressed)
            settled = self._settled(addressed, deliveries)
            messages = of_known(incoming, deliveries, first.tenant_id)
            if not messages:  # discarded
                await self._settler.settle(settled)
                return
            stored = await self._settler.store(settled, [*messages, *await self._bounces.of(settled)])
        placed = {(message.tenant_id, one.mailbox_id): one for message, done in zip(messages, stored, strict=False)
                  for one in done.placed}  # fmt: skip
        for delivery in deliveries:
            note_delivery(self._context.recorder, first.trace_id, delivery, placed)

    async def _incoming(self, leased: Leased, head: bytes, original: bytes) -> Incoming:
        """The message as it was accepted, of its sender, who has logged in, or of ourselves."""
        reverse_path = parse_addr_spec(leased.reverse_path) if leased.reverse_path else None
        parameters = MailParameters(
            body=leased.body, is_smtputf8=leased.is_smtputf8, ret=leased.ret, envid=leased.envid
        )
        identity = None
        if leased.account_id is not None:
            login = await login_of_account(self._context.pool, leased.account_id)
            identity = Identity(leased.account_id, leased.tenant_id, login)
        return Incoming(
            mail=Mail(reverse_path, parameters),
            origin=Origin(peer="", helo=self._context.settings.hostname, protocol="", tls=None, identity=identity),
            trace_id=leased.trace_id,
            received_at=datetime.now(UTC),
            received=without_return_path(head),
            decision=PASSED,
            original=original,
            facts=await facts_of(original),
        )

    async def _deliveries(self, incoming: Incoming, addressed: Sequence[_Addressed]) -> list[Delivery]:
        """By the rules of each, or into the inbox. Raises UnavailableError."""
        addressees = [
            Addressee(Rcpt(each.forward_path, RcptParameters(each.leased.notify, each.leased.orcpt)), each.recipient)
            for each in addressed
        ]
        if incoming.origin.identity is not None:
            return await self._delivering.plan(incoming, addressees, "none")
        inboxes = {each.recipient.account_id: each for each in addressees}
        return [
            Delivery(
                each,
                filed=[Filed(incoming.whole, Placement(each.recipient.inbox_id, internaldate=incoming.received_at))],
            )
            for each in inboxes.values()
        ]

    def _settled(self, addressed: Sequence[_Addressed], deliveries: Sequence[Delivery]) -> list[Settled]:
        """The recipients have it, each as far as a sender who asked for reports of success is to hear."""
        fared = {
            each.account_id: next((one.success for one in each.everyone() if one.success), None) for each in deliveries
        }
        delivered, settled = self._attempt(_DELIVERED), []
        for each in addressed:
            success = fared.get(each.recipient.account_id)
            attempt = replace(
                delivered,
                is_final=success == "delivered",
                is_expanded=success == "expanded",
                is_reported_by_peer=success is None,
            )
            settled.append(settle(self._context.settings.relay, each.leased, attempt))
        return settled

    def _attempt(self, answer: Reply) -> Attempt:
        """Our own answer as the outcome of an attempt."""
        status = answer.enhanced or Enhanced(answer.code // 100, 0, 0)
        kind: Kind = "delivered" if answer.code < 300 else "deferred" if answer.is_temporary else "failed"
        hostname = self._context.settings.hostname
        return Attempt(kind, status, text_of(answer), datetime.now(UTC), host=hostname, is_final=True)
