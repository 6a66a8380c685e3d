"""Mail to the address of a team."""

import asyncpg

from storage import teams
from tests.conftest import Person
from tests.daemons.smtp.conftest import MESSAGE, Intake


async def test_mail_to_a_team_lands_in_its_inbox(
    intake: Intake, account: Person, owner: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    """A team's address takes mail like a person's, +detail too, and the journal has it for the archive."""
    account_id = await teams.add_team(owner, "example", "info@example.test", "Info")
    team = Person(account.tenant_id, account_id, "info@example.test", "")
    client = await intake.greeted()
    assert (await client.ask(b"MAIL FROM:<sender@client.example>", 1)).startswith(b"250 ")
    for address in (b"info@example.test", b"Info+sales@example.test"):
        assert (await client.ask(b"RCPT TO:<%b>" % address, 1)).startswith(b"250 ")
    assert (await client.ask(b"DATA", 1)).startswith(b"354 ")
    assert (await client.ask(MESSAGE + b".", 1)).startswith(b"250 ")
    assert await intake.originals(team) == [MESSAGE]
    assert await intake.originals(account) == []
    assert len(await intake.journal()) == 1
