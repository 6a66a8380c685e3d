"""DMARC, RFC 9989: finds the policy for mail of a domain, and judges the results of SPF and DKIM by it."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from filters.authentication.dkim import passing_domains
from filters.authentication.results import DkimResult, DmarcResult, SpfResult
from filters.ports import Resolver
from protocol.address import is_domain
from protocol.dmarc import (
    Found,
    Mode,
    applied_record,
    ends_walk,
    is_aligned,
    organizational_domain,
    parse_record,
    published_policy,
    record_name,
    requested_policy,
    walk,
)
from protocol.domain import a_labels
from protocol.message.address_list import parse
from protocol.message.header import RawField, unfold

AUTHORS = 5  # domains of From that are judged, ours; RFC 5322 allows any number, and mail has one
_FIELD_OCTETS = 64 * 1024  # of one From field that are read, ours
_SIGNERS = 10  # domains whose alignment is looked at
_STRICTNESS = ("none", "quarantine", "reject")


@dataclass(frozen=True, slots=True)
class Judgement:
    """The result, and the record that it rests on."""

    result: DmarcResult
    applied: Found | None = None


@dataclass(frozen=True, slots=True)
class _Walk:
    """What one tree walk has found, from the longest name to the shortest."""

    found: tuple[Found, ...]
    is_whole: bool = True  # False: some name gave no answer


def author_domains(fields: Sequence[RawField]) -> list[str]:
    """The domains of all addresses of these From fields, each once, in A-labels."""
    addresses = [address for _, body, _ in fields for address in parse(unfold(body[:_FIELD_OCTETS])) if address.host]
    names = [a_labels((address.host or b"").decode("utf-8", "replace").strip()) for address in addresses]
    return list(dict.fromkeys(name for name in names if is_domain(name)))


async def judge(resolver: Resolver, authors: Sequence[str], spf: SpfResult, dkim: Sequence[DkimResult]) -> Judgement:
    """The judgement of a message. With authors of several domains it is the hardest one: each of them may be forged."""
    if not authors:
        return Judgement(DmarcResult("none", reason="no author domain"))
    if len(authors) == 1:
        return await _judged(resolver, authors[0], spf, dkim)
    judged = await asyncio.gather(*(_judged(resolver, author, spf, dkim) for author in authors[:AUTHORS]))
    return max(judged, key=lambda each: (each.result.result != "pass", _STRICTNESS.index(each.result.policy)))


async def organization_of(resolver: Resolver, domain: str) -> str:
    """The Organizational Domain of any domain. Raises TimeoutError."""
    walked = await _walked(resolver, domain)
    if not walked.is_whole:
        raise TimeoutError
    return organizational_domain(domain, walked.found)


async def _judged(resolver: Resolver, author: str, spf: SpfResult, dkim: Sequence[DkimResult]) -> Judgement:
    found = await _walked(resolver, author)
    applied = applied_record(author, found.found)
    if not found.is_whole and (applied is None or applied.domain != author):
        return Judgement(DmarcResult("temperror", author, reason="no answer from the DNS"))
    if applied is None:
        return Judgement(DmarcResult("none", author))
    if not applied.record.is_usable:
        return Judgement(
            DmarcResult("permerror", author, applied.domain, record=applied.record.text, reason="no valid policy")
        )
    try:
        exists = applied.domain == author or applied.record.np is None or await resolver.exists(author)
    except TimeoutError:
        exists = True
    published = published_policy(author, applied, exists=exists)
    spf_aligned, dkim_aligned, is_sure = await _alignment(resolver, author, found, applied, spf, dkim)
    passes = spf_aligned or dkim_aligned
    may_pass_later = spf.result == "temperror" or any(each.result == "temperror" for each in dkim) or not is_sure
    return Judgement(
        DmarcResult(
            result="pass" if passes else "temperror" if may_pass_later else "fail",
            author_domain=author,
            record_domain=applied.domain,
            organizational_domain=organizational_domain(author, found.found),
            policy=requested_policy(published, applied.record),
            published=published,
            record=applied.record.text,
            spf_aligned=spf_aligned,
            dkim_aligned=dkim_aligned,
        ),
        applied,
    )


async def _alignment(
    resolver: Resolver, author: str, found: _Walk, applied: Found, spf: SpfResult, dkim: Sequence[DkimResult]
) -> tuple[bool, bool, bool]:
    """Whether SPF and DKIM are aligned, and whether that is known for sure."""
    organization = organizational_domain(author, found.found)
    signers = passing_domains(dkim)[:_SIGNERS]
    senders = [spf.domain] if spf.result == "pass" and spf.domain else []
    record = applied.record
    wanted = [(name, record.aspf) for name in senders] + [(name, record.adkim) for name in signers]
    if all(name == author for name, _ in wanted):  # nearly all mail that passes: nobody need be asked
        return bool(senders), bool(signers), True
    outcomes = await asyncio.gather(
        *(_is_aligned(resolver, name, author, organization, mode, is_whole=found.is_whole) for name, mode in wanted)
    )
    spf_outcomes, dkim_outcomes = outcomes[: len(senders)], outcomes[len(senders) :]
    return True in spf_outcomes, True in dkim_outcomes, None not in outcomes


async def _is_aligned(
    resolver: Resolver, name: str, author: str, organization: str, mode: Mode, *, is_whole: bool
) -> bool | None:
    """None: it cannot be known now."""
    if name == author:
        return True
    if mode == "s" or name.rpartition(".")[2] != author.rpartition(".")[2]:
        return False  # domains under different top-level domains have no Organizational Domain in common
    walked = await _walked(resolver, name)
    if not (walked.is_whole and is_whole):
        return None
    organizations = organizational_domain(name, walked.found), organization
    return is_aligned(name, author, mode=mode, organizations=organizations)


async def _walked(resolver: Resolver, domain: str) -> _Walk:
    found: list[Found] = []
    is_whole = True
    for name in walk(domain):
        try:
            record = parse_record(await resolver.texts(record_name(name)))
        except TimeoutError:
            is_whole = False
            break
        if record is not None:
            found.append(Found(name, record))
        if ends_walk(record):
            break
    return _Walk(tuple(found), is_whole)
