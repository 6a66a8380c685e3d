"""What becomes of mail that fails DMARC, RFC 9989 §5.3 and §7.4: the owner's policy, softened where others have touched the mail.

A forwarder or a mailing list breaks SPF, and often DKIM. Such mail is told apart by what cannot be had for nothing: an address that
the operator has named, a chain sealed by somebody the operator has named, a list whose domain has sent or signed the mail itself.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network
from typing import Literal, TypeAlias

from filters.authentication.dkim import passing_domains
from filters.authentication.results import ArcResult, DkimResult, DmarcResult, Override, Policy, SpfResult
from filters.networks import address_of
from protocol.domain import a_labels
from protocol.message.header import RawField, unfold

Applied: TypeAlias = Literal["policy", "quarantine", "none"]

_LIST_ID = re.compile(rb"<[ \t]*([^<>@ \t]{1,255})[ \t]*>[ \t]*\Z")  # RFC 2919 §3
_PASSED = re.compile(r"(?:^|;)\s*dmarc\s*=\s*pass\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Known:
    """Whom the operator trusts to pass on what is not theirs."""

    forwarders: tuple[IPv4Network | IPv6Network, ...] = ()
    sealers: frozenset[str] = frozenset()  # domains of ARC-Seal fields
    mailing_lists: frozenset[str] = frozenset()  # domains of lists, those below included
    unchecked: tuple[IPv4Network | IPv6Network, ...] = ()  # where mail comes from that is not checked

    def forwards(self, peer: str) -> bool:
        """Whether the host is a known forwarder."""
        address = address_of(peer)
        return address is not None and any(address in network for network in self.forwarders)

    def exempts(self, peer: str) -> bool:
        """Whether mail of the host is not checked at all. A local socket is this host, as far as any host is exempt."""
        if not self.unchecked or self.forwards(peer):
            return False
        address = address_of(peer)
        return address is None or any(address in network for network in self.unchecked)


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What bears on the decision besides DMARC."""

    peer: str
    spf: SpfResult
    dkim: Sequence[DkimResult]
    arc: ArcResult
    list_id: str  # the domain of List-Id; "" without


def list_id_of(fields: Sequence[RawField]) -> str:
    """The identifier of the mailing list, RFC 2919: a name in the manner of the DNS."""
    found = _LIST_ID.search(unfold(fields[0][1]).rstrip()) if len(fields) == 1 else None
    return a_labels(found[1].decode("utf-8", "replace")) if found else ""


def decide(
    judged: DmarcResult, circumstances: Circumstances, known: Known, apply: Applied
) -> tuple[Policy, tuple[Override, ...]]:
    """What is done, and why that differs from the policy that is published."""
    if judged.result != "fail" or judged.published == "none":
        return "none", ()
    overrides: list[Override] = []
    policy = judged.policy
    if policy != judged.published:
        overrides.append(Override("policy_test_mode", "t=y"))
    if policy == "none":
        return policy, tuple(overrides)
    excuse = _excuse(circumstances, known)
    if excuse is not None:
        return "none", (*overrides, excuse)
    if apply == "none":
        return "none", (*overrides, Override("local_policy", "policies are not applied here"))
    if policy == "reject" and apply == "quarantine":
        return "quarantine", (*overrides, Override("local_policy", "nothing is rejected here"))
    if policy == "reject" and _is_from_list(circumstances):  # RFC 9989 §7.4: no rejection for the policy alone
        return "quarantine", (*overrides, Override("mailing_list", "sent by the list that it names"))
    return policy, tuple(overrides)


def _excuse(circumstances: Circumstances, known: Known) -> Override | None:
    if known.forwards(circumstances.peer):
        return Override("trusted_forwarder", "known forwarder")
    chain = circumstances.arc
    # All hops behind the one that saw the mail pass must be known: any of them could have made up what came before.
    if chain.result == "pass":
        for place, hop in enumerate(chain.sets):
            is_known = all(each.domain in known.sealers for each in chain.sets[place:])
            if is_known and _PASSED.search(hop.authentication_results):
                told = " ".join(f"as[{each.instance}].d={each.domain}" for each in reversed(chain.sets[-3:]))
                return Override("trusted_forwarder", f"arc=pass {told}")
    if _is_from_list(circumstances) and _is_among(circumstances.list_id, known.mailing_lists):
        return Override("mailing_list", "known mailing list")
    return None


def _is_from_list(circumstances: Circumstances) -> bool:
    """Whether the list that the message names has sent or signed it."""
    name = circumstances.list_id
    if not name:
        return False
    domains = passing_domains(circumstances.dkim)
    if circumstances.spf.result == "pass":
        domains.append(circumstances.spf.domain)
    return any("." in domain and (name == domain or name.endswith(f".{domain}")) for domain in domains)


def _is_among(name: str, domains: frozenset[str]) -> bool:
    return any(name == domain or name.endswith(f".{domain}") for domain in domains)
