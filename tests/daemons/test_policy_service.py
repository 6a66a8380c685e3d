"""Policy services: over sockets, as processes of our own, and Debian's policyd-spf as an alternative to our SPF."""

import asyncio
import os
import shutil
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from config.envelope import PolicyService as Settings
from config.units import Seconds
from daemons.policy_service import PolicyService
from filters.breaker import Breaker, ServiceAwayError
from filters.policy import Policy
from filters.subject import Envelope
from filters.verdict import AddField, Refuse, Verdict
from protocol.address import parse_addr_spec
from protocol.smtp.policy_delegation import ACCEPT, PolicyError
from tests.internet.dns import name_server

POLICYD = shutil.which("policyd-spf")
QUESTION = {"request": "smtpd_access_policy", "sender": "a@b.example"}
ANSWERING = """
import os, sys
for number, line in enumerate(iter(sys.stdin.readline, ""), 1):
    if line == "\\n":
        print(f"action=REJECT process {os.getpid()}\\n", flush=True)
"""
# Debian's program, which asks the name servers of the system, with ours in their place.
SPF = """
import runpy, sys
import DNS
DNS.DiscoverNameServers = lambda: None
DNS.defaults.update(server=["127.0.0.1"], port=int(sys.argv.pop(1)))
sys.argv[0] = sys.argv.pop(1)
runpy.run_path(sys.argv[0], run_name="__main__")
"""

Answer = Callable[[bytes], bytes]


@asynccontextmanager
async def asking(**settings: object) -> AsyncIterator[PolicyService]:
    """A client of these settings."""
    service = PolicyService(Settings(**settings), Breaker("policy", failures=2, pause_seconds=60))  # type: ignore[arg-type]
    yield service
    await service.close()


@asynccontextmanager
async def listening(answer: Answer, place: str = "") -> AsyncIterator[tuple[str, list[int]]]:
    """A service on a socket; gives its address, and how many questions each connection has brought."""
    questions: list[int] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        number = len(questions)
        questions.append(0)
        try:
            while question := await reader.readuntil(b"\n\n"):
                questions[number] += 1
                writer.write(answer(question))
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    if place:
        server = await asyncio.start_unix_server(serve, place)
    else:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        place = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server:
        yield place, questions


@pytest.mark.parametrize("is_unix", [True, False])
async def test_a_socket(state: Path, is_unix: bool) -> None:
    """Over TCP or a Unix socket, one connection serves one question after the other."""
    async with listening(lambda _: b"action=DUNNO\n\n", str(state / "policy") if is_unix else "") as (place, questions):
        async with asking(address=place) as service:
            assert [await service.ask(QUESTION) for _ in range(3)] == [ACCEPT] * 3
        assert questions == [3]


async def test_questions_at_the_same_time(state: Path) -> None:
    """Not more lines than configured are open at once, and each question gets its own answer."""
    answers = asyncio.Event()

    def echo(question: bytes) -> bytes:
        answers.set()
        return b"action=REJECT " + question.split(b"sender=")[1].split(b"\n")[0] + b"\n\n"

    async with listening(echo) as (place, questions), asking(address=place, processes=2) as service:
        found = await asyncio.gather(*(service.ask(QUESTION | {"sender": f"{n}@x"}) for n in range(10)))
    assert [action.reason for action in found] == [f"{n}@x" for n in range(10)]
    assert len(questions) <= 2
    assert sum(questions) == 10


async def test_processes(state: Path) -> None:
    """A process is started when it is wanted, asked again, replaced when it has died, and ended with us."""
    program = state / "answering.py"
    program.write_text(ANSWERING)
    async with asking(command=[sys.executable, str(program)], processes=1) as service:
        first, second = (await service.ask(QUESTION)).reason, (await service.ask(QUESTION)).reason
        assert first == second
        number = int(first.split()[-1])
        os.kill(number, signal.SIGKILL)
        third = (await service.ask(QUESTION)).reason
        assert third != first
    with pytest.raises(ProcessLookupError):
        os.kill(int(third.split()[-1]), 0)


async def test_a_service_that_is_away(state: Path) -> None:
    """Nobody there, no answer, half an answer: an error, and after some of them nobody waits any more."""
    async with asking(address=str(state / "nobody")) as service:
        for expected in (FileNotFoundError, FileNotFoundError, ServiceAwayError):
            with pytest.raises(expected):
                await service.ask(QUESTION)
    async with (
        listening(lambda _: b"action=DUN") as (place, _),
        asking(address=place, time_limit=Seconds(0.2)) as service,
    ):
        with pytest.raises(TimeoutError):
            await service.ask(QUESTION)
    async with listening(lambda _: b"x" * 100_000) as (place, _), asking(address=place) as service:
        with pytest.raises(ConnectionError):
            await service.ask(QUESTION)
    async with listening(lambda _: b"action=JUMP\n\n") as (place, _), asking(address=place) as service:
        for _ in range(5):
            with pytest.raises(PolicyError):  # an answer, though no good one: the service is not away
                await service.ask(QUESTION)


def envelope(peer: str) -> Envelope:
    """One recipient of a message from client.example."""
    return Envelope(
        transaction_id=f"0123456789{peer[-3:]}",
        peer=peer,
        helo="mail.client.example",
        is_secure=False,
        is_authenticated=False,
        reverse_path=parse_addr_spec("sender@client.example"),
        forward_paths=(parse_addr_spec("alice@example.test"),),
    )


@pytest.mark.skipif(POLICYD is None, reason="needs policyd-spf")
async def test_policyd_spf(state: Path) -> None:
    """The program checks SPF in our place: what fails is refused in its words, what passes has its field."""
    configuration = state / "spf.conf"
    configuration.write_text(
        "debugLevel = 0\nHELO_reject = False\nMail_From_reject = Fail\nskip_addresses = 127.0.0.0/8\n"
    )
    async with name_server() as names:
        names.add("client.example", "TXT", '"v=spf1 ip4:192.0.2.0/24 -all"')
        port = names.address.rpartition(":")[2]
        command = ["/usr/bin/python3", "-c", SPF, port, str(POLICYD), str(configuration)]
        async with asking(command=command, processes=1) as service:
            checked: list[Verdict] = []
            for peer in ("192.0.2.1", "198.51.100.1"):
                checked += await Policy(service, 20).check(envelope(peer))
    passed, failed = checked
    assert isinstance(passed, AddField)
    assert passed.name == "Received-SPF"
    assert passed.value.startswith("Pass ")
    assert isinstance(failed, Refuse)
    assert failed.reply.code == 550
    assert str(failed.reply.enhanced) == "5.7.23"
