"""DKIM keys from their making to their end: selectors, records, what the DNS shows of them, successors.

Selectors of a domain that publishes its own records are new with every key. A delegated domain has two for each algorithm,
set once as CNAMEs into a zone of ours, which serve one key after the other.
"""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key

from config.dkim import Dkim
from daemons.relay.resolver import LookupFailedError, Resolver
from protocol.dkim.record import Finding, examine, record_name, record_text
from protocol.dkim.signature import PrivateKey, algorithm_of, private_octets, public_octets
from protocol.domain import a_labels
from storage import signing
from storage.blobs.keys import KeyRing
from storage.errors import ExistsError, StorageError
from storage.pool import Connection
from storage.signing import KeyRow

SLOTS = (1, 2)  # selectors of a delegated domain, by turns
_LETTERS = {"rsa-sha256": "r", "ed25519-sha256": "e"}
_EXPONENT = 65537
_AT_ONCE = 20  # questions
_FAILURES = 40  # one behind the other


class DelegationError(StorageError):
    """A domain cannot be delegated: no zone is configured for it."""


@dataclass(frozen=True, slots=True)
class Record:
    """One record that somebody has to publish."""

    name: str
    kind: str  # "TXT" or "CNAME"
    value: str
    is_ours: bool  # it stands in our delegation zone, not in the customer's


@dataclass(frozen=True, slots=True)
class Look:
    """What the DNS shows of one key."""

    key: KeyRow
    finding: Finding | None  # None: it cannot be known now
    detail: str = ""


async def generate(algorithm: str, rsa_bits: int) -> PrivateKey:
    """A new key; RSA takes a moment, in a thread."""
    if algorithm == "ed25519-sha256":
        return Ed25519PrivateKey.generate()
    return await asyncio.to_thread(generate_private_key, _EXPONENT, rsa_bits)


async def add_key(
    connection: Connection, ring: KeyRing, domain: str, selector: str, private_key: PrivateKey, target: str | None
) -> None:
    """Store a key of a local domain; it signs once it is activated. Raises NotFoundError, ExistsError."""
    domain_id, tenant_id = await signing.domain_of(connection, domain)
    wrapper = await ring.tenant(connection, tenant_id)
    wrapped = wrapper.wrap(private_octets(private_key), signing.bound_to(domain, selector))
    public = public_octets(private_key)
    await signing.add_key(connection, domain_id, selector, algorithm_of(private_key), public, wrapped, target)


async def add_new_key(
    connection: Connection,
    ring: KeyRing,
    settings: Dkim,
    domain: str,
    algorithm: str,
    *,
    is_delegated: bool,
    today: date,
) -> str:
    """Make a key under the next selector, which is returned.

    Raises NotFoundError, ExistsError when a key waits already or no slot is free, DelegationError.
    """
    rows = await signing.list_keys(connection, domain)
    if any(row.algorithm == algorithm and row.state == "published" for row in rows):
        raise ExistsError(f"{domain}: a new {algorithm} key waits to be seen in the DNS already")
    if is_delegated:
        taken = {row.selector for row in rows if row.state != "removed"}
        free = [name for name in slot_selectors(settings, algorithm) if name not in taken]
        if not free:
            raise ExistsError(f"{domain}: both {algorithm} selectors are in use until the retired key is removed")
        selector, target = free[0], _target(settings, free[0], domain)
    else:
        taken = {row.selector for row in rows}
        selector, target = next(name for name in _dated(settings, algorithm, today) if name not in taken), None
    private_key = await generate(algorithm, settings.rsa_bits)
    await add_key(connection, ring, domain, selector, private_key, target)
    return selector


def slot_selectors(settings: Dkim, algorithm: str) -> list[str]:
    """The selectors of a delegated domain for one algorithm."""
    return [f"{settings.selector_prefix}{slot}{_LETTERS[algorithm]}" for slot in SLOTS]


def records_of(settings: Dkim, domain: str, keys: Sequence[KeyRow]) -> list[Record]:
    """What has to be in the DNS for the keys of one domain, in the customer's zone and in ours.

    A delegated domain gets the CNAMEs of all its selectors at once: the customer sets them once and for all.
    """
    records: dict[str, Record] = {}
    name = a_labels(domain)
    for key in keys:
        if key.target is not None:
            for selector in {key.selector: 0, **dict.fromkeys(slot_selectors(settings, key.algorithm))}:
                target = key.target if selector == key.selector else _target(settings, selector, domain)
                alias = record_name(selector, name)
                records[alias] = Record(alias, "CNAME", target, is_ours=False)
        if key.state != "removed":
            place = key.target or record_name(key.selector, name)
            value = record_text(key.algorithm, key.public_key)
            records[place] = Record(place, "TXT", value, is_ours=key.target is not None)
    return sorted(records.values(), key=lambda record: (record.is_ours, record.kind, record.name))


async def look(resolver: Resolver, key: KeyRow) -> Look:
    """Ask for the record where verifiers do."""
    name = record_name(key.selector, a_labels(key.domain))
    try:
        answer = await resolver.ask(name, "TXT")
        texts = [text.encode() for text in await resolver.txt(name)]
    except LookupFailedError as error:
        return Look(key, None, str(error))
    finding = examine(texts, key.algorithm, key.public_key)
    if finding is not Finding.RIGHT and key.target is not None and answer.name != key.target:
        return Look(key, finding, f"{name} is no CNAME of {key.target}")
    return Look(key, finding)


async def look_at_all(resolver: Resolver, keys: Sequence[KeyRow]) -> list[Look]:
    """look() for many keys, some of them at a time. Where the DNS does not answer, the rest is not asked about."""
    gate, failures = asyncio.Semaphore(_AT_ONCE), 0

    async def one(key: KeyRow) -> Look:
        nonlocal failures
        async with gate:
            if failures >= _FAILURES:
                return Look(key, None, "not asked: the DNS does not answer")
            seen = await look(resolver, key)
            failures = failures + 1 if seen.finding is None else 0
            return seen

    return list(await asyncio.gather(*(one(key) for key in keys)))


async def missing_aliases(resolver: Resolver, settings: Dkim, keys: Sequence[KeyRow]) -> list[Record]:
    """CNAMEs that delegated domains lack for selectors no key uses yet: the next rotation will. What is not known is left out."""
    missing = []
    domains = dict.fromkeys(key.domain for key in keys if key.target is not None)
    for domain in domains:
        own = [key for key in keys if key.domain == domain]
        used = {record_name(key.selector, a_labels(domain)) for key in own}
        for record in records_of(settings, domain, own):
            if record.kind == "CNAME" and record.name not in used:
                try:
                    answer = await resolver.ask(record.name, "TXT")
                except LookupFailedError:
                    continue
                if answer.name != record.value:
                    missing.append(record)
    return missing


async def note(connection: Connection, looks: Sequence[Look], is_due: Callable[[KeyRow], bool]) -> list[KeyRow]:
    """Keep what was seen, and let keys sign whose records are right and which are due. Returns those keys.

    What cannot be known now changes nothing.
    """
    activated = []
    for seen in looks:
        if seen.finding is None or seen.key.state not in ("published", "active"):
            continue
        is_right = seen.finding is Finding.RIGHT
        await signing.note_seen(connection, seen.key.key_id, is_right=is_right)
        if is_right and seen.key.state == "published" and is_due(seen.key):
            await signing.activate(connection, seen.key.key_id)
            activated.append(seen.key)
    return activated


def _target(settings: Dkim, selector: str, domain: str) -> str:
    if not settings.delegation_zone:
        raise DelegationError("dkim.delegation_zone is not set: no domain can be delegated")
    return f"{selector}.{a_labels(domain)}.{a_labels(settings.delegation_zone)}"


def _dated(settings: Dkim, algorithm: str, today: date) -> Iterator[str]:
    name = f"{settings.selector_prefix}{today:%Y%m%d}{_LETTERS[algorithm]}"
    yield name
    number = 2
    while True:
        yield f"{name}{number}"
        number += 1
