"""What would become of a message: the real filters, rules and delivery over it, and afterwards nothing has happened."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, TypeAlias

import msgspec
import pytest

from config.envelope import Greylisting
from config.settings import Settings
from daemons.context import Context, open_context
from daemons.explaining.given import Given, read_file, read_stored
from daemons.explaining.rehearsal import Explanation, Rehearsal
from protocol.address import parse_addr_spec
from storage import scripts
from storage.errors import NotFoundError
from tests.conftest import Owner, Person
from tests.daemons.smtp.conftest import MESSAGE, Intake

BEGINNING = datetime(2026, 1, 2, tzinfo=UTC)
Explaining: TypeAlias = Callable[..., Awaitable[Explanation]]
ALICE = parse_addr_spec("alice@example.test")


def changed(settings: Settings, filters: list[str], **sections: Any) -> Settings:
    """With these content filters and sections."""
    smtp = msgspec.structs.replace(settings.smtp, filters=filters)
    return msgspec.structs.replace(settings, smtp=smtp, **sections)


@pytest.fixture
def explained(settings: Settings, owner: Owner, account: Person) -> Explaining:
    """What becomes of a message, by the filters `lists`, `mime` and `spam`; and that no table has another row for it."""

    async def rows() -> dict[str, int]:
        names = await owner.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        return {name[0]: await owner.fetchval(f"SELECT count(*) FROM {name[0]}") for name in names}

    async def explain(given: Given, **sections: Any) -> Explanation:
        before = await rows()
        async with open_context(changed(settings, ["lists", "mime", "spam"], **sections), is_rehearsal=True) as context:
            explanation = await Rehearsal(context).explain(given)
        assert await rows() == before
        return explanation

    return explain


def given(octets: bytes = MESSAGE, **more: Any) -> Given:
    """For alice, from a host of somebody's."""
    known: dict[str, Any] = {
        "received_at": BEGINNING,
        "peer": "192.0.2.1",
        "helo": "client.example",
        "reverse_path": parse_addr_spec("sender@client.example"),
        "forward_paths": (ALICE,),
    }
    return Given(octets, **known | more)


async def test_every_check_is_told(explained: Explaining) -> None:
    """Each filter of each stage with its verdicts, and what delivery makes of it."""
    found = await explained(given())
    assert [(check.moment, check.result.name) for check in found.checks if check.moment == "content"] == [
        ("content", "lists"),
        ("content", "mime"),
        ("content", "spam"),
    ]
    assert "connect" in {check.moment for check in found.checks}
    assert found.reply is None
    (fate,) = found.fates
    assert (fate.forward_path, fate.done, fate.reply) == ("alice@example.test", ["kept"], None)
    assert fate.spam is not None


async def test_the_score_has_its_reasons(explained: Explaining) -> None:
    """GTUBE is refused, and the reason is in plain words."""
    gtube = b"XJS*C4JDBQADN1.NSBN3*2IDNEN*GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X"
    found = await explained(given(MESSAGE + gtube + b"\r\n"))
    assert found.reply is not None
    assert found.reply.code == 550
    (fate,) = found.fates
    assert fate.spam is not None
    assert fate.spam.action == "reject"
    assert fate.spam.reasons[0].text("en") == "it is the test message for spam filters"


async def test_every_step_of_sieve_is_told(explained: Explaining, owner: Owner, account: Person) -> None:
    """Which lines of whose script did what, and where the message ends up; mailboxes that would be made are not."""
    script = (
        b'require ["fileinto", "mailbox"];\nif header :contains "subject" "hello" {\n  fileinto :create "Friends";\n}\n'
    )
    await scripts.put(owner, account.account_id, "main", script, scripts.Bounds(9, 9999))
    await scripts.activate(owner, account.account_id, "main")
    found = await explained(given())
    (fate,) = found.fates
    assert fate.script is not None
    assert [(step.line, step.text) for step in fate.script.steps]
    assert 3 in {step.line for step in fate.script.steps}
    assert fate.done == ["filed into 'Friends'"]


async def test_recipients_are_refused_as_at_rcpt(explained: Explaining) -> None:
    """Who does not exist, and who would be put off by greylisting, which remembers nothing of it."""
    nobody = parse_addr_spec("nobody@example.test")
    found = await explained(given(forward_paths=(nobody, ALICE)), greylisting=Greylisting(enabled=True))
    first, second = found.fates
    assert first.reply is not None
    assert first.reply.code == 550
    assert second.reply is not None
    assert (second.reply.code, second.reply.lines) == (450, ("greylisted: try again in a few minutes",))
    assert ("greylisting", "alice@example.test") in [
        (check.result.name, check.forward_path) for check in found.checks if check.moment == "rcpt"
    ]


async def test_without_a_host_the_message_alone_is_judged(explained: Explaining) -> None:
    """Where nobody says who brings it, envelope filters have nothing to look at."""
    found = await explained(given(peer="", helo=""))
    assert {check.moment for check in found.checks} == {"content"}


async def test_what_users_submit(explained: Explaining, account: Person) -> None:
    """It is not asked of them who they are; mail for other hosts would be queued."""
    elsewhere = parse_addr_spec("bob@client.example")
    found = await explained(given(login=account.login, reverse_path=ALICE, forward_paths=(ALICE, elsewhere)))
    assert {check.moment for check in found.checks} == {"content"}
    assert [(fate.forward_path, fate.done) for fate in found.fates] == [
        ("alice@example.test", ["kept"]),
        ("bob@client.example", ["queued for another host"]),
    ]


async def test_a_stored_message(explained: Explaining, intake: Intake, account: Person, owner: Owner) -> None:
    """By the id of our reply: the octets as they came, with the session that brought them."""
    client = await intake.greeted(**intake.limited())
    await client.ask(b"MAIL FROM:<sender@client.example>", 1)
    await client.ask(b"RCPT TO:<alice@example.test>", 1)
    await client.ask(b"DATA", 1)
    answer: bytes = await client.ask(MESSAGE + b".", 1)
    trace_id = answer.decode().split()[-1]
    await intake.context.recorder.flush()
    for is_gone in (False, True):
        if is_gone:  # then the archive has it
            await owner.execute("DELETE FROM message")
        found = await read_stored(intake.context, trace_id)
        assert found.octets == MESSAGE
        assert (found.peer, found.helo) == ("192.0.2.1", "client.example")
        assert (str(found.reverse_path), found.forward_paths) == ("sender@client.example", (ALICE,))
    explanation = await explained(found)
    assert [fate.done for fate in explanation.fates] == [["kept"]]
    with pytest.raises(NotFoundError, match="no message 0123456789abcdef"):
        await read_stored(intake.context, "0123456789abcdef")


async def test_an_exported_message_says_how_it_came(intake: Intake, account: Person, context: Context) -> None:
    """Of a file from a mailbox the fields that this host has put on top are read, and taken off."""
    client = await intake.greeted(**intake.limited())
    await client.ask(b"MAIL FROM:<sender@client.example>", 1)
    await client.ask(b"RCPT TO:<alice@example.test>", 1)
    await client.ask(b"DATA", 1)
    await client.ask(MESSAGE + b".", 1)
    (stored,) = await intake.inbox(account)
    assert stored != MESSAGE
    found = read_file(stored, context.settings.hostname)
    assert replace(found, received_at=BEGINNING) == given()
    foreign = read_file(stored, "other.example")
    assert foreign.octets == stored
    assert foreign.peer == ""
    plain = read_file(MESSAGE.replace(b"\r\n", b"\n"), context.settings.hostname)
    assert (plain.octets, str(plain.reverse_path)) == (MESSAGE, "sender@client.example")
