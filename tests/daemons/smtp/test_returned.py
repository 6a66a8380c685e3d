"""Bounces to senders that forwarding had rewritten: taken from the null sender alone, and queued for who sent first."""

from datetime import timedelta

import pytest

from daemons.forwarding import Forwarding
from daemons.relay.signing import Signer
from protocol.address import AddrSpec
from tests.conftest import Owner, Person
from tests.daemons.relay.signatures import make_keys
from tests.daemons.smtp.conftest import Intake
from tests.daemons.smtp.test_acceptance import send

BOUNCE = b"From: Alice <alice@example.test>\r\nSubject: pay this\r\n\r\nNo report at all.\r\n"
LONG = AddrSpec("bounces+1234567-abcd-user=example.com", "em1234.mailing.example.org")


async def rewritten(intake: Intake, sender: AddrSpec) -> str:
    """The address that forwarding by example.test puts in a sender's place."""
    forwarding = Forwarding(intake.context)
    address = await forwarding.forwarded(sender, "example.test")
    forwarding.close()
    return str(address)


@pytest.mark.parametrize("sender", [AddrSpec("Bob", "example.org"), LONG])
async def test_a_bounce_goes_on_to_the_sender(intake: Intake, account: Person, owner: Owner, sender: AddrSpec) -> None:
    """It is queued under the null sender for the tenant that forwarded, with its octets as they came, and journaled."""
    address = await rewritten(intake, sender)
    client = await intake.greeted()
    envelope = f"MAIL FROM:<>\r\nRCPT TO:<{address}>\r\n".encode()
    assert (await send(client, BOUNCE, envelope)).startswith(b"250 2.0.0 accepted as ")
    row = await owner.fetchrow("SELECT * FROM outbound_recipient JOIN outbound_message USING (outbound_id)")
    assert row is not None
    assert (row["forward_path"], row["reverse_path"], row["state"]) == (str(sender), "", "waiting")
    assert (row["tenant_id"], row["account_id"], row["domain"]) == (account.tenant_id, None, sender.domain)
    assert (await intake.context.blobs.message(row["content_id"])).endswith(BOUNCE)
    assert len(await intake.journal()) == 1


async def test_it_goes_with_other_recipients(intake: Intake, account: Person, owner: Owner) -> None:
    """One transaction may hold a mailbox of ours and a rewritten sender: each gets the message once."""
    address = await rewritten(intake, AddrSpec("bob", "example.org"))
    client = await intake.greeted()
    envelope = f"MAIL FROM:<>\r\nRCPT TO:<alice@example.test>\r\nRCPT TO:<{address}>\r\n".encode()
    assert (await send(client, BOUNCE, envelope)).startswith(b"250 ")
    assert await intake.originals(account) == [BOUNCE]
    assert await owner.fetchval("SELECT array_agg(forward_path) FROM outbound_recipient") == ["bob@example.org"]


async def test_a_bounce_is_not_signed(intake: Intake, account: Person, owner: Owner) -> None:
    """What comes back to a rewritten sender may name any author: no key of the tenant makes that true."""
    await make_keys(intake.context, owner, "example.test")
    address = await rewritten(intake, AddrSpec("bob", "example.org"))
    client = await intake.greeted()
    assert (await send(client, BOUNCE, f"MAIL FROM:<>\r\nRCPT TO:<{address}>\r\n".encode())).startswith(b"250 ")
    content_id = await owner.fetchval("SELECT content_id FROM outbound_message")
    signer = Signer(intake.context)
    assert await signer.content_fields(account.tenant_id, content_id, None) == b""
    assert await signer.content_fields(account.tenant_id, content_id, account.account_id) != b""
    signer.close()


async def test_only_the_null_sender_may_use_it(intake: Intake) -> None:
    """RFC 5321 §4.5.5: who is not a bounce does not get to a stranger through us."""
    address = await rewritten(intake, AddrSpec("bob", "example.org"))
    client = await intake.greeted()
    assert (await client.ask(b"MAIL FROM:<eve@example.com>")).startswith(b"250 ")
    assert (await client.ask(f"RCPT TO:<{address}>".encode())).startswith(b"550 5.1.1 ")


async def test_forged_expired_and_foreign_ones_are_unknown(intake: Intake, owner: Owner) -> None:
    """They get the reply of any address that does not exist, and nothing is queued."""
    address = await rewritten(intake, AddrSpec("bob", "example.org"))
    local_part = address.partition("@")[0]
    client = await intake.greeted()
    await client.ask(b"MAIL FROM:<>")
    forged = local_part.replace("=bob", "=eve")
    for path in (f"{forged}@example.test", "SRS0=aaaaaa=aa=example.org=bob@example.test", "SRS1=a=b==c@example.test"):
        assert (await client.ask(f"RCPT TO:<{path}>".encode())).startswith(b"550 5.1.1 "), path
    assert (await client.ask(f"RCPT TO:<{local_part}@elsewhere.test>".encode())).startswith(b"550 5.7.1 ")
    await owner.execute("DELETE FROM srs_key WHERE created_at < now() + $1::interval", timedelta(days=1))
    fresh = await intake.greeted()
    intake.shared.forwarding.clear()  # as the notification does
    await fresh.ask(b"MAIL FROM:<>")
    assert (await fresh.ask(f"RCPT TO:<{address}>".encode())).startswith(b"550 5.1.1 ")
    assert await owner.fetchval("SELECT count(*) FROM outbound_recipient") == 0
