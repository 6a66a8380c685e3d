"""`postwerk sieve apply`: a script over mail that is there already, run as an operator runs it."""

import json
import os

import pytest

from daemons.context import Context
from storage import mailboxes, quota, scripts
from storage.rows import FLAGGED, SEEN, NewMessage, Placement
from tests.conftest import Owner, Person
from tests.daemons.scripting.conftest import BOUNDS, activate
from tests.daemons.test_transfer import Runner, postwerk, stored
from tests.storage.messages_made import assert_counters_true, facts, mailbox_id

__all__ = ["postwerk"]  # a fixture

ALICE = "alice@example.test"
RULES = """
require ["fileinto", "mailbox", "copy", "imap4flags", "envelope", "vacation", "editheader"];
vacation "I am away.";
if header :is "subject" "list" { fileinto :create "Lists/One"; }
elsif header :is "subject" "both" { fileinto :copy :create "Lists/One"; addflag "\\\\Flagged"; }
elsif header :is "subject" "spam" { discard; }
elsif header :is "subject" "away" { redirect "bob@example.org"; }
elsif header :is "subject" "edited" { addheader "X-Sorted" "yes"; fileinto :create "Lists/Two"; }
elsif header :is "subject" "marked" { addheader "X-Sorted" "yes"; }
elsif envelope :is "from" "carol@example.org" { setflag "$carol"; }
elsif hasflag "\\\\Seen" { fileinto "Archive"; }
"""


async def lay(
    context: Context, owner: Owner, account: Person, *subjects: str, flags: int = 0, head: bytes = b""
) -> None:
    """Put messages with these subjects into the inbox."""
    box = await mailbox_id(owner, account)
    group = [
        NewMessage(
            account.tenant_id,
            head,
            f"Subject: {subject}\r\n\r\n{subject}\r\n".encode(),
            facts(),
            [Placement(box, flags)],
        )
        for subject in subjects
    ]
    await context.ingest.store(group)


async def subjects(context: Context, account: Person, name: str = "INBOX") -> list[str]:
    """What lies in the mailbox, by its body."""
    found = await stored(context, account, name)
    return [octets.rpartition(b"\r\n\r\n")[2].decode().strip() for octets in found.octets]


async def test_mail_is_sorted_after_the_fact(postwerk: Runner, context: Context, owner: Owner, account: Person) -> None:
    """What is kept stays, what is filed moves or is copied, what is discarded is in the trash; nothing is sent."""
    await activate(owner, account, RULES)
    await lay(context, owner, account, "list", "other", "both", "spam", "away", "edited", "marked")
    await lay(context, owner, account, "read", flags=SEEN)
    await lay(context, owner, account, "carol", head=b"Return-Path: <carol@example.org>\r\n")
    done = await postwerk("sieve", "apply", ALICE, "active", "inbox")
    assert done.stdout.splitlines()[-1] == "7 of 9 messages changed"
    assert await subjects(context, account) == ["other", "both", "away", "carol", "marked"]
    assert await subjects(context, account, "Lists/One") == ["list", "both"]
    assert await subjects(context, account, "Trash") == ["spam"]
    assert await subjects(context, account, "Archive") == ["read"]
    assert (await stored(context, account, "Archive"))[0][0].flags == SEEN
    inbox = {row.uid: (row.flags, row.keywords) for row, _ in await stored(context, account)}
    assert inbox[3] == (FLAGGED, ())
    assert inbox[9] == (0, ("$carol",))
    assert inbox[10] == (0, ())
    assert (await stored(context, account)).octets[-1] == b"X-Sorted: yes\r\nSubject: marked\r\n\r\nmarked\r\n"
    assert (await stored(context, account, "Lists/Two")).octets == [
        b"X-Sorted: yes\r\nSubject: edited\r\n\r\nedited\r\n"
    ]
    assert await owner.fetchval("SELECT count(*) FROM outbound_message") == 0
    await assert_counters_true(owner)


async def test_a_dry_run_changes_nothing(postwerk: Runner, context: Context, owner: Owner, account: Person) -> None:
    """It says what would become of each message, for people and for programs, with the steps of the script."""
    await scripts.put(owner, account.account_id, "sort", RULES.encode(), BOUNDS)
    await lay(context, owner, account, "list", "other", "away")
    before = await owner.fetch("SELECT * FROM message ORDER BY mailbox_id, uid")
    told = await postwerk("sieve", "apply", ALICE, "sort", "INBOX", "--dry-run")
    assert told.stdout.splitlines() == [
        '1: file into "Lists/One"; not done: answer',
        "2: keep; not done: answer",
        "3: not done: answer; not done: redirect to bob@example.org",
        "1 of 3 messages would be changed",
    ]
    rows = json.loads((await postwerk("sieve", "apply", ALICE, "sort", "INBOX", "--dry-run", "--json")).stdout)
    assert [(row["uid"], row["is_changed"], row["error"]) for row in rows] == [
        (1, True, ""),
        (2, False, ""),
        (3, False, ""),
    ]
    assert {"script": "sort", "line": 4, "text": 'file into "Lists/One"'} in rows[0]["steps"]
    assert await owner.fetch("SELECT * FROM message ORDER BY mailbox_id, uid") == before
    async with context.pool.acquire() as connection:
        assert await mailboxes.find(connection, account.account_id, "Lists/One") is None


async def test_twice_is_once(postwerk: Runner, context: Context, owner: Owner, account: Person) -> None:
    """What lies where it belongs stays there, with its UID."""
    await activate(owner, account, 'require ["fileinto", "imap4flags"]; addflag "x"; fileinto "INBOX";')
    await lay(context, owner, account, "a", "b")
    assert (await postwerk("sieve", "apply", ALICE, "active", "INBOX")).stdout.endswith("2 of 2 messages changed\n")
    assert (await postwerk("sieve", "apply", ALICE, "active", "INBOX")).stdout == "0 of 2 messages changed\n"
    assert [(row.uid, row.keywords) for row, _ in await stored(context, account)] == [(1, ("x",)), (2, ("x",))]


async def test_a_mistake_and_no_room_leave_the_message(
    postwerk: Runner, context: Context, owner: Owner, account: Person
) -> None:
    """Each is told with its message, which lies there as before; what needs no room is still done."""
    source = (
        'require ["fileinto", "copy", "include", "imap4flags"]; if header "subject" "bad" { include "none"; } '
        'elsif header "subject" "copy" { fileinto :copy "Archive"; } else { fileinto "Archive"; }'
    )
    await activate(owner, account, source)
    await lay(context, owner, account, "bad", "copy", "move")
    await quota.limit_account(owner, ALICE, None, 3)
    done = await postwerk("sieve", "apply", ALICE, "active", "INBOX")
    first, second, third, last = done.stdout.splitlines()
    assert first.startswith("1: error: rules: line 1, column")
    assert second.endswith("error: no room for a copy")
    assert (third, last) == ('3: file into "Archive"', "1 of 3 messages changed")
    assert await subjects(context, account) == ["bad", "copy"]
    assert await subjects(context, account, "Archive") == ["move"]


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("nobody@example.test", "active", "INBOX"), "no account nobody@example.test"),
        ((ALICE, "active", "INBOX"), "has no active script"),
        ((ALICE, "none", "INBOX"), "has no script none"),
        ((ALICE, "there", "Nowhere"), "has no mailbox Nowhere"),
    ],
)
async def test_what_is_not_there(
    postwerk: Runner, owner: Owner, account: Person, words: tuple[str, ...], complaint: str
) -> None:
    """Unknown accounts, scripts and mailboxes are told as such."""
    await scripts.put(owner, account.account_id, "there", b"keep;", BOUNDS)
    ended = await postwerk("sieve", "apply", *words, code=os.EX_NOUSER)
    assert complaint in ended.stderr
