"""Annotations: whose they are, how deep a question goes, and their limits."""

import pytest

from daemons.context import Context
from storage import mailboxes, metadata
from storage.errors import MailboxNotFoundError
from storage.metadata import SERVER, Bounds, TooManyAnnotationsError
from tests.conftest import Owner, Person, add_person
from tests.storage.messages_made import mailbox_id


async def write(
    owner: Owner, person: Person, place: int, values: dict[str, bytes | None], *, entries: int = 10, octets: int = 1000
) -> None:
    await metadata.write(
        owner, person.tenant_id, person.account_id, place, values, bounds=Bounds(entries, octets), origin=""
    )


async def test_private_and_shared(context: Context, account: Person, owner: Owner) -> None:
    """Shared annotations are everybody's, private ones the account's; None removes."""
    bob = await add_person(context.settings, owner, "bob@example.test")
    box = await mailbox_id(owner, account)
    names = ["/private/comment", "/shared/comment"]
    await write(owner, account, box, {"/private/comment": b"mine", "/shared/comment": b"ours"})
    await write(owner, bob, box, {"/private/comment": b"his"})
    tenant = account.tenant_id
    mine = await metadata.read(owner, tenant, account.account_id, [box], names)
    assert mine == {box: {"/private/comment": b"mine", "/shared/comment": b"ours"}}
    his = await metadata.read(owner, tenant, bob.account_id, [box, SERVER], names)
    assert his == {box: {"/private/comment": b"his", "/shared/comment": b"ours"}}
    await write(owner, account, box, {"/private/comment": None, "/shared/comment": b"\0"})
    mine = await metadata.read(owner, tenant, account.account_id, [box], names)
    assert mine == {box: {"/shared/comment": b"\0"}}


@pytest.mark.parametrize(
    ("depth", "found"),
    [(0, ["/private/a"]), (1, ["/private/a", "/private/a/b"]), (-1, ["/private/a", "/private/a/b", "/private/a/b/c"])],
)
async def test_depth(account: Person, owner: Owner, depth: int, found: list[str]) -> None:
    """A question goes no deeper than it says, and not to names that only begin alike."""
    names = ["/private/a", "/private/a/b", "/private/a/b/c", "/private/ab", "/private/a%"]
    await write(owner, account, SERVER, dict.fromkeys(names, b"x"))
    read = await metadata.read(owner, account.tenant_id, account.account_id, [SERVER], ["/private/a"], depth=depth)
    assert list(read[SERVER]) == found


async def test_limits(account: Person, owner: Owner) -> None:
    """One annotation or octet too many fails, and nothing of that write stays."""
    box = await mailbox_id(owner, account)
    await write(owner, account, box, {"/private/1": b"1", "/private/2": b"2", "/shared/1": b"1"}, entries=2)
    with pytest.raises(TooManyAnnotationsError):
        await write(owner, account, box, {"/shared/1": b"new", "/private/3": b"3"}, entries=2)
    with pytest.raises(TooManyAnnotationsError):
        await write(owner, account, SERVER, {"/private/1": bytes(8)}, octets=10)
    assert await owner.fetchval("SELECT sum(octet_length(value)) FROM annotation") == 3
    await write(owner, account, box, {"/private/1": None, "/private/3": b"3"}, entries=2)


async def test_annotations_follow_the_mailbox(account: Person, owner: Owner) -> None:
    """They stay with a mailbox that is renamed, and go with one that is deleted (RFC 5464 §4.1)."""
    box = (await mailboxes.create(owner, account.account_id, "A")).mailbox_id
    await write(owner, account, box, {"/shared/comment": b"x"})
    await mailboxes.rename(owner, account.account_id, "A", "B")
    assert await metadata.read(owner, account.tenant_id, account.account_id, [box], ["/shared/comment"])
    await mailboxes.delete(owner, account.account_id, "B")
    assert await owner.fetchval("SELECT count(*) FROM annotation") == 0
    with pytest.raises(MailboxNotFoundError):
        await write(owner, account, box, {"/shared/comment": b"x"})


async def test_special_use(account: Person, owner: Owner) -> None:
    """A special use is given to one mailbox of the account at a time."""
    inbox, junk = await mailbox_id(owner, account), await mailbox_id(owner, account, "Junk")
    assert not await metadata.set_special_use(owner, inbox, r"\Junk")
    assert await metadata.set_special_use(owner, junk, None)
    assert await metadata.set_special_use(owner, inbox, r"\Junk")
    assert await metadata.set_special_use(owner, inbox, r"\Junk")
