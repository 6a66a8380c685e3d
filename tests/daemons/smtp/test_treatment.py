"""Infected mail over SMTP, on a real clamd and the real storage: refused, or treated as each recipient's tenant wants."""

import email
import email.policy
import ssl
from dataclasses import replace
from email.message import EmailMessage
from typing import Any

import asyncpg
import msgspec
import pytest

from config.antivirus import Antivirus as Limits
from config.mime import Mime
from config.settings import Settings
from config.units import Octets
from daemons.certificates import Issued
from daemons.context import Context
from daemons.smtp.service import pipeline_of
from filters.pipeline import Pipeline
from filters.verdict import StripPart
from storage import accounts, antivirus
from storage.blobs.keys import KeyRing
from tests.clamd import EICAR, FOUND, Clamd, zipped
from tests.conftest import PASSWORD, Person
from tests.daemons.smtp.conftest import MESSAGE, Intake, serving
from tests.daemons.smtp.test_acceptance import Judge, send
from tests.daemons.smtp.users import SUBMITTED, Users
from tests.mime import attached

INFECTED = attached(("fine.txt", b"fine"), ("bill.zip", zipped(EICAR)), ("also fine.txt", b"fine too"))
REFUSED = b"550 5.7.1 message refused: a virus was found in it\r\n"
ENVELOPE = b"MAIL FROM:<a@client.example>\r\nRCPT TO:<alice@example.test>\r\n"
BOTH = ENVELOPE + b"RCPT TO:<zoe@other.test>\r\n"


def changed(context: Context, clamd: str, *names: str, **limits: Any) -> Context:
    """The context with filters, and with this clamd."""
    smtp = msgspec.structs.replace(context.settings.smtp, filters=list(names))
    limits = {"clamd": clamd, **limits}
    return replace(context, settings=msgspec.structs.replace(context.settings, smtp=smtp, antivirus=Limits(**limits)))


def scanning(intake: Intake, clamd: str, *names: str, **limits: Any) -> dict[str, Any]:
    """What sessions need to look for viruses."""
    context = changed(intake.context, clamd, *(names or ("antivirus",)), **limits)
    return intake.limited(pipeline_of(context.settings.smtp, context))


@pytest.fixture
async def zoe(settings: Settings, owner: "asyncpg.Connection[asyncpg.Record]") -> Person:
    """Somebody of another tenant, which reads English."""
    tenant_id = await accounts.add_tenant(owner, "other", KeyRing(settings.master_key_file).new_tenant_key())
    await accounts.set_language(owner, "other", "en")
    await accounts.add_domain(owner, "other", "other.test")
    account_id = await accounts.add_account(owner, "other", "zoe@other.test", "x")
    return Person(tenant_id, account_id, "zoe@other.test", PASSWORD)


async def archived(intake: Intake, person: Person) -> tuple[object, bytes]:
    """What the journal has of one message of the tenant: the mark, and the octets as they came."""
    (row,) = await intake.context.pool.fetch(
        "SELECT content_id, envelope, digest, size_octets FROM journal WHERE tenant_id = $1", person.tenant_id
    )
    octets = await intake.context.blobs.message(row["content_id"])
    return msgspec.json.decode(row["envelope"]).get("treatment"), octets[-row["size_octets"] :]


def files(octets: bytes) -> list[tuple[str | None, object]]:
    parsed = email.message_from_bytes(octets, policy=email.policy.default)
    assert isinstance(parsed, EmailMessage)
    return [(part.get_filename(), part.get_content()) for part in parsed.iter_parts()]


async def test_reject(intake: Intake, account: Person, running_clamd: Clamd) -> None:
    """By default infected mail is refused within the transaction, and clean mail says that it was looked at."""
    client = await intake.greeted(**scanning(intake, str(running_clamd.socket)))
    assert await send(client, INFECTED) == REFUSED
    assert await intake.inbox(account) == []
    assert await intake.journal() == []
    assert (await send(client, MESSAGE)).startswith(b"250 ")
    (stored,) = await intake.inbox(account)
    assert b"\r\nX-Virus-Status: clean\r\n" in stored
    (envelope,) = await intake.journal()
    assert "treatment" not in envelope


async def test_lmtp_is_scanned_too(intake: Intake, account: Person, running_clamd: Clamd) -> None:
    """Over LMTP each recipient is told."""
    client = await intake.greeted(is_lmtp=True, **scanning(intake, str(running_clamd.socket)))
    client.say(ENVELOPE + b"RCPT TO:<alice+x@example.test>\r\nDATA\r\n")
    await client.hear(4)
    client.say(INFECTED + b".\r\n")
    assert await client.hear(2) == REFUSED * 2


async def test_strip(intake: Intake, account: Person, zoe: Person, owner: Any, running_clamd: Clamd) -> None:
    """The infected part is replaced by a notice in the tenant's language; the archive alone has the original, marked."""
    for tenant in ("example", "other"):
        await antivirus.choose(owner, tenant, "strip")
    client = await intake.greeted(**scanning(intake, str(running_clamd.socket)))
    answer = await send(client, INFECTED, BOTH)
    assert answer.startswith(b"250 ")
    for person, told in ((account, "Die Anlage „bill.zip“"), (zoe, "The attachment “bill.zip”")):
        (stored,) = await intake.inbox(person)
        assert EICAR not in stored
        assert f"X-Virus-Status: infected ({FOUND})\r\n".encode() in stored
        text, fine, notice, also = files(stored)
        assert text == (None, "Hello.\r\n")
        assert fine == ("fine.txt", b"fine")
        assert also == ("also fine.txt", b"fine too")
        assert told in str(notice[1])
        assert FOUND in str(notice[1])
        assert answer.split()[-1].decode() in str(notice[1])  # the id by which the archive knows it
        cut = INFECTED.index(b"Content-Type: application/octet-stream", INFECTED.index(b"fine.txt"))
        assert stored.endswith(INFECTED[INFECTED.rindex(b"\r\n--=_tests\r\n") :])
        assert INFECTED[:cut] in stored
        mark, original = await archived(intake, person)
        assert mark == {"action": "strip", "reasons": [f"virus: {FOUND}"]}
        assert original == INFECTED


async def test_large_message_is_stripped(intake: Intake, account: Person, owner: Any, running_clamd: Clamd) -> None:
    """What lies in a spool file is stripped into another, and neither is left behind."""
    await antivirus.choose(owner, "example", "strip")
    client = await intake.greeted(**scanning(intake, str(running_clamd.socket)))
    large = bytes(range(256)) * (5 << 10)
    message = attached(("large.bin", large), ("bill.zip", zipped(EICAR)))
    assert (await send(client, message)).startswith(b"250 ")
    (stored,) = await intake.inbox(account)
    assert files(stored)[1] == ("large.bin", large)
    assert "Anlage" in str(files(stored)[2][1])
    assert (await archived(intake, account))[1] == message


async def test_discard(intake: Intake, account: Person, owner: Any, running_clamd: Clamd) -> None:
    """Discarded mail is acknowledged and archived with a mark; nobody gets it, and nobody is told that somebody has."""
    await antivirus.choose(owner, "example", "discard")
    client = await intake.greeted(**scanning(intake, str(running_clamd.socket)))
    assert (await send(client, INFECTED, ENVELOPE.replace(b"test>", b"test> NOTIFY=SUCCESS"))).startswith(b"250 ")
    assert await intake.context.pool.fetchval("SELECT count(*) FROM outbound_message") == 0
    assert await intake.inbox(account) == []
    assert await archived(intake, account) == ({"action": "discard", "reasons": [f"virus: {FOUND}"]}, INFECTED)


async def test_each_tenant_decides(
    intake: Intake, account: Person, zoe: Person, owner: Any, running_clamd: Clamd
) -> None:
    """One tenant's wish is not another's; but where one refuses, the one reply refuses all."""
    client = await intake.greeted(**scanning(intake, str(running_clamd.socket)))
    await antivirus.choose(owner, "example", "strip")
    assert await send(client, INFECTED, BOTH) == REFUSED
    await antivirus.choose(owner, "other", "discard")
    assert (await send(client, INFECTED, BOTH)).startswith(b"250 ")
    assert len(await intake.inbox(account)) == 1
    assert await intake.inbox(zoe) == []


async def test_configured_action(intake: Intake, account: Person, running_clamd: Clamd) -> None:
    """A tenant that has not chosen has what is configured."""
    client = await intake.greeted(**scanning(intake, str(running_clamd.socket), infected="discard"))
    assert (await send(client, INFECTED)).startswith(b"250 ")
    assert await intake.inbox(account) == []


async def test_what_cannot_be_taken_out(intake: Intake, account: Person) -> None:
    """What a filter wants to be taken out and is not there keeps the message from everybody, for now."""
    client = await intake.greeted(**intake.limited(Pipeline(content=[Judge(StripPart((9,), "no such part"))])))
    assert (await send(client, MESSAGE)).startswith(b"451 4.3.0 ")
    assert await intake.inbox(account) == []


async def test_clamd_away(intake: Intake, account: Person) -> None:
    """Without clamd mail waits at its sender; a policy of passing lets it in with a field that says so."""
    client = await intake.greeted(**scanning(intake, "/nonexistent"))
    assert (await send(client, MESSAGE)).startswith(b"451 4.7.1 message cannot be checked for viruses now")
    client = await intake.greeted(**scanning(intake, "/nonexistent", unavailable="pass"))
    assert (await send(client, INFECTED)).startswith(b"250 ")
    (stored,) = await intake.inbox(account)
    assert b"\r\nX-Virus-Status: unchecked (scanner unavailable)\r\n" in stored


async def test_over_the_limit(intake: Intake, account: Person, running_clamd: Clamd) -> None:
    """A message with a part above the limit is refused with 552 5.3.4, or passes marked; clamd's own limit counts as well."""
    message = attached(("large.bin", bytes(3 << 20)))
    for limit in (1 << 20, 25 << 20):
        place = str(running_clamd.socket)
        client = await intake.greeted(**scanning(intake, place, stream_limit=Octets(limit)))
        assert (await send(client, message)).startswith(b"552 5.3.4 message refused: too large to be checked")
        client = await intake.greeted(**scanning(intake, place, stream_limit=Octets(limit), too_large="pass"))
        assert (await send(client, message)).startswith(b"250 ")
    assert all(b"X-Virus-Status: unchecked (too large)" in stored for stored in await intake.inbox(account))


async def test_bad_mime(intake: Intake, account: Person) -> None:
    """The filter "mime" refuses unwanted attachments; where they are to be stripped, the notice says why."""
    client = await intake.greeted(**scanning(intake, "/nonexistent", "mime"))
    message = attached(("game.exe", b"MZ"))
    assert (await send(client, message)).startswith(b"550 5.7.1 message refused: attachments of this kind")
    stripping = msgspec.structs.replace(intake.context.settings, mime=Mime(forbidden="strip"))
    stripping = msgspec.structs.replace(stripping, smtp=msgspec.structs.replace(stripping.smtp, filters=["mime"]))
    context = replace(intake.context, settings=stripping)
    client = await intake.greeted(**intake.limited(pipeline_of(stripping.smtp, context)))
    assert (await send(client, message)).startswith(b"250 ")
    (stored,) = await intake.inbox(account)
    assert "„game.exe“ wurde" in str(files(stored)[1][1])


async def test_submission(
    context: Context, account: Person, owner: Any, running_clamd: Clamd, certificate: Issued
) -> None:
    """Users are told at once, whatever their tenant wants of mail that comes in."""
    await antivirus.choose(owner, "example", "strip")
    scanning = changed(context, str(running_clamd.socket), "antivirus", "mime")
    async with serving(scanning) as endpoints:
        users = Users(scanning, endpoints, ssl.create_default_context(cafile=certificate.authority))
        async with await users.logged_in(account) as client:
            assert await client.send(SUBMITTED + EICAR + b"\r\n", "<alice@example.test>") == REFUSED
            assert (await client.send(SUBMITTED, "<alice@example.test>")).startswith(b"250 2.0.0 ")
        (stored,) = await users.mailbox(account)
    assert b"X-Virus-Status" not in stored
