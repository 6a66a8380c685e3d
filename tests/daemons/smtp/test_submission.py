"""Submission on real sockets: whose mail it may be, what is repaired, where it goes, and what is kept of it."""

import asyncpg
import pytest

from storage import accounts, senders, sending, teams
from storage.blobs.keys import KeyRing
from tests.conftest import Person
from tests.daemons.smtp.conftest import headless
from tests.daemons.smtp.users import SUBMITTED, Users

NOT_OWN = b"550 5.7.1 MAIL FROM: not an address that you may send as\r\n"
AUTHOR_NOT_OWN = b"550 5.7.1 From or Sender: not an address that you may send as\r\n"
MISSING = b"550 5.6.0 message has no From field with an address\r\n"
TWICE = b"550 5.6.0 message has more than one From or Sender field\r\n"


async def add_zoe(users: Users, owner: "asyncpg.Connection[asyncpg.Record]") -> Person:
    """zoe@other.test of another tenant of the host."""
    wrapped = KeyRing(users.context.settings.master_key_file).new_tenant_key()
    tenant_id = await accounts.add_tenant(owner, "other", wrapped)
    await accounts.add_domain(owner, "other", "other.test")
    return Person(tenant_id, await accounts.add_account(owner, "other", "zoe@other.test", "!"), "zoe@other.test", "")


def from_(*lines: bytes) -> bytes:
    """A message with these fields for its author."""
    return b"".join(line + b"\r\n" for line in lines) + SUBMITTED.partition(b"\r\n")[2]


# -- whose name ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sender", ["<bob@example.test>", "<alice@elsewhere.example>", "<nobody@example.test>"])
async def test_reverse_path_of_another(sender: str, users: Users, account: Person, bob: Person) -> None:
    """MAIL FROM must be an address of the login."""
    async with await users.logged_in(account) as client:
        assert await client.send(SUBMITTED, "<bob@example.test>", sender=sender) == NOT_OWN
        assert (await client.send(SUBMITTED, "<bob@example.test>")).startswith(b"250 2.0.0 accepted as ")


async def test_catch_all_makes_nobody_a_sender(
    users: Users, account: Person, bob: Person, owner: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    """Whoever gets the mail for all other addresses of a domain may not send as all of them."""
    await accounts.add_address(owner, "@example.test", account.login)
    async with await users.logged_in(account) as client:
        assert await client.send(SUBMITTED, "<bob@example.test>", sender="<ceo@example.test>") == NOT_OWN


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (from_(b"From: bob@example.test"), AUTHOR_NOT_OWN),
        (from_(b"From: alice@example.test, ceo@bank.example"), AUTHOR_NOT_OWN),
        (from_(b"From: alice@example.test", b"Sender: bob@example.test"), AUTHOR_NOT_OWN),
        (from_(b"From: Team: alice@example.test, bob@example.test;"), AUTHOR_NOT_OWN),
        (from_(b"From: alice@example.test <bob@example.test>"), AUTHOR_NOT_OWN),
        (from_(b'From: (") bob@example.test (") <alice@example.test>'), AUTHOR_NOT_OWN),
        (from_(b"From: alice@example.test\x00.evil.example"), AUTHOR_NOT_OWN),
        (from_(b"From : bob@example.test"), AUTHOR_NOT_OWN),
        (from_(b"From: alice@example.test", b"Resent-From: bob@example.test"), AUTHOR_NOT_OWN),
        (from_(b"From: alice@example.test", b"From: bob@example.test"), TWICE),
        (from_(b"From: alice@example.test", b"FROM: alice@example.test"), TWICE),
        (from_(b"From: undisclosed:;"), MISSING),
        (from_(b"From:"), MISSING),
        (from_(), MISSING),
        (b"\r\nFrom: alice@example.test\r\n", MISSING),
        (from_(b"From: " + b", ".join([b"alice+%d@example.test" % at for at in range(51)])), b"550 5.7.1 too many"),
    ],
)
async def test_authors_of_others(message: bytes, expected: bytes, users: Users, account: Person, bob: Person) -> None:
    """Every author of the message must be the login, however its field is written; nothing of a refused one is stored."""
    async with await users.logged_in(account) as client:
        answer = await client.send(message, "<bob@example.test>", "<x@elsewhere.example>")
    assert answer.startswith(expected)
    assert await users.mailbox(bob) == []
    assert await users.queue() == []
    assert await users.journal() == []


@pytest.mark.parametrize(
    "field",
    [
        b"From: alice@example.test",
        b"From: Alice+News <ALICE+news@Example.Test>",
        b'From: "me@home" <alice@example.test> (me@work)',
        b"From: alice@example.test, sales@example.test\r\nSender: alice@example.test",
    ],
)
async def test_own_names(
    field: bytes, users: Users, account: Person, bob: Person, owner: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    """Own addresses in any spelling, with details, and aliases are one's own; display names and comments are no addresses."""
    await accounts.add_address(owner, "sales@example.test", account.login)
    async with await users.logged_in(account) as client:
        for sender in ("<alice@example.test>", "<sales@example.test>", "<Alice+tag@EXAMPLE.test>"):
            assert (await client.send(from_(field), "<bob@example.test>", sender=sender)).startswith(b"250 ")


async def test_name_of_a_team(
    users: Users, account: Person, bob: Person, owner: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    """A team's address may be used by those whom it lets send in its name, and by nobody else."""
    await teams.add_team(owner, "example", "info@example.test", "Info")
    await senders.grant(owner, "info@example.test", account.login)
    message = from_(b"From: info@example.test")
    async with await users.logged_in(account) as client:
        assert (await client.send(message, "<bob@example.test>", sender="<info@example.test>")).startswith(b"250 ")
    async with await users.logged_in(bob) as client:
        assert await client.send(message, "<bob@example.test>", sender="<info@example.test>") == NOT_OWN
        assert await client.send(message, "<bob@example.test>", sender="<bob@example.test>") == AUTHOR_NOT_OWN


async def test_null_reverse_path(users: Users, account: Person, bob: Person) -> None:
    """Disposition notifications are sent with the null reverse path (RFC 8098 §3), but in one's own name, too."""
    async with await users.logged_in(account) as client:
        assert (await client.send(SUBMITTED, "<bob@example.test>", sender="<>")).startswith(b"250 ")
        message = from_(b"From: bob@example.test")
        assert await client.send(message, "<bob@example.test>", sender="<>") == AUTHOR_NOT_OWN


# -- repairs and trace fields -----------------------------------------------------------------------------------------


async def test_nothing_is_changed(users: Users, account: Person, bob: Person) -> None:
    """A message that has what it needs arrives as it was sent, below our trace fields."""
    async with await users.logged_in(account) as client:
        answer = await client.send(SUBMITTED, "<bob@example.test>")
    (message,) = await users.mailbox(bob)
    assert headless(message) == SUBMITTED
    assert message.startswith(
        b"Return-Path: <alice@example.test>\r\nReceived: from localhost\r\n\tby mail.example.test"
    )
    identity = answer.split()[-1]
    assert b" with ESMTPSA id " + identity + b"\r\n\tfor <bob@example.test>;" in message


@pytest.mark.parametrize("size", [10, 1_500_000], ids=["memory", "file"])
async def test_date_and_message_id(size: int, users: Users, account: Person, bob: Person) -> None:
    """Date and Message-ID are put on top when they are missing (RFC 6409 §8.2, §8.3), and the journal has them."""
    bare = b"From: alice@example.test\r\n\r\n" + b"x\r\n" * (size // 3)
    with_date = b"Date: Wed, 17 Jul 1996 02:23:25 -0700\r\n" + bare
    with_id = b"message-id: <mine@example.test>\r\n" + bare
    async with await users.logged_in(account) as client:
        for message in (bare, with_date, with_id):
            assert (await client.send(message, "<bob@example.test>")).startswith(b"250 ")
    stored = [headless(message) for message in await users.mailbox(bob)]
    date, message_id = stored[0].split(b"\r\n")[:2]
    assert date.startswith(b"Date: ")
    assert date.endswith(b" +0000")
    assert message_id.startswith(b"Message-ID: <")
    assert message_id.endswith(b"@mail.example.test>")
    assert stored[0] == date + b"\r\n" + message_id + b"\r\n" + bare
    assert stored[1].partition(b"\r\n")[0].startswith(b"Message-ID: <")
    assert stored[1].partition(b"\r\n")[2] == with_date
    assert stored[2].partition(b"\r\n")[0].startswith(b"Date: ")
    assert stored[2].partition(b"\r\n")[2] == with_id
    sizes = [row[0] for row in await users.context.pool.fetch("SELECT size_octets FROM journal ORDER BY journal_id")]
    assert sizes == [len(message) for message in stored]
    assert not list(users.context.settings.spool_directory.iterdir())


async def test_where_a_user_sits(users: Users, account: Person, bob: Person) -> None:
    """Recipients do not learn the user's address, nor how its program calls its host; the tenant's own journal has both."""
    async with await users.logged_in(account) as client:
        await client.send(SUBMITTED, "<bob@example.test>")
    (message,) = await users.mailbox(bob)
    assert b"127.0.0.1" not in message
    assert b"client.example" not in message
    ((_, _, envelope),) = await users.journal()
    assert (envelope["peer"], envelope["helo"]) == ("127.0.0.1", "client.example")


# -- where it goes ------------------------------------------------------------------------------------------------------


async def test_local_recipients(users: Users, account: Person, bob: Person) -> None:
    """Mail within a tenant is delivered at once, journalled as internal, with every recipient and with the login."""
    async with await users.logged_in(account) as client:
        answer = await client.send(SUBMITTED, "<bob@example.test>", "<alice@example.test>")
    assert [len(await users.mailbox(person)) for person in (account, bob)] == [1, 1]
    assert await users.queue() == []
    ((tenant_id, direction, envelope),) = await users.journal()
    assert (tenant_id, direction) == (account.tenant_id, "internal")
    assert [path["address"] for path in envelope["forward_paths"]] == ["bob@example.test", "alice@example.test"]
    assert (envelope["login"], envelope["reverse_path"]) == ("alice@example.test", "alice@example.test")
    assert envelope["id"].encode() == answer.split()[-1]
    assert (envelope["protocol"], envelope["tls"]["version"]) == ("ESMTPSA", "TLSv1.3")


async def test_remote_recipients(users: Users, account: Person, bob: Person) -> None:
    """Remote recipients are queued in the transaction that delivers to the local ones; the journal says out, Bcc included."""
    paths = ["<bob@example.test>", "<x@Elsewhere.Example>", "<y@elsewhere.example>", "<z@[192.0.2.7]>"]
    async with await users.logged_in(account) as client:
        answer = await client.send(SUBMITTED, *paths)
    identity = answer.split()[-1].decode()
    (message,) = await users.mailbox(bob)
    assert b"\tfor <" not in message  # recipients do not learn of each other
    queue = await users.queue()
    assert [(row["forward_path"], row["domain"]) for row in queue] == [
        ("x@Elsewhere.Example", "elsewhere.example"),
        ("y@elsewhere.example", "elsewhere.example"),
        ("z@[192.0.2.7]", "[192.0.2.7]"),
    ]
    assert len({row["outbound_id"] for row in queue}) == 1
    first = queue[0]
    assert (first["tenant_id"], first["account_id"]) == (account.tenant_id, account.account_id)
    assert (first["reverse_path"], first["state"], first["body"]) == ("alice@example.test", "waiting", "7BIT")
    assert (first["expires_at"] - first["created_at"]).days in (4, 5)
    content = await users.context.blobs.message(first["content_id"])
    assert headless(content) == SUBMITTED
    ((tenant_id, direction, envelope),) = await users.journal()
    assert (tenant_id, direction, envelope["id"]) == (account.tenant_id, "out", identity)
    assert [f"<{path['address']}>" for path in envelope["forward_paths"]] == paths


async def test_recipients_of_another_tenant(
    users: Users, account: Person, bob: Person, owner: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    """Another tenant of the host gets content and journal entry of its own, with its own recipients and nobody else's."""
    zoe = await add_zoe(users, owner)
    async with await users.logged_in(account) as client:
        assert (await client.send(SUBMITTED, "<bob@example.test>", "<zoe@other.test>")).startswith(b"250 ")
    assert [headless(message) for message in await users.mailbox(zoe)] == [SUBMITTED]
    own, other = await users.journal()
    assert own[:2] == (account.tenant_id, "out")
    assert [path["address"] for path in own[2]["forward_paths"]] == ["bob@example.test", "zoe@other.test"]
    assert other[:2] == (zoe.tenant_id, "in")
    assert [path["address"] for path in other[2]["forward_paths"]] == ["zoe@other.test"]
    assert (other[2]["peer"], other[2]["helo"], other[2].get("login")) == ("", "", None)
    contents = await users.context.pool.fetch("SELECT tenant_id FROM content ORDER BY content_id")
    assert [row[0] for row in contents] == [account.tenant_id, zoe.tenant_id]


async def test_unknown_recipients(users: Users, account: Person, bob: Person) -> None:
    """Local addresses that do not exist, and domains that cannot, are refused at once."""
    async with await users.logged_in(account) as client:
        await client.ask(b"MAIL FROM:<alice@example.test> SMTPUTF8")
        assert await client.ask(b"RCPT TO:<nobody@example.test>") == b"550 5.1.1 no such mailbox here\r\n"
        assert await client.ask("RCPT TO:<x@\u2028.example>".encode()) == b"550 5.1.2 no such domain can exist\r\n"
        assert await client.ask(b"DATA") == b"554 5.5.1 no valid recipients\r\n"


async def test_postmaster(users: Users, account: Person, owner: "asyncpg.Connection[asyncpg.Record]") -> None:
    """<Postmaster> without a domain is that of the host (RFC 5321 §4.1.1.3), also when the message has to wait."""
    await accounts.add_domain(owner, "example", "mail.example.test")
    await accounts.add_address(owner, "postmaster@mail.example.test", account.login)
    async with await users.logged_in(account) as client:
        assert (await client.send(SUBMITTED, "<Postmaster>")).startswith(b"250 ")
        sender = "<alice@example.test> HOLDFOR=60"
        assert (await client.send(SUBMITTED, "<Postmaster>", sender=sender)).startswith(b"250 ")
    assert len(await users.mailbox(account)) == 1
    (row,) = await users.queue()
    assert row["forward_path"] == "postmaster@mail.example.test"


async def test_message_in_circles(users: Users, account: Person, bob: Person) -> None:
    """The pipeline of incoming mail looks at what users send, too."""
    async with await users.logged_in(account) as client:
        answer = await client.send(b"Received: x\r\n" * 100 + SUBMITTED, "<x@elsewhere.example>")
    assert answer == b"554 5.4.6 message goes in circles: too many Received fields\r\n"
    assert await users.queue() == []


async def test_suspended_account(
    users: Users, account: Person, bob: Person, owner: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    """What is held is accepted and goes to nobody, local recipients included, until it is released."""
    await sending.suspend(owner, account.login, "a test", "somebody", is_holding=True)
    async with await users.logged_in(account) as client:
        answer = await client.send(SUBMITTED, "<bob@example.test>", "<x@elsewhere.example>")
    assert answer.startswith(b"250 2.0.0 accepted as ")
    assert await users.mailbox(bob) == []
    assert [(row["forward_path"], row["state"]) for row in await users.queue()] == [
        ("bob@example.test", "held"),
        ("x@elsewhere.example", "held"),
    ]
    assert [entry[:2] for entry in await users.journal()] == [(account.tenant_id, "out")]


async def test_message_that_cannot_be_stored(
    users: Users, account: Person, owner: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    """When the transaction fails the client is told to try again; nothing is delivered, queued or journalled."""
    async with await users.logged_in(account) as client:
        await owner.execute("REVOKE INSERT ON journal FROM postwerk_daemon")
        answer = await client.send(SUBMITTED, "<alice@example.test>", "<x@elsewhere.example>")
        assert answer == b"451 4.3.0 cannot be handled now, try again later\r\n"
        assert await users.mailbox(account) == []
        await owner.execute("GRANT INSERT ON journal TO postwerk_daemon")
        answer = await client.send(SUBMITTED, "<alice@example.test>", "<x@elsewhere.example>")
        assert answer.startswith(b"250 ")
    assert len(await users.queue()) == len(await users.mailbox(account)) == len(await users.journal()) == 1
