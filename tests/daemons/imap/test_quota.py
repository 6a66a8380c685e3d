"""QUOTA, RFC 9208: roots, limits, who may set them, and that nothing gets past them."""

import asyncio

import pytest

from storage import sharing
from tests.conftest import Owner, Person, add_person
from tests.daemons.imap.conftest import Service, mail
from tests.daemons.imap.conversation import Client
from tests.daemons.imap.proofs import proves

ROOT = b"account/alice@example.test"


async def other(service: Service, person: Person) -> Client:
    """A connection of somebody else, logged in."""
    client = await Client.connect(service.endpoints["imaps"], service.tls)
    await client.login(person.login)
    return client


async def limit(owner: Owner, octets: int | None, messages: int | None = None) -> None:
    """Give alice limits, behind the server's back."""
    await owner.execute(
        "UPDATE account SET quota_octets = $1, quota_messages = $2 WHERE login LIKE 'alice@%'", octets, messages
    )


@proves(b"QUOTA")
async def test_roots(service: Service, owner: Owner) -> None:
    """GETQUOTAROOT names the account's root and the tenant's pool, GETQUOTA tells one; names to be created have roots, too."""
    await service.deliver(mail(), mail())
    await limit(owner, 10 * 1024, 100)
    await owner.execute("UPDATE tenant SET quota_octets = 1048576")
    async with await service.client() as client:
        mine = b"* QUOTA account/alice@example.test (STORAGE 1 10 MESSAGE 2 100)"
        pool = b"* QUOTA pool/example (STORAGE 1 1024)"
        roots = b" account/alice@example.test pool/example"
        assert await client.ok(b"GETQUOTAROOT INBOX") == [b"* QUOTAROOT INBOX" + roots, mine, pool]
        assert await client.ok(b"GETQUOTAROOT new/x") == [b"* QUOTAROOT new/x" + roots, mine, pool]
        assert await client.ok(b"GETQUOTA " + ROOT) == [mine]
        assert await client.ok(b"GETQUOTA pool/example") == [pool]
        for root in (b"pool/other", b"account/nobody@example.test", b'""', b"INBOX"):
            *_, refused = await client.command(b"GETQUOTA " + root)
            assert refused.startswith(b"t NO [NONEXISTENT] ")
        assert (await client.command(b"GETQUOTA {1+}\r\n\xff"))[-1].startswith(b"t NO [NONEXISTENT] ")


async def test_without_limits(service: Service) -> None:
    """An account without limits tells no root, for there is no QUOTA response without resources, and a tenant no pool."""
    async with await service.client() as client:
        assert await client.ok(b"GETQUOTAROOT inbox") == [b"* QUOTAROOT INBOX"]
        assert await client.ok(b"GETQUOTA " + ROOT) == []
        *_, refused = await client.command(b"GETQUOTA pool/example")
        assert refused.startswith(b"t NO [NONEXISTENT] ")


@proves(b"QUOTA=RES-STORAGE")
async def test_storage(service: Service, owner: Owner) -> None:
    """APPEND and COPY beyond the limit on octets are NO [OVERQUOTA]; a move within the account takes no room."""
    (uid,) = await service.deliver(mail())
    size = await owner.fetchval("SELECT size_octets FROM message")
    await limit(owner, size + 5)
    async with await service.client() as client:
        await client.ok(b"SELECT INBOX")
        *_, refused = await client.command(b"APPEND Trash {6+}\r\nA: b\r\n")
        assert refused.startswith(b"t NO [OVERQUOTA] ")
        *_, refused = await client.command(b"COPY 1 Trash")
        assert refused.startswith(b"t NO [OVERQUOTA] ")
        await client.ok(b"UID MOVE %d Trash" % uid)
        await limit(owner, size + 6)
        assert (await client.command(b"APPEND Trash {6+}\r\nA: b\r\n"))[-1].startswith(b"t OK ")


@proves(b"QUOTA=RES-MESSAGE")
async def test_messages(service: Service, owner: Owner) -> None:
    """A limit on the number of messages holds for APPEND and COPY, and is told with its usage."""
    await service.deliver(mail(), mail())
    await limit(owner, None, 3)
    async with await service.client() as client:
        await client.ok(b"SELECT INBOX")
        *_, refused = await client.command(b"COPY 1:2 Trash")
        assert refused.startswith(b"t NO [OVERQUOTA] ")
        await client.ok(b"COPY 1 Trash")
        assert await client.ok(b"GETQUOTA " + ROOT) == [b"* QUOTA account/alice@example.test (MESSAGE 3 3)"]
        *_, refused = await client.command(b"APPEND INBOX {6+}\r\nA: b\r\n")
        assert refused.startswith(b"t NO [OVERQUOTA] ")


@proves(b"QUOTASET")
async def test_setquota(service: Service, owner: Owner) -> None:
    """An administrator replaces the limits of its tenant's accounts; nobody else does, and the pool is nobody's."""
    bob = await add_person(service.context.settings, owner, "bob@example.test")
    await limit(owner, 5000, 7)
    async with await service.client() as alice, await other(service, bob) as client:
        *_, refused = await alice.command(b"SETQUOTA " + ROOT + b" (STORAGE 512)")
        assert refused.startswith(b"t NO [NOPERM] ")
        await owner.execute("UPDATE account SET is_administrator = true WHERE login = 'bob@example.test'")
        told = b"* QUOTA account/alice@example.test (STORAGE 0 512)"
        assert await client.ok(b"SETQUOTA " + ROOT + b" (storage 512)") == [told]
        assert await alice.ok(b"GETQUOTA " + ROOT) == [told]
        both = b"* QUOTA account/alice@example.test (STORAGE 0 1 MESSAGE 0 20)"
        assert await client.ok(b"SETQUOTA " + ROOT + b" (MESSAGE 20 STORAGE 1)") == [both]
        for refusal in (b" (MAILBOX 3)", b" (STORAGE 9223372036854775807)"):
            *_, refused = await client.command(b"SETQUOTA " + ROOT + refusal)
            assert refused.startswith(b"t NO [CANNOT] ")
        assert await client.ok(b"GETQUOTA " + ROOT) == [both]
        assert await client.ok(b"SETQUOTA " + ROOT + b" ()") == []
        await owner.execute("UPDATE tenant SET quota_octets = 5000")
        *_, refused = await client.command(b"SETQUOTA pool/example (STORAGE 512)")
        assert refused.startswith(b"t NO [NOPERM] ")
        assert (await client.command(b"SETQUOTA " + ROOT + b" (MESSAGE 1 message 2)"))[-1].startswith(b"t BAD ")


async def test_a_shared_mailbox_counts_for_its_owner(service: Service, owner: Owner) -> None:
    """Room in a shared mailbox is its owner's, who sees its root, as does who may read it and nobody else."""
    bob = await add_person(service.context.settings, owner, "bob@example.test")
    await service.deliver(mail(), mailbox="Team")
    shared = b'"Other Users/alice@example.test/Team"'
    await limit(owner, None, 1)
    async with await other(service, bob) as client:
        for asked in (b"GETQUOTA " + ROOT, b"GETQUOTAROOT " + shared, b'GETQUOTAROOT "Other Users/x/y"'):
            *_, refused = await client.command(asked)
            assert refused.startswith(b"t NO [NONEXISTENT] ")
        box = await service.mailbox_id("Team")
        await sharing.set_rights(owner, box, bob.login, "replace", "l", is_negative=False)
        *_, refused = await client.command(b"GETQUOTAROOT " + shared)
        assert refused.startswith(b"t NO [NOPERM] ")
        await sharing.set_rights(owner, box, bob.login, "replace", "lri", is_negative=False)
        told = [b"* QUOTAROOT " + shared + b" " + ROOT, b"* QUOTA " + ROOT + b" (MESSAGE 1 1)"]
        assert await client.ok(b"GETQUOTAROOT " + shared) == told
        assert await client.ok(b"GETQUOTA " + ROOT) == told[1:]
        await client.command(b"APPEND INBOX {6+}\r\nA: b\r\n")
        await client.ok(b"SELECT INBOX")
        for refusal in (b"APPEND " + shared + b" {6+}\r\nA: b\r\n", b"COPY 1 " + shared, b"MOVE 1 " + shared):
            *_, refused = await client.command(refusal)
            assert refused.startswith(b"t NO [OVERQUOTA] ")


async def test_a_full_account_is_told_when_a_mailbox_is_selected(service: Service, owner: Owner) -> None:
    """SELECT warns with an untagged NO [OVERQUOTA] while nothing more would be taken, and not any longer."""
    await service.deliver(mail())
    await limit(owner, None, 1)
    warning = b"* NO [OVERQUOTA] no room left, new messages are refused"
    async with await service.client() as client:
        assert warning in await client.ok(b"SELECT INBOX")
        assert warning in await client.ok(b"EXAMINE Trash")
        await limit(owner, None, 2)
        assert warning not in await client.ok(b"SELECT INBOX")


@pytest.mark.parametrize("verb", ["append", "copy"])
async def test_parallel_sessions_cannot_pass_the_limit(service: Service, owner: Owner, verb: str) -> None:
    """Of many sessions that add at once, as many succeed as there is room, not one more."""
    await service.deliver(*[mail()] * 4)
    await limit(owner, None, 4 + 3)
    clients = [await service.client() for _ in range(8)]

    async def add(client: Client) -> bytes:
        if verb == "append":
            return (await client.command(b"APPEND Trash {6+}\r\nA: b\r\n"))[-1]
        await client.ok(b"EXAMINE INBOX")
        return (await client.command(b"COPY 2 Trash"))[-1]

    answers = await asyncio.gather(*map(add, clients))
    for client in clients:
        await client.close()
    refused = [answer for answer in answers if answer.startswith(b"t NO [OVERQUOTA] ")]
    done = [answer for answer in answers if answer.startswith(b"t OK ")]
    assert (len(done), len(refused)) == (3, 5)
    assert await owner.fetchval("SELECT sum(message_count) FROM mailbox") == 7
