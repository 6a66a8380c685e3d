"""Bounces to senders that were rewritten when their mail was forwarded (SRS): they go back by the queue."""

from daemons.forwarding import Forwarding
from protocol.address import AddrSpec
from tests.conftest import Person
from tests.daemons.smtp.conftest import MESSAGE, Intake, headless
from tests.daemons.smtp.test_acceptance import send


async def rewritten(intake: Intake) -> bytes:
    forwarding = Forwarding(intake.context)
    address = await forwarding.forwarded(AddrSpec("carol", "elsewhere.example"), "example.test")
    forwarding.close()
    assert address is not None
    return str(address).encode()


async def test_bounce_goes_back(intake: Intake, account: Person) -> None:
    """A bounce to a rewritten sender is queued for the sender, for the tenant that forwarded, and journalled there."""
    client = await intake.greeted()
    path = await rewritten(intake)
    answer = await send(client, MESSAGE, b"MAIL FROM:<>\r\nRCPT TO:<%s>\r\n" % path)
    assert answer.startswith(b"250 2.0.0 accepted as ")
    row = await intake.context.pool.fetchrow(
        "SELECT * FROM outbound_message JOIN outbound_recipient USING (outbound_id)"
    )
    assert row is not None
    assert (row["forward_path"], row["domain"], row["reverse_path"]) == (
        "carol@elsewhere.example",
        "elsewhere.example",
        "",
    )
    assert row["trace_id"].encode() == answer.split()[-1]
    content = await intake.context.blobs.message(row["content_id"])
    assert headless(content) == MESSAGE
    assert b" id " + answer.split()[-1] in content
    (entry,) = await intake.journal()
    assert entry["forward_paths"][0]["address"] == "carol@elsewhere.example"
    assert await intake.inbox(account) == []


async def test_bounce_with_a_local_recipient(intake: Intake, account: Person) -> None:
    """One transaction may have both kinds of recipients; it is stored as one."""
    client = await intake.greeted()
    paths = b"RCPT TO:<%s>\r\nRCPT TO:<alice@example.test>\r\n" % await rewritten(intake)
    assert (await send(client, MESSAGE, b"MAIL FROM:<>\r\n" + paths)).startswith(b"250 ")
    assert await intake.originals(account) == [MESSAGE]
    assert await intake.context.pool.fetchval("SELECT count(*) FROM outbound_recipient") == 1


async def test_nothing_else_goes_back(intake: Intake, account: Person) -> None:
    """With a reverse path, forged or over LMTP, a rewritten sender is an unknown mailbox: nobody relays through it."""
    path = await rewritten(intake)
    client = await intake.greeted()
    unknown = b"550 5.1.1 no such mailbox here\r\n"
    await client.ask(b"MAIL FROM:<a@client.example>")
    assert await client.ask(b"RCPT TO:<%s>" % path) == unknown
    await client.ask(b"RSET")
    await client.ask(b"MAIL FROM:<>")
    hash_, at, rest = path[5:].partition(b"=")
    forged = path[:5] + hash_[::-1] + at + rest
    assert await client.ask(b"RCPT TO:<%s>" % forged) == unknown
    local = await intake.greeted(is_lmtp=True)
    await local.ask(b"MAIL FROM:<>")
    assert await local.ask(b"RCPT TO:<%s>" % path) == unknown
