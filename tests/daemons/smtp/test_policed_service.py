"""The envelope stage in the whole service, over sockets: who is asked, and who is not."""

import asyncio
import smtplib
import ssl
from collections.abc import Callable
from dataclasses import replace

import msgspec

from config.envelope import Envelope, Greylisting
from config.smtp import Smtp
from daemons.certificates import Issued
from daemons.context import Context
from tests.conftest import PASSWORD, Person
from tests.daemons.smtp.conftest import serving

OTHER = ("127.0.0.2", 0)  # another host, as far as the service can tell
MESSAGE = "From: a@client.example\r\nTo: alice@example.test\r\nSubject: hello\r\n\r\nHello\r\n"


def grey(context: Context) -> Context:
    """Every tenant greylists, and its lists count."""
    smtp = Smtp(filters=["lists"])
    return replace(
        context, settings=msgspec.structs.replace(context.settings, smtp=smtp, greylisting=Greylisting(enabled=True))
    )


def sent(place: tuple[str, int], source: tuple[str, int] | None, recipient: str = "alice@example.test") -> int | str:
    """The code that refuses a message, or ""."""
    with smtplib.SMTP(*place, source_address=source, local_hostname="client.example", timeout=20) as client:
        try:
            client.sendmail("a@client.example", [recipient], MESSAGE)
        except smtplib.SMTPRecipientsRefused as error:
            return error.recipients[recipient][0]
    return ""


async def in_thread(talk: Callable[[], int | str]) -> int | str:
    """Run a blocking client."""
    async with asyncio.timeout(30):
        return await asyncio.to_thread(talk)


async def test_other_hosts_are_asked(context: Context, account: Person) -> None:
    """A stranger is put off; this host, over LMTP or SMTP, is not."""
    async with serving(grey(context)) as endpoints:
        assert await in_thread(lambda: sent(endpoints["smtp"], OTHER)) == 450
        assert await in_thread(lambda: sent(endpoints["smtp"], None)) == ""


async def test_our_own_host_may_bear_its_name(context: Context, account: Person) -> None:
    """Its programs greet with it; nobody else may."""

    def greeted(place: tuple[str, int], source: tuple[str, int] | None) -> int:
        with smtplib.SMTP(*place, source_address=source, local_hostname="mail.example.test", timeout=20) as client:
            client.ehlo()
            client.mail("a@client.example")
            return client.rcpt("alice@example.test")[0]

    async with serving(context) as endpoints:
        assert await in_thread(lambda: greeted(endpoints["smtp"], None)) == 250
        assert await in_thread(lambda: greeted(endpoints["smtp"], OTHER)) == 550


async def test_users_are_not_asked(context: Context, account: Person, certificate: Issued) -> None:
    """Who logs in is known: where he sits does not count."""
    trusting = ssl.create_default_context(cafile=str(certificate.authority))

    def submit(port: int) -> str:
        with smtplib.SMTP_SSL("localhost", port, source_address=OTHER, context=trusting, timeout=20) as client:
            client.login(account.login, PASSWORD)
            client.sendmail(account.login, [account.login], MESSAGE.replace("a@client.example", account.login))
        return ""

    async with serving(grey(context)) as endpoints:
        port = endpoints["submissions"][1]
        assert await in_thread(lambda: submit(port)) == ""


async def test_a_network_that_is_denied(context: Context, account: Person) -> None:
    """It reads why in place of the greeting, and others are greeted."""
    envelope = Envelope(denied_networks=["127.0.0.2/32"])
    settings = msgspec.structs.replace(context.settings, envelope=envelope)

    def greeting(place: tuple[str, int], source: tuple[str, int] | None) -> int:
        client = smtplib.SMTP(source_address=source, timeout=20)
        code, _ = client.connect(*place)
        client.close()
        return code

    async with serving(replace(context, settings=settings)) as endpoints:
        assert await in_thread(lambda: greeting(endpoints["smtp"], OTHER)) == 554
        assert await in_thread(lambda: greeting(endpoints["smtp"], ("127.0.0.3", 0))) == 220
