"""The envelope filter `spf`: whether the host may send for the sender's domain, RFC 7208, known before the message comes.

What is found out is not asked again for the message. By itself a fail is no reason to refuse: forwarded mail fails as well, and
DMARC knows better; who wants it may have it so (RFC 7208 §8.4).
"""

from collections.abc import Sequence

from filters.authentication import spf
from filters.authentication.results import SpfResult
from filters.ports import OnFailure, Resolver
from filters.subject import Envelope
from filters.verdict import Finding, Refuse, Verdict
from protocol.smtp.reply import reply


class SenderPolicy:
    """The filter."""

    name = "spf"
    on_failure: OnFailure = "pass"
    limit_seconds = spf.LIMIT_SECONDS + 1.0

    def __init__(self, resolver: Resolver, receiver: str, *, refuses_fail: bool = False) -> None:
        """receiver: our name, for explanations."""
        self._resolver = resolver
        self._receiver = receiver
        self._refuses_fail = refuses_fail

    async def check(self, subject: Envelope) -> Sequence[Verdict]:
        """The result, and the refusal of a fail where that is wanted."""
        found = await spf.check_sender(
            self._resolver, subject.peer, subject.helo, subject.reverse_path, receiver=self._receiver
        )
        verdicts: list[Verdict] = [Finding(found)]
        if found.result == "fail" and self._refuses_fail:
            verdicts.append(
                Refuse(reply(550, "5.7.23", *_told(found)), f"SPF of {found.domain} fails")
            )  # RFC 7372 §3.2
        return verdicts


def _told(found: SpfResult) -> list[str]:
    """The text of the refusal; the domain's own words are marked as such (RFC 7208 §6.2)."""
    said = [f"SPF: {found.domain} does not let your host send for it"]
    return [*said, f"{found.domain} explains: {found.explanation}"] if found.explanation else said
