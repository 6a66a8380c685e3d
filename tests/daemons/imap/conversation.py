"""A tiny scripted IMAP client: transcripts of C: and S: lines, with captures and several connections, against a real server.

The format, line by line:

    # RFC 3501 §6.3.1: what is proved              comments; the first says which section
    mailbox NAME: flags | subject                  before the start: one message more in NAME (made if missing)
    script NAME: SIEVE                             before the start: the account has this script, which is not active
    C: a SELECT INBOX                              connection 1 sends the line with CRLF
    2C: a SELECT INBOX                             connection 2 does; a connection opens and logs in at its first line
    S: * $count EXISTS                             the next line must be this; $name captures a word, later it must be equal
    S: * OK [UIDNEXT $*                            $* takes the rest of the line, $$ is $
    S? * 3 FETCH (FLAGS ())                        somewhere among the untagged lines before the next S:, which may be more
    S! EXPUNGE                                     no line before the next tagged one holds this text
    C: {18}data                                    not special: literals are written as they are, \\r\\n escapes known in C lines
    anonymous                                      connections do not log in by themselves
"""

import asyncio
import contextlib
import re
import ssl
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from tests.conftest import PASSWORD

_LITERAL = re.compile(rb"\{(\d+)\}\r\n\Z")
_CAPTURE = re.compile(r"\$(\*|\$|[a-z]\w*)")


class Client:
    """One connection: sends lines, reads response lines with their literals in them."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def connect(cls, endpoint: tuple[str, int], tls: ssl.SSLContext | None = None) -> "Client":
        """Connect and read the greeting."""
        host, port = endpoint
        name = "localhost" if tls else None
        client = cls(*await asyncio.open_connection(host, port, ssl=tls, server_hostname=name, limit=1 << 24))
        client.greeting = await client.line()
        return client

    greeting = b""

    @property
    def streams(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Both sides of the connection, for a client of another kind."""
        return self._reader, self._writer

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close without LOGOUT."""
        self._writer.close()
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            await self._writer.wait_closed()

    def write(self, octets: bytes) -> None:
        """Send octets as they are."""
        self._writer.write(octets)

    async def start_tls(self, context: ssl.SSLContext) -> None:
        """Go on in TLS."""
        await self._writer.start_tls(context, server_hostname="localhost")

    async def line(self) -> bytes:
        """The next response line without CRLF, its literals included; b"" at the end."""
        async with asyncio.timeout(30):
            whole = b""
            while True:
                piece = await self._reader.readline()
                whole += piece
                literal = _LITERAL.search(piece)
                if literal is None:
                    return whole.removesuffix(b"\r\n")
                whole += await self._reader.readexactly(int(literal[1]))

    async def command(self, octets: bytes, tag: bytes = b"t") -> list[bytes]:
        """Send a command and give all response lines, the tagged one last."""
        self.write(tag + b" " + octets + b"\r\n")
        return await self.until(tag)

    async def until(self, tag: bytes) -> list[bytes]:
        """All lines up to the tagged one."""
        lines = []
        while True:
            line = await self.line()
            lines.append(line)
            if not line or line.startswith(tag + b" "):
                return lines

    async def ok(self, octets: bytes) -> list[bytes]:
        """The untagged lines of a command that must succeed."""
        *lines, tagged = await self.command(octets)
        assert tagged.startswith(b"t OK"), tagged
        return lines

    async def arrival(self) -> list[bytes]:
        """NOOP until new messages are told: a delivery is known here when its notification has come. Gives what was told."""
        async with asyncio.timeout(30):
            while True:
                lines = await self.ok(b"NOOP")
                if any(line.endswith(b" EXISTS") for line in lines):
                    return lines

    async def login(self, login: str, password: str = PASSWORD) -> None:
        """LOGIN with strings that need no escaping."""
        await self.ok(f'LOGIN "{login}" "{password}"'.encode())


@dataclass
class Script:
    """A transcript, read from a file."""

    messages: list[tuple[str, str, str]] = field(default_factory=list)  # mailbox, flags, subject
    scripts: list[tuple[str, str]] = field(default_factory=list)  # name, Sieve
    steps: list[tuple[int, str, str]] = field(default_factory=list)  # connection, kind, text
    is_anonymous: bool = False

    @classmethod
    def parse(cls, text: str) -> "Script":
        """Raises ValueError for a line of no known form."""
        script = cls()
        for number, line in enumerate(text.splitlines(), start=1):
            if not line.strip() or line.startswith("#"):
                continue
            if line == "anonymous":
                script.is_anonymous = True
            elif found := re.fullmatch(r"mailbox ([^:]+): ?(.*?) ?\| ?(.*)", line):
                script.messages.append((found[1], found[2], found[3]))
            elif found := re.fullmatch(r"script ([^:]+): (.*)", line):
                script.scripts.append((found[1], found[2]))
            elif found := re.fullmatch(r"(\d?)(C:|S:|S\?|S!) ?(.*)", line):
                script.steps.append((int(found[1] or 1), found[2], found[3]))
            else:
                raise ValueError(f"line {number}: {line!r}")
        return script


class Conversation:
    """Plays a script over real connections."""

    def __init__(self, endpoint: tuple[str, int], tls: ssl.SSLContext | None, login: str | None) -> None:
        self._endpoint = endpoint
        self._tls = tls
        self._login = login
        self._clients: dict[int, Client] = {}
        self._captured: dict[str, str] = {}
        self._wanted: dict[int, list[str]] = {}
        self._unwanted: dict[int, list[str]] = {}

    async def play(self, script: Script) -> None:
        """Raises AssertionError, which says what was expected where."""
        try:
            for connection, kind, text in script.steps:
                await self._step(connection, kind, text)
        finally:
            for client in self._clients.values():
                await client.close()

    async def _client(self, connection: int) -> Client:
        if connection not in self._clients:
            client = await Client.connect(self._endpoint, self._tls)
            self._clients[connection] = client
            if self._login is not None:
                await client.login(self._login)
        return self._clients[connection]

    async def _step(self, connection: int, kind: str, text: str) -> None:
        client = await self._client(connection)
        if kind == "C:":
            sent = _CAPTURE.sub(lambda name: self._captured.get(name[1], "$"), text)
            client.write(sent.encode("utf-8").replace(b"\\r\\n", b"\r\n") + b"\r\n")
        elif kind == "S?":
            self._wanted.setdefault(connection, []).append(text)
        elif kind == "S!":
            self._unwanted.setdefault(connection, []).append(text)
        else:
            await self._expect(connection, client, text)

    async def _expect(self, connection: int, client: Client, text: str) -> None:
        wanted = self._wanted.pop(connection, [])
        unwanted = self._unwanted.pop(connection, [])
        is_loose = bool(wanted)
        while True:
            try:
                line = (await client.line()).decode("utf-8", "backslashreplace").replace("\r\n", "\\r\\n")
            except TimeoutError:
                raise AssertionError(f"connection {connection}: nothing came, expected {[*wanted, text]}") from None
            for forbidden in unwanted:
                assert not line.startswith("* ") or forbidden not in line, f"{line!r} must not be told before {text!r}"
            expected = next((pattern for pattern in wanted if self._matches(pattern, line)), None)
            if expected is not None:
                wanted.remove(expected)
                continue
            if not wanted and self._matches(text, line):
                return
            is_passed_over = is_loose and line.startswith("* ")
            assert is_passed_over, f"connection {connection}: expected {[*wanted, text]}, got {line!r}"

    def _matches(self, pattern: str, line: str) -> bool:
        """Compare, capturing new names only when the whole line matches."""
        names: list[str] = []
        expression = ""
        at = 0
        for name in _CAPTURE.finditer(pattern):
            expression += re.escape(pattern[at : name.start()])
            at = name.end()
            if name[1] == "*":
                expression += ".*"
            elif name[1] == "$":
                expression += re.escape("$")
            elif name[1] in self._captured:
                expression += re.escape(self._captured[name[1]])
            elif name[1] in names:
                expression += f"(?P={name[1]})"
            else:
                names.append(name[1])
                expression += rf"(?P<{name[1]}>[^\s\])]+)"
        found = re.fullmatch(expression + re.escape(pattern[at:]), line)
        if found is not None:
            self._captured.update(found.groupdict())
        return found is not None
