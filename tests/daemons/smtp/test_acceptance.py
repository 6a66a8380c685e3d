"""From the last octet to durable mail: what is stored, for whom, with which trace fields and journal, and what is answered."""

import asyncio
import hashlib
import re
from collections.abc import Sequence

import asyncpg
import pytest

from config.settings import Settings
from config.units import Octets
from filters.pipeline import Pipeline
from filters.ports import OnFailure
from filters.subject import Subject
from filters.verdict import AddField, Refuse, Verdict
from protocol.smtp.reply import reply
from storage import accounts
from storage.blobs.keys import KeyRing
from storage.ingest import Ingest
from tests.conftest import Person, add_person
from tests.daemons.smtp.conftest import MESSAGE, Intake, headless
from tests.daemons.smtp.memory import MemoryClient

ENVELOPE = b"MAIL FROM:<a@client.example>\r\nRCPT TO:<alice@example.test>\r\n"

ODD = {
    "empty": b"",
    "no header": b"\r\nbody\r\n",
    "no body": b"Subject: x\r\n",
    "dots": b".\r\n..\r\n.x\r\n\r\n.\r\n",
    "8-bit": b"Subject: \xff\xfe\r\n\r\n\x80\x00\xff\r\n",
    "long line": b"Subject: x\r\n\r\n" + b"y" * 600_000 + b"\r\n",
    "spooled": b"Subject: x\r\n\r\n" + b"".join(b".%07d\r\n" % number for number in range(200_000)),
}


def stuffed(message: bytes) -> bytes:
    return re.sub(rb"(?m)^\.", b"..", message) + b".\r\n"


async def send(client: MemoryClient, message: bytes, envelope: bytes = ENVELOPE) -> bytes:
    """Send a message by DATA and give the reply to it."""
    client.say(envelope + b"DATA\r\n")
    assert b"354 " in await client.hear(envelope.count(b"\r\n") + 1)
    wire = stuffed(message)
    for start in range(0, len(wire), 50_000):
        client.say(wire[start : start + 50_000])
        await asyncio.sleep(0)
    return await client.hear(1)


@pytest.mark.parametrize("message", ODD.values(), ids=ODD.keys())
async def test_data_is_stored_octet_for_octet(message: bytes, intake: Intake, account: Person) -> None:
    """What DATA carried is what a reader gets, below two trace fields."""
    client = await intake.greeted()
    assert (await send(client, message)).startswith(b"250 2.0.0 accepted as ")
    assert await intake.originals(account) == [message]


@pytest.mark.parametrize("message", [*ODD.values(), b"no line end"], ids=[*ODD.keys(), "no line end"])
@pytest.mark.parametrize("chunk_octets", [65_537, 10**9], ids=["chunks", "one"])
async def test_bdat_is_stored_octet_for_octet(
    message: bytes, chunk_octets: int, intake: Intake, account: Person
) -> None:
    """What BDAT carried is what a reader gets, whatever the chunks."""
    client = await intake.greeted()
    chunks = [message[start : start + chunk_octets] for start in range(0, len(message), chunk_octets)] or [b""]
    client.say(ENVELOPE)
    for number, chunk in enumerate(chunks, start=1):
        client.say(b"BDAT %d%s\r\n" % (len(chunk), b" LAST" if number == len(chunks) else b"") + chunk)
        await asyncio.sleep(0)
    assert b"250 2.0.0 accepted as " in await client.hear(2 + len(chunks))
    assert await intake.originals(account) == [message]


async def test_pipelined_messages(intake: Intake, account: Person) -> None:
    """Forty transactions sent in one go, each with BDAT, are all stored, in their order."""
    client = await intake.greeted()
    sent = [b"Subject: %d\r\n\r\nx\r\n" % number for number in range(40)]
    client.say(b"".join(ENVELOPE + b"BDAT %d LAST\r\n%s" % (len(message), message) for message in sent))
    assert (await client.hear(120)).count(b"accepted as") == 40
    assert await intake.originals(account) == sent


async def test_trace_fields(intake: Intake, account: Person) -> None:
    """RFC 5321 §4.4: Return-Path, then Received, with our id; `for` only when there is one recipient."""
    client = await intake.greeted()
    answer = await send(client, MESSAGE)
    identity = answer.removeprefix(b"250 2.0.0 accepted as ").strip()
    await send(client, MESSAGE, ENVELOPE + b"RCPT TO:<alice+b@example.test>\r\n")
    one, two = await intake.inbox(account)
    head = one.removesuffix(MESSAGE).decode()
    assert re.fullmatch(
        r"Return-Path: <a@client\.example>\r\n"
        r"Received: from client\.example \(\[192\.0\.2\.1\]\)\r\n"
        rf"\tby mail\.example\.test with ESMTP id {identity.decode()}\r\n"
        r"\tfor <alice@example\.test>;\r\n"
        r"\t\w{3}, \d+ \w{3} \d{4} \d\d:\d\d:\d\d \+0000\r\n",
        head,
    )
    assert b"for <" not in two
    assert headless(two) == MESSAGE


async def test_smtputf8(intake: Intake, account: Person) -> None:
    """An SMTPUTF8 transaction keeps its addresses in UTF-8 and says so in Received (RFC 6531 §4.3)."""
    client = await intake.greeted()
    envelope = "MAIL FROM:<jörg@bücher.example> SMTPUTF8 BODY=8BITMIME\r\nRCPT TO:<alice@example.test>\r\n".encode()
    message = "Subject: Grüße\r\n\r\nüber\r\n".encode()
    assert (await send(client, message, envelope)).startswith(b"250 ")
    (stored,) = await intake.inbox(account)
    assert stored.startswith("Return-Path: <jörg@bücher.example>\r\n".encode())
    assert b" with UTF8SMTP id " in stored
    assert headless(stored) == message
    assert (await intake.journal())[0]["smtputf8"] is True


async def test_one_placement_per_mailbox(intake: Intake, account: Person, bob: Person) -> None:
    """Recipients that lead to the same mailbox get one copy; the message is stored once for all."""
    client = await intake.greeted()
    envelope = (
        ENVELOPE + b"RCPT TO:<alice+x@example.test>\r\nRCPT TO:<ALICE@example.test>\r\nRCPT TO:<bob@example.test>\r\n"
    )
    assert (await send(client, MESSAGE, envelope)).startswith(b"250 ")
    assert (await intake.originals(account), await intake.originals(bob)) == ([MESSAGE], [MESSAGE])
    assert await intake.context.pool.fetchval("SELECT count(*) FROM content") == 1


async def test_journal(intake: Intake, account: Person) -> None:
    """The journal has the transaction as it was: paths, DSN parameters, peer, and the canonical form of it."""
    client = await intake.greeted()
    answer = await send(
        client,
        MESSAGE,
        b"MAIL FROM:<> SIZE=99 BODY=8BITMIME RET=HDRS ENVID=x+2By\r\n"
        b"RCPT TO:<alice@example.test> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;carol@ivory.example\r\n",
    )
    row = await intake.context.pool.fetchrow("SELECT * FROM journal")
    assert row is not None
    (envelope,) = await intake.journal()
    assert envelope.pop("received_at").endswith("Z")
    assert envelope.pop("id") in answer.decode()
    assert envelope == {
        "body": "8BITMIME",
        "envid": "x+y",
        "forward_paths": [
            {"address": "alice@example.test", "notify": ["SUCCESS", "DELAY"], "orcpt": "rfc822;carol@ivory.example"}
        ],
        "helo": "client.example",
        "peer": "192.0.2.1",
        "protocol": "ESMTP",
        "ret": "HDRS",
        "reverse_path": None,
        "smtputf8": False,
        "tls": None,
    }
    keys = re.findall(rb'"(\w+)":', row["envelope"])
    assert keys[:3] == [b"body", b"envid", b"forward_paths"]
    assert b" " not in row["envelope"]
    assert (row["direction"], row["tenant_id"]) == ("in", account.tenant_id)
    assert row["digest"] == hashlib.sha256(MESSAGE).digest()


async def test_tenants_do_not_learn_of_each_other(
    intake: Intake, account: Person, settings: Settings, owner: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    """One transaction to two tenants is one answer, two contents, and two journals that name only their own recipients."""
    await accounts.add_tenant(owner, "other", KeyRing(settings.master_key_file).new_tenant_key())
    await accounts.add_domain(owner, "other", "other.test")
    await accounts.add_account(owner, "other", "zoe@other.test", "x")
    client = await intake.greeted()
    assert (await send(client, MESSAGE, ENVELOPE + b"RCPT TO:<zoe@other.test>\r\n")).startswith(b"250 ")
    named = [[path["address"] for path in envelope["forward_paths"]] for envelope in await intake.journal()]
    assert sorted(named) == [["alice@example.test"], ["zoe@other.test"]]
    assert await intake.originals(account) == [MESSAGE]


async def test_lmtp_serves_whom_it_can(
    intake: Intake, account: Person, bob: Person, owner: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    """Of several LMTP recipients, the one whose mailbox has vanished is put off; the others have their mail."""
    client = await intake.greeted(is_lmtp=True)
    client.say(ENVELOPE + b"RCPT TO:<bob@example.test>\r\nRCPT TO:<alice+x@example.test>\r\n")
    assert (await client.hear(4)).count(b"250 ") == 4
    await owner.execute("DELETE FROM mailbox WHERE account_id = $1 AND name = 'INBOX'", bob.account_id)
    client.say(b"DATA\r\n")
    await client.hear(1)
    client.say(stuffed(MESSAGE))
    heard = (await client.hear(3)).splitlines()
    assert [line[:9] for line in heard] == [b"250 2.0.0", b"451 4.2.1", b"250 2.0.0"]
    assert await intake.originals(account) == [MESSAGE]
    (envelope,) = await intake.journal()
    assert [path["address"] for path in envelope["forward_paths"]] == ["alice@example.test", "alice+x@example.test"]


async def test_smtp_is_all_or_nothing(
    intake: Intake, account: Person, bob: Person, owner: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    """Over SMTP one vanished mailbox puts the whole message off: one reply cannot tell recipients apart."""
    client = await intake.greeted()
    client.say(ENVELOPE + b"RCPT TO:<bob@example.test>\r\nDATA\r\n")
    await client.hear(4)
    await owner.execute("DELETE FROM mailbox WHERE account_id = $1 AND name = 'INBOX'", bob.account_id)
    client.say(stuffed(MESSAGE))
    assert (await client.hear(1)).startswith(b"451 4.2.1 ")
    assert await intake.inbox(account) == []
    assert await intake.journal() == []


async def test_storage_away(intake: Intake, account: Person, settings: Settings) -> None:
    """When storage cannot be used, nothing is accepted and the client is told to come back; the session goes on."""
    ingest = Ingest(intake.context.pool, settings.segments_directory, intake.context.keys)
    running = asyncio.create_task(ingest.run())
    await asyncio.sleep(0)
    running.cancel()
    await asyncio.wait([running])
    for is_lmtp in (False, True):
        acceptance = intake.acceptance(settings.smtp, ingest, Pipeline())
        client = await intake.greeted(acceptance=acceptance, is_lmtp=is_lmtp)
        assert await send(client, MESSAGE) == b"451 4.3.0 cannot be handled now, try again later\r\n"
        assert await client.ask(b"NOOP") == b"250 2.0.0 ok\r\n"
    assert await intake.inbox(account) == []


async def test_directory_away(intake: Intake, settings: Settings) -> None:
    """When the directory cannot be asked, recipients are put off."""
    client = await intake.greeted()
    await client.ask(b"MAIL FROM:<>")
    await intake.context.pool.close()
    assert await client.ask(b"RCPT TO:<bob@example.test>") == b"451 4.3.0 cannot be handled now, try again later\r\n"


async def test_spool_without_room(intake: Intake, settings: Settings) -> None:
    """A large message that cannot be spooled is read to its end and put off."""
    settings.spool_directory.rmdir()
    client = await intake.greeted(**intake.limited(size_limit=Octets(1 << 24)))
    assert await send(client, ODD["spooled"]) == b"452 4.3.1 no room for the message now, try again later\r\n"
    assert await client.ask(b"NOOP") == b"250 2.0.0 ok\r\n"
    settings.spool_directory.mkdir()


async def test_hang_up_behind_the_dot(intake: Intake, account: Person) -> None:
    """A client that ends its side right behind the final dot has its mail once, and hears of it if it listens."""
    client = await intake.greeted()
    client.say(ENVELOPE + b"DATA\r\n")
    await client.hear(3)
    client.say(stuffed(MESSAGE))
    assert (await client.end()).startswith(b"250 2.0.0 accepted as ")
    assert await intake.originals(account) == [MESSAGE]


async def test_connection_lost_while_storing(intake: Intake, account: Person) -> None:
    """A connection that breaks while the message is being stored neither loses nor doubles it."""
    client = await intake.greeted()
    client.say(ENVELOPE + b"DATA\r\n")
    await client.hear(3)
    client.say(stuffed(MESSAGE))
    await asyncio.sleep(0)  # the session takes the message
    client.transport.reset()
    await client.end()
    assert await intake.originals(account) == [MESSAGE]


async def test_connection_lost_before_storing(intake: Intake, account: Person) -> None:
    """A message whose client is gone before we could take it is dropped: the client will send it again."""
    client = await intake.greeted()
    client.say(ENVELOPE + b"DATA\r\n")
    await client.hear(3)
    client.say(stuffed(MESSAGE))
    client.transport.reset()
    await client.end()
    assert await intake.inbox(account) == []


async def test_half_a_message(intake: Intake, account: Person) -> None:
    """A message without its end is dropped."""
    client = await intake.greeted()
    client.say(ENVELOPE + b"DATA\r\n")
    await client.hear(3)
    client.say(stuffed(MESSAGE)[:-3])
    assert await client.end() == b""
    assert await intake.inbox(account) == []


class Judge:
    """A content filter that says what it was told to."""

    name = "judge"
    on_failure: OnFailure = "defer"
    needs: tuple[str, ...] = ()
    limit_seconds = 5.0

    def __init__(self, *verdicts: Verdict) -> None:
        self.verdicts = verdicts
        self.seen: list[bytes] = []

    async def check(self, subject: Subject) -> Sequence[Verdict]:
        self.seen.append(subject.header)
        return self.verdicts


@pytest.mark.parametrize("message", [MESSAGE, ODD["spooled"]], ids=["small", "spooled"])
async def test_filters(message: bytes, intake: Intake, account: Person) -> None:
    """Content filters see the message before it is accepted; their refusal is the reply, their fields go on top."""
    refusing = Judge(Refuse(reply(550, "5.7.1", "message refused by policy"), "test"))
    client = await intake.greeted(**intake.limited(Pipeline(content=[refusing])))
    assert await send(client, message) == b"550 5.7.1 message refused by policy\r\n"
    assert await intake.inbox(account) == []
    assert refusing.seen == [message.partition(b"\r\n\r\n")[0] + b"\r\n"]
    adding = Judge(AddField("X-Judge", "fine"))
    client = await intake.greeted(**intake.limited(Pipeline(content=[adding])))
    assert (await send(client, message)).startswith(b"250 ")
    (stored,) = await intake.inbox(account)
    assert stored.startswith(b"Return-Path: <a@client.example>\r\nX-Judge: fine\r\nReceived: ")
    assert headless(stored) == message


async def test_postmaster(
    intake: Intake, account: Person, settings: Settings, owner: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    """<Postmaster> without a domain, and at a local domain that has none, goes to that of our hostname (RFC 5321 §4.5.1)."""
    await accounts.add_domain(owner, "example", "mail.example.test")
    person = await add_person(settings, owner, "postmaster@mail.example.test")
    intake.context.directory.clear()
    client = await intake.greeted()
    for path in (b"PostMaster", b"Postmaster@example.test"):
        assert (await send(client, MESSAGE, b"MAIL FROM:<>\r\nRCPT TO:<%s>\r\n" % path)).startswith(b"250 ")
    assert await intake.originals(person) == [MESSAGE, MESSAGE]
    assert b"for <" not in (await intake.inbox(person))[0]
    await client.ask(b"MAIL FROM:<>")
    assert await client.ask(b"RCPT TO:<postmaster@elsewhere.example>") == b"550 5.7.1 relaying denied\r\n"
