"""The filter pipeline in a running suite: mail from the network to the mailbox, with a DNS, a virus scanner and users' rules."""

import asyncio
import json
import smtplib
import time
import urllib.request
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from bench.suite import Suite, state_directory
from bench.system import Account
from tests.clamd import EICAR, Clamd
from tests.end_to_end.suite import bodies, smtp, started
from tests.filters.authentication.test_dkim import RECORD, sign
from tests.internet.dns import NameServer, name_server
from tests.mime import attached

ALICE, BOB = Account("alice@here.test", "secret of alice"), Account("bob@here.test", "secret of bob")
_SECONDS = 30.0
PEER = "127.0.0.9"  # example.net's own host; all others of the loopback are strangers
_CONFIGURATION = """
hostname = "mx.here.test"

[transport]
resolvers = ["{resolver}"]

[smtp]
filters = ["authentication", "antivirus", "lists", "mime", "spam"]

[authenticity]
unchecked = []

[antivirus]
clamd = "{clamd}"

[envelope]
denied_networks = ["127.0.0.66/32"]
"""
_SCRIPT = b"""require ["fileinto", "mailbox"];
if header :contains "list-id" "cooks.example.net" {
    fileinto :create "Cooks";
}
"""
LETTER = (
    b"From: Carol <carol@example.net>\r\nTo: alice@here.test\r\nSubject: Dinner on Friday\r\n"
    b"Date: Fri, 02 Jan 2026 10:00:00 +0000\r\nMessage-ID: <%d@example.net>\r\nMIME-Version: 1.0\r\n"
    b"Content-Type: text/plain; charset=us-ascii\r\n%s\r\nDear Alice,\r\n\r\nwill you come to dinner on Friday?\r\n\r\nCarol\r\n"
)


@dataclass(frozen=True, slots=True)
class Site:
    """A suite with two accounts, and the world around it."""

    suite: Suite
    names: NameServer

    async def command(self, *arguments: str, text: str | None = None) -> str:
        """A command of `postwerk`."""
        return await asyncio.to_thread(self.suite.command, *arguments, text=text)

    async def send(
        self, octets: bytes, *, to: Account = ALICE, sender: str = "carol@example.net", peer: str = PEER
    ) -> tuple[int, str]:
        """Bring a message from a host; gives the reply that ended it."""
        return await asyncio.to_thread(self._send, octets, to.login, sender, peer)

    def _send(self, octets: bytes, to: str, sender: str, peer: str) -> tuple[int, str]:
        host, port = self.suite.endpoint("smtp")
        try:
            with smtplib.SMTP(host, port, "mail.example.net", source_address=(peer, 0)) as client:
                client.ehlo("mail.example.net")
                for command in (f"MAIL FROM:<{sender}>", f"RCPT TO:<{to}>"):
                    code, said = client.docmd(command)
                    if code != 250:
                        return code, said.decode()
                code, said = client.data(octets)
                return code, said.decode()
        except smtplib.SMTPConnectError as error:
            return error.smtp_code, str(error.smtp_error)

    async def traced(self, said: str) -> list[dict[str, Any]]:
        """The trace's notes of an accepted message, by our reply, as soon as they are written."""
        deadline = time.monotonic() + _SECONDS
        while not (found := json.loads(await self.command("trace", said.split()[-1], "--json"))):
            assert time.monotonic() < deadline, "not traced in time"
            await asyncio.sleep(0.1)
        notes: list[dict[str, Any]] = found[0]["notes"]
        return notes

    async def stored(self, account: Account = ALICE, mailbox: str = "INBOX") -> list[bytes]:
        """What is in a mailbox."""
        return await asyncio.to_thread(bodies, self.suite, account, mailbox)

    async def counted(self, name: str, **labels: str) -> float:
        """A metric of the whole suite."""
        host, port = self.suite.endpoint("metrics")
        text = await asyncio.to_thread(lambda: urllib.request.urlopen(f"http://{host}:{port}/metrics").read().decode())
        wanted = f"{name}{{{','.join(f'{key}={chr(34)}{value}{chr(34)}' for key, value in sorted(labels.items()))}}} "
        return sum(float(line.removeprefix(wanted)) for line in text.splitlines() if line.startswith(wanted))


@pytest.fixture(scope="module")
async def site(running_clamd: Clamd, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    """here.test in a world where example.net signs its mail, and wants what is not signed to be refused."""
    async with name_server() as names:
        names.add("example.net", "TXT", f'"v=spf1 ip4:{PEER} -all"')
        names.add("_dmarc.example.net", "TXT", '"v=DMARC1; p=reject"')
        names.add("one._domainkey.example.net", "TXT", f'"{RECORD[:200]}" "{RECORD[200:]}"')
        configuration = _CONFIGURATION.format(resolver=names.address, clamd=running_clamd.socket)
        with state_directory() as state:
            suite = Suite(state, configuration=configuration, is_demo=False)
            running = started(suite)
            await asyncio.to_thread(running.__enter__)
            made = Site(suite, names)
            try:
                await made.command("tenant", "add", "here")
                await made.command("domain", "add", "here.test", "--tenant", "here")
                for account in (ALICE, BOB):
                    await made.command(
                        "account", "add", account.login, "--password-stdin", text=account.password + "\n"
                    )
                yield made
            finally:
                await asyncio.to_thread(running.__exit__, None, None, None)


def letter(number: int, field: bytes = b"") -> bytes:
    """A good one, signed."""
    return sign(LETTER % (number, field))


async def test_good_mail_comes_in_with_all_results(site: Site) -> None:
    """Proven, clean, no spam: in the inbox as it was sent, below the fields that say so; the trace has each filter's word."""
    octets = letter(1)
    code, said = await site.send(octets)
    assert code == 250
    (stored,) = await site.stored()
    assert stored.endswith(octets)
    head = stored.removesuffix(octets)
    assert b"dmarc=pass" in head
    assert b"dkim=pass" in head
    assert b"\r\nX-Virus-Status: clean\r\n" in head
    assert b"\r\nX-Spam-Status: No, " in head
    (checked,) = (note for note in await site.traced(said) if note["kind"] == "checked")
    assert [text.partition(":")[0] for text in checked["verdicts"]][-5:] == [
        *("authentication", "antivirus", "lists", "mime", "spam")
    ]


@pytest.mark.parametrize(
    ("octets", "code", "said"),
    [
        pytest.param(LETTER % (2, b"") + b"Not signed.\r\n", 550, "5.7.26", id="DMARC"),
        pytest.param(sign(LETTER % (3, b"") + EICAR + b"\r\n"), 550, "a virus was found", id="virus"),
        pytest.param(
            sign(LETTER % (4, b"") + b"XJS*C4JDBQADN1.NSBN3*2IDNEN*GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X\r\n"),
            550,
            "it is spam",
            id="spam",
        ),
        pytest.param(
            sign(b"From: carol@example.net\r\n" + attached(("holiday.jpg.exe", b"MZ"))), 550, "attachments", id="exe"
        ),
    ],
)
async def test_bad_mail_is_refused_with_a_reason(site: Site, octets: bytes, code: int, said: str) -> None:
    """In the transaction, so that a sender who is no forger hears of it; and no mailbox has it."""
    before = len(await site.stored())
    peer = PEER if said != "5.7.26" else "127.0.0.10"
    found = await site.send(octets, peer=peer)
    assert found[0] == code
    assert said in found[1]
    assert len(await site.stored()) == before


async def test_forged_fields_do_not_come_through(site: Site) -> None:
    """A field that says "no spam" is ours, or it goes."""
    code, _ = await site.send(letter(5, b"X-Spam-Flag: NO\r\nX-Virus-Status: clean, really\r\n"), to=BOB)
    assert code == 250
    (stored,) = await site.stored(BOB)
    assert b"really" not in stored
    assert b"X-Spam-Flag: NO" not in stored


async def test_blocked_senders_and_hosts(site: Site) -> None:
    """Whom somebody has blocked is refused for that recipient alone; a denied network is not even greeted."""
    await site.command("senders", "block", "carol@example.net", "--account", BOB.login)
    deadline = time.monotonic() + _SECONDS
    while (answer := await site.send(letter(6), to=BOB))[0] == 250:  # the process has not heard of it yet
        assert time.monotonic() < deadline, "not blocked in time"
    assert (answer[0], "does not accept mail from this sender" in answer[1]) == (550, True)
    code, _ = await site.send(letter(7))
    assert code == 250
    code, said = await site.send(letter(8), peer="127.0.0.66")
    assert (code, "no mail from your network" in said) == (554, True)


async def test_rules_file_it_and_everything_is_explained(site: Site, tmp_path: Path) -> None:
    """A script puts it where its owner wants it; the command tells later why, step by step, by the id of our reply."""
    script = tmp_path / "script"
    script.write_bytes(_SCRIPT)
    await site.command("sieve", "put", ALICE.login, "main", str(script))
    await site.command("sieve", "activate", ALICE.login, "main")
    code, said = await site.send(letter(9, b"List-Id: <cooks.example.net>\r\n"))
    assert code == 250
    assert len(await site.stored(mailbox="Cooks")) == 1
    assert [note["actions"] for note in await site.traced(said) if note["kind"] == "filtered"] == [
        ["filed into 'Cooks'"]
    ]
    told: dict[str, Any] = json.loads(await site.command("filter", "explain", "--id", said.split()[-1], "--json"))
    assert [check["filter"] for check in told["checks"] if check["moment"] == "content"] == [
        *("authentication", "antivirus", "lists", "mime", "spam")
    ]
    (alice,) = told["recipients"]
    assert alice["delivery"] == ["filed into 'Cooks'"]
    assert 3 in [step["line"] for step in alice["rules"]["steps"]]
    assert alice["spam"]["action"] == "pass"
    assert len(await site.stored(mailbox="Cooks")) == 1


async def test_everything_is_counted(site: Site) -> None:
    """The suite's metrics have each filter's verdicts and time, of all processes together."""
    assert await site.counted("postwerk_filter_verdicts_total", filter="mime", verdict="pass") >= 1
    assert await site.counted("postwerk_filter_verdicts_total", filter="antivirus", verdict="refuse") >= 1
    assert await site.counted("postwerk_filter_seconds_count", filter="spam") >= 1
    assert await site.counted("postwerk_service_available", service="clamd") == 1


async def test_a_scanner_that_is_away_puts_mail_off(site: Site, running_clamd: Clamd) -> None:
    """Nothing comes in unchecked: the sender tries again; after some messages nobody waits for it any more, until it is back."""
    running_clamd.kill()
    try:
        for number in range(6):
            code, said = await site.send(letter(20 + number))
            assert (code, "cannot be checked for viruses now" in said) == (451, True)
        assert await site.counted("postwerk_service_available", service="clamd") == 0
    finally:
        running_clamd.start()


def test_the_first_try() -> None:
    """`postwerk up --demo` without a configuration: what comes from this host is scored, and asks nobody outside who sent it."""
    octets = LETTER.replace(b"@here.test", b"@example.test") % (30, b"")
    with state_directory() as state, started(Suite(state, configuration="")) as suite:
        alice = suite.accounts()[0]
        with smtp(suite) as session:
            assert [reply.code for reply in session.data([alice.login], octets)] == [250]
        (stored,) = bodies(suite, alice)
    assert stored.endswith(octets)
    assert b"\r\nX-Spam-Status: No, " in stored
    assert b"Authentication-Results" not in stored
