"""Plays an imaptest script against a running server: sends its commands, follows sequence numbers, compares the replies."""

import re
import ssl
from collections.abc import Sequence
from datetime import datetime

from protocol.imap.dates import render_date_time
from protocol.mbox import MboxReader, MessageEnds, MessageOctets, MessageStarts
from tests.daemons.imap.conformance.imaptest import Command, Group, Script, ScriptError, Value, Variables, tokens
from tests.daemons.imap.conversation import Client

MAILBOX = "imaptest"
_LITERAL = re.compile(rb"~?\{(\d+)\}\r\n")
_ENDS_WITH_LITERAL = re.compile(rb"\{\d+\}\r\n", re.DOTALL)


class Mismatch(AssertionError):
    """The server did not answer as the script says."""


def messages_of(mbox: bytes) -> list[tuple[datetime | None, bytes]]:
    """The messages of an mbox file, as clients send them, with the dates of their From_ lines."""
    reader = MboxReader()
    found: list[tuple[datetime | None, bytes]] = []
    for event in [*reader.receive(mbox), *reader.finish()]:
        match event:
            case MessageStarts(delivered_at):
                found.append((delivered_at, b""))
            case MessageOctets(octets):
                found[-1] = (found[-1][0], found[-1][1] + octets)
            case MessageEnds():
                found[-1] = (found[-1][0], re.sub(rb"(?<!\r)\n", b"\r\n", found[-1][1]))
    return found


class Wire:
    """One connection and the messages of its selected mailbox, as the client must count them."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.here: list[int] = []  # one number for each message, given when it came
        self._at_start: list[int] = []
        self._given = 0

    def start(self) -> None:
        """A group of commands begins: from here $n counts."""
        self._at_start = list(self.here)

    def number(self, initial: int) -> int | None:
        """What the message with this number at the group's start has for a number now."""
        if not 0 < initial <= len(self._at_start):
            return initial if initial > len(self._at_start) else None
        message = self._at_start[initial - 1]
        return self.here.index(message) + 1 if message in self.here else None

    def follow(self, reply: Sequence[Value]) -> None:
        """Take over what an untagged reply changes."""
        if len(reply) != 2 or not (isinstance(reply[0], str) and isinstance(reply[1], str) and reply[0].isdigit()):
            return
        number, word = int(reply[0]), reply[1].lower()
        if word == "exists":
            if number < len(self.here):
                raise Mismatch(f"EXISTS {number} takes away messages: there are {len(self.here)}")
            for _ in range(number - len(self.here)):
                self._given += 1
                self.here.append(self._given)
        elif word == "expunge":
            if not 0 < number <= len(self.here):
                raise Mismatch(f"EXPUNGE {number} of {len(self.here)} messages")
            del self.here[number - 1]


class Player:
    """One run of one script."""

    def __init__(self, script: Script, mbox: bytes, login: str, password: str) -> None:
        self._script = script
        self._messages = messages_of(mbox)
        self._next = 0
        self._login, self._password = login, password
        user, _, domain = login.partition("@")
        self._bound = {
            "mailbox": MAILBOX, "mailbox_url": MAILBOX, "user": login, "username": user, "domain": domain, "password": password,
        }  # fmt: skip
        self._wires: list[Wire] = []
        self._count = 0

    async def play(self, endpoint: tuple[str, int], tls: ssl.SSLContext) -> None:
        """Raises Mismatch."""
        try:
            for _ in range(self._script.connections):
                self._wires.append(Wire(await Client.connect(endpoint, tls)))
            await self._reach_state()
            for group in self._script.groups:
                await self._play(group)
        finally:
            for wire in self._wires:
                await wire.client.close()

    async def _reach_state(self) -> None:
        state = self._script.state
        if state == "nonauth":
            return
        for wire in self._wires:
            await wire.client.login(self._login, self._password)
        first = self._wires[0].client
        if state in ("created", "appended", "selected"):
            await first.ok(b"CREATE " + MAILBOX.encode())
        if state in ("appended", "selected"):
            wanted = self._script.header.get("messages", "all")
            for _ in range(len(self._messages) if wanted == "all" else int(wanted)):
                await first.ok(b"APPEND %b %b" % (MAILBOX.encode(), self._message()))
        if state == "selected":
            for wire in self._wires:
                for line in await wire.client.ok(b"SELECT " + MAILBOX.encode()):
                    wire.follow(reply_of(line))

    def _message(self, *, with_date: bool = True) -> bytes:
        """The next message, with what stands before it in APPEND; behind the last comes the first again."""
        moment, octets = self._messages[self._next % len(self._messages)]
        self._next += 1
        date = render_date_time(moment) + b" " if moment is not None and with_date else b""
        return b"%b{%d+}\r\n%b" % (date, len(octets), octets)

    async def _play(self, group: Group) -> None:
        wire = self._wires[group.connection - 1]
        wire.start()
        waiting: dict[bytes, Command] = {}
        for command in group.commands:
            self._count += 1
            tag = b"t%d" % self._count
            self._bound["tag"] = tag.decode()
            waiting[tag] = command
            if command.octets[:7].lower() in (b"select ", b"examine"):
                wire.here.clear()
            wire.client.write(tag + b" " + self._rendered(command, wire) + b"\r\n")
        wanted = list(group.wanted)
        lines: list[bytes] = []
        while waiting:
            line = await wire.client.line()
            lines.append(line)
            if not line:
                raise Mismatch(f"line {group.line}: the connection ended; got {lines}")
            variables = Variables(self._bound, wire.number)
            tag = line.partition(b" ")[0]
            if tag in waiting:
                self._tagged(waiting.pop(tag), line, variables, group, lines)
            elif tag == b"*":
                reply = reply_of(line)
                if any(variables.matches(banned, reply, is_prefix=is_status(reply)) for banned in group.banned):
                    raise Mismatch(f"line {group.line}: must not come: {line!r}")
                wanted = self._unmatched(wanted, reply, variables)
                wire.follow(reply)
            self._bound = variables.bound
        if wanted:
            raise Mismatch(f"line {group.line}: did not come: {wanted}; got {lines}")

    @staticmethod
    def _unmatched(wanted: list[list[Value]], reply: list[Value], variables: Variables) -> list[list[Value]]:
        """What is still wanted after this reply. Equal wishes need a reply each."""
        rest: list[list[Value]] = []
        met: list[list[Value]] = []
        for wish in wanted:
            if wish not in met and variables.matches(wish, reply, is_prefix=is_status(reply)):
                met.append(wish)
            else:
                rest.append(wish)
        return rest

    @staticmethod
    def _tagged(command: Command, line: bytes, variables: Variables, group: Group, lines: list[bytes]) -> None:
        got = reply_of(line)
        assert command.reply is not None
        status, *rest = command.reply
        if status != '""' and str(got[0]).lower() != status:
            raise Mismatch(f"line {group.line}: {command.octets!r} must be {status}; got {lines}")
        if not variables.matches(rest, got[1:], is_prefix=True):
            raise Mismatch(f"line {group.line}: {command.octets!r} must be {command.reply}; got {lines}")

    def _rendered(self, command: Command, wire: Wire) -> bytes:
        """The command as it goes to the server: variables filled in outside of literals, which are sent without waiting."""
        variables = Variables(self._bound, wire.number)
        octets, pieces, position = command.octets, [], 0
        while position < len(octets):
            literal = _LITERAL.search(octets, position)
            end = literal.start() if literal else len(octets)
            text = variables.expand(octets[position:end].decode("latin-1"))
            if text is None:
                raise ScriptError(f"a variable has no value: {octets!r}")
            pieces.append(text.encode("latin-1"))
            position = end
            if literal:
                position = literal.end() + int(literal[1])
                pieces.append(
                    octets[literal.start() : literal.end()].replace(b"}", b"+}") + octets[literal.end() : position]
                )
        rendered = b"".join(pieces)
        words = rendered.lower().split()
        if words[:1] == [b"append"] and not _ENDS_WITH_LITERAL.search(octets) and b"catenate" not in words:
            if len(words) == 1:
                return b"APPEND %b %b" % (MAILBOX.encode(), self._message())
            return rendered + b" " + self._message(with_date=False)
        return rendered


def reply_of(line: bytes) -> list[Value]:
    """An untagged or tagged response without its first word."""
    rest = line.partition(b" ")[2]
    status, _, text = rest.partition(b" ")
    if status.upper() not in (b"OK", b"NO", b"BAD", b"BYE", b"PREAUTH"):
        return tokens(rest)
    code = re.match(rb"\[[^\]]*\]", text)
    return [
        status.decode(),
        *(tokens(code[0]) if code else []),
        *text[code.end() if code else 0 :].decode("latin-1").split(),
    ]


def is_status(reply: Sequence[Value]) -> bool:
    return bool(reply) and str(reply[0]).upper() in ("OK", "NO", "BAD", "BYE", "PREAUTH")
