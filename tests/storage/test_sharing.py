r"""Access control lists, teams, and \Seen by viewer: the functions of storage on a real server."""

import asyncpg
import pytest

from config.settings import Settings
from daemons.context import Context
from storage import accounts, mailboxes, messages, sharing, teams
from storage.blobs.keys import KeyRing
from storage.counts import counts
from storage.errors import ExistsError, NotFoundError
from storage.messages import EVERY_FLAG, KEYWORDS, Sharing
from storage.pool import Pool
from storage.rows import FLAGGED, SEEN
from tests.conftest import Owner, Person, add_person
from tests.storage.messages_made import assert_counters_true, fill, mailbox_id


@pytest.fixture
async def bob(settings: Settings, owner: Owner, account: Person) -> Person:
    """Another person of alice's tenant."""
    return await add_person(settings, owner, "bob@example.test")


async def _stranger(settings: Settings, owner: Owner) -> Person:
    """A person of another tenant."""
    tenant_id = await accounts.add_tenant(owner, "elsewhere", KeyRing(settings.master_key_file).new_tenant_key())
    await accounts.add_domain(owner, "elsewhere", "elsewhere.test")
    account_id = await accounts.add_account(owner, "elsewhere", "mallory@elsewhere.test", "!")
    return Person(tenant_id, account_id, "mallory@elsewhere.test", "")


async def _rights(owner: Owner, person: Person, box: int) -> str:
    return sharing.ordered(await sharing.rights(owner, person.account_id, person.tenant_id, box))


async def test_rights_are_what_is_granted_less_what_is_denied(account: Person, bob: Person, owner: Owner) -> None:
    """Grants to the person and to anyone add up; what is denied to either is taken away (RFC 4314 §2)."""
    box = await mailbox_id(owner, account)
    assert await _rights(owner, account, box) == sharing.RIGHTS
    assert await _rights(owner, bob, box) == ""
    await sharing.set_rights(owner, box, "anyone", "replace", "lrs", is_negative=False)
    await sharing.set_rights(owner, box, bob.login, "add", "wi", is_negative=False)
    assert await _rights(owner, bob, box) == "lrswi"
    await sharing.set_rights(owner, box, bob.login, "replace", "s", is_negative=True)
    assert await _rights(owner, bob, box) == "lrwi"
    await sharing.set_rights(owner, box, bob.login, "remove", "wi", is_negative=False)
    assert await _rights(owner, bob, box) == "lr"
    listed = [(entry.spelling, sharing.ordered(entry.rights)) for entry in await sharing.entries(owner, box)]
    assert listed == [("anyone", "lrs"), ("-bob@example.test", "s")]
    await sharing.remove_rights(owner, box, "anyone", is_negative=False)
    assert await _rights(owner, bob, box) == ""


async def test_tenants_never_meet(settings: Settings, account: Person, owner: Owner) -> None:
    """Nobody of another tenant can be given rights, gets those of anyone, or finds a mailbox, whatever a list says."""
    mallory = await _stranger(settings, owner)
    box = await mailbox_id(owner, account)
    with pytest.raises(NotFoundError):
        await sharing.set_rights(owner, box, mallory.login, "replace", "lr", is_negative=False)
    for tenant_id in (account.tenant_id, mallory.tenant_id):  # neither the key nor the trigger lets such a row in
        with pytest.raises(asyncpg.ForeignKeyViolationError):
            await owner.execute(
                "INSERT INTO mailbox_acl (mailbox_id, tenant_id, account_id, rights) VALUES ($1, $2, $3, 'lr')",
                box, tenant_id, mallory.account_id,
            )  # fmt: skip
    await sharing.set_rights(owner, box, "anyone", "replace", "lr", is_negative=False)
    assert await _rights(owner, mallory, box) == ""
    name = f"Other Users/{account.login}/INBOX"
    assert await sharing.find(owner, mallory.account_id, mallory.tenant_id, name) is None
    seen = await sharing.list_visible(owner, mallory.account_id, mallory.tenant_id)
    assert {each.mailbox.account_id for each in seen} == {mallory.account_id}


async def test_names_of_others(account: Person, bob: Person, owner: Owner, pool: Pool) -> None:
    """A mailbox of another has the name that the viewer knows, in the list and when it is looked up by the daemons."""
    await mailboxes.create(owner, account.account_id, "Projects/2026")
    box = await mailbox_id(owner, account, "Projects/2026")
    await sharing.set_rights(owner, box, bob.login, "replace", "lr", is_negative=False)
    name = f"Other Users/{account.login}/Projects/2026"
    async with pool.acquire() as connection:
        listed = await sharing.list_visible(connection, bob.account_id, bob.tenant_id)
        found = await sharing.find(connection, bob.account_id, bob.tenant_id, name)
        unseen = await sharing.find(connection, bob.account_id, bob.tenant_id, f"Other Users/{account.login}/INBOX")
        own = await sharing.find(connection, account.account_id, account.tenant_id, name)
    (shared,) = [each for each in listed if each.prefix]
    assert found == shared
    assert (shared.mailbox.name, shared.own_name, shared.mailbox.mailbox_id) == (name, "Projects/2026", box)
    assert shared.rights == frozenset("lr")
    assert unseen is not None
    assert unseen.rights == frozenset()
    assert own is None, "one's own mailboxes have one name"


async def test_owners_with_a_slash_in_their_login(settings: Settings, account: Person, owner: Owner) -> None:
    """A login may hold the separator; its mailboxes are found all the same (RFC 5321 §4.1.2 atext)."""
    odd = await add_person(settings, owner, "a/b@example.test")
    box = await mailbox_id(owner, odd, "Sent")
    await sharing.set_rights(owner, box, account.login, "replace", "lr", is_negative=False)
    found = await sharing.find(owner, account.account_id, account.tenant_id, "Other Users/a/b@example.test/Sent")
    assert found is not None
    assert (found.mailbox.mailbox_id, found.own_name) == (box, "Sent")


async def test_new_mailboxes_inherit(account: Person, bob: Person, owner: Owner) -> None:
    """What is created below a shared mailbox is shared alike, missing superiors too (RFC 4314 §4, CREATE)."""
    top = await mailboxes.create(owner, account.account_id, "Team")
    await sharing.set_rights(owner, top.mailbox_id, bob.login, "replace", "lrk", is_negative=False)
    await sharing.share_seen(owner, top.mailbox_id, is_shared=False)
    made = await mailboxes.create(owner, account.account_id, "Team/a/b", heir_of=top.mailbox_id)
    between = await mailboxes.find(owner, account.account_id, "Team/a")
    assert between is not None
    for box in (made.mailbox_id, between.mailbox_id):
        assert await _rights(owner, bob, box) == "lrk"
        assert await owner.fetchval("SELECT is_seen_shared FROM mailbox WHERE mailbox_id = $1", box) is False


async def test_teams(account: Person, bob: Person, owner: Owner, context: Context) -> None:
    """A team receives mail and cannot log in; those it lets in find its mailboxes below Shared, with their own Seen."""
    await teams.add_team(owner, "example", "info@example.test", "Info")
    with pytest.raises(ExistsError):
        await teams.add_team(owner, "example", "other@example.test", "Info")
    with pytest.raises(ValueError, match="name"):
        await teams.add_team(owner, "example", "odd@example.test", "a/b")
    with pytest.raises(NotFoundError):
        await teams.add_team(owner, "example", "info@nowhere.test", "Nowhere")
    recipient = await context.directory.resolve("info", "example.test")
    assert recipient is not None
    assert not recipient.is_disabled
    assert await context.directory.login("info@example.test") is None
    with pytest.raises(NotFoundError):
        await accounts.set_password(owner, "info@example.test", "x")
    await teams.grant(owner, "info@example.test", bob.login, "lrswi")
    found = await sharing.find(owner, bob.account_id, bob.tenant_id, "Shared/Info/INBOX")
    assert found is not None
    assert found.mailbox.mailbox_id == recipient.inbox_id
    assert not found.mailbox.is_seen_shared
    assert sharing.ordered(found.rights) == "lrswi"
    (row,) = await teams.list_teams(owner)
    assert (row.name, row.address, row.members) == ("Info", "info@example.test", 1)
    with pytest.raises(NotFoundError):
        await teams.grant(owner, bob.login, account.login, "lr")
    await teams.grant(owner, "info@example.test", bob.login, "")
    assert await _rights(owner, bob, recipient.inbox_id) == ""
    await accounts.remove_account(owner, "info@example.test")
    assert await teams.list_teams(owner) == []


async def test_seen_by_viewer(account: Person, bob: Person, owner: Owner, context: Context) -> None:
    r"""A viewer's \Seen is its own, in what it reads and counts, and comes with a MODSEQ; the owner's stays."""
    box = await mailbox_id(owner, account)
    await fill(context, account, box, 3)
    await messages.store_flags(owner, box, [1], "add", SEEN, [])
    await sharing.share_seen(owner, box, is_shared=False)
    viewer = bob.account_id
    since = (await messages.changes(owner, box, 0, viewer)).highestmodseq
    stored = await messages.store_flags(owner, box, [2, 3], "add", SEEN | FLAGGED, [], viewer=viewer)
    assert [(row.uid, row.flags) for row in stored.changed] == [(2, SEEN | FLAGGED), (3, SEEN | FLAGGED)]
    changed = await messages.changes(owner, box, since, viewer)
    assert [(row.uid, row.flags, row.modseq) for row in changed.changed] == [
        (uid, SEEN | FLAGGED, stored.modseq) for uid in (2, 3)
    ]
    _, theirs = await messages.snapshot(owner, box, viewer)
    _, owners = await messages.snapshot(owner, box)
    assert [row.flags for row in theirs] == [0, SEEN | FLAGGED, SEEN | FLAGGED]
    assert [row.flags for row in owners] == [SEEN, FLAGGED, FLAGGED]
    unseen = await counts(owner, viewer, [box], wants_unseen=True, wants_recent=False, wants_deleted=False)
    assert unseen[box].unseen == 1
    only_seen = await messages.store_flags(owner, box, [3], "remove", SEEN, [], viewer=viewer)
    (row,) = (await messages.changes(owner, box, stored.modseq, viewer)).changed
    assert (row.uid, row.flags, row.modseq) == (3, FLAGGED, only_seen.modseq)
    assert (await messages.changes(owner, box, stored.modseq)).changed == (), "nothing of the owner's has changed"
    await messages.remove(owner, box, [2])
    assert await owner.fetchval("SELECT count(*) FROM viewer_seen WHERE mailbox_id = $1 AND uid = 2", box) == 0
    await assert_counters_true(owner)


async def test_flags_that_may_not_change(account: Person, owner: Owner, context: Context) -> None:
    """With rights to some flags only those change, whatever the operation (RFC 4314 §4, STORE)."""
    box = await mailbox_id(owner, account)
    await fill(context, account, box, 1)
    await messages.store_flags(owner, box, [1], "add", SEEN | FLAGGED, ["kept"])
    (row,) = (await messages.store_flags(owner, box, [1], "replace", 0, ["new"], may=SEEN)).changed
    assert (row.flags, row.keywords) == (FLAGGED, ("kept",))
    (row,) = (await messages.store_flags(owner, box, [1], "replace", SEEN, ["new"], may=EVERY_FLAG & ~SEEN)).changed
    assert (row.flags, row.keywords) == (0, ("new",))
    await assert_counters_true(owner)


async def test_copies_between_viewers(account: Person, bob: Person, owner: Owner, context: Context) -> None:
    r"""A copy has what its viewer saw, as the one who places it may set it, in the \Seen that is its own there."""
    inbox, trash = await mailbox_id(owner, account), await mailbox_id(owner, account, "Trash")
    theirs = await mailbox_id(owner, bob)
    viewer = bob.account_id
    for box in (inbox, trash):
        await sharing.share_seen(owner, box, is_shared=False)
    await fill(context, account, inbox, 2)
    await messages.store_flags(owner, inbox, [1], "add", SEEN | FLAGGED, ["word"], viewer=viewer)
    await messages.copy(owner, inbox, [1, 2], theirs, Sharing(source_viewer=viewer))
    _, copied = await messages.snapshot(owner, theirs)
    assert [(row.flags, row.keywords) for row in copied] == [(SEEN | FLAGGED, ("word",)), (0, ())]
    await messages.move(owner, inbox, [1], trash, Sharing(viewer, viewer, EVERY_FLAG & ~KEYWORDS & ~FLAGGED))
    _, moved = await messages.snapshot(owner, trash, viewer)
    assert [(row.flags, row.keywords) for row in moved] == [(SEEN, ())]
    _, owners = await messages.snapshot(owner, trash)
    assert [row.flags for row in owners] == [0]
    await assert_counters_true(owner)


async def test_lists_go_with_their_mailbox(account: Person, bob: Person, owner: Owner) -> None:
    """DELETE removes the list, also where the name stays for its inferiors (RFC 4314 §4)."""
    parent = await mailboxes.create(owner, account.account_id, "p")
    await mailboxes.create(owner, account.account_id, "p/q")
    await sharing.set_rights(owner, parent.mailbox_id, bob.login, "replace", "lr", is_negative=False)
    await mailboxes.delete(owner, account.account_id, "p")
    assert await owner.fetchval("SELECT count(*) FROM mailbox_acl") == 0
    left = await mailboxes.find(owner, account.account_id, "p")
    assert left is not None
    assert not left.is_selectable
