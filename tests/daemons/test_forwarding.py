"""Senders of forwarded mail and the way back, with keys of the tenant that owns the domain."""

import asyncio
from collections.abc import AsyncIterator

import msgspec
import pytest

from config.srs import Srs
from config.units import DAY, Seconds
from daemons.context import Context
from daemons.forwarding import Forwarding, Returned, new_key
from protocol.address import AddrSpec
from storage import accounts, srs
from storage.errors import NotFoundError
from tests.conftest import Owner, Person
from tests.hearing import until_heard

BOB = AddrSpec("Bob", "example.org")
LONG = AddrSpec("bounces+1234567-abcd-user=example.com", "em1234.mailing.example.org")


def configured(context: Context, settings: Srs) -> Context:
    """The context with other settings of SRS."""
    changed = msgspec.structs.replace(context.settings, srs=settings)
    return Context(changed, *(getattr(context, name) for name in Context.__slots__[1:]))


@pytest.fixture
async def forwarding(context: Context, account: Person) -> AsyncIterator[Forwarding]:
    """Of a process that serves example.test."""
    made = Forwarding(context)
    yield made
    made.close()


@pytest.mark.parametrize("sender", [BOB, LONG, AddrSpec("ümlaut", "müller.example"), AddrSpec("a b", "[192.0.2.1]")])
async def test_there_and_back(forwarding: Forwarding, account: Person, sender: AddrSpec) -> None:
    """A bounce to the rewritten sender goes to the original one, for the tenant that forwarded, however long that is."""
    address = await forwarding.forwarded(sender, "Example.Test")
    assert address is not None
    assert address.domain == "example.test"
    assert len(address.local_part.encode()) <= 64
    found = await forwarding.reverse_of(address)
    assert found is not None
    assert found.tenant_id == account.tenant_id
    expected = AddrSpec(sender.local_part, sender.domain.replace("müller", "xn--mller-kva"))
    assert found.forward_path == expected


async def test_what_is_not_rewritten(forwarding: Forwarding) -> None:
    """The null reverse-path stays null, a sender of ours stays itself, and only our domains forward."""
    assert await forwarding.forwarded(None, "example.test") is None
    alice = AddrSpec("alice", "example.test")
    assert await forwarding.forwarded(alice, "example.test") == alice
    with pytest.raises(NotFoundError):
        await forwarding.forwarded(BOB, "elsewhere.test")


async def test_other_addresses_lead_nowhere(forwarding: Forwarding, context: Context, owner: Owner) -> None:
    """Forged, foreign and ordinary addresses are none of ours, before and after a key exists, at every domain."""
    other = await accounts.add_tenant(owner, "other", context.keys.new_tenant_key())
    await accounts.add_domain(owner, "other", "other.test")
    texts = ["alice", "SRS0=aaaaaa=aa=example.org=bob", "SRS1=aaaaaa=example.org==aa=bb=cc=dd", "SRS0=", "srs0-x"]
    for _ in range(2):
        for text in texts:
            for domain in ("example.test", "other.test", "elsewhere.test", ""):
                assert await forwarding.reverse_of(AddrSpec(text, domain)) is None
        address = await forwarding.forwarded(BOB, "example.test")
    assert address is not None
    assert await forwarding.reverse_of(AddrSpec(address.local_part, "other.test")) is None
    assert await forwarding.forwarded(BOB, "other.test") != AddrSpec(address.local_part, "other.test")
    assert other != await owner.fetchval("SELECT min(tenant_id) FROM srs_key")


async def test_processes_share_one_first_key(context: Context, owner: Owner, account: Person) -> None:
    """Several processes that forward for the first time at once agree on one key."""
    several = [Forwarding(context) for _ in range(4)]
    addresses = await asyncio.gather(*(each.forwarded(BOB, "example.test") for each in several))
    assert len(set(addresses)) == 1
    assert await owner.fetchval("SELECT count(*) FROM srs_key") == 1
    for each in several:
        each.close()


async def test_keys_are_wrapped(context: Context, owner: Owner, forwarding: Forwarding) -> None:
    """What lies in the database opens with the tenant's key alone, and rewrites nothing by itself."""
    await forwarding.forwarded(BOB, "example.test")
    wrapped = await owner.fetchval("SELECT wrapped_key FROM srs_key")
    assert len(wrapped) == 60  # nonce, 32 octets, tag
    tenant_id = await owner.fetchval("SELECT tenant_id FROM srs_key")
    assert len((await context.keys.tenant(context.pool, tenant_id)).unwrap(wrapped, srs.BOUND_TO)) == 32


async def test_keys_rotate(context: Context, owner: Owner, forwarding: Forwarding, account: Person) -> None:
    """With a new key the address is another one; the old one is taken until its key is forgotten, and not after."""
    old = await forwarding.forwarded(BOB, "example.test")
    assert old is not None
    await srs.add_key(owner, account.tenant_id, new_key(await context.keys.tenant(context.pool, account.tenant_id)))
    async with asyncio.timeout(20):
        while await forwarding.forwarded(BOB, "example.test") == old:
            await asyncio.sleep(0)
    assert await forwarding.reverse_of(old) == Returned(BOB, account.tenant_id)
    assert await srs.forget(owner, 3600, 100) == (0, 0)
    await owner.execute("UPDATE srs_key SET created_at = created_at - interval '2 hours'")
    assert await srs.forget(owner, 3600, 100) == (1, 0)
    async with asyncio.timeout(20):
        while await forwarding.reverse_of(old) is not None:
            await asyncio.sleep(0)
    new = await forwarding.forwarded(BOB, "example.test")
    assert new is not None
    assert await forwarding.reverse_of(new) == Returned(BOB, account.tenant_id)


async def test_stored_senders_end(owner: Owner, forwarding: Forwarding) -> None:
    """A sender that is stored is forgotten when no address of it can be valid any more; then its bounce leads nowhere."""
    address = await forwarding.forwarded(LONG, "example.test")
    assert address is not None
    assert await forwarding.forwarded(LONG, "example.test") == address
    assert await owner.fetchval("SELECT count(*) FROM srs_path") == 1
    assert await srs.forget(owner, 3600, 100) == (0, 0)
    await owner.execute("UPDATE srs_path SET used_at = used_at - interval '2 hours'")
    assert await srs.forget(owner, 3600, 100) == (0, 1)
    assert await forwarding.reverse_of(address) is None


async def test_one_domain_for_all(context: Context, owner: Owner, account: Person) -> None:
    """With srs.domain set, senders of all tenants are of that domain, and bounces belong to the tenant that owns it."""
    host = await accounts.add_tenant(owner, "host", context.keys.new_tenant_key())
    await accounts.add_domain(owner, "host", "srs.test")
    forwarding = Forwarding(configured(context, Srs(domain="srs.test")))
    address = await forwarding.forwarded(BOB, "example.test")
    assert address is not None
    assert address.domain == "srs.test"
    assert await forwarding.reverse_of(address) == Returned(BOB, host)
    forwarding.close()


async def test_a_known_key_costs_no_query(context: Context, forwarding: Forwarding) -> None:
    """Who guesses at addresses, or floods one with bounces, does not reach the database."""
    address = await forwarding.forwarded(BOB, "example.test")
    assert address is not None
    await until_heard(context)  # of the first key: those that are known are forgotten then
    await forwarding.reverse_of(address)
    async with context.pool.acquire(), context.pool.acquire(), context.pool.acquire(), context.pool.acquire():
        async with asyncio.timeout(20):  # the pool is empty: a query would wait for ever
            assert await forwarding.reverse_of(address) is not None
            assert await forwarding.reverse_of(AddrSpec("SRS0=aaaaaa=aa=x.example=y", "example.test")) is None


@pytest.mark.parametrize("lifetime", [DAY - 1, 366 * DAY])
def test_lifetimes_are_whole_days(lifetime: float) -> None:
    """Days are what an address can tell: shorter and much longer lifetimes are refused."""
    with pytest.raises(ValueError, match="1 to 365 days"):
        Srs(lifetime=Seconds(lifetime))
    with pytest.raises(ValueError, match="rotation"):
        Srs(rotation=Seconds(60))
