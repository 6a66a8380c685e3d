"""From the last octet of a message to quarantine and back, and to whoever is notified of it: real filters, rules and storage."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from config.mime import Mime
from config.notifier import Gateway, Notifier
from daemons.forwarding import Forwarding
from daemons.keeper.quarantining import Quarantining
from daemons.quarantine import release
from daemons.smtp.service import pipeline_of, share
from filters.pipeline import Pipeline
from filters.verdict import Quarantine
from storage import quarantine
from storage.antivirus import choose
from storage.quarantine import Kept, Policy
from tests.clamd import EICAR, Clamd
from tests.conftest import Owner, Person, add_person
from tests.daemons.smtp.conftest import Intake, headless
from tests.daemons.smtp.filed import deliver, lying, notes, parsed, rules
from tests.daemons.smtp.test_acceptance import Judge, send
from tests.daemons.smtp.test_treatment import scanning
from tests.mime import attached

EXECUTABLE = attached(("bill.exe", b"MZ"))
FORGED = Quarantine("DMARC policy of bank.example")


async def kept(owner: Owner) -> list[Kept]:
    """What is in quarantine, the oldest first."""
    return list(reversed(await quarantine.list_kept(owner, 30 * 86400.0, 100)))


def looking(intake: Intake, **mime: Any) -> dict[str, Any]:
    """What sessions need to look at attachments."""
    settings = intake.context.settings
    smtp = msgspec.structs.replace(settings.smtp, filters=["mime"])
    changed = msgspec.structs.replace(settings, smtp=smtp, mime=Mime(**mime))
    return intake.limited(pipeline_of(smtp, replace(intake.context, settings=changed)))


@pytest.fixture
async def notifying(intake: Intake) -> AsyncIterator[Intake]:
    """Intake that has an SMS gateway, and one webhook a day for everybody."""
    notifier = Notifier(gateways=[Gateway(url="https://sms.example.net/")], web_limit=1)
    settings = msgspec.structs.replace(intake.context.settings, notifier=notifier)
    context = replace(intake.context, settings=settings)
    forwarding = Forwarding(context)
    made = Intake(context, share(context, intake.admission, intake.shared.spool, forwarding), intake.admission)
    yield made
    forwarding.close()
    for client in made.clients:
        await client.end()


async def test_an_unwanted_attachment_waits_and_comes(intake: Intake, owner: Owner, account: Person) -> None:
    """The sender reads 250, the recipient has nothing but a notice; released, the message is what came."""
    client = await intake.greeted(**looking(intake, forbidden="quarantine"))
    answer = await send(client, EXECUTABLE)
    assert answer.startswith(b"250 2.0.0 ")
    assert await intake.inbox(account) == []
    assert len(await intake.journal()) == 1
    (found,) = await kept(owner)
    assert (found.login, found.reason) == (account.login, "attachment: .exe")
    (filtered,) = await notes(intake, answer, "filtered")
    assert filtered["actions"] == ["put in quarantine: attachment: .exe"]
    assert (await Quarantining(intake.context).round(owner, asyncio.Event())).told == 1
    (notice,) = await intake.inbox(account)
    assert "Anhang: .exe" in parsed(notice).get_content()
    await release(intake.context, found)
    _, released = await intake.inbox(account)
    assert headless(released) == EXECUTABLE
    assert await owner.fetchval("SELECT count(*) FROM journal WHERE direction = 'in'") == 1  # it is archived once


async def test_a_virus_waits_where_the_tenant_wants_that(
    intake: Intake, owner: Owner, account: Person, running_clamd: Clamd
) -> None:
    """Infected mail goes to quarantine, not to Junk, whatever other filters say; the field that tells of it is in the message."""
    await choose(owner, "example", "quarantine")
    client = await intake.greeted(**scanning(intake, str(running_clamd.socket)))
    assert (await send(client, attached(("bill.com", EICAR)))).startswith(b"250 2.0.0 ")
    assert await intake.inbox(account) == []
    assert await lying(intake, account, "Junk") == []
    (found,) = await kept(owner)
    assert found.reason.startswith("virus: ")
    await release(intake.context, found)
    (octets,) = await intake.inbox(account)
    assert b"\r\nX-Virus-Status: infected (" in octets


@pytest.mark.parametrize("junk", [True, False])
async def test_forged_mail_goes_where_the_tenant_wants_it(
    intake: Intake, owner: Owner, account: Person, junk: bool
) -> None:
    """DMARC's quarantine is Junk as configured, and the quarantine for a tenant that prefers that."""

    class Checker(Judge):
        name = "authentication"

    if not junk:
        await quarantine.choose(owner, "example", Policy(junk=frozenset()))
    client = await intake.greeted(**intake.limited(Pipeline(content=[Checker(FORGED)])))
    assert (await send(client, EXECUTABLE)).startswith(b"250 ")
    assert len(await lying(intake, account, "Junk")) == int(junk)
    assert len(await kept(owner)) == int(not junk)
    assert await intake.inbox(account) == []


async def test_each_recipient_has_a_quarantine_of_its_own(
    intake: Intake, settings: Any, owner: Owner, account: Person
) -> None:
    """What is for one account alone reaches the others; two accounts that lose the same message get it one by one."""
    bob = await add_person(settings, owner, "bob@example.test")
    own = Quarantine("blocked here", account.tenant_id, account.account_id)
    await deliver(intake, account.login, bob.login, verdicts=[own])
    assert [found.login for found in await kept(owner)] == [account.login]
    assert len(await intake.inbox(bob)) == 1
    await deliver(intake, account.login, bob.login, verdicts=[FORGED])
    assert [found.login for found in await kept(owner)] == [account.login, account.login, bob.login]
    await release(intake.context, (await kept(owner))[2])
    assert len(await intake.inbox(bob)) == 2
    assert await intake.inbox(account) == []


async def test_rules_do_not_see_what_is_in_quarantine(intake: Intake, owner: Owner, account: Person) -> None:
    """Nothing is answered, sent on or notified of before somebody has released it, and then only if the rules are asked."""
    await rules(
        owner, account, 'redirect :copy "carol@example.org"; vacation "Away."; notify "mailto:boss@example.org";'
    )
    await deliver(intake, verdicts=[FORGED])
    await release(intake.context, (await kept(owner))[0])
    assert await owner.fetchval("SELECT count(*) FROM outbound_message") == 0
    assert len(await intake.inbox(account)) == 1


async def test_a_rule_notifies(notifying: Intake, owner: Owner, account: Person) -> None:
    """A message whose subject says fax is delivered, and three places are told: each once, whatever the rules repeat."""
    source = """
        if header :contains "subject" "news" {
            notify :message "A fax" "sms:+491701234567";
            notify "https://hooks.example.net/a";
            notify "https://hooks.example.net/a";
            notify "mailto:boss@example.org";
        }
    """
    await rules(owner, account, source)
    (answer,) = await deliver(notifying)
    rows = await owner.fetch("SELECT kind, target, facts FROM notification ORDER BY kind")
    assert [(row["kind"], row["target"]) for row in rows] == [
        ("sms", "+491701234567"), ("web", "https://hooks.example.net/a"),
    ]  # fmt: skip
    assert json.loads(rows[0]["facts"])["text"] == "A fax"
    assert await owner.fetchval("SELECT forward_path FROM outbound_recipient") == "boss@example.org"
    (filtered,) = await notes(notifying, answer, "filtered")
    assert [done for done in filtered["actions"] if "notified" in done] == [
        "notified by SMS: +491701234567",
        "notified by webhook: hooks.example.net",
        "not notified: the web server was told already",
        "notified by mail: boss@example.org",
    ]
    (second,) = await deliver(notifying)  # the day's webhook is used up: the message comes all the same
    assert second.startswith(b"250 ")
    assert len(await notifying.originals(account)) == 2
    (filtered,) = await notes(notifying, second, "filtered")
    assert "not notified: the day's limit of webhooks is reached" in filtered["actions"]
