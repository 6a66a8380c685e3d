"""The keeper's rotation: keys are published, seen, activated, renewed, retired and removed, as the DNS shows them."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, timedelta

import msgspec
import pytest

from config.dkim import Dkim
from config.settings import Settings
from config.transport import Transport
from config.units import DAY, Seconds
from daemons.context import Context
from daemons.forwarding import new_key
from daemons.keeper.rotation import Rotated, Rotation
from daemons.relay.resolver import Resolver
from daemons.signing_keys import DelegationError, add_new_key, generate, look, records_of
from storage import signing, srs
from storage.errors import CorruptError, ExistsError
from storage.signing import KeyRow
from tests.conftest import Owner, Person
from tests.internet.dns import NameServer, name_server

TODAY = date(2025, 1, 2)
ALGORITHMS = ("rsa-sha256", "ed25519-sha256")


class Stage:
    """A database with one domain, a name server, and a keeper that goes round on demand."""

    def __init__(self, context: Context, owner: Owner, names: NameServer) -> None:
        self.context = context
        self.owner = owner
        self.names = names
        self.stopping = asyncio.Event()
        transport = Transport(resolvers=[names.address], answer_lifetime=Seconds(0))
        dkim = Dkim(delegation_zone="dkim.provider.example")
        self.settings: Settings = msgspec.structs.replace(context.settings, transport=transport, dkim=dkim)

    async def add(self, algorithm: str = "ed25519-sha256", *, is_delegated: bool = False) -> str:
        """A new key of example.test."""
        return await add_new_key(
            self.owner,
            self.context.keys,
            self.settings.dkim,
            "example.test",
            algorithm,
            is_delegated=is_delegated,
            today=TODAY,
        )

    async def publish(self) -> None:
        """What `postwerk dkim records` prints, put into the DNS."""
        for record in records_of(self.settings.dkim, "example.test", await self.keys()):
            value = f'"{record.value[:255]}" "{record.value[255:]}"' if record.kind == "TXT" else f"{record.value}."
            self.names.add(record.name, record.kind, value)

    async def round(self, *, days_later: float = 0) -> Rotated:
        """One round of the keeper, some time later."""
        if days_later:
            await self.owner.execute(
                "UPDATE dkim_key SET created_at = created_at - $1::interval, seen_at = seen_at - $1::interval, "
                "activated_at = activated_at - $1::interval, retired_at = retired_at - $1::interval",
                timedelta(days=days_later),
            )
        resolver = Resolver(self.settings.transport)
        try:
            async with self.context.pool.acquire() as connection:  # with the rights of the daemons
                return await Rotation(self.settings, self.context.keys, resolver).round(connection, self.stopping)
        finally:
            await resolver.close()

    async def keys(self) -> list[KeyRow]:
        """All keys."""
        return await signing.list_keys(self.owner, "example.test")

    async def states(self) -> dict[str, str]:
        """Selectors and states."""
        return {row.selector: row.state for row in await self.keys()}


@pytest.fixture
async def stage(context: Context, owner: Owner, account: Person) -> AsyncIterator[Stage]:
    """A stage without keys."""
    async with name_server() as names:
        yield Stage(context, owner, names)


async def test_a_first_key_signs_once_its_record_is_seen(stage: Stage) -> None:
    """Without its record a key waits, however long; with it, it signs from the next round on."""
    selector = await stage.add()
    assert selector == "pw20250102e"
    await stage.round(days_later=30)
    assert await stage.states() == {selector: "published"}
    await stage.publish()
    done = await stage.round()
    assert done.activated == [selector]
    assert await stage.states() == {selector: "active"}


async def test_a_wrong_record_activates_nothing(stage: Stage) -> None:
    """Neither another key's record nor a resolver that fails is the record."""
    selector = await stage.add()
    name = f"{selector}._domainkey.example.test"
    stage.names.add(name, "TXT", '"v=DKIM1; k=ed25519; p=AAAA"')
    assert (await stage.round()).activated == []
    await stage.publish()
    stage.names.fail(name, "TXT")
    assert (await stage.round()).activated == []
    stage.names.mend(name, "TXT")
    assert (await stage.round()).activated == [selector]


async def test_the_whole_way(stage: Stage) -> None:
    """An old key gets a successor, goes on signing until that has been seen for a day, retires, and is forgotten at the end."""
    first = await stage.add()
    await stage.publish()
    await stage.round()
    done = await stage.round(days_later=179)
    assert done.made == []
    done = await stage.round(days_later=2)
    [second] = done.made
    assert second == f"pw{datetime.now(UTC):%Y%m%d}e"
    await stage.round(days_later=20)
    assert await stage.states() == {first: "active", second: "published"}  # nobody has published it
    await stage.publish()
    assert (await stage.round()).activated == []  # seen for the first time
    assert (await stage.round(days_later=0.9)).activated == []
    assert (await stage.round(days_later=0.2)).activated == [second]
    assert await stage.states() == {first: "retired", second: "active"}
    assert await stage.owner.fetchval("SELECT wrapped_key FROM dkim_key WHERE selector = $1", first) is None
    await stage.round(days_later=13)
    assert await stage.states() == {first: "retired", second: "active"}
    assert (await stage.round(days_later=2)).removed == 1
    assert await stage.states() == {first: "removed", second: "active"}
    await stage.round()
    assert await stage.states() == {first: "removed", second: "active"}  # its record is still there
    stage.names.remove(f"{first}._domainkey.example.test")
    assert (await stage.round()).forgotten == 1
    assert await stage.states() == {second: "active"}


async def test_a_record_that_goes_away_is_waited_for_anew(stage: Stage) -> None:
    """The wait of a successor counts from when its record came to stay."""
    await stage.add()
    await stage.publish()
    await stage.round()
    second = await stage.add()
    await stage.publish()
    await stage.round()
    stage.names.remove(f"{second}._domainkey.example.test")
    await stage.round(days_later=5)
    await stage.publish()
    assert (await stage.round()).activated == []
    assert (await stage.round(days_later=2)).activated == [second]


async def test_a_delegated_domain_rotates_by_itself(stage: Stage) -> None:
    """The customer sets CNAMEs once; from then on only records of our own zone change, over two selectors by turns."""
    first = await stage.add(is_delegated=True)
    assert first == "pw1e"
    records = records_of(stage.settings.dkim, "example.test", await stage.keys())
    theirs = {(record.name, record.kind, record.value) for record in records if not record.is_ours}
    assert theirs == {
        (f"pw{slot}e._domainkey.example.test", "CNAME", f"pw{slot}e.example.test.dkim.provider.example")
        for slot in (1, 2)
    }
    for name, kind, value in theirs:
        stage.names.add(name, kind, f"{value}.")

    async def publish_ours() -> None:
        for record in records_of(stage.settings.dkim, "example.test", await stage.keys()):
            if record.is_ours:
                stage.names.add(record.name, "TXT", f'"{record.value}"')

    await publish_ours()
    assert (await stage.round()).activated == ["pw1e"]
    for old, new in (("pw1e", "pw2e"), ("pw2e", "pw1e"), ("pw1e", "pw2e")):
        assert (await stage.round(days_later=181)).made == [new]
        await publish_ours()
        await stage.round()
        assert (await stage.round(days_later=1.1)).activated == [new]
        assert (await stage.states())[old] == "retired"
        await publish_ours()
        await stage.round(days_later=15)
        assert (await stage.states())[new] == "active"


async def test_a_missing_cname_is_said(stage: Stage) -> None:
    """For a delegated domain the check tells that the customer's CNAME is what is missing."""
    await stage.add(is_delegated=True)
    [key] = await stage.keys()
    resolver = Resolver(stage.settings.transport)
    seen = await look(resolver, key)
    assert seen.detail == "pw1e._domainkey.example.test is no CNAME of pw1e.example.test.dkim.provider.example"
    await resolver.close()


async def test_a_silent_dns_holds_up_no_stop(stage: Stage) -> None:
    """A round ends at once when the keeper is told to stop, whatever it waits for; what it did not see changes nothing."""
    selector = await stage.add()
    await stage.publish()
    name = f"{selector}._domainkey.example.test"
    held = stage.names.hold(name, "TXT")
    round_ = asyncio.create_task(stage.round())
    async with asyncio.timeout(20):
        while not stage.names.asked[name, "TXT"]:
            await asyncio.sleep(0)
        stage.stopping.set()
        assert (await round_).activated == []
    held.set()
    stage.stopping.clear()
    assert (await stage.round()).activated == [selector]


async def test_a_dead_dns_is_not_asked_for_ever(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where one question after the other fails, the rest is left for the next round."""
    monkeypatch.setattr("daemons.signing_keys._FAILURES", 1)
    monkeypatch.setattr("daemons.signing_keys._AT_ONCE", 1)
    for algorithm in ALGORITHMS:
        selector = await stage.add(algorithm)
        stage.names.fail(f"{selector}._domainkey.example.test", "TXT")
    await stage.round()
    assert sum(stage.names.asked.values()) == stage.names.asked["pw20250102r._domainkey.example.test", "TXT"] > 0


async def test_one_successor_at_a_time(stage: Stage) -> None:
    """While a key waits there is no second one, and delegation needs a zone; both selectors in use wait for a free one."""
    await stage.add()
    with pytest.raises(ExistsError, match="waits"):
        await stage.add()
    await stage.add("rsa-sha256", is_delegated=True)
    await stage.owner.execute("UPDATE dkim_key SET state = 'active' WHERE selector = 'pw1r'")
    await stage.add("rsa-sha256", is_delegated=True)
    [second] = [row for row in await stage.keys() if row.selector == "pw2r"]
    await signing.activate(stage.owner, second.key_id)
    with pytest.raises(ExistsError, match="both rsa-sha256 selectors are in use"):
        await stage.add("rsa-sha256", is_delegated=True)
    stage.settings = msgspec.structs.replace(stage.settings, dkim=Dkim())
    await stage.owner.execute("DELETE FROM dkim_key")
    with pytest.raises(DelegationError):
        await stage.add(is_delegated=True)


async def test_rotation_can_be_left_to_people(stage: Stage) -> None:
    """With rotation 0, or an algorithm that is not wanted any more, no successor is made."""
    await stage.add()
    await stage.publish()
    await stage.round()
    for settings in (Dkim(rotation=Seconds(0)), Dkim(algorithms=["rsa-sha256"])):
        stage.settings = msgspec.structs.replace(stage.settings, dkim=settings)
        assert (await stage.round(days_later=300)).made == []


async def test_keys_of_rewriting_rotate(stage: Stage, account: Person) -> None:
    """A tenant whose key is old gets a new one; the old one is removed when its last address has ended."""
    wrapper = await stage.context.keys.tenant(stage.owner, account.tenant_id)
    await srs.add_key(stage.owner, account.tenant_id, new_key(wrapper))
    assert (await stage.round()).srs_made == 0
    await stage.owner.execute("UPDATE srs_key SET created_at = now() - interval '91 days'")
    done = await stage.round()
    assert (done.srs_made, done.srs_removed) == (1, 0)
    await stage.owner.execute("UPDATE srs_key SET created_at = created_at - interval '22 days'")
    assert (await stage.round()).srs_removed == 0
    await stage.owner.execute("UPDATE srs_key SET created_at = created_at - interval '2 days'")
    assert (await stage.round()).srs_removed == 1
    assert await stage.owner.fetchval("SELECT count(*) FROM srs_key") == 1


async def test_a_key_opens_in_its_own_row_only(stage: Stage, account: Person) -> None:
    """A private key that was copied to another selector in the database is of no use there."""
    await stage.add()
    await stage.owner.execute("UPDATE dkim_key SET state = 'active', selector = 'other'")
    [row] = await signing.active_keys(stage.context.pool, account.tenant_id, "example.test")
    with pytest.raises(CorruptError):
        row.unwrap(await stage.context.keys.tenant(stage.context.pool, account.tenant_id))


@pytest.mark.parametrize("algorithm", ALGORITHMS)
async def test_new_keys_are_as_configured(algorithm: str) -> None:
    """RSA keys have the size that is asked for."""
    key = await generate(algorithm, 3072)
    assert getattr(key, "key_size", 3072) == 3072


def test_records_outlive_signatures() -> None:
    """A retirement shorter than the lifetime of signatures is refused, and so is an algorithm named twice."""
    with pytest.raises(ValueError, match="retirement"):
        Dkim(retirement=Seconds(DAY))
    with pytest.raises(ValueError, match="algorithms"):
        Dkim(algorithms=["rsa-sha256", "rsa-sha256"])
