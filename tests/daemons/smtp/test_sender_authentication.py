"""The filter `authentication` over SMTP: results on top of what is stored, refusals in the transaction, forged fields taken out."""

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from config.transport import Transport
from config.units import Seconds
from daemons.smtp.service import pipeline_of
from filters.pipeline import Pipeline
from filters.verdict import RemoveField, StripPart
from tests.conftest import Person
from tests.daemons.smtp.conftest import MESSAGE, Intake
from tests.daemons.smtp.test_acceptance import Judge, send
from tests.daemons.smtp.test_treatment import archived
from tests.internet.dns import NameServer, name_server
from tests.mime import attached

FORGED = b"Authentication-Results: %s; dmarc=pass\r\nX-Spam-Flag: NO,\r\n\tcertainly\r\n"


@pytest.fixture
async def names() -> AsyncIterator[NameServer]:
    """client.example has a policy that nothing here can keep to."""
    async with name_server() as server:
        yield server


def checked(intake: Intake, names: NameServer) -> dict[str, Any]:
    """What sessions need to check who a message is from."""
    settings = intake.context.settings
    smtp = msgspec.structs.replace(settings.smtp, filters=["authentication"])
    transport = Transport(resolvers=[names.address], resolver_timeout=Seconds(10))
    context = replace(intake.context, settings=msgspec.structs.replace(settings, smtp=smtp, transport=transport))
    return intake.limited(pipeline_of(smtp, context))


async def test_results_are_stored(intake: Intake, account: Person, names: NameServer) -> None:
    """Accepted mail has our Authentication-Results on top."""
    client = await intake.greeted(**checked(intake, names))
    assert (await send(client, MESSAGE)).startswith(b"250 ")
    (stored,) = await intake.inbox(account)
    hostname = intake.context.settings.hostname.encode()
    assert b"\r\nAuthentication-Results: %s;\r\n spf=" % hostname in stored
    assert stored.endswith(MESSAGE)


async def test_policy_is_applied(intake: Intake, account: Person, names: NameServer) -> None:
    """Mail that fails the policy of its author's domain is refused at its end, with 5.7.26."""
    names.add("_dmarc.client.example", "TXT", '"v=DMARC1; p=reject"')
    client = await intake.greeted(**checked(intake, names))
    answer = await send(client, b"From: a@client.example\r\nSubject: x\r\n\r\nx\r\n")
    assert answer.startswith(b"550 5.7.26 ")
    assert await intake.inbox(account) == []


@pytest.mark.parametrize("octets", [100, 3 << 20], ids=["small", "spooled"])
async def test_forged_fields_are_taken_out(intake: Intake, account: Person, names: NameServer, octets: int) -> None:
    """What pretends to be ours is in the archive alone; nothing else is touched."""
    client = await intake.greeted(**checked(intake, names))
    forged = FORGED % intake.context.settings.hostname.encode()
    rest = b"From: a@other.example\r\nSubject: x\r\n\r\n" + (b"x" * 70 + b"\r\n") * (octets // 72)
    assert (await send(client, forged + rest)).startswith(b"250 ")
    (stored,) = await intake.inbox(account)
    assert b"certainly" not in stored
    assert stored.count(b"\r\nAuthentication-Results:") == 1
    assert stored.endswith(b"\r\n" + rest)
    mark, original = await archived(intake, account)
    assert mark == {"action": "remove", "reasons": ["field: Authentication-Results", "field: X-Spam-Flag"]}
    assert original == forged + rest


async def test_fields_and_parts(intake: Intake, account: Person) -> None:
    """A field and a part may both go, also from a message that is no multipart."""
    for message in (attached(("a.exe", b"MZ")), b"Content-Type: application/x\r\n\r\nMZ\r\n"):
        octets = b"X-Spam-Flag: NO\r\n" + message
        part = (2,) if b"multipart" in message else (1,)
        judge = Judge(RemoveField(b"X-Spam-Flag: NO\r\n", "X-Spam-Flag"), StripPart(part, "exe"))
        client = await intake.greeted(**intake.limited(Pipeline(content=[judge])))
        assert (await send(client, octets)).startswith(b"250 ")
        stored = (await intake.inbox(account))[-1]
        assert b"X-Spam-Flag" not in stored
        assert b"MZ" not in stored
