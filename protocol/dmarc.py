"""DMARC, RFC 9989: policy records, the tree walk over domains, alignment, and what a domain's owner asks for.

Nothing here asks the DNS: `walk` says which names to ask, and the records that were found come in as arguments.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias, cast

Policy: TypeAlias = Literal["none", "quarantine", "reject"]
Mode: TypeAlias = Literal["r", "s"]

QUERIES = 8  # of one walk, RFC 9989 §4.10
PLACES_LIMIT = 10  # ours: URIs of rua= that are looked at
_VERSION = re.compile(r"v[ \t]*=[ \t]*DMARC1[ \t]*(?:;|$)", re.IGNORECASE)  # RFC 9989 §4.8: the first tag
_POLICIES = ("none", "quarantine", "reject")
_SOFTER: dict[Policy, Policy] = {"reject": "quarantine", "quarantine": "none", "none": "none"}  # RFC 9989 §4.7, t=
_SIZE = re.compile(r"![0-9]+[kmgtKMGT]?$")  # of RFC 7489 §6.4, without meaning since RFC 9990 §4


@dataclass(frozen=True, slots=True)
class PolicyRecord:
    """One DMARC Policy Record, RFC 9989 §4.7."""

    text: str
    p: Policy = "none"
    sp: Policy | None = None
    np: Policy | None = None
    adkim: Mode = "r"
    aspf: Mode = "r"
    is_testing: bool = False  # t=y
    psd: Literal["y", "n", "u"] = "u"
    rua: tuple[str, ...] = ()  # URIs of aggregate reports
    fo: str = "0"
    is_usable: bool = True  # False: a policy that cannot be read, and nobody to be told of it


@dataclass(frozen=True, slots=True)
class Found:
    """A record, and the domain at whose _dmarc name it is."""

    domain: str
    record: PolicyRecord


def record_name(domain: str) -> str:
    """Where a domain's record is."""
    return f"_dmarc.{domain}"


def parse_record(texts: Iterable[bytes]) -> PolicyRecord | None:
    """The one record among the TXT records of a name; None when there is none, or more than one (RFC 9989 §4.10)."""
    records = [text for text in (octets.decode("utf-8", "replace") for octets in texts) if _VERSION.match(text)]
    return _read(records[0]) if len(records) == 1 else None


def walk(domain: str) -> list[str]:
    """The domains whose records are asked for, in that order, unless psd= of one ends the walk (RFC 9989 §4.10)."""
    labels = domain.split(".")
    kept = min(len(labels) - 1, QUERIES - 1)
    return [domain, *(".".join(labels[len(labels) - count :]) for count in range(kept, 0, -1))]


def ends_walk(record: PolicyRecord | None) -> bool:
    """Whether no further name is asked, RFC 9989 §4.10 step 2."""
    return record is not None and record.psd != "u"


def organizational_domain(domain: str, found: Sequence[Found]) -> str:
    """The domain's Organizational Domain, by what a walk from it has found, in its order (RFC 9989 §4.10.2)."""
    for each in found:
        if each.record.psd == "n":
            return each.domain
        if each.record.psd == "y" and each.domain != domain:
            labels = domain.split(".")
            return ".".join(labels[-len(each.domain.split(".")) - 1 :])
    return found[-1].domain if found else domain


def applied_record(domain: str, found: Sequence[Found]) -> Found | None:
    """The record for mail of an Author Domain: its own, its Organizational Domain's, its public suffix's (RFC 9989 §4.10.1)."""
    organization = organizational_domain(domain, found)
    by_domain = {each.domain: each for each in found}
    for wanted in (domain, organization):
        if wanted in by_domain:
            return by_domain[wanted]
    return next((each for each in found if each.record.psd == "y"), None)


def published_policy(author_domain: str, applied: Found, *, exists: bool) -> Policy:
    """What the record says of the domain: p= of itself, sp= of a subdomain, np= of one that does not exist (RFC 9989 §4.7)."""
    record = applied.record
    if applied.domain == author_domain:
        return record.p
    if not exists and record.np is not None:
        return record.np
    return record.sp or record.p


def requested_policy(published: Policy, record: PolicyRecord) -> Policy:
    """The policy with t=y taken into account: one step less (RFC 9989 §4.7)."""
    return _SOFTER[published] if record.is_testing else published


def is_aligned(identifier: str, author_domain: str, *, mode: Mode, organizations: tuple[str, str]) -> bool:
    """Identifier Alignment, RFC 9989 §4.4; organizations are those of the identifier and of the author domain."""
    return identifier == author_domain or (mode == "r" and organizations[0] == organizations[1])


def report_permission_name(domain: str, receiver: str) -> str:
    """Where a domain outside says that it wants another one's reports, RFC 9990 §4."""
    return f"{domain}._report._dmarc.{receiver}"


def permits_reports(texts: Iterable[bytes]) -> bool:
    """Whether the record at that name says so; more than the version is not needed."""
    return any(_VERSION.match(octets.decode("utf-8", "replace")) for octets in texts)


def _read(text: str) -> PolicyRecord:
    tags = _tags(text)
    rua = tuple(_uris(tags.get("rua", "")))
    p, sp, np = (tags.get(name, "").lower() for name in ("p", "sp", "np"))
    is_sound = all(value in ("", *_POLICIES) for value in (p, sp, np))
    if not is_sound:
        p, sp, np = "none", "", ""  # for reports alone, RFC 9989 §4.10.1
    psd, fo = tags.get("psd", "u").lower(), tags.get("fo", "0").lower()
    return PolicyRecord(
        text=" ".join(text.split()),
        p=cast(Policy, p or "none"),
        sp=cast(Policy, sp) if sp else None,
        np=cast(Policy, np) if np else None,
        adkim="s" if tags.get("adkim", "").lower() == "s" else "r",
        aspf="s" if tags.get("aspf", "").lower() == "s" else "r",
        is_testing=tags.get("t", "").lower() == "y",
        psd=cast(Literal["y", "n", "u"], psd) if psd in ("y", "n") else "u",
        rua=rua,
        fo=fo if re.fullmatch(r"[01ds](?:[ \t]*:[ \t]*[01ds])*", fo) else "0",
        is_usable=is_sound or bool(rua),
    )


def _tags(text: str) -> dict[str, str]:
    """The tags that can be read, each as it comes first; others are passed over (RFC 9989 §4.8)."""
    tags: dict[str, str] = {}
    for part in text.split(";"):
        name, equals, value = part.partition("=")
        if equals:
            tags.setdefault(name.strip().lower(), value.strip())
    return tags


def _uris(value: str) -> list[str]:
    places = [_SIZE.sub("", place.strip()) for place in value.split(",")]
    return [place for place in places if place.lower().startswith("mailto:") and "@" in place][:PLACES_LIMIT]
