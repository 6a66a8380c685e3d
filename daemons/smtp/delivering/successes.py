"""What a sender who asked for reports of success (RFC 3461 §4.1) hears of each recipient, once what was planned is stored.

Who has the message in a mailbox is "delivered". Who sends it on to one other place leaves the report to that place, and is
"relayed" where that is not asked for one; who sends it on to several is "expanded" (RFC 3461 §5.2.7). Of what nobody has afterwards
nothing is said.
"""

from collections.abc import Iterable, Sequence
from typing import Literal, TypeAlias

from daemons.smtp.delivering.incoming import Delivery
from daemons.smtp.reports import Success
from daemons.smtp.transaction import Addressee, Forwarded

Fared: TypeAlias = dict[int, Literal["delivered", "expanded", "relayed"] | None]  # by account


def fared(deliveries: Iterable[Delivery]) -> Fared:
    """How each account fares, those it is sent on to among them."""
    return {each.account_id: each.success for delivery in deliveries for each in delivery.everyone()}


def of_accounts(
    addressees: Iterable[Addressee], deliveries: Sequence[Delivery], earlier: Fared | None = None
) -> list[Success]:
    """Those who were named, each as its account fares, and whom they have sent it on to here."""
    known = {**(earlier or {}), **{each.account_id: each.success for each in deliveries}}
    found: list[Success] = []
    for addressee in addressees:
        action = known.get(addressee.recipient.account_id)
        if action is not None:
            found.append(Success(addressee.rcpt, action, addressee.recipient.tenant_id))
    others = [each for delivery in deliveries for each in delivery.others()]
    return found + [
        Success(each.addressee.rcpt, each.success, each.tenant_id) for each in others if each.success is not None
    ]


def of_addresses(expanded: Iterable[Forwarded], untold: Iterable[Forwarded]) -> list[Success]:
    """Addresses that forward: to several, and to one place that is not asked to report."""
    found = [Success(each.rcpt, "expanded", each.tenant_id) for each in expanded]
    return found + [Success(each.rcpt, "relayed", each.tenant_id) for each in untold]
