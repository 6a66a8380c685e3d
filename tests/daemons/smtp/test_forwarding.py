"""Addresses that forward: who gets the message here, what is queued for other hosts and in whose name, what is refused at RCPT."""

from collections.abc import Sequence

import asyncpg
import pytest

from daemons.forwarding import Forwarding
from filters.authentication.results import Results, SpfResult
from filters.pipeline import Pipeline
from filters.verdict import Drop, Finding
from protocol.address import AddrSpec, parse_addr_spec
from storage.forwards import remove_forward, set_forward
from tests.conftest import Owner, Person, add_person
from tests.daemons.smtp.conftest import MESSAGE, Intake, headless
from tests.daemons.smtp.test_acceptance import ODD, Judge, send
from tests.daemons.smtp.test_reports import add_zoe, read
from tests.daemons.smtp.users import SUBMITTED, Users

CAROL = b"MAIL FROM:<carol@elsewhere.example>"
PROVEN = Pipeline(content=[Judge(Finding(Results(spf=SpfResult("pass", "elsewhere.example", "mfrom"))))])
DAVE, EVE = "dave@remote.example", "Eve@far.example"


async def forward(intake: Intake, owner: Owner, address: str, *targets: str, keeps: bool = False) -> None:
    await set_forward(owner, address, targets, keeps=keeps)
    intake.context.directory.clear()


async def queue(intake: Intake) -> Sequence[asyncpg.Record]:
    return await intake.context.pool.fetch(
        "SELECT * FROM outbound_message JOIN outbound_recipient USING (outbound_id) ORDER BY recipient_id"
    )


async def original_sender(intake: Intake, reverse_path: str) -> AddrSpec | None:
    """Who a bounce to the sender comes back to."""
    forwarding = Forwarding(intake.context)
    found = await forwarding.reverse_of(parse_addr_spec(reverse_path))
    forwarding.close()
    return None if found is None else found.forward_path


async def mail(
    intake: Intake, *rcpts: bytes, sender: bytes = CAROL, message: bytes = MESSAGE, lmtp: bool = False
) -> bytes:
    """Mail whose sender is proven."""
    client = await intake.greeted(is_lmtp=lmtp, **intake.limited(PROVEN))
    return await send(client, message, b"".join(line + b"\r\n" for line in (sender, *rcpts)))


async def refusal(intake: Intake, address: bytes) -> bytes:
    client = await intake.greeted()
    await client.ask(CAROL)
    return await client.ask(b"RCPT TO:<%s>" % address)


@pytest.mark.parametrize("lmtp", [False, True], ids=["smtp", "lmtp"])
@pytest.mark.parametrize("original", [MESSAGE, ODD["spooled"]], ids=["small", "spooled"])
async def test_forwarded_to_another_host(
    intake: Intake, account: Person, owner: Owner, original: bytes, lmtp: bool
) -> None:
    """The message is queued as it came under a sender of ours that stands for the original one, and journalled in and out."""
    await forward(intake, owner, "sales@example.test", DAVE)
    answer = await mail(intake, b"RCPT TO:<Sales+x@example.test>", message=original, lmtp=lmtp)
    assert answer.startswith(b"250 2.0.0 accepted as ")
    (row,) = await queue(intake)
    assert (row["forward_path"], row["domain"], row["account_id"]) == (DAVE, "remote.example", None)
    assert (row["tenant_id"], row["trace_id"].encode()) == (account.tenant_id, answer.split()[-1])
    assert row["reverse_path"].startswith("SRS0=")
    assert row["reverse_path"].endswith("@example.test")
    assert await original_sender(intake, row["reverse_path"]) == AddrSpec("carol", "elsewhere.example")
    assert headless(await intake.context.blobs.message(row["content_id"])) == original
    assert await intake.inbox(account) == []
    came, left = await intake.journal()
    assert (came["reverse_path"], came["forward_paths"][0]["address"]) == (
        "carol@elsewhere.example",
        "Sales+x@example.test",
    )
    assert (left["reverse_path"], left["forward_paths"][0]["address"]) == (row["reverse_path"], DAVE)
    assert await intake.context.pool.fetchval("SELECT array_agg(direction ORDER BY journal_id) FROM journal") == [
        "in",
        "out",
    ]


@pytest.mark.parametrize("keeps", [True, False])
async def test_account_that_forwards(intake: Intake, account: Person, owner: Owner, keeps: bool) -> None:
    """The account of the address has a copy only when it keeps one; without the forward it has everything again."""
    await forward(intake, owner, "alice@example.test", DAVE, EVE, keeps=keeps)
    assert (await mail(intake, b"RCPT TO:<alice@example.test>")).startswith(b"250 ")
    assert await intake.originals(account) == ([MESSAGE] if keeps else [])
    rows = await queue(intake)
    assert [row["forward_path"] for row in rows] == [DAVE, EVE]
    assert len({row["outbound_id"] for row in rows}) == 1
    await remove_forward(owner, "alice@example.test")
    intake.context.directory.clear()
    assert (await mail(intake, b"RCPT TO:<alice@example.test>")).startswith(b"250 ")
    assert await intake.originals(account) == [MESSAGE] * (2 if keeps else 1)
    assert len(await queue(intake)) == 2


async def test_null_and_local_senders_stay(intake: Intake, account: Person, owner: Owner) -> None:
    """A bounce is forwarded with the null sender, and a sender of ours keeps its name."""
    await forward(intake, owner, "sales@example.test", DAVE)
    for sender in (b"MAIL FROM:<>", b"MAIL FROM:<alice@example.test>"):
        assert (await mail(intake, b"RCPT TO:<sales@example.test>", sender=sender)).startswith(b"250 ")
    assert [row["reverse_path"] for row in await queue(intake)] == ["", "alice@example.test"]


async def test_circles(intake: Intake, account: Person, bob: Person, owner: Owner) -> None:
    """Addresses that forward to each other and to themselves are followed once; a circle with nobody in it is refused."""
    await forward(intake, owner, "alice@example.test", "bob@example.test", "alice@example.test", keeps=True)
    await forward(intake, owner, "bob@example.test", "ALICE@example.test", DAVE, keeps=True)
    assert (await mail(intake, b"RCPT TO:<alice@example.test>", b"RCPT TO:<bob@example.test>")).startswith(b"250 ")
    assert await intake.originals(account) == await intake.originals(bob) == [MESSAGE]
    assert {row["forward_path"] for row in await queue(intake)} == {DAVE}
    await forward(intake, owner, "a@example.test", "b@example.test")
    await forward(intake, owner, "b@example.test", "a@example.test")
    assert await refusal(intake, b"a@example.test") == b"550 5.4.6 mailbox forwards in circles\r\n"


async def test_too_many(intake: Intake, account: Person, owner: Owner) -> None:
    """An address that leads to more addresses than smtp.forward_limit takes nothing."""
    await forward(intake, owner, "all@example.test", *(f"u{number}@remote.example" for number in range(100)))
    assert await refusal(intake, b"all@example.test") == b"550 5.2.4 mailbox forwards to too many addresses\r\n"


async def test_targets_that_cannot_receive(intake: Intake, account: Person, owner: Owner) -> None:
    """What the target would answer at RCPT is the answer for the address: unknown, disabled, full."""
    await forward(intake, owner, "sales@example.test", "alice@example.test", DAVE)
    await forward(intake, owner, "old@example.test", "gone@example.test")
    assert (await refusal(intake, b"old@example.test")).startswith(b"550 5.1.1 ")
    for change, code in (("quota_octets = 0", b"452 4.2.2 "), ("is_disabled = true", b"550 5.2.1 ")):
        await owner.execute(f"UPDATE account SET {change}")
        intake.context.directory.clear()
        assert (await refusal(intake, b"sales@example.test")).startswith(code)
    assert await queue(intake) == []


async def test_targets_of_another_tenant(intake: Intake, account: Person, owner: Owner) -> None:
    """Each tenant has its own copy and journal entry, and what another tenant's address passes on leaves in that one's name."""
    zoe = await add_zoe(intake.context.settings, owner)
    await forward(intake, owner, "sales@example.test", "zoe@other.test")
    await forward(intake, owner, "zoe@other.test", DAVE, keeps=True)
    assert (await mail(intake, b"RCPT TO:<sales@example.test>")).startswith(b"250 ")
    assert await intake.originals(zoe) == [MESSAGE]
    (row,) = await queue(intake)
    assert row["tenant_id"] == zoe.tenant_id
    assert row["reverse_path"].endswith("@other.test")
    rows = await owner.fetch("SELECT tenant_id, direction FROM journal ORDER BY journal_id")
    assert [tuple(each) for each in rows] == [(account.tenant_id, "in"), (zoe.tenant_id, "in"), (zoe.tenant_id, "out")]
    assert [entry["forward_paths"][0]["address"] for entry in await intake.journal()] == [
        "sales@example.test", "zoe@other.test", DAVE,
    ]  # fmt: skip


async def test_catch_all_and_postmaster(intake: Intake, account: Person, owner: Owner) -> None:
    """A domain's catch-all may forward what no other address takes; postmaster may, too."""
    await forward(intake, owner, "@example.test", DAVE)
    await forward(intake, owner, "postmaster@example.test", EVE)
    rcpts = (b"any@example.test", b"Postmaster@example.test", b"alice@example.test")
    assert (await mail(intake, *(b"RCPT TO:<%s>" % rcpt for rcpt in rcpts))).startswith(b"250 ")
    assert [row["forward_path"] for row in await queue(intake)] == [DAVE, EVE]
    assert await intake.originals(account) == [MESSAGE]


async def test_one_target_reports_as_the_address(intake: Intake, account: Person, owner: Owner) -> None:
    """NOTIFY, RET and ENVID go along to the one behind an address, with the address itself as the original recipient."""
    await forward(intake, owner, "sales@example.test", DAVE)
    await mail(intake, b"RCPT TO:<sales@example.test> NOTIFY=SUCCESS,FAILURE", sender=CAROL + b" RET=HDRS ENVID=x1")
    (row,) = await queue(intake)
    assert (row["notify"], row["orcpt"]) == ("SUCCESS,FAILURE", "rfc822;sales@example.test")
    assert (row["ret"], row["envid"]) == ("HDRS", "x1")
    await mail(intake, b"RCPT TO:<sales@example.test> NOTIFY=NEVER ORCPT=rfc822;first@elsewhere.example")
    assert [(row["notify"], row["orcpt"]) for row in await queue(intake)][1:] == [
        ("NEVER", "rfc822;first@elsewhere.example")
    ]


async def test_several_targets_are_told_as_expanded(intake: Intake, account: Person, bob: Person, owner: Owner) -> None:
    """Success of an address that stands for several is told once, as expanded; each of them reports failures only."""
    await forward(intake, owner, "all@example.test", DAVE, "alice@example.test")
    bobs = b"MAIL FROM:<bob@example.test>"
    await mail(intake, b"RCPT TO:<all@example.test> NOTIFY=SUCCESS,DELAY", sender=bobs)
    (row,) = await queue(intake)
    assert row["notify"] == "DELAY"
    (report,) = await intake.inbox(bob)
    _, (_, *recipients) = read(report)
    assert [(each["Action"], each["Final-Recipient"]) for each in recipients] == [
        ("expanded", "rfc822; all@example.test")
    ]
    await mail(intake, b"RCPT TO:<all@example.test> NOTIFY=SUCCESS", sender=bobs)
    assert (await queue(intake))[-1]["notify"] == "NEVER"


async def test_what_filters_discard_is_not_forwarded(intake: Intake, account: Person, owner: Owner) -> None:
    """What the tenant's people do not get goes to nobody else either; the journal has it."""
    await forward(intake, owner, "all@example.test", DAVE, "alice@example.test")
    client = await intake.greeted(**intake.limited(Pipeline(content=[Judge(Drop("tests"))])))
    envelope = b"MAIL FROM:<alice@example.test>\r\nRCPT TO:<all@example.test> NOTIFY=SUCCESS\r\n"
    assert (await send(client, MESSAGE, envelope)).startswith(b"250 ")
    assert (await intake.inbox(account), await queue(intake)) == ([], [])
    (entry,) = await intake.journal()
    assert entry["treatment"] == {"action": "discard", "reasons": ["tests"]}


async def test_users_are_told_of_expanded_addresses(users: Users, account: Person, owner: Owner) -> None:
    """A user who asks for success hears that the address was expanded."""
    await set_forward(owner, "all@example.test", [DAVE, EVE], keeps=True)
    users.context.directory.clear()
    async with await users.logged_in(account) as client:
        assert (await client.send(SUBMITTED, "<all@example.test> NOTIFY=SUCCESS")).startswith(b"250 ")
    assert {row["notify"] for row in await users.queue()} == {"NEVER"}
    (report,) = await users.mailbox(account)
    _, (_, recipient) = read(report)
    assert (recipient["Action"], recipient["Final-Recipient"]) == ("expanded", "rfc822; all@example.test")


async def test_users_write_to_addresses_that_forward(users: Users, account: Person, owner: Owner) -> None:
    """What a user submits goes to those behind the address, in the user's own name."""
    settings = users.context.settings
    bob = await add_person(settings, owner, "bob@example.test")
    await set_forward(owner, "bob@example.test", [DAVE], keeps=True)
    users.context.directory.clear()
    async with await users.logged_in(account) as client:
        answer = await client.send(SUBMITTED, "<bob@example.test>")
    assert answer.startswith(b"250 ")
    (row,) = await users.queue()
    assert (row["reverse_path"], row["forward_path"]) == ("alice@example.test", DAVE)
    assert row["account_id"] == account.account_id
    assert [headless(message) for message in await users.mailbox(bob)] == [SUBMITTED]
