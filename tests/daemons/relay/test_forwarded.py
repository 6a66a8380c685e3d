"""Forwarded mail on its whole way: in at port 25, out to another host, and a bounce from there back to who wrote."""

from dataclasses import replace

import dkim
import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from daemons.context import Context
from storage.forwards import set_forward
from tests.conftest import Owner, Person
from tests.daemons.relay.world import World
from tests.daemons.smtp.conftest import serving
from tests.daemons.smtp.filed import rules
from tests.daemons.smtp.test_traces import traced
from tests.daemons.smtp.users import Client
from tests.sections import with_changes

WRITTEN = (
    b"From: Carol <carol@elsewhere.example>\r\nTo: sales@example.test\r\nSubject: order\r\n"
    b"Date: Sun, 22 Nov 2026 10:00:00 +0000\r\nMessage-ID: <7@elsewhere.example>\r\n\r\nTen of them.\r\n.please\r\n"
)
BOUNCE = b"From: mailer-daemon@remote.example\r\nTo: sender\r\nSubject: failed\r\n\r\nNo such user.\r\n"


def signed(message: bytes) -> tuple[bytes, bytes]:
    """The message with its author's signature, and the record of the key."""
    key = generate_private_key(65537, 2048)
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    record = b"v=DKIM1; k=rsa; p=" + b"".join(public.splitlines()[1:-1])
    return dkim.sign(message, b"s1", b"elsewhere.example", pem) + message, record


def checked(world: World) -> Context:
    """A host that checks who mail is from; elsewhere.example says that its mail comes from the loopback."""
    world.names.add("elsewhere.example", "TXT", '"v=spf1 ip4:127.0.0.1 -all"')
    smtp = {"filters": ["authentication"]}
    changed = with_changes(world.context.settings, smtp=smtp, authenticity={"unchecked": []})
    return replace(world.context, settings=changed)


@pytest.mark.parametrize("address", ["sales@example.test", "alice@example.test"], ids=["address", "rule"])
async def test_forwarded_and_bounced(world: World, owner: Owner, account: Person, address: str) -> None:
    """The target gets it from a sender of ours with the author's signature intact; a bounce to that sender reaches the author."""
    await set_forward(owner, "sales@example.test", ["dave@remote.example"], keeps=True)
    await rules(owner, account, 'redirect "dave@remote.example";')
    remote, elsewhere = await world.mx("remote.example"), await world.mx("elsewhere.example")
    message, record = signed(WRITTEN)
    world.start()
    async with serving(checked(world)) as endpoints, await Client.connect(endpoints["smtp"]) as client:
        await client.greeted()
        answer = await client.send(message, f"<{address}>", sender="<carol@elsewhere.example>")
        assert answer.startswith(b"250 2.0.0 accepted as ")
        (came,) = await remote.wait(1)
        assert came.forward_paths == ["dave@remote.example"]
        assert came.reverse_path.startswith("SRS0=")
        assert came.reverse_path.endswith("=elsewhere.example=carol@example.test")
        assert came.content.endswith(message)
        assert b"\r\nAuthentication-Results: mail.example.test;" in came.content
        assert dkim.verify(came.content, dnsfunc=lambda name, timeout: record)
        # The next host finds out only later that it cannot deliver.
        answer = await client.send(BOUNCE, f"<{came.reverse_path}>", sender="<>")
        assert answer.startswith(b"250 2.0.0 accepted as ")
        (back,) = await elsewhere.wait(1)
        assert (back.reverse_path, back.forward_paths) == ("", ["carol@elsewhere.example"])
        assert back.content.endswith(BOUNCE)
        forged = came.reverse_path.replace("carol", "victim")
        assert (await client.send(BOUNCE, f"<{forged}>", sender="<>")).startswith(b"550 5.1.1 ")


async def test_refused_by_the_target(world: World, owner: Owner) -> None:
    """When the target refuses forwarded mail, the author gets the one report, and nothing goes out for a null sender."""
    await set_forward(owner, "sales@example.test", ["dave@remote.example"], keeps=True)
    remote, elsewhere = await world.mx("remote.example"), await world.mx("elsewhere.example")
    remote.unknown = {"dave@remote.example"}
    world.start()
    async with serving(checked(world)) as endpoints, await Client.connect(endpoints["smtp"]) as client:
        await client.greeted()
        assert (await client.send(BOUNCE, "<sales@example.test>", sender="<>")).startswith(b"250 ")
        assert (await client.send(WRITTEN, "<sales@example.test>", sender="<carol@elsewhere.example>")).startswith(
            b"250 "
        )
        (report,) = await elsewhere.wait(1)
        rows = await world.until_done()
    assert (report.reverse_path, report.forward_paths) == ("", ["carol@elsewhere.example"])
    assert b"550 5.1.1 no such user" in report.content
    assert b"Original-Recipient: rfc822; sales@example.test\r\n" in report.content
    assert [row["state"] for row in rows] == ["failed", "failed", "delivered"]


@pytest.mark.parametrize("keeps", [False, True], ids=["sent on", "copied"])
@pytest.mark.parametrize("by", ["rule", "address"])
async def test_nobody_is_bounced_to_who_has_not_written(
    world: World, owner: Owner, account: Person, by: str, keeps: bool
) -> None:
    """Forged mail that the target refuses goes to nobody; it comes back to who sends it on, once, if no copy was kept."""
    if by == "address":
        await set_forward(owner, account.login, ["dave@remote.example", "eve@remote.example"], keeps=keeps)
    else:
        copy = ":copy" if keeps else ""
        await rules(owner, account, f'redirect {copy} "dave@remote.example"; redirect {copy} "eve@remote.example";')
    remote, elsewhere = await world.mx("remote.example"), await world.mx("elsewhere.example")
    remote.unknown = {"dave@remote.example", "eve@remote.example"}
    world.start()
    context = checked(world)
    world.names.add("elsewhere.example", "TXT", '"v=spf1 -all"')
    async with serving(context) as endpoints, await Client.connect(endpoints["smtp"]) as client:
        await client.greeted()
        answer = await client.send(WRITTEN, f"<{account.login}>", sender="<carol@elsewhere.example>")
        rows = await world.until_done()
        await world.until("count(*) = 1 FROM message")
    assert [row["state"] for row in rows] == ["failed", "failed"]
    assert (elsewhere.received, remote.received) == ([], [])
    (back,) = await world.inbox()
    assert back.endswith(WRITTEN)
    assert back.startswith(b"Return-Path: <carol@elsewhere.example>\r\n")
    found = await traced(world.context, answer.split()[-1].decode())
    returned = [note.facts["action"] for note in found.notes if note.kind == "bounced"]
    assert returned == ([] if keeps else ["returned"])


async def test_a_late_bounce_reaches_who_sends_on(world: World, owner: Owner, account: Person) -> None:
    """When the next host finds out later, its bounce of unproven mail goes to the account that has sent it on."""
    await rules(owner, account, 'redirect "dave@remote.example";')
    remote = await world.mx("remote.example")
    world.start()
    async with serving(world.context) as endpoints, await Client.connect(endpoints["smtp"]) as client:
        await client.greeted()
        await client.send(WRITTEN, f"<{account.login}>", sender="<carol@elsewhere.example>")
        (came,) = await remote.wait(1)
        assert (await client.send(BOUNCE, f"<{came.reverse_path}>", sender="<>")).startswith(b"250 ")
        await world.until("count(*) = 1 FROM message")
    (bounce,) = await world.inbox()
    assert bounce.endswith(BOUNCE)
    assert len(remote.received) == 1
