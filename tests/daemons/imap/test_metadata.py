"""METADATA and METADATA-SERVER, RFC 5464: annotations, their rights, limits and codes."""

import pytest

from config.settings import Settings
from daemons.context import open_context
from storage import sharing
from tests.conftest import Owner, Person, add_person
from tests.daemons.imap.conftest import Service, running
from tests.daemons.imap.conversation import Client
from tests.daemons.imap.proofs import proves
from tests.sections import with_changes


async def other(service: Service, person: Person) -> Client:
    """A connection of somebody else, logged in."""
    client = await Client.connect(service.endpoints["imaps"], service.tls)
    await client.login(person.login)
    return client


async def tagged(client: Client, command: bytes) -> bytes:
    """The tagged answer only."""
    return (await client.command(command))[-1]


@proves(b"METADATA")
async def test_mailbox_annotations(service: Service) -> None:
    """Values are set, told and removed under the names that the client uses, whatever their case and octets."""
    async with await service.client() as client:
        await client.ok(
            b'SETMETADATA INBOX (/shared/Comment "ours" /private/comment {5+}\r\na\r\n"b /private/vendor/x/y "")'
        )
        values = b'(/shared/comment "ours" /private/COMMENT {5}\r\na\r\n"b)'
        assert await client.ok(b"GETMETADATA INBOX (/shared/comment /private/COMMENT)") == [
            b"* METADATA INBOX " + values
        ]
        assert await client.ok(b"GETMETADATA INBOX /private/vendor/x/y") == [
            b'* METADATA INBOX (/private/vendor/x/y "")'
        ]
        assert await client.ok(b"GETMETADATA INBOX /private/none") == [b"* METADATA INBOX (/private/none NIL)"]
        await client.ok(b"SETMETADATA inbox (/shared/comment NIL)")
        assert await client.ok(b"GETMETADATA INBOX /shared/comment") == [b"* METADATA INBOX (/shared/comment NIL)"]
        await client.ok(b"SETMETADATA INBOX (/shared/comment ~{3+}\r\na\0b)")
        binary = [b"* METADATA INBOX (/shared/comment ~{3}\r\na\0b)"]
        assert await client.ok(b"GETMETADATA INBOX /shared/comment") == binary


@proves(b"METADATA-SERVER")
async def test_server_annotations(service: Service, owner: Owner) -> None:
    """Everybody has private annotations of the server; shared ones are the tenant's, and an administrator's to write."""
    bob = await add_person(service.context.settings, owner, "bob@example.test")
    await owner.execute("UPDATE account SET is_administrator = true WHERE login = 'bob@example.test'")
    async with await service.client() as client, await other(service, bob) as administrator:
        await client.ok(b'SETMETADATA "" (/private/comment "mine")')
        assert (await tagged(client, b'SETMETADATA "" (/shared/comment "x")')).startswith(b"t NO [NOPERM] ")
        await administrator.ok(b'SETMETADATA "" (/shared/comment "down on Sunday")')
        told = await client.ok(b'GETMETADATA "" (/private/comment /shared/comment /shared/admin)')
        values = b'(/private/comment "mine" /shared/comment "down on Sunday" /shared/admin NIL)'
        assert told == [b'* METADATA "" ' + values]
        assert await administrator.ok(b'GETMETADATA "" /private/comment') == [b'* METADATA "" (/private/comment NIL)']
        assert (await tagged(administrator, b'SETMETADATA "" (/shared/admin "x")')).startswith(b"t NO [CANNOT] ")


@pytest.fixture
def with_contact(settings: Settings) -> Settings:
    """Settings that say whom to ask, and small limits."""
    limits = {"metadata_entries": 10, "metadata_octets": 100, "metadata_value_limit": 50}
    return with_changes(settings, imap={"contact": "mailto:help@example.test", **limits})


async def test_limits(with_contact: Settings, account: Person, service: Service) -> None:
    """Too long a value and too many annotations have codes of their own, and nothing of the command is kept."""
    async with (
        open_context(with_contact) as context,
        running(context) as endpoints,
        await Client.connect(endpoints["imaps"], service.tls) as client,
    ):
        await client.login(account.login)
        told = await client.ok(b'GETMETADATA "" /shared/admin')
        assert told == [b'* METADATA "" (/shared/admin "mailto:help@example.test")']
        long = b'SETMETADATA INBOX (/shared/comment "x" /private/comment "%b")' % (b"x" * 51)
        assert (await tagged(client, long)).startswith(b"t NO [METADATA MAXSIZE 50] ")
        many = b" ".join(b'/private/%d "x"' % number for number in range(11))
        assert (await tagged(client, b"SETMETADATA INBOX (%b)" % many)).startswith(b"t NO [METADATA TOOMANY] ")
        assert await client.ok(b"GETMETADATA INBOX (DEPTH infinity) (/private /shared)") == []
        await client.ok(b"SETMETADATA INBOX (%b)" % many.replace(b'/private/0 "x" ', b""))
        octets = b'SETMETADATA INBOX (/shared/1 "%b" /shared/2 "%b")' % (b"x" * 50, b"x" * 41)
        assert (await tagged(client, octets)).startswith(b"t NO [METADATA TOOMANY] ")


async def test_options(service: Service) -> None:
    """DEPTH goes below an entry, MAXSIZE leaves out what is longer and says how long; both stand before or behind the name."""
    async with await service.client() as client:
        await client.ok(b'SETMETADATA INBOX (/private/a "1" /private/a/b "22" /private/a/b/c "333" /private/ab "4444")')
        assert await client.ok(b"GETMETADATA (DEPTH 1) INBOX /private/a") == [
            b'* METADATA INBOX (/private/a "1" /private/a/b "22")'
        ]
        *told, tagged_line = await client.command(b"GETMETADATA INBOX (DEPTH infinity MAXSIZE 2) (/private)")
        assert told == [b'* METADATA INBOX (/private/a "1" /private/a/b "22")']
        assert tagged_line.startswith(b"t OK [METADATA LONGENTRIES 4] ")
        *told, tagged_line = await client.command(b"GETMETADATA (MAXSIZE 1) INBOX (/private/ab)")
        assert told == []
        assert tagged_line.startswith(b"t OK [METADATA LONGENTRIES 4] ")


@pytest.mark.parametrize(
    "entry",
    [b"/private//a", b"/private/a/", b"/public/a", b"comment", b'"/private/a*"', b'"/private/%"', b"/private/\xc3\xbc"],
)
async def test_invalid_entries(service: Service, entry: bytes) -> None:
    """An invalid entry name is BAD in either command (RFC 5464 §3.2)."""
    async with await service.client() as client:
        assert (await tagged(client, b"GETMETADATA INBOX " + entry)).startswith(b"t BAD ")
        assert (await tagged(client, b"SETMETADATA INBOX (" + entry + b' "x")')).startswith(b"t BAD ")


async def test_special_use(service: Service) -> None:
    r"""/private/specialuse shows and changes what LIST tells of a mailbox (RFC 6154 §4)."""
    async with await service.client() as client:
        assert await client.ok(b"GETMETADATA Junk /private/specialuse") == [
            rb'* METADATA Junk (/private/specialuse "\\Junk")'
        ]
        await client.ok(b"CREATE Spam")
        assert await client.ok(b"GETMETADATA Spam /private/specialuse") == [
            b"* METADATA Spam (/private/specialuse NIL)"
        ]
        taken = rb'SETMETADATA Spam (/private/specialuse "\\Junk" /private/comment "x")'
        assert (await tagged(client, taken)).startswith(b"t NO [USEATTR] ")
        assert await client.ok(b"GETMETADATA Spam /private/comment") == [b"* METADATA Spam (/private/comment NIL)"]
        assert (await tagged(client, rb'SETMETADATA Spam (/private/specialuse "\\X")')).startswith(b"t NO [USEATTR] ")
        await client.ok(b"SETMETADATA Junk (/private/specialuse NIL)")
        await client.ok(taken)
        assert await client.ok(b'LIST "" Spam') == [rb'* LIST (\HasNoChildren \Junk) "/" Spam']


async def test_rights(service: Service, owner: Owner) -> None:
    """Annotations need "l" and one right more, writing shared ones "w" as well; private ones are each reader's own."""
    bob = await add_person(service.context.settings, owner, "bob@example.test")
    box = await service.mailbox_id("Team")
    shared = b'"Other Users/alice@example.test/Team"'
    async with await service.client() as alice, await other(service, bob) as client:
        await alice.ok(b'SETMETADATA Team (/shared/comment "ours" /private/comment "hers")')
        get = b"GETMETADATA " + shared + b" (/shared/comment /private/comment /private/specialuse)"
        assert (await tagged(client, get)).startswith(b"t NO [NONEXISTENT] ")
        await sharing.set_rights(owner, box, bob.login, "replace", "l", is_negative=False)
        assert (await tagged(client, get)).startswith(b"t NO [NOPERM] ")
        await sharing.set_rights(owner, box, bob.login, "replace", "lr", is_negative=False)
        await client.ok(b"SETMETADATA " + shared + b' (/private/comment "his")')
        values = b'(/shared/comment "ours" /private/comment "his" /private/specialuse NIL)'
        assert await client.ok(get) == [b"* METADATA " + shared + b" " + values]
        write = b"SETMETADATA " + shared + b' (/shared/comment "his")'
        assert (await tagged(client, write)).startswith(b"t NO [NOPERM] ")
        use = b"SETMETADATA " + shared + b" (/private/specialuse NIL)"
        assert (await tagged(client, use)).startswith(b"t NO [NOPERM] ")
        await sharing.set_rights(owner, box, bob.login, "replace", "lrw", is_negative=False)
        await client.ok(write)
        values = b'(/shared/comment "his" /private/comment "hers")'
        assert await alice.ok(b"GETMETADATA Team (/shared/comment /private/comment)") == [b"* METADATA Team " + values]


async def test_mailboxes_that_hold_only_others(service: Service) -> None:
    r"""A \Noselect name has annotations like any mailbox (RFC 5464 §4.1); a name without mailbox has none."""
    async with await service.client() as client:
        await client.ok(b"CREATE a/b")
        await client.ok(b"DELETE a")
        await client.ok(b'SETMETADATA a (/private/comment "x")')
        assert await client.ok(b"GETMETADATA a /private/comment") == [b'* METADATA a (/private/comment "x")']
        assert (await tagged(client, b"GETMETADATA none /private/comment")).startswith(b"t NO [NONEXISTENT] ")


@proves(b"LIST-METADATA")
async def test_list_metadata(service: Service, owner: Owner) -> None:
    """LIST tells the annotations of each mailbox behind it, NIL where there is none, and none that may not be read."""
    bob = await add_person(service.context.settings, owner, "bob@example.test")
    box = await service.mailbox_id("Team")
    await sharing.set_rights(owner, box, bob.login, "replace", "l", is_negative=False)
    async with await service.client() as client, await other(service, bob) as second:
        await client.ok(b'SETMETADATA Team (/shared/vendor/x/color "red")')
        told = await client.ok(b'LIST "" T% RETURN (METADATA ("/shared/vendor/x/Color" /private/specialuse) CHILDREN)')
        assert told == [
            rb'* LIST (\HasNoChildren) "/" Team',
            b'* METADATA Team (/shared/vendor/x/Color "red" /private/specialuse NIL)',
            rb'* LIST (\HasNoChildren \Trash) "/" Trash',
            rb'* METADATA Trash (/shared/vendor/x/Color NIL /private/specialuse "\\Trash")',
        ]
        shared = b'"Other Users/alice@example.test/Team"'
        asked = b'LIST "" ' + shared + b" RETURN (METADATA /shared/vendor/x/color)"
        assert await second.ok(asked) == [rb'* LIST (\Noselect \HasNoChildren) "/" ' + shared]
        await sharing.set_rights(owner, box, bob.login, "replace", "lr", is_negative=False)
        assert (await second.ok(asked))[1:] == [b"* METADATA " + shared + b' (/shared/vendor/x/color "red")']
        assert (await tagged(client, b'LIST "" * RETURN (METADATA)')).startswith(b"t BAD ")
        assert (await tagged(client, b'LIST "" * RETURN (METADATA (x))')).startswith(b"t BAD ")
