"""What was found out about where a message comes from: values of SPF, DKIM, ARC and DMARC, in the words of RFC 8601 §2.7."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

SpfWord: TypeAlias = Literal["none", "neutral", "pass", "fail", "softfail", "temperror", "permerror"]
DkimWord: TypeAlias = Literal["none", "pass", "fail", "policy", "neutral", "temperror", "permerror"]
ArcWord: TypeAlias = Literal["none", "pass", "fail"]  # RFC 8617 §10.1
DmarcWord: TypeAlias = Literal["none", "pass", "fail", "temperror", "permerror"]
Policy: TypeAlias = Literal["none", "quarantine", "reject"]
Scope: TypeAlias = Literal["mfrom", "helo"]
OverrideWord: TypeAlias = Literal["local_policy", "mailing_list", "other", "policy_test_mode", "trusted_forwarder"]


@dataclass(frozen=True, slots=True)
class SpfResult:
    """One check of a host against a domain, RFC 7208 §2.6."""

    result: SpfWord
    domain: str  # that was asked; "" when there was none
    scope: Scope
    reason: str = ""  # for people: the mechanism that matched, or what is wrong
    explanation: str = ""  # the domain's own words for its fail, US-ASCII (RFC 7208 §6.2)


@dataclass(frozen=True, slots=True)
class DkimResult:
    """One DKIM-Signature field, RFC 6376 §6.1."""

    result: DkimWord
    domain: str = ""  # d=, A-labels in lower case
    selector: str = ""
    identity: str = ""  # i=, as written; "" when it is not given
    algorithm: str = ""
    key_bits: int = 0
    signature: str = ""  # the first eight characters of b=, RFC 6008 §4
    reason: str = ""
    is_testing: bool = False  # t=y in the key record
    covers_part: bool = False  # l= leaves some of the body unsigned
    advice: str = ""  # what its signer should do better


@dataclass(frozen=True, slots=True)
class ArcSet:
    """One hop of a chain, RFC 8617 §4.2."""

    instance: int
    domain: str  # d= of its seal
    selector: str
    authentication_results: str  # the body of its ARC-Authentication-Results behind i=, on one line


@dataclass(frozen=True, slots=True)
class ArcResult:
    """The chain as a whole, RFC 8617 §5.2."""

    result: ArcWord
    sets: tuple[ArcSet, ...] = ()  # the first hop first; only of a chain that passes
    oldest_pass: int = 0  # the first instance whose message signature still holds, RFC 8617 §5.2
    reason: str = ""

    @property
    def sealers(self) -> tuple[str, ...]:
        """Domains of the seals, the first hop first."""
        return tuple(each.domain for each in self.sets)


@dataclass(frozen=True, slots=True)
class Override:
    """Why a policy was not followed, RFC 9990 §3.1.1.8."""

    kind: OverrideWord
    comment: str = ""


@dataclass(frozen=True, slots=True)
class DmarcResult:
    """The judgement of DMARC, RFC 9989 §4."""

    result: DmarcWord
    author_domain: str = ""  # of From, A-labels in lower case
    record_domain: str = ""  # where the policy was found
    organizational_domain: str = ""
    policy: Policy = "none"  # what the domain's owner asks for this message, t= included
    published: Policy = "none"  # the same without t=
    record: str = ""  # as published, on one line
    spf_aligned: bool = False  # SPF passed, for a domain that is aligned
    dkim_aligned: bool = False
    reason: str = ""


NO_SPF = SpfResult("none", "", "mfrom")
NO_ARC = ArcResult("none")
NO_DMARC = DmarcResult("none")


@dataclass(frozen=True, slots=True)
class Results:
    """All of one message."""

    spf: SpfResult = NO_SPF  # of the reverse path, or of the HELO name when that is null (RFC 7208 §2.4)
    helo: SpfResult | None = None  # of the HELO name, besides
    dkim: tuple[DkimResult, ...] = ()
    arc: ArcResult = NO_ARC
    dmarc: DmarcResult = NO_DMARC
    disposition: Policy = "none"  # what we do about it
    overrides: tuple[Override, ...] = ()  # why that differs from what DMARC asks

    @property
    def has_temporary_error(self) -> bool:
        """Whether a second try may find out more."""
        return "temperror" in (self.spf.result, self.dmarc.result, *(each.result for each in self.dkim))

    @property
    def is_sent(self) -> bool:
        """Whether SPF proves that the host may send for the domain of the reverse path."""
        return self.spf.result == "pass" and self.spf.scope == "mfrom"

    def vouch_for(self, domain: str) -> bool:
        """Whether they prove that the message comes from this domain (A-labels): signed or sent by it, or by one above it."""
        if self.dmarc.result == "pass" and self.dmarc.author_domain == domain:
            return True
        vouching = [each.domain for each in self.dkim if each.result == "pass"]
        if self.is_sent:
            vouching.append(self.spf.domain)
        return any(name and f".{domain}".endswith(f".{name}") for name in vouching)
