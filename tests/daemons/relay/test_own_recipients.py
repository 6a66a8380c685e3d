"""Recipients in the queue that are ours: what was held back or sent for later meets the rules of who gets it, like all mail."""

import pytest

from tests.conftest import Owner, Person, add_person
from tests.daemons.relay.world import ORIGINAL, World
from tests.daemons.smtp.filed import rules
from tests.daemons.smtp.test_reports import read
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


async def test_rules_see_the_envelope(world: World, owner: Owner, bob: Person) -> None:
    """Whose login sent it, from whom and to whom: as they would have seen it at once."""
    await rules(
        owner,
        bob,
        'require "envelope"; if allof (envelope :is "auth" "alice@example.test", envelope :is "from" "alice@example.test", '
        'envelope :is "to" "bob@example.test") { discard; }',
    )
    await world.queue(BOB)
    world.start()
    await world.until_done()
    assert await names(owner, bob) == []


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("keep;", ["delivered"]),
        ('redirect "carol@example.test"; redirect "dave@example.test";', ["expanded"]),
        ('redirect "carol@example.test";', ["delivered"]),
        ("discard;", []),
    ],
)
async def test_what_the_user_hears_of_success(
    world: World, owner: Owner, bob: Person, source: str, told: list[str]
) -> None:
    """What was held is reported like what was not: in a mailbox, passed on to several, or not at all."""
    for login in ("carol@example.test", "dave@example.test"):
        await add_person(world.context.settings, owner, login)
    await rules(owner, bob, source)
    await world.queue(BOB, notify=("SUCCESS",))
    world.start()
    await world.until_done()
    reports = [read(octets)[1][1] for octets in await world.inbox()]
    assert [each["Action"] for each in reports] == told


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
