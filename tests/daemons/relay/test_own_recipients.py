"""Recipients in the queue that are ours: what was held back or sent for later meets the rules of who gets it, like all mail."""

import pytest

from tests.conftest import Owner, Person, add_person
from tests.daemons.relay.world import ORIGINAL, World
from tests.daemons.smtp.filed import rules
from tests.daemons.smtp.test_traces import traced

BOB = "bob@example.test"


@pytest.fixture
async def bob(world: World) -> Person:
    """A second account of the tenant."""
    return await add_person(world.context.settings, world.owner, BOB)


async def names(owner: Owner, person: Person) -> list[str]:
    """The mailboxes of what a person has got."""
    rows = await owner.fetch(
        "SELECT name FROM message JOIN mailbox USING (mailbox_id) WHERE account_id = $1 ORDER BY name",
        person.account_id,
    )
    return [row["name"] for row in rows]


async def test_by_their_rules(world: World, owner: Owner, bob: Person) -> None:
    """It is filed where the recipient's rule wants it, and the trace says so; without rules it is in the inbox."""
    await rules(owner, bob, 'addheader "X-Sorted" "yes"; fileinto :create "Later";')
    trace_id = await world.queue(BOB, world.person.login)
    world.start()
    await world.until_done()
    assert await names(owner, bob) == ["Later"]
    (own,) = await world.inbox()
    (filed,) = await world.inbox(bob)
    assert own.endswith(ORIGINAL)
    assert filed.startswith(b"Return-Path: <alice@example.test>\r\nX-Sorted: yes\r\nReceived: ")
    found = await traced(world.context, trace_id)
    assert [note.facts["actions"] for note in found.notes if note.kind == "filtered"] == [["filed into 'Later'"]]


async def test_discarded_and_rejected(world: World, owner: Owner, bob: Person) -> None:
    """Discarded mail is gone, of rejected mail the user hears by a report; both have left the queue."""
    carol = await add_person(world.context.settings, owner, "carol@example.test")
    await rules(owner, bob, "discard;")
    await rules(owner, carol, 'reject "not mine";')
    for path in (BOB, "carol@example.test"):
        await world.queue(path)
    world.start()
    assert [row["state"] for row in await world.until_done()] == ["delivered", "delivered"]
    assert (await names(owner, bob), await names(owner, carol)) == ([], [])
    (report,) = await world.inbox()
    assert b"not mine" in report


async def test_our_own_mail_meets_no_rules(world: World, owner: Owner, bob: Person) -> None:
    """A bounce that comes back to who has sent mail on is not sent on again."""
    await rules(owner, bob, 'redirect "dave@remote.example";')
    await world.queue(BOB, account_id=None, reverse_path="")
    world.start()
    await world.until_done()
    assert await names(owner, bob) == ["INBOX"]
