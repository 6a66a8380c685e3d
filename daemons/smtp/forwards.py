"""Where mail for an address that forwards goes: found at RCPT, so that who cannot receive is refused there and nothing bounces.

Addresses of this host that forward on are followed, each once: circles end, and what is left is whoever is in them.
"""

from dataclasses import dataclass, replace

from config.smtp import Smtp
from daemons.forwarding import Forwarding
from daemons.outgoing import is_routable
from daemons.smtp import replies
from daemons.smtp.transaction import Addressee, Forwarded, Onward
from protocol.address import AddrSpec, parse_addr_spec
from protocol.smtp.command import Rcpt
from protocol.smtp.parameters import RcptParameters
from protocol.smtp.reply import Reply
from storage.accounts import Directory, domain_name
from storage.rows import Destination, Recipient


def refusal_of(recipient: Recipient, limits: Smtp) -> Reply | None:
    """Why an account gets nothing now."""
    if recipient.is_disabled:
        return replies.MAILBOX_DISABLED
    if recipient.is_over_quota:
        return replies.MAILBOX_FULL if limits.over_quota_is_permanent else replies.MAILBOX_FULL_FOR_NOW
    return None


@dataclass(frozen=True, slots=True)
class Forwards:
    """Follows addresses that forward."""

    directory: Directory
    forwarding: Forwarding
    limits: Smtp

    async def expanded(
        self, rcpt: Rcpt, address: AddrSpec, destination: Destination, reverse_path: AddrSpec | None
    ) -> Forwarded | Reply:
        """Everybody behind the address, or why it cannot have mail: all of them can, or none gets it. Raises StorageError."""
        accounts: dict[int, tuple[AddrSpec, Recipient]] = {}
        onward: list[Onward] = []
        seen = {(address.local_part.lower(), domain_name(address.domain))}
        waiting = [(address, destination)]
        while waiting:
            path, found = waiting.pop(0)
            recipient = found.recipient
            if recipient is not None and (found.keeps or found.is_plain):
                refusal = refusal_of(recipient, self.limits)
                if refusal is not None:
                    return refusal
                accounts.setdefault(recipient.inbox_id, (path, recipient))
            for target in map(parse_addr_spec, found.forward_paths):
                name = (target.local_part.lower(), domain_name(target.domain))
                if name in seen:
                    continue
                seen.add(name)
                if len(seen) > self.limits.forward_limit:
                    return replies.FORWARDS_TOO_FAR
                if not await self.directory.domain_is_local(target.domain):
                    if not is_routable(target.domain):
                        return replies.DOMAIN_UNROUTABLE
                    sender = await self.forwarding.forwarded(reverse_path, path.domain)
                    onward.append(
                        Onward(Rcpt(target, rcpt.parameters), sender, found.tenant_id, path, recipient, found.keeps)
                    )
                    continue
                further = await self.directory.destination(target.local_part, target.domain)
                if further is None:
                    return replies.MAILBOX_UNKNOWN
                waiting.append((target, further))
        if not accounts and not onward:
            return replies.FORWARDS_IN_CIRCLES
        return _told(rcpt, address, destination.tenant_id, accounts, onward)


def _told(
    rcpt: Rcpt, address: AddrSpec, tenant_id: int, accounts: dict[int, tuple[AddrSpec, Recipient]], onward: list[Onward]
) -> Forwarded:
    """With what each of them is told of reports: RFC 3461 §5.2.7.

    One recipient takes the place of the address, and reports as that one. Of several each reports failures; success is reported
    once, by us, when the address is expanded.
    """
    notify = rcpt.parameters.notify
    is_expanded = len(accounts) + len(onward) > 1
    if is_expanded and notify is not None and "SUCCESS" in notify:
        notify = tuple(word for word in notify if word != "SUCCESS") or ("NEVER",)
    orcpt = rcpt.parameters.orcpt
    if orcpt is None:
        orcpt = f"{'rfc822' if address.is_ascii else 'utf-8'};{address}"
    parameters = RcptParameters(notify, orcpt)
    return Forwarded(
        rcpt=rcpt,
        tenant_id=tenant_id,
        local=tuple(Addressee(Rcpt(path, parameters), recipient) for path, recipient in accounts.values()),
        onward=tuple(replace(each, rcpt=Rcpt(each.rcpt.forward_path, parameters)) for each in onward),
        is_expanded=is_expanded,
    )
