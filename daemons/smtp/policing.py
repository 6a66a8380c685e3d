"""The envelope stage: what is asked of a host and a sender before a message may come, and who is refused for it.

connect   denied networks, connections of a network           answered in place of the greeting
mail      rates of messages, HELO, DNS lists, SPF              asked once per transaction, answered at each RCPT
rcpt      block lists, rates of recipients, policy service,    asked and answered at each RCPT
          greylisting

The sender is answered for at RCPT, because only there it is known whose mail it is: whom a recipient has allowed is not refused for
that recipient, a tenant decides about greylisting, the delivery trace is the tenant's, and postmaster hears everybody (RFC 5321
§4.5.1). What is found out is passed on to the content filters.
"""

from dataclasses import dataclass, replace

from daemons.logs import logger
from daemons.smtp.transaction import Forwarded, Origin, Policed, Transaction
from daemons.sockets import Networks
from filters.authentication import spf
from filters.authentication.results import SpfResult
from filters.lists import BLOCKED, envelope_identities
from filters.pipeline import Pipeline, Result
from filters.ports import Resolver, SenderLists
from filters.sender_lists import Match, SenderList, Standing
from filters.subject import Account, Envelope
from filters.verdict import Finding, Refuse
from protocol.smtp.command import Rcpt
from protocol.smtp.reply import reply
from storage.rows import Recipient

DENIED = Refuse(reply(554, "5.7.1", "no mail from your network"), "denied network")  # RFC 5321 §3.1
_ALWAYS_HEARD = frozenset({"postmaster", "abuse"})  # RFC 5321 §4.5.1, RFC 2142 §4

log = logger("smtp")


@dataclass(frozen=True, slots=True)
class Stages:
    """The envelope filters of each moment."""

    connect: Pipeline
    mail: Pipeline
    rcpt: Pipeline
    unknown: Pipeline  # asked for each recipient that does not exist


class Policing:
    """One per process. Mail of users, LMTP, this host and hosts that are trusted are none of its business."""

    def __init__(
        self,
        hostname: str,
        stages: Stages,
        *,
        trusted: Networks,
        denied: Networks,
        lists: SenderLists | None = None,
        resolver: Resolver | None = None,
    ) -> None:
        """lists: None, nobody's lists count; with them there is a resolver."""
        self._hostname = hostname
        self._stages = stages
        self._trusted = trusted
        self._denied = denied
        self._lists = lists
        self._resolver = resolver

    def concerns(self, peer: str, local: str = "") -> bool:
        """Whether anything is asked of the host. Not of our own, whose programs may well give its name."""
        return peer not in ("", local) and peer not in self._trusted

    async def admit(self, peer: str) -> Refuse | None:
        """Why the host may not connect."""
        if peer in self._denied:
            return DENIED
        decision = await self._stages.connect.check_envelope(_of_peer(peer))
        return decision.refusal

    async def miss(self, peer: str) -> Refuse | None:
        """The host has named a recipient that does not exist: why it is sent away for that."""
        decision = await self._stages.unknown.check_envelope(_of_peer(peer))
        return decision.refusal

    async def judge(
        self, transaction: Transaction, origin: Origin, rcpt: Rcpt, found: Recipient | Forwarded
    ) -> Refuse | None:
        """Why the recipient does not get the message, as far as that is known before it comes. found: who that is."""
        everyone = [found] if isinstance(found, Recipient) else [each.recipient for each in found.local]
        envelope = Envelope(
            transaction_id=transaction.trace_id,
            peer=origin.peer,
            helo=origin.helo,
            is_secure=origin.tls is not None,
            is_authenticated=False,
            reverse_path=transaction.mail.reverse_path,
            forward_paths=(rcpt.forward_path,),
            tenant_ids=(found.tenant_id,),
            accounts=tuple(Account(each.tenant_id, each.account_id, rcpt.forward_path) for each in everyone),
        )
        policed = transaction.policed
        if not policed.is_begun:
            await self._begin(policed, envelope)
        envelope = replace(envelope, notes=policed.notes)
        standing, reason = await self._standing(envelope, policed)
        if standing == "blocked":
            return Refuse(BLOCKED, reason)
        if standing == "allowed" or rcpt.forward_path.local_part.lower() in _ALWAYS_HEARD:
            return None
        if policed.refusal is not None:
            return policed.refusal
        decision = await self._stages.rcpt.check_envelope(envelope)
        if decision.refusal is None:
            policed.add(decision.results)
        return decision.refusal

    async def _begin(self, policed: Policed, envelope: Envelope) -> None:
        decision = await self._stages.mail.check_envelope(envelope)
        policed.is_begun = True
        policed.refusal = decision.refusal
        policed.add(decision.results)

    async def _standing(self, envelope: Envelope, policed: Policed) -> tuple[Standing | None, str]:
        """What the recipients' lists say, as far as they can before the message, and why: "blocked" only when all of them block."""
        lists = {} if self._lists is None else await self._lists.of(envelope.accounts)
        matches = [await self._match(each, envelope, policed) for each in lists.values()]
        standings = {None if match is None else match.standing for match in matches}
        reason = next((match.reason for match in matches if match is not None), "")
        if standings == {"blocked"}:
            return "blocked", reason
        return ("allowed", reason) if "allowed" in standings else (None, "")

    async def _match(self, listed: SenderList, envelope: Envelope, policed: Policed) -> Match | None:
        """The entry that decides for one recipient; None also while the author, who is not known yet, could change it."""
        if not listed:
            return None
        match = listed.judge(envelope.peer, envelope_identities(envelope, is_proven=False))
        hoped = listed.judge(envelope.peer, envelope_identities(envelope, is_proven=True))
        if hoped is not None and hoped != match and await self._is_proven(envelope, policed):
            match = hoped
        is_sure = match is None or match.standing == "allowed" or not listed.may_allow(match)
        return match if is_sure else None

    async def _is_proven(self, envelope: Envelope, policed: Policed) -> bool:
        """Whether the host may send for the sender's domain: asked only when somebody has allowed that sender."""
        found = envelope.noted(SpfResult)
        if found is None and self._resolver is not None:
            found = await spf.check_sender(
                self._resolver, envelope.peer, envelope.helo, envelope.reverse_path, receiver=self._hostname
            )
            policed.add([Result("spf", (Finding(found),), 0.0)])  # others need not ask again
        return found is not None and found.result == "pass" and found.scope == "mfrom"


def _of_peer(peer: str) -> Envelope:
    """All that is known before the greeting."""
    return Envelope("", peer, "", is_secure=False, is_authenticated=False, reverse_path=None, forward_paths=())
