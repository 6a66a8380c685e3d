"""Authors that people have blocked, in whole sessions: mail from elsewhere, LMTP, and what users send each other."""

import asyncio
import smtplib
import ssl
from dataclasses import replace

import msgspec
import pytest

from config.antivirus import Antivirus
from config.smtp import Smtp
from config.spam import Spam
from daemons.certificates import Issued
from daemons.context import Context
from daemons.filtering import build_pipeline
from storage import listed_senders
from tests.clamd import EICAR, Clamd
from tests.conftest import PASSWORD, Owner, Person
from tests.daemons.smtp.conftest import MESSAGE, Intake, serving
from tests.daemons.smtp.filed import lying

AUTHOR = "sender@client.example"  # of MESSAGE


async def listed(owner: Owner, person: Person, pattern: str, *, is_allowed: bool = False) -> None:
    """Put a pattern on the person's list."""
    whose = await listed_senders.owner_of(owner, login=person.login)
    await listed_senders.add(owner, whose, pattern, is_allowed=is_allowed)


async def answers(intake: Intake, *recipients: Person, is_lmtp: bool = False) -> list[bytes]:
    """The replies to a message of another envelope sender."""
    limited = intake.limited(build_pipeline(intake.context, ["lists"]))
    client = await intake.greeted(is_lmtp=is_lmtp, **limited)
    await client.ask(b"MAIL FROM:<bounces@mailer.example>", 1)
    for each in recipients:
        assert (await client.ask(f"RCPT TO:<{each.login}>".encode(), 1)).startswith(b"250 ")
    await client.ask(b"DATA", 1)
    said = await client.ask(MESSAGE + b".", len(recipients) if is_lmtp else 1)
    return said.splitlines()


async def test_a_blocked_author_is_refused(intake: Intake, account: Person, owner: Owner) -> None:
    """At the end of the message, for it has his name; the trace says by which entry."""
    await listed(owner, account, AUTHOR)
    (said,) = await answers(intake, account)
    assert said == b"550 5.7.1 the recipient does not accept mail from this sender"
    assert await lying(intake, account) == []


async def test_one_of_several_recipients_blocks_him(intake: Intake, account: Person, bob: Person, owner: Owner) -> None:
    """SMTP has one reply: the others get the message, and who blocks him has it in Junk."""
    await listed(owner, account, "client.example")
    (said,) = await answers(intake, account, bob)
    assert said.startswith(b"250 ")
    assert len(await lying(intake, bob)) == 1
    assert await lying(intake, account) == []
    assert len(await lying(intake, account, "Junk")) == 1


async def test_lmtp_answers_for_each(intake: Intake, account: Person, bob: Person, owner: Owner) -> None:
    """Only who blocks him refuses."""
    await listed(owner, account, "client.example")
    said = await answers(intake, account, bob, is_lmtp=True)
    assert [each[:9] for each in said] == [b"550 5.7.1", b"250 2.0.0"]
    assert len(await lying(intake, bob)) == 1
    assert await lying(intake, account) + await lying(intake, account, "Junk") == []


async def sent(intake: Intake, names: list[str], octets: bytes, **sections: object) -> bytes:
    """The reply to a message from 192.0.2.1, with these filters."""
    settings = msgspec.structs.replace(intake.context.settings, **sections)
    limited = intake.limited(build_pipeline(replace(intake.context, settings=settings), names))
    client = await intake.greeted(**limited)
    await client.ask(b"MAIL FROM:<bounces@mailer.example>", 1)
    await client.ask(b"RCPT TO:<alice@example.test>", 1)
    await client.ask(b"DATA", 1)
    return await client.ask(octets + b".", 1)


async def test_allow_beats_score(intake: Intake, account: Person, owner: Owner) -> None:
    """Even what is surely spam is let in from a host that the recipient has allowed."""
    gtube = MESSAGE + b"XJS*C4JDBQADN1.NSBN3*2IDNEN*GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X\r\n"
    spam = Spam(reject=20.0)
    assert (await sent(intake, ["lists", "spam"], gtube, spam=spam)).startswith(b"550 5.7.1 ")
    await listed(owner, account, "192.0.2.0/24", is_allowed=True)
    assert (await sent(intake, ["lists", "spam"], gtube, spam=spam)).startswith(b"250 ")
    assert len(await lying(intake, account)) == 1


async def test_allow_never_beats_a_virus(intake: Intake, account: Person, owner: Owner, running_clamd: Clamd) -> None:
    """Infected mail is refused from whomever it comes."""
    await listed(owner, account, "192.0.2.0/24", is_allowed=True)
    antivirus = Antivirus(clamd=str(running_clamd.socket))
    infected = MESSAGE + EICAR + b"\r\n"
    said = await sent(intake, ["lists", "antivirus", "spam"], infected, antivirus=antivirus)
    assert said.startswith(b"550 5.7.1 message refused: a virus")
    assert await lying(intake, account) == []


@pytest.mark.parametrize("is_listed", [True, False])
async def test_users_can_be_blocked(
    context: Context, account: Person, bob: Person, owner: Owner, certificate: Issued, is_listed: bool
) -> None:
    """Whoever has logged in is known: another user of the host may not want to hear of him."""
    await listed(owner, bob, account.login if is_listed else "carol@example.test")
    trusting = ssl.create_default_context(cafile=str(certificate.authority))

    def submit(port: int) -> int:
        with smtplib.SMTP_SSL("localhost", port, context=trusting, timeout=20) as client:
            client.login(account.login, PASSWORD)
            try:
                client.sendmail(
                    account.login, [bob.login], f"From: {account.login}\r\nTo: {bob.login}\r\n\r\nHello\r\n"
                )
            except smtplib.SMTPDataError as error:
                return error.smtp_code
        return 250

    settings = msgspec.structs.replace(context.settings, smtp=Smtp(filters=["lists"]))
    async with serving(replace(context, settings=settings)) as endpoints, asyncio.timeout(30):
        code = await asyncio.to_thread(submit, endpoints["submissions"][1])
    assert code == (550 if is_listed else 250)
