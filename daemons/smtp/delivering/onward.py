"""What addresses forward to other hosts: in which form it goes, who may hear of failures, and what does not go at all."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from daemons.smtp import replies
from daemons.smtp.delivering.incoming import Form, Incoming
from daemons.smtp.delivering.planning import Delivering
from daemons.smtp.delivering.trust import may_be_told
from daemons.smtp.transaction import Addressee, Forwarded, Onward
from filters.verdict import Refuse
from protocol.smtp.command import Rcpt
from storage.rows import NewMessage

_NOBODY_DECIDES = Refuse(replies.POLICY, "quarantine for an address of nobody's")


@dataclass(frozen=True, slots=True)
class _Way:
    """What accounts of one kind of decision forward."""

    onward: tuple[Onward, ...]
    form: Form
    may_be_told: bool  # the sender, of failures


@dataclass(slots=True)
class Ways:
    """All of a message."""

    ways: list[_Way] = field(default_factory=list)
    stayed: list[Addressee] = field(
        default_factory=list
    )  # accounts that are to decide themselves: it is in their quarantine
    untold: list[Forwarded] = field(
        default_factory=list
    )  # addresses of one place that is asked for no report of success
    refusal: Refuse | None = None  # of an account that forwards; it counts when nobody else takes the message

    async def messages(self, delivering: Delivering, incoming: Incoming) -> list[NewMessage]:
        """What the queue gets. Raises StorageError."""
        return [
            message
            for way in self.ways
            for message in await delivering.redirects.messages(
                incoming, way.form, way.onward, may_be_told=way.may_be_told
            )
        ]


async def ways_of(delivering: Delivering, incoming: Incoming, forwarded: Sequence[Forwarded]) -> Ways | Refuse:
    """What becomes of it on each way, or why nobody can have the message. Raises UnavailableError."""
    found = Ways()
    owners: dict[tuple[int, int], list[tuple[Forwarded, Onward]]] = {}
    for address in forwarded:
        for each in address.onward:
            account_id = each.account.account_id if each.account is not None else 0
            owners.setdefault((each.tenant_id, account_id), []).append((address, each))
    for (tenant_id, account_id), group in owners.items():
        own = await delivering.decision_for(incoming.decision, tenant_id, account_id)
        if own.refusal is not None:
            found.refusal = own.refusal
        elif own.quarantine is not None and own.drop is None:
            account = group[0][1].account
            if account is None:
                return _NOBODY_DECIDES
            path = group[0][1].forwarder
            found.stayed.append(Addressee(Rcpt(path, group[0][0].rcpt.parameters), account))
        elif own.drop is None:
            onward = [each for address, each in group if not await _is_dropped(delivering, incoming, address.tenant_id)]
            is_told = may_be_told(incoming.mail.reverse_path, incoming.origin, own, account_id)
            if not is_told:
                found.untold += [address for address, each in group if each in onward and not address.is_expanded]
            if onward:
                found.ways.append(_Way(tuple(onward), incoming.form(tenant_id, own), is_told))
    return found


async def _is_dropped(delivering: Delivering, incoming: Incoming, tenant_id: int) -> bool:
    """Whether the tenant that was written to wants nobody to have it."""
    return (await delivering.decision_for(incoming.decision, tenant_id, 0)).drop is not None
