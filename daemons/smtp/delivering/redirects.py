"""Mail that is sent on, by a script or by an address that forwards: to whom, in whose name, and what becomes of it when that fails.

Nobody is bounced to who did not send the message. A sender that is proven, and no spammer, hears of failures as from any other
host, through its rewritten name (SRS). Anybody else does not: what cannot be delivered comes back to who sends it on.

Circles end here: a message that this account has sent on before bears its Delivered-To, and is not sent on again.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from pathlib import Path

from config.smtp import Smtp
from daemons.context import Context
from daemons.forwarding import Forwarding
from daemons.outgoing import Outgoing, foreign_of, is_ascii, is_routable, messages_of
from daemons.smtp import replies
from daemons.smtp.circles import delivered_to
from daemons.smtp.delivering.incoming import Form, Incoming
from daemons.smtp.forwards import Forwards
from daemons.smtp.transaction import Addressee, Onward
from protocol.address import AddrSpec
from protocol.smtp.command import Mail, Rcpt
from protocol.smtp.parameters import NO_RCPT_PARAMETERS, RcptParameters
from protocol.smtp.received import render_return_path
from protocol.smtp.reply import Reply
from storage.returns import ReturnsTo
from storage.rows import NewMessage, Recipient


@dataclass(frozen=True, slots=True)
class Targets:
    """Everybody behind one address that a message is sent on to."""

    local: tuple[Addressee, ...] = ()
    onward: tuple[Onward, ...] = ()


class Redirects:
    """One per process."""

    def __init__(self, context: Context, limits: Smtp, forwarding: Forwarding) -> None:
        self._context = context
        self._forwarding = forwarding
        self._forwards = Forwards(context.directory, forwarding, limits)

    async def targets(
        self,
        path: AddrSpec,
        parameters: RcptParameters,
        reverse_path: AddrSpec | None,
        forwarder: AddrSpec,
        by: Recipient,
    ) -> Targets | Reply:
        """Who gets what `forwarder` sends on to the path, or why nobody can. Raises StorageError."""
        rcpt = Rcpt(path, parameters)
        directory = self._context.directory
        if not await directory.domain_is_local(path.domain):
            if not is_routable(path.domain):
                return replies.DOMAIN_UNROUTABLE
            sender = await self._forwarding.forwarded(reverse_path, forwarder.domain)
            return Targets(onward=(Onward(rcpt, sender, by.tenant_id, forwarder, by),))
        found = await directory.destination(path.local_part, path.domain)
        if found is None:
            return replies.MAILBOX_UNKNOWN
        forwarded = await self._forwards.expanded(rcpt, path, found, reverse_path)
        return forwarded if isinstance(forwarded, Reply) else Targets(forwarded.local, forwarded.onward)

    async def messages(
        self, incoming: Incoming, form: Form, onward: Sequence[Onward], *, may_be_told: bool, ret: str | None = None
    ) -> list[NewMessage]:
        """What the queue gets: one NewMessage per tenant, forwarder and envelope sender. Raises StorageError."""
        ways: dict[Onward, list[Rcpt]] = {}
        for each in onward:
            way, rcpt = each, each.rcpt
            if not may_be_told:
                sender = each.reverse_path and await self._forwarding.returning(each.forwarder)
                way, rcpt = replace(each, reverse_path=sender), _untold(rcpt)
            ways.setdefault(replace(way, rcpt=Rcpt(way.forwarder, NO_RCPT_PARAMETERS)), []).append(rcpt)
        messages: list[NewMessage] = []
        for way, rcpts in ways.items():
            mail = replace(incoming.mail, reverse_path=way.reverse_path)
            if ret is not None:
                mail = replace(mail, parameters=replace(mail.parameters, ret=ret))
            make = partial(self.outgoing, incoming, form, way.tenant_id, mail, rcpts, forwarder=way.forwarder)
            # A large message is a file: what it needs is found out by reading that.
            first, *rest = messages_of(make() if isinstance(form.original, bytes) else await asyncio.to_thread(make))
            if way.account is not None and not way.keeps and not may_be_told:
                first = replace(first, effects=(ReturnsTo(way.account.account_id),))
            messages += [first, *rest]
        return messages

    def outgoing(
        self,
        incoming: Incoming,
        form: Form,
        tenant_id: int,
        mail: Mail,
        rcpts: Sequence[Rcpt],
        *,
        forwarder: AddrSpec | None = None,
    ) -> Outgoing:
        """What goes on to another host, for the queue of the tenant. Reads files: blocking I/O."""
        return_path = render_return_path(incoming.mail.reverse_path)  # it does not leave, so it stays on top
        mark = b"" if forwarder is None else delivered_to(forwarder)
        # When it is to arrive was agreed on with who sent it, and it has arrived.
        mail = replace(
            mail, parameters=replace(mail.parameters, hold_for_seconds=None, hold_until=None, deliver_by=None)
        )
        paths = [rcpt.forward_path for rcpt in rcpts] + ([mail.reverse_path] if mail.reverse_path is not None else [])
        outgoing = Outgoing(
            tenant_id=tenant_id,
            account_id=None,
            mail=mail,
            addressees=(),
            remote=rcpts,
            origin=incoming.origin,
            trace_id=incoming.trace_id,
            accepted_at=incoming.received_at,
            expires_at=incoming.received_at + timedelta(seconds=self._context.settings.relay.lifetime),
            head=return_path + mark + form.head.removeprefix(return_path),
            original=form.original,
            facts=form.facts,
            body=_body(mail, form.original),
            is_smtputf8=mail.parameters.is_smtputf8 or not all(path.is_ascii for path in paths),
        )
        identity = incoming.origin.identity
        return outgoing if identity is None or identity.tenant_id == tenant_id else foreign_of(outgoing)


def _body(mail: Mail, original: bytes | Path) -> str:
    """What the queue has to carry, whatever was announced."""
    if mail.parameters.body == "BINARYMIME":
        return "BINARYMIME"
    return "7BIT" if is_ascii(original) else "8BITMIME"


def _untold(rcpt: Rcpt) -> Rcpt:
    """Without reports: no host on the way is to write to the sender."""
    return replace(rcpt, parameters=replace(rcpt.parameters, notify=("NEVER",)))
