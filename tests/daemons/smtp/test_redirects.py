"""Mail that rules send on: in whose name, to whom, in which form, how circles end, and that nothing is doubled or lost."""

from typing import Any

import pytest

from daemons.forwarding import Forwarding
from filters.verdict import AddField, Junk, Quarantine, Refuse
from protocol.address import parse_addr_spec
from protocol.smtp.reply import reply
from storage import address_lists, traces
from storage.address_lists import Holder
from storage.forwards import set_forward
from tests.conftest import Owner, Person, add_person
from tests.daemons.smtp.conftest import Intake, headless
from tests.daemons.smtp.filed import LETTER, PROVEN, changed_rules, deliver, lying, notes, queue, rules
from tests.daemons.smtp.test_acceptance import ODD
from tests.daemons.smtp.test_reports import add_zoe, read
from tests.daemons.smtp.users import SUBMITTED, Users

ALICE, BOB, DAVE = "alice@example.test", "bob@example.test", "dave@remote.example"


RELAYED = b"Received: from mail.example.test by mx.remote.example; Sun, 22 Nov 2026 10:00:00 +0000\r\n"


async def returns_to(intake: Intake, reverse_path: str) -> str:
    """Who gets a bounce to the sender."""
    forwarding = Forwarding(intake.context)
    found = await forwarding.reverse_of(parse_addr_spec(reverse_path))
    forwarding.close()
    return "" if found is None else str(found.forward_path)


async def comes_back_to(owner: Owner) -> list[int]:
    """The accounts that get their message back when it cannot be delivered."""
    return [row["account_id"] for row in await owner.fetch("SELECT account_id FROM outbound_return")]


@pytest.mark.parametrize("message", [LETTER, ODD["spooled"]], ids=["small", "spooled"])
async def test_sent_on(intake: Intake, account: Person, owner: Owner, message: bytes) -> None:
    """It is queued as it came, under our fields, by nobody's account; a proven sender hears of failures by its rewritten name."""
    await rules(owner, account, f'redirect "{DAVE}";')
    (answer,) = await deliver(intake, message=message, verdicts=(PROVEN, AddField("X-Checked", "yes")))
    (row,) = await queue(intake)
    assert (row["forward_path"], row["account_id"], row["notify"]) == (DAVE, None, None)
    assert await returns_to(intake, row["reverse_path"]) == "carol@elsewhere.example"
    assert row["orcpt"] == "rfc822;alice@example.test"
    sent = await intake.context.blobs.message(row["content_id"])
    assert headless(sent) == message
    assert b"\r\nDelivered-To: alice@example.test\r\nX-Checked: yes\r\nReceived: " in sent
    assert await lying(intake, account) == []
    assert await comes_back_to(owner) == []
    assert (await notes(intake, answer, "filtered"))[0]["actions"] == [f"sent on to {DAVE}"]
    assert len(await notes(intake, answer, "queued")) == 1


@pytest.mark.parametrize(
    ("verdicts", "is_spam"), [((), False), ((PROVEN, Junk("looks bad")), True)], ids=["unproven", "spam"]
)
async def test_nobody_else_hears_of_failures(
    intake: Intake, account: Person, owner: Owner, verdicts: Any, is_spam: bool
) -> None:
    """Bounces of mail whose sender is not proven, or that is spam, reach who sends it on, and no report is asked for."""
    await rules(owner, account, f'redirect "{DAVE}";')
    await deliver(intake, verdicts=verdicts)
    (row,) = await queue(intake)
    assert (row["notify"], await returns_to(intake, row["reverse_path"])) == ("NEVER", ALICE)
    assert await comes_back_to(owner) == [account.account_id]


async def test_null_sender_stays(intake: Intake, account: Person, owner: Owner) -> None:
    """A bounce is sent on with the null sender; what cannot be delivered comes back."""
    await rules(owner, account, f'redirect "{DAVE}";')
    await deliver(intake, sender="")
    (row,) = await queue(intake)
    assert row["reverse_path"] == ""
    assert await comes_back_to(owner) == [account.account_id]


async def test_with_a_copy(intake: Intake, account: Person, owner: Owner) -> None:
    """:copy leaves it in the inbox as well; then nothing has to come back."""
    await rules(owner, account, f'redirect :copy "{DAVE}"; redirect :copy "eve@far.example";')
    await deliver(intake, verdicts=())
    assert [row["forward_path"] for row in await queue(intake)] == [DAVE, "eve@far.example"]
    assert [headless(each.octets) for each in await lying(intake, account)] == [LETTER]
    assert await comes_back_to(owner) == []


async def test_edited(intake: Intake, account: Person, owner: Owner) -> None:
    """What was edited before is sent on edited, what was not as it came; Return-Path never leaves."""
    source = f'redirect :copy "{DAVE}"; addheader "X-Sorted" "yes"; redirect "eve@far.example";'
    await rules(owner, account, source)
    await deliver(intake)
    first, second = [await intake.context.blobs.message(row["content_id"]) for row in await queue(intake)]
    assert headless(first) == LETTER
    head = b"Return-Path: <carol@elsewhere.example>\r\nDelivered-To: alice@example.test\r\nX-Sorted: yes\r\nReceived: "
    assert second.startswith(head)
    assert second.count(b"Return-Path:") == 1


async def test_to_an_account_here(intake: Intake, account: Person, bob: Person, owner: Owner) -> None:
    """Accounts of this host get it at once, each by its own rules, and in the journal it is one message."""
    await rules(owner, account, f'redirect "{BOB}";')
    await rules(owner, bob, 'if header "subject" "news" { fileinto :create "News"; }', name="other")
    await deliver(intake)
    assert await lying(intake, account) == []
    assert [headless(each.octets) for each in await lying(intake, bob, "News")] == [LETTER]
    assert await queue(intake) == []
    (entry,) = await intake.journal()
    assert [each["address"] for each in entry["forward_paths"]] == [ALICE]


async def test_each_account_has_it_once(intake: Intake, account: Person, bob: Person, owner: Owner) -> None:
    """Who gets it already gets it no second time, and rules that send to each other end."""
    await rules(owner, account, f'redirect :copy "{BOB}";')
    await rules(owner, bob, f'redirect :copy "{ALICE}";', name="other")
    await deliver(intake, ALICE, BOB)
    await deliver(intake, ALICE, message=LETTER.replace(b"<1@", b"<2@"))
    assert (len(await lying(intake, account)), len(await lying(intake, bob))) == (2, 2)


async def test_accounts_that_send_it_to_each_other(intake: Intake, account: Person, bob: Person, owner: Owner) -> None:
    """Where nobody keeps it the first of them has it, once; so has who sends it on to itself."""
    await rules(owner, account, f'redirect "{BOB}";')
    await rules(owner, bob, f'redirect "{ALICE}";', name="other")
    for recipients in ((ALICE,), (ALICE, BOB), (BOB, ALICE)):
        before = len(await lying(intake, account)) + len(await lying(intake, bob))
        (answer,) = await deliver(intake, *recipients, message=LETTER.replace(b"<1@", b"<%d@" % before))
        assert answer.startswith(b"250 ")
        assert len(await lying(intake, account)) + len(await lying(intake, bob)) == before + 1
    carol = await add_person(intake.context.settings, owner, "carol@example.test")
    await rules(owner, carol, 'redirect "carol+x@example.test";')
    await deliver(intake, "carol@example.test")
    assert len(await lying(intake, carol)) == 1


async def test_to_who_refuses(intake: Intake, account: Person, bob: Person, owner: Owner) -> None:
    """Over LMTP, what is sent on to a recipient who refuses it stays with who sends it on."""
    await rules(owner, account, f'redirect "{BOB}";')
    await rules(owner, bob, 'reject "not me";', name="other")
    first, second = await deliver(intake, ALICE, BOB, is_lmtp=True)
    assert (first[:4], second) == (b"250 ", b"550 5.7.1 not me")
    assert len(await lying(intake, account)) == 1


async def test_to_another_tenant(intake: Intake, account: Person, owner: Owner) -> None:
    """The other tenant has its own copy, an entry of its own in its journal, and its part of the trace."""
    zoe = await add_zoe(intake.context.settings, owner)
    await rules(owner, account, 'redirect "zoe@other.test";')
    (answer,) = await deliver(intake)
    assert [headless(each.octets) for each in await lying(intake, zoe)] == [LETTER]
    rows = await owner.fetch("SELECT tenant_id FROM journal ORDER BY journal_id")
    assert [row["tenant_id"] for row in rows] == [account.tenant_id, zoe.tenant_id]
    assert [entry["forward_paths"][0]["address"] for entry in await intake.journal()] == [ALICE, "zoe@other.test"]
    await intake.context.recorder.flush()
    (own, other) = await traces.by_id(intake.context.pool, intake.context.keys, answer.split()[-1].decode())
    kinds = {found.tenant_id: [note.kind for note in found.notes] for found in (own, other)}
    assert kinds[zoe.tenant_id] == ["received", "checked", "stored"]
    assert kinds[account.tenant_id] == ["received", "checked", "filtered"]


async def test_to_an_address_that_forwards(intake: Intake, account: Person, bob: Person, owner: Owner) -> None:
    """Whoever is behind an address of ours gets it."""
    await set_forward(owner, "team@example.test", [BOB, DAVE], keeps=False)
    await rules(owner, account, 'redirect "team@example.test";')
    await deliver(intake)
    assert len(await lying(intake, bob)) == 1
    assert [row["forward_path"] for row in await queue(intake)] == [DAVE]


@pytest.mark.parametrize("target", ["gone@example.test", "full@example.test"])
async def test_targets_that_cannot_receive(intake: Intake, account: Person, owner: Owner, target: str) -> None:
    """What cannot be sent on stays in the inbox, and the trace says why."""
    await add_person(intake.context.settings, owner, "full@example.test")
    await owner.execute("UPDATE account SET is_disabled = true WHERE login = 'full@example.test'")
    await rules(owner, account, f'redirect "{target}";')
    (answer,) = await deliver(intake)
    assert [headless(each.octets) for each in await lying(intake, account)] == [LETTER]
    (fact,) = await notes(intake, answer, "filtered")
    assert fact["actions"][0].startswith(f"not sent on to {target}: ")


async def test_circles(intake: Intake, account: Person, owner: Owner) -> None:
    """A message that comes back to who has sent it on stays there, by whichever of the account's addresses it comes."""
    await owner.execute(
        "INSERT INTO address (tenant_id, domain_id, local_part, account_id) SELECT tenant_id, domain_id, 'a', account_id "
        "FROM address WHERE local_part = 'alice'"
    )
    await rules(owner, account, f'redirect "{DAVE}";')
    await deliver(intake, "a@example.test")
    (row,) = await queue(intake)
    back = RELAYED + await intake.context.blobs.message(row["content_id"])
    (answer,) = await deliver(intake, "A@example.test", message=back)
    assert len(await queue(intake)) == 1
    assert len(await lying(intake, account)) == 1
    assert (await notes(intake, answer, "filtered"))[0]["actions"][0].startswith("not sent on: it has been before")


async def test_circles_of_addresses(intake: Intake, account: Person, owner: Owner) -> None:
    """The same for addresses that forward: an account has it then, and where there is none, it is refused."""
    for address in ("sales@example.test", ALICE):
        await set_forward(owner, address, [DAVE], keeps=False)
        await deliver(intake, address)
        back = RELAYED + await intake.context.blobs.message((await queue(intake))[-1]["content_id"])
        (answer,) = await deliver(intake, address, message=back)
        assert answer.startswith(b"250 " if address == ALICE else b"550 5.4.6 mailbox forwards in circles")
    assert len(await queue(intake)) == 2
    assert len(await lying(intake, account)) == 1


@pytest.mark.parametrize(
    "above",
    [b"Delivered-To: alice@example.test\r\n" + RELAYED, RELAYED + b"Delivered-To: alice@example.test\r\n" + RELAYED],
    ids=["relay in front", "collected"],
)
async def test_what_others_have_delivered(intake: Intake, account: Person, owner: Owner, above: bytes) -> None:
    """Delivered-To of somebody else keeps nothing from being sent on."""
    await rules(owner, account, f'redirect "{DAVE}";')
    await deliver(intake, message=above + LETTER)
    assert len(await queue(intake)) == 1


async def test_brought_again(intake: Intake, account: Person, owner: Owner) -> None:
    """A client that has not heard our reply brings the message again: it is sent on once. Others that look alike are others."""
    await rules(owner, account, f'redirect "{DAVE}";')
    for _ in range(2):
        assert (await deliver(intake))[0].startswith(b"250 ")
    assert len(await queue(intake)) == 1
    assert await lying(intake, account) == []
    alarm = b"Subject: alarm\r\n\r\nx\r\n"
    for _ in range(2):
        await deliver(intake, message=alarm)
    assert len(await queue(intake)) == 3


async def test_reports_that_are_asked_for(intake: Intake, account: Person, owner: Owner) -> None:
    """NOTIFY goes along, or is what the rule says (redirect-dsn); of success the sender hears once, from who has it."""
    asked = f"<{ALICE}> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;x@y.example"
    await rules(owner, account, f'redirect "{DAVE}";')
    await deliver(intake, asked)
    source = f'redirect :copy :notify "DELAY" :ret "HDRS" "{DAVE}"; redirect :copy "eve@far.example";'
    await changed_rules(intake, owner, account, source)
    await deliver(intake, asked, message=LETTER.replace(b"<1@", b"<2@"))
    *sent_on, report = await queue(intake)
    assert [(row["notify"], row["ret"], row["orcpt"]) for row in sent_on] == [
        ("SUCCESS,FAILURE", None, "rfc822;x@y.example"),
        ("DELAY", "HDRS", "rfc822;x@y.example"),
        ("FAILURE", None, "rfc822;x@y.example"),
    ]
    assert (report["forward_path"], report["reverse_path"]) == ("carol@elsewhere.example", "")


EVE = "eve@remote.example"
SEVERAL = f'redirect "{DAVE}"; redirect "{EVE}";'


@pytest.mark.parametrize(
    ("source", "verdicts", "told"),
    [
        (SEVERAL, (PROVEN,), ("expanded", ALICE)),
        (SEVERAL, (), ("expanded", ALICE)),
        (f'redirect "{DAVE}"; redirect "{BOB}";', (PROVEN,), ("expanded", ALICE)),
        (f"{SEVERAL} keep;", (PROVEN,), ("delivered", ALICE)),
        (f'redirect "{DAVE}";', (PROVEN,), None),
        (f'redirect "{DAVE}";', (), ("relayed", ALICE)),
        (f'redirect :notify "NEVER" "{DAVE}";', (PROVEN,), ("relayed", ALICE)),
        (f'redirect "{BOB}";', (PROVEN,), ("delivered", BOB)),
        ('redirect "all@example.test";', (PROVEN,), ("expanded", ALICE)),
        ("discard;", (PROVEN,), None),
    ],
)
@pytest.mark.parametrize("is_lmtp", [False, True], ids=["smtp", "lmtp"])
async def test_what_a_sender_hears_of_success(
    intake: Intake,
    account: Person,
    bob: Person,
    owner: Owner,
    source: str,
    verdicts: Any,
    told: tuple[str, str] | None,
    is_lmtp: bool,
) -> None:
    """Of several places one report says expanded; the only one reports itself, and where it is not asked to, relayed is said."""
    await set_forward(owner, "all@example.test", [DAVE, EVE], keeps=False)
    intake.context.directory.clear()
    await rules(owner, account, source)
    await deliver(intake, f"<{ALICE}> NOTIFY=SUCCESS", verdicts=verdicts, is_lmtp=is_lmtp)
    reports = [row for row in await queue(intake) if row["reverse_path"] == ""]
    found = None
    if reports:
        (row,) = reports
        _, (_, recipient) = read(await intake.context.blobs.message(row["content_id"]))
        found = (recipient["Action"], recipient["Final-Recipient"].removeprefix("rfc822; "))
        assert row["forward_path"] == "carol@elsewhere.example"
    assert found == told
    asked = {row["notify"] for row in await queue(intake) if row["forward_path"] in (DAVE, EVE)}
    assert asked <= ({"SUCCESS"} if told is None else {"NEVER"})


async def test_an_address_whose_target_is_not_asked(intake: Intake, owner: Owner, account: Person) -> None:
    """A sender who is not proven hears that the address has passed it on: no host on the way is to write to him."""
    await set_forward(owner, "sales@example.test", [DAVE], keeps=False)
    intake.context.directory.clear()
    await deliver(intake, "<sales@example.test> NOTIFY=SUCCESS", verdicts=())
    sent, report = await queue(intake)
    assert (sent["forward_path"], sent["notify"]) == (DAVE, "NEVER")
    _, (_, recipient) = read(await intake.context.blobs.message(report["content_id"]))
    assert (recipient["Action"], recipient["Final-Recipient"]) == ("relayed", "rfc822; sales@example.test")


async def test_to_a_list(intake: Intake, account: Person, owner: Owner) -> None:
    """redirect :list sends on to all members of a list of the account; without any the message stays."""
    holder = Holder(account.tenant_id, account.account_id)
    await address_lists.add(owner, holder, "family", [DAVE, "eve@far.example"])
    await rules(owner, account, 'redirect :list ":addrbook:family";')
    await deliver(intake)
    assert [row["forward_path"] for row in await queue(intake)] == [DAVE, "eve@far.example"]
    await address_lists.drop(owner, holder, "family")
    await deliver(intake, message=LETTER.replace(b"<1@", b"<2@"))
    assert len(await lying(intake, account)) == 1


async def test_of_users(users: Users, account: Person, owner: Owner) -> None:
    """Mail of users of this host is sent on the same way, in their name, and they hear of failures."""
    bob = await add_person(users.context.settings, owner, BOB)
    await rules(owner, bob, f'redirect "{DAVE}"; fileinto :create "Kept";')
    async with await users.logged_in(account) as client:
        sender = f"<{ALICE}> BY=3600;R"
        assert (await client.send(SUBMITTED, f"<{BOB}>", sender=sender)).startswith(b"250 ")
    (row,) = await users.queue()
    assert (row["forward_path"], row["reverse_path"], row["account_id"]) == (DAVE, ALICE, None)
    assert row["deliver_by"] is None
    count = "SELECT count(*) FROM message JOIN mailbox USING (mailbox_id) WHERE name = 'Kept'"
    assert await owner.fetchval(count) == 1


async def test_filters_of_who_forwards(intake: Intake, account: Person, owner: Owner) -> None:
    """What an account does not want is not forwarded for it: it is in its quarantine, or refused."""
    await set_forward(owner, ALICE, [DAVE], keeps=False)
    await deliver(intake, verdicts=[Quarantine("odd", account_id=account.account_id)])
    assert await owner.fetchval("SELECT account_id FROM quarantine") == account.account_id
    blocked = Refuse(reply(550, "5.7.1", "blocked"), "blocked", account_id=account.account_id)
    assert await deliver(intake, verdicts=[blocked]) == [b"550 5.7.1 blocked"]
    await set_forward(owner, "all@example.test", [DAVE], keeps=False)
    assert await deliver(intake, "all@example.test", verdicts=[Quarantine("odd")]) == [
        b"550 5.7.1 message refused by policy"
    ]
    assert (await queue(intake), await lying(intake, account)) == ([], [])


async def test_rules_that_cannot_be_carried_out(intake: Intake, account: Person, bob: Person, owner: Owner) -> None:
    """When we fail at the rules of one account, it has the message in its inbox, and the others have theirs as they want."""
    await rules(owner, account, 'redirect :copy "eve@far.example"; redirect :list ":addrbook:family";')
    await rules(owner, bob, 'fileinto "Archive";', name="other")
    await owner.execute("ALTER TABLE address_list RENAME TO elsewhere")
    (answer,) = await deliver(intake, ALICE, BOB)
    assert answer.startswith(b"250 ")
    assert [headless(each.octets) for each in await lying(intake, account)] == [LETTER]
    assert len(await lying(intake, bob, "Archive")) == 1
    assert await queue(intake) == []
    facts = [fact["actions"] for fact in await notes(intake, answer, "filtered")]
    assert ["kept: the rules could not be carried out"] in facts


async def test_to_addresses_that_are_not_ascii(intake: Intake, account: Person, owner: Owner) -> None:
    """What is sent on to such an address is announced as SMTPUTF8."""
    await rules(owner, account, 'redirect "jörg@bücher.example";')
    await deliver(intake)
    (row,) = await queue(intake)
    assert (row["forward_path"], row["domain"]) == ("jörg@bücher.example", "xn--bcher-kva.example")
    assert row["is_smtputf8"]


async def test_users_of_another_tenant_stay_unknown(users: Users, account: Person, owner: Owner) -> None:
    """The journal of who sends on a user's mail names neither the user's login nor where it was written."""
    zoe = await add_zoe(users.context.settings, owner)
    await rules(owner, zoe, f'redirect "{DAVE}";')
    async with await users.logged_in(account) as client:
        assert (await client.send(SUBMITTED, "<zoe@other.test>")).startswith(b"250 ")
    told = [entry for tenant_id, _, entry in await users.journal() if tenant_id == zoe.tenant_id]
    assert len(told) == 2
    assert [("login" in entry, entry["peer"], entry["helo"]) for entry in told] == [(False, "", "")] * 2


async def test_binary_mail_of_users(users: Users, account: Person, owner: Owner) -> None:
    """It is queued as what it is: the relay makes lines of it for hosts that take no other."""
    bob = await add_person(users.context.settings, owner, BOB)
    await rules(owner, bob, f'redirect "{DAVE}";')
    message = SUBMITTED.replace(b"\r\n\r\n", b"\r\nContent-Transfer-Encoding: binary\r\n\r\n\0\r\xff", 1)
    async with await users.logged_in(account) as client:
        answer = await client.send_chunk(message, f"<{BOB}>", sender=f"<{ALICE}> BODY=BINARYMIME")
    assert answer.startswith(b"250 ")
    assert [row["body"] for row in await users.queue()] == ["BINARYMIME"]
