"""What the content filters found out, as delivery needs it: is the sender who it says, is it spam, what do scripts hear of both."""

from typing import TypeVar

from daemons.smtp.transaction import Origin
from filters.antivirus import Scanned
from filters.authentication.results import Results
from filters.pipeline import Decision, found_by
from filters.spam.findings import SpamFindings
from protocol.address import AddrSpec
from protocol.domain import a_labels

_Kind = TypeVar("_Kind")
_UNCHECKED, _CLEAN, _CURED, _INFECTED = 0, 1, 2, 5  # RFC 5235 §3


def found(decision: Decision, kind: type[_Kind]) -> _Kind | None:
    """What a filter found out, by its type."""
    return next((value for value in found_by(decision.results) if isinstance(value, kind)), None)


def may_be_told(reverse_path: AddrSpec | None, origin: Origin, own: Decision, account_id: int | None = None) -> bool:
    """Whether the envelope sender may get mail about this message that it has not asked for: a bounce, an answer.

    Only if it is proven to have sent it, and it is no spam: everybody else would be told of what somebody did in their name.
    """
    if reverse_path is None or own.junk is not None or own.quarantine is not None or is_spam(own, account_id):
        return False
    return origin.identity is not None or _is_proven(reverse_path, found(own, Results))


def may_be_answered(reverse_path: AddrSpec | None, origin: Origin, own: Decision, account_id: int) -> bool:
    """Whether the envelope sender may get what the account wants it to have: an answer, word of a rejection.

    Once per message at most, and the account's own will, so it need not be proven: only not refuted, and no spam.
    """
    if reverse_path is None or own.junk is not None or own.quarantine is not None or is_spam(own, account_id):
        return False
    results = found(own, Results)
    if origin.identity is not None or results is None or _is_proven(reverse_path, results):
        return True
    return results.spf.result not in ("fail", "softfail") and results.dmarc.result != "fail"


def is_spam(own: Decision, account_id: int | None) -> bool:
    """Whether the account's own thresholds, or the common ones, call it spam."""
    findings = found(own, SpamFindings)
    return findings is not None and findings.of(account_id).is_spam


def spam_score(own: Decision, account_id: int) -> float | None:
    """For spamtest, RFC 5235 §2: from 0 to 1; None when nothing was checked."""
    findings = found(own, SpamFindings)
    return None if findings is None else findings.sieve_score(account_id)


def virus_number(own: Decision) -> int:
    """For virustest, RFC 5235 §3."""
    scanned = found(own, Scanned)
    if scanned is None:
        return _UNCHECKED
    if scanned.found is None:
        return _CLEAN
    return _CURED if own.stripped else _INFECTED


def _is_proven(reverse_path: AddrSpec, results: Results | None) -> bool:
    """SPF passes for the reverse path, or its domain has signed the message."""
    if results is None:
        return False
    if results.spf.result == "pass" and results.spf.scope == "mfrom":
        return True
    domain = a_labels(reverse_path.domain).lower()
    signers = (each.domain for each in results.dkim if each.result == "pass" and each.domain)
    return any(domain == signer or domain.endswith(f".{signer}") for signer in signers)
