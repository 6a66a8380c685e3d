"""Mailboxes that no script watches, and mail that teaches nothing: both cost commands nothing."""

from storage import scripts
from tests.conftest import Owner, add_person
from tests.daemons.imap.conftest import Service, mail
from tests.daemons.scripting.conftest import BOUNDS
from tests.statements import of_rules, statements


async def test_commands_ask_nothing_of_rules(service: Service, owner: Owner) -> None:
    """APPEND, STORE, COPY and MOVE look for scripts once per tenant, and then never again."""
    bob = await add_person(service.context.settings, owner, "bob@example.test")
    await scripts.put(owner, bob.account_id, "mark", b"keep;", BOUNDS)
    octets = mail()
    commands = (
        b"APPEND INBOX {%d+}\r\n%b" % (len(octets), octets),
        rb"STORE 1 +FLAGS (\Flagged work)",
        b"COPY 1 Archive",
        b"UID COPY 1:* Archive",
        b"UID MOVE 1 Archive",
    )
    await service.mailbox_id("Archive")
    async with await service.client() as client:
        await client.ok(b"SELECT INBOX")
        async with statements(service.context) as first:
            await client.ok(commands[0])
            await client.ok(b"COPY 1 Archive")
        async with statements(service.context) as asked:
            for command in commands:
                await client.ok(command)
    assert len(of_rules(first)) == 1
    assert asked
    assert of_rules(asked) == []
