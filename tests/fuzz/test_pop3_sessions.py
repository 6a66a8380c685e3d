"""POP3 sessions of commands in any order, and garbage: one answer each, and numbers that fit the maildrop."""

import asyncio
import itertools
import ssl
from contextlib import suppress
from dataclasses import replace

import structlog
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.conftest import PASSWORD, Owner, add_person
from tests.daemons.imap.conftest import Service, mail
from tests.fuzz.test_imap_sessions import EXAMPLES

_MAILS = [
    mail("one", ".\r\n..\r\nbody\r\n"),
    mail("two", "x" * 5000),
    b"Subject: \xc3\xbc\r\n\r\n\n.\r\nbare\r",
    mail("four", ""),
]
_NUMBER = st.sampled_from([b"1", b"2", b"4", b"5", b"0", b"-1", b"99999999999999999999", b"x", b"1 2", b""])
_COMMANDS = st.one_of(
    st.sampled_from(b"CAPA|STAT|LIST|UIDL|NOOP|RSET|UTF8|LANG|LANG de|LANG xx|STLS|QUIT".split(b"|")),
    st.tuples(st.sampled_from([b"RETR", b"DELE", b"LIST", b"UIDL", b"TOP"]), _NUMBER).map(b" ".join),
    st.tuples(st.just(b"TOP"), _NUMBER, _NUMBER).map(b" ".join),
    st.tuples(st.sampled_from([b"USER", b"PASS"]), st.sampled_from([b"nobody@example.test", b"\xff", b"x y", b""])).map(b" ".join),
)  # fmt: skip
_GARBAGE = st.one_of(st.binary(max_size=40), st.binary(min_size=1, max_size=2).map(lambda some: some * 400)).map(
    lambda octets: octets.translate(None, b"\r\n")
)
_AUTH = st.tuples(
    st.sampled_from([b"PLAIN", b"LOGIN", b"SCRAM-SHA-256", b"X-NONE"]),
    st.sampled_from([b"", b" =", b" AGEAYg==", b" biwsbj1hLHI9YWJjZGVmZ2g=", b" x y"]),
).map(lambda words: b"AUTH " + words[0] + words[1])
_LINES = st.lists(st.one_of(_COMMANDS, _COMMANDS, _GARBAGE, _AUTH), min_size=1, max_size=12)
_MULTI_LINE = (b"CAPA", b"RETR", b"TOP", b"LIST", b"UIDL", b"LANG")
_PHASES = [Phase.explicit, Phase.reuse, Phase.generate]
_numbers = itertools.count(1)


class _Client:
    """Sends lines and knows which answers have several."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.log: list[bytes] = []

    async def line(self) -> bytes:
        """The next line without its end; b"" when there is none."""
        async with asyncio.timeout(30):
            try:
                line = await self.reader.readline()
            except (ConnectionError, ssl.SSLError):
                return b""
        assert not line or line.endswith(b"\r\n"), line
        self.log.append(b"S: " + line[:200])
        return line.removesuffix(b"\r\n")

    async def ask(self, command: bytes, cuts: list[int]) -> bool:
        """Send a line and hear its answer; False when the session is over."""
        self.log.append(b"C: " + command[:200])
        sent = command + b"\r\n"
        with suppress(ConnectionError, ssl.SSLError):
            for size in [*cuts, len(sent)]:
                self.writer.write(sent[:size])
                sent = sent[size:]
                await self.writer.drain()
                await asyncio.sleep(0)
        answer = await self.line()
        while answer.startswith(b"+ "):
            self.writer.write(b"*\r\n")
            answer = await self.line()
        if not answer:
            return False
        assert answer.startswith((b"+OK", b"-ERR")), answer
        verb, _, argument = command.upper().partition(b" ")
        is_listing = verb in (b"LIST", b"UIDL", b"LANG") and not argument.strip(b" ")
        if answer.startswith(b"+OK") and verb in _MULTI_LINE and (is_listing or verb in (b"CAPA", b"RETR", b"TOP")):
            await self._lines(verb)
        return True

    async def _lines(self, verb: bytes) -> None:
        while (line := await self.line()) != b".":
            assert line or verb in (b"RETR", b"TOP"), "an empty line"
            if verb in (b"LIST", b"UIDL"):
                assert 1 <= int(line.split()[0]) <= len(_MAILS), line


async def _converse(service: Service, script: list[bytes], cuts: list[int], *, ends: bool) -> bool:
    """One connection; whether each line of the script was answered before the session was over."""
    streams = await asyncio.open_connection(*service.endpoints["pop3s"], ssl=service.tls, server_hostname="localhost")
    client = _Client(*streams)
    try:
        assert (await client.line()).startswith(b"+OK")
        for line in script:
            if not await client.ask(line, cuts):
                return False
        if ends:
            await client.ask(b"QUIT", [])
            assert await client.line() == b""
        return True
    except (AssertionError, TimeoutError) as error:
        raise AssertionError("\n".join([*(line.decode("latin-1") for line in client.log), repr(error)])) from error
    finally:
        client.writer.close()
        with suppress(ConnectionError, ssl.SSLError):
            await client.writer.wait_closed()


@settings(max_examples=max(10, EXAMPLES // 4), suppress_health_check=list(HealthCheck), phases=_PHASES)
@given(st.booleans(), _LINES, st.lists(st.integers(1, 9), max_size=2), st.booleans())
async def test_sessions(
    service: Service, owner: Owner, is_known: bool, lines: list[bytes], cuts: list[int], ends: bool
) -> None:
    """Each line gets one answer, no error of ours gets out, and the next session finds the maildrop in order."""
    person = await add_person(service.context.settings, owner, f"pop{next(_numbers)}@example.test")
    service = replace(service, person=person)
    login = [b"USER " + person.login.encode(), b"PASS " + PASSWORD.encode()]
    with structlog.testing.capture_logs() as logs:
        await service.deliver(*_MAILS)
        await _converse(service, [*(login if is_known else []), *lines], cuts, ends=ends)
        assert await _converse(service, [*login, b"STAT", b"LIST", b"NOOP"], [], ends=True)
    assert [entry for entry in logs if entry["log_level"] in ("error", "critical") or "exc_info" in entry] == []
