"""The content filter `authentication`: who a message is from, as far as that can be known, and what its domain's owner asks for."""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from filters.authentication import arc, dkim, dmarc, spf
from filters.authentication.message import SignedMessage
from filters.authentication.overrides import Applied, Circumstances, Known, decide, list_id_of
from filters.authentication.results import NO_SPF, Results, SpfResult
from filters.authentication.telling import findings
from filters.networks import address_of
from filters.ports import OnFailure, Resolver
from filters.subject import Envelope, Subject
from filters.verdict import AddField, Finding, Quarantine, Refuse, Verdict
from protocol import authentication_results
from protocol.dmarc import Found
from protocol.smtp.reply import reply

REFUSED = reply(550, "5.7.26", "this message does not pass the DMARC policy of its author's domain")  # RFC 7372 §3.3


@dataclass(frozen=True, slots=True)
class Rules:
    """The settings of the filter."""

    authserv_id: str
    apply: Applied = "policy"  # "quarantine": never refused; "none": only told
    known: Known = field(default_factory=Known)


@dataclass(frozen=True, slots=True)
class Evidence:
    """Everything about one message that an aggregate report may need."""

    results: Results
    applied: Found | None  # the policy record, and where it was found; None: no report


class Authentication:
    """SPF, DKIM, ARC and DMARC of every message from outside. Filters that need it are told the Results. It remembers nothing."""

    name = "authentication"
    on_failure: OnFailure = "pass"  # mail without results is still mail
    needs: Sequence[str] = ()
    limit_seconds = 30.0

    def __init__(
        self,
        rules: Rules,
        resolver: Resolver,
        *,
        note: Callable[[Envelope, Evidence], None] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """note is told of each message whose author's domain has a policy, for reports."""
        self._rules = rules
        self._resolver = resolver
        self._note = note
        self._clock = clock

    async def check(self, subject: Subject) -> Sequence[Verdict]:
        """The field that tells the results, and what the policy comes to."""
        if subject.envelope.is_authenticated or self._rules.known.exempts(subject.envelope.peer):
            return ()
        evidence = await self._examined(subject)
        results = evidence.results
        if self._note is not None and evidence.applied is not None:
            self._note(subject.envelope, evidence)
        body = authentication_results.render(self._rules.authserv_id, findings(results, subject.envelope))
        field = AddField(authentication_results.NAME, body)
        verdicts: list[Verdict] = [field, Finding(results)]
        reason = f"DMARC policy of {results.dmarc.record_domain}"
        if results.disposition == "reject":
            verdicts.append(Refuse(REFUSED, reason))
        elif results.disposition == "quarantine":
            verdicts.append(Quarantine(reason))
        return verdicts

    async def _examined(self, subject: Subject) -> Evidence:
        message = SignedMessage(subject.header, subject.original)
        now = self._clock()
        claims, chain = dkim.read_claims(message, at=now), arc.read(message, at=now)
        await message.hash(dkim.forms(claims) | arc.forms(chain))
        sender, helo, signed, chained = await asyncio.gather(
            self._sender(subject.envelope),
            self._helo(subject.envelope),
            dkim.verify(self._resolver, message, claims),
            arc.verify(self._resolver, message, chain),
        )
        authors = dmarc.author_domains(message.header.named(b"from"))
        judged = await dmarc.judge(self._resolver, authors, sender, signed)
        list_id = list_id_of(message.header.named(b"list-id"))
        circumstances = Circumstances(subject.envelope.peer, sender, signed, chained, list_id)
        disposition, overrides = decide(judged.result, circumstances, self._rules.known, self._rules.apply)
        results = Results(sender, helo, signed, chained, judged.result, disposition, overrides)
        return Evidence(results, judged.applied)

    async def _sender(self, envelope: Envelope) -> SpfResult:
        if address_of(envelope.peer) is None:
            return NO_SPF
        if (known := envelope.noted(SpfResult)) is not None:  # the envelope filter `spf` has asked already
            return known
        peer, helo, path = envelope.peer, envelope.helo, envelope.reverse_path
        return await spf.check_sender(self._resolver, peer, helo, path, receiver=self._rules.authserv_id)

    async def _helo(self, envelope: Envelope) -> SpfResult | None:
        if envelope.reverse_path is None or not envelope.helo or address_of(envelope.peer) is None:
            return None  # with a null reverse path it is checked in place of the sender
        receiver = self._rules.authserv_id
        found = await spf.check_helo(self._resolver, envelope.peer, envelope.helo, receiver=receiver)
        return found if found.result != "none" else None
