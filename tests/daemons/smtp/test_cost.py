"""Mail that no rule concerns: the rules of others cost it nothing."""

import pytest

from storage import scripts
from tests.conftest import Owner, Person, add_person
from tests.daemons.scripting.conftest import BOUNDS
from tests.daemons.smtp.conftest import MESSAGE, Intake
from tests.daemons.smtp.test_acceptance import send
from tests.daemons.smtp.users import SUBMITTED, Users
from tests.statements import of_rules, statements

STORING = ("SELECT b.tenant_id, b.digest FROM unnest", "WITH new_blob AS")  # is it known; here it is


async def add_rules(owner: Owner, person: Person) -> None:
    """A script that files all of the person's mail."""
    script = b'require "fileinto"; fileinto "Archive";'
    await scripts.put(owner, person.account_id, "all", script, BOUNDS)
    await scripts.activate(owner, person.account_id, "all")


def beginnings(asked: list[str]) -> list[str]:
    """Of the statements that store messages, which beginning each has; the others whole."""
    return [next((known for known in STORING if each.startswith(known)), each) for each in asked]


@pytest.mark.parametrize("is_lmtp", [False, True], ids=["SMTP", "LMTP"])
async def test_intake_asks_nothing_besides(is_lmtp: bool, intake: Intake, account: Person, owner: Owner) -> None:
    """Each message costs the two statements that store it, whatever rules somebody else has."""
    bob = await add_person(intake.context.settings, owner, "bob@example.test")
    await add_rules(owner, bob)
    client = await intake.greeted(is_lmtp=is_lmtp)
    async with statements(intake.context) as first:
        await send(client, MESSAGE)
    assert of_rules(first)
    async with statements(intake.context) as asked:
        for _ in range(3):
            assert (await send(client, MESSAGE)).startswith(b"250 ")
    assert beginnings(asked) == 3 * list(STORING)


async def test_rules_of_one_recipient_ask_nothing_for_the_other(intake: Intake, account: Person, owner: Owner) -> None:
    """A script is looked up once; then only what it does is asked for: here the mailbox that it names."""
    await add_rules(owner, account)
    client = await intake.greeted()
    async with statements(intake.context):
        await send(client, MESSAGE)
    async with statements(intake.context) as asked:
        assert (await send(client, MESSAGE)).startswith(b"250 ")
    assert of_rules(asked) == []
    assert len(asked) <= 2 + len(STORING)


@pytest.mark.parametrize(
    "forward_path", ["<bob@example.test>", "<somebody@elsewhere.example>"], ids=["local", "remote"]
)
async def test_submission_asks_nothing_besides(forward_path: str, users: Users, account: Person, bob: Person) -> None:
    """Neither for those who have no rules, nor for those who are elsewhere."""
    async with await users.logged_in(account) as client:
        async with statements(users.context):
            await client.send(SUBMITTED, forward_path)
        async with statements(users.context) as asked:
            assert (await client.send(SUBMITTED, forward_path)).startswith(b"250 ")
    assert of_rules(asked) == []
    assert [each for each in beginnings(asked) if each in STORING] == list(STORING)
