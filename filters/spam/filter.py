"""The content filter `spam`: the score of every message from outside, for each of its recipients, and what comes of it.

What does not depend on the recipient is found out once: rules, other scorers, the words of the message. Each account adds what
it and its tenant have taught, what it knows of the sender, its list of allowed senders, and its thresholds.
"""

import asyncio
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Literal, Protocol

from filters.authentication.results import Results
from filters.dnslists import DnsListings
from filters.lists import Listings
from filters.networks import address_of
from filters.ports import OnFailure, Resolver
from filters.spam import reputation
from filters.spam.bayes import LEAST_LEARNED
from filters.spam.engines import Weighed
from filters.spam.findings import SpamFinding, SpamFindings
from filters.spam.judging import Judging, Knowledge, Look
from filters.spam.score import Reason, Scorer
from filters.spam.sight import Circumstances, Sight
from filters.spam.tokens import tokens_of
from filters.subject import Account, Envelope, Subject
from filters.verdict import AddField, Finding, Junk, Refuse, Score, Verdict
from protocol.address import AddrSpec
from protocol.smtp.reply import reply

REFUSED = reply(550, "5.7.1", "message refused: it is spam, or looks very much like it")

_THREAD_OCTETS = 256 << 10  # reading more than this would hold up others
_NAME_SECONDS = 2.0  # for the peer's name; then nobody knows it
_NAMES = 3  # of the peer that are looked up

Filing = Literal["wanted", "always"]


class Memory(Protocol):
    """What accounts and tenants have set and taught."""

    async def recall(self, accounts: Sequence[Account], author: str, tokens: Sequence[int]) -> Knowledge:
        """All of it that matters for a message of this author with these tokens."""


class Correspondence(Protocol):
    """Who writes to whom."""

    def note(self, login: str, addresses: Sequence[AddrSpec]) -> None:
        """A user writes to these. Must not wait."""


class Spam:
    """The filter. One for all messages; it remembers nothing."""

    name = "spam"
    on_failure: OnFailure = "pass"  # mail without a score is still mail
    needs: Sequence[str] = ("authentication", "lists")

    def __init__(
        self,
        memory: Memory,
        scorer: Scorer | None,
        *,
        engines: Sequence[Weighed] = (),
        resolver: Resolver | None = None,
        correspondence: Correspondence | None = None,
        filing: Filing = "wanted",
        least_learned: int = LEAST_LEARNED,
        limit_seconds: float = 30.0,
        observe: Callable[[SpamFindings], None] | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """Without a scorer only the engines are asked; filing "always": spam goes into Junk whatever the recipients want."""
        self._memory = memory
        self._scorer = scorer
        self._engines = tuple(engines)
        self._resolver = resolver
        self._correspondence = correspondence
        self._filing = filing
        self._least_learned = least_learned
        self.limit_seconds = limit_seconds
        self._observe = observe
        self._clock = clock

    async def check(self, subject: Subject) -> Sequence[Verdict]:
        """Score the message. What users write is not scored: to whom they write is what is noted."""
        envelope = subject.envelope
        if envelope.is_authenticated:
            if self._correspondence is not None and not _is_automatic(subject):
                self._correspondence.note(envelope.login, envelope.forward_paths)
            return ()
        results = subject.noted(Results)
        look = await self._look(subject, results)
        knowledge = await self._memory.recall(envelope.accounts, look.author, list(look.tokens))
        findings = self._findings(subject, look, results, knowledge)
        if self._observe is not None:
            self._observe(findings)
        counted = (subject.noted(DnsListings) or DnsListings()).points  # for those who only look at the sum of verdicts
        return [Finding(findings), *self._verdicts(findings, counted)]

    async def _look(self, subject: Subject, results: Results | None) -> Look:
        """Ask everybody who is asked once."""
        has_name, answers = await asyncio.gather(
            self._has_name(subject.envelope.peer), asyncio.gather(*(each.reason(subject) for each in self._engines))
        )
        circumstances = _circumstances(subject.envelope, results, has_name, self._clock())
        if len(subject.original) > _THREAD_OCTETS:
            look = await asyncio.to_thread(self._read, subject, circumstances)
        else:
            look = self._read(subject, circumstances)
        said = [answer for answer in answers if answer is not None]
        return Look(look.sight, look.author, look.tokens, [*look.reasons, *said, *_listed(subject)])

    def _read(self, subject: Subject, circumstances: Circumstances) -> Look:
        sight = Sight(subject.original, circumstances, subject.scanned)
        author = reputation.author_of(sight)
        if self._scorer is None:
            return Look(sight, author, {}, ())
        return Look(sight, author, tokens_of(sight), self._scorer.found(sight))

    async def _has_name(self, peer: str) -> bool | None:
        """Whether the peer has a name in the DNS that leads back to it; None: nobody knows."""
        address = _public(peer)
        if address is None or self._resolver is None:
            return None
        try:
            async with asyncio.timeout(_NAME_SECONDS):
                for name in (await self._resolver.pointers(address))[:_NAMES]:
                    if address in await self._resolver.addresses(name):
                        return True
        except TimeoutError:
            return None
        return False

    def _findings(self, subject: Subject, look: Look, results: Results | None, knowledge: Knowledge) -> SpamFindings:
        """The judgement for each account."""
        listings = subject.noted(Listings) or Listings()
        judging = Judging(look, results, self._least_learned)
        own = []
        for account_id in [account.account_id for account in subject.envelope.accounts]:
            known = knowledge.accounts.get(account_id, knowledge.common)
            own.append((account_id, judging.of(known, is_allowed=listings.of(account_id) == "allowed")))
        is_for_all = len(own) >= len(subject.envelope.forward_paths)  # nobody gets it who has no account here
        if own and is_for_all and len(judging) == 1:
            return SpamFindings(own[0][1])
        common = judging.of(knowledge.common)
        return SpamFindings(common, () if len(judging) == 1 else tuple(own))

    def _verdicts(self, findings: SpamFindings, counted: float) -> list[Verdict]:
        """Points for all, and for those with a judgement of their own what differs; fields, Junk and refusals for each.

        counted: points that envelope filters have given in verdicts of their own.
        """
        common = findings.common
        verdicts: list[Verdict] = [Score(round(common.score - counted, 2), common.verdict.plain)]
        if not findings.own:
            return [*verdicts, *self._consequences(common, None)]
        for account_id, own in findings.own:
            difference = round(own.score - common.score, 2)
            if difference:
                verdicts.append(Score(difference, own.verdict.plain, account_id))
            verdicts += self._consequences(own, account_id)
        return verdicts

    def _consequences(self, finding: SpamFinding, account_id: int | None) -> list[Verdict]:
        fields = finding.verdict.fields(finding.thresholds)
        verdicts: list[Verdict] = [AddField(each.name, each.value, account_id) for each in fields]
        reason = f"spam score {finding.score:.1f}: {finding.verdict.plain}"
        if finding.action == "reject":
            verdicts.append(Refuse(REFUSED, reason, account_id))
        elif finding.action == "junk" and self._filing == "always":
            verdicts.append(Junk(reason, account_id=account_id))
        return verdicts


def _is_automatic(subject: Subject) -> bool:
    """Whether a program has written it: a receipt is no answer. RFC 3834 §5, RFC 8098 §3."""
    root = subject.scanned.root
    if (root.type.lower(), root.subtype.lower()) == (b"multipart", b"report"):
        return True
    said = [body.strip().lower() for name, body, _ in subject.scanned.fields if name == b"AUTO-SUBMITTED"]
    return any(not body.startswith(b"no") for body in said)


def _listed(subject: Subject) -> list[Reason]:
    """What DNS lists say of the sender, which was asked before the message came."""
    listings = subject.noted(DnsListings) or DnsListings()
    return [
        Reason(
            "dns_list",
            each.points,
            f"the sender is listed by {each.zone}",
            f"der Absender steht auf der Liste {each.zone}",
        )
        for each in listings.lists
    ]


def _circumstances(
    envelope: Envelope, results: Results | None, has_name: bool | None, received_at: datetime
) -> Circumstances:
    sender = envelope.reverse_path
    words = [each.result for each in results.dkim] if results is not None else [""]
    return Circumstances(
        received_at=received_at,
        helo=envelope.helo,
        reverse_path=str(sender) if sender is not None else "",
        has_pointer=has_name,
        spf=results.spf.result if results is not None else "",
        dkim=next((word for word in ("pass", "fail") if word in words), words[0] if words else "none"),
        dmarc=results.dmarc.result if results is not None else "",
        arc=results.arc.result if results is not None else "",
        details=_details(envelope),
    )


def _details(envelope: Envelope) -> tuple[str, ...]:
    """What stands behind the + in the recipients' addresses, if each of them has that (RFC 5233 §1)."""
    found = [path.local_part.lower().partition("+")[2] for path in envelope.forward_paths]
    return tuple(found) if all(found) else ()


def _public(peer: str) -> str | None:
    """The peer's address, if it is one that the DNS of the whole world may know."""
    address = address_of(peer)
    return str(address) if address is not None and address.is_global else None
