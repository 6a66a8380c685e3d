"""An IMAP client for the tests that gives every octet of a FETCH, with a parser of its own.

It shares no code with the server: what both would get wrong alike, a test would not see.
"""

import re
import ssl
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Self

from tests.end_to_end.clients import Line

Value = bytes | None | list["Value"]
_TOKEN = re.compile(rb'[()]|"(?:[^"\\]|\\.)*"|(?:[^ ()"\[]|\[[^\]]*\])+', re.DOTALL)
_LITERAL = re.compile(rb"\{(\d+)\}\r\n\Z")


class NotOkError(Exception):
    """A tagged NO or BAD; the text is the whole line."""


@dataclass(slots=True)
class Fetched:
    """One message's FETCH data: item name in upper case -> value."""

    seqnum: int
    items: dict[bytes, Value] = field(default_factory=dict)

    def octets(self, name: str) -> bytes:
        """A string item; NIL is the empty string."""
        value = self.items[name.encode()]
        assert not isinstance(value, list)
        return value or b""

    @property
    def uid(self) -> int:
        """The message's UID, which the test must have asked for."""
        return int(self.octets("UID"))


class ImapClient:
    """A logged-in session."""

    def __init__(self, endpoint: tuple[str, int], tls: ssl.SSLContext, login: str, password: str) -> None:
        self._line = Line(endpoint, tls)
        self._number = 0
        assert self._line.line().startswith(b"* OK")
        self.command(f'LOGIN "{login}" "{password}"')

    def command(self, text: str) -> list[list[Value]]:
        """Send a command; gives its untagged responses as values. Raises NotOkError at NO or BAD."""
        self._number += 1
        tag = b"t%d" % self._number
        self._line.send(tag + b" " + text.encode() + b"\r\n")
        untagged = []
        while True:
            pieces = self._response()
            if pieces[0].startswith(b"* "):
                untagged.append(_values(pieces))
            else:
                assert pieces[0].startswith(tag + b" "), pieces
                if not pieces[0].startswith(tag + b" OK"):
                    raise NotOkError(pieces[0].decode("utf-8", "replace"))
                return untagged

    def append(self, mailbox: str, *messages: bytes) -> None:
        """APPEND of one or several messages (RFC 3502) in non-synchronising literals (RFC 7888)."""
        self._number += 1
        tag = b"t%d" % self._number
        literals = b"".join(b" {%d+}\r\n%s" % (len(octets), octets) for octets in messages)
        self._line.send(b'%s APPEND "%s"%s\r\n' % (tag, mailbox.encode(), literals))
        while not (line := self._line.line()).startswith(tag):
            assert line.startswith(b"* "), line
        if not line.startswith(tag + b" OK"):
            raise NotOkError(line.decode("utf-8", "replace"))

    def fetch(self, uids: str, items: str) -> list[Fetched]:
        """UID FETCH; gives one Fetched a message, in the order of the answers."""
        found = []
        for response in self.command(f"UID FETCH {uids} ({items})"):
            if len(response) > 3 and response[2] == b"FETCH" and isinstance(response[3], list):
                names, values = response[3][::2], response[3][1::2]
                pairs = {
                    name.upper(): value for name, value in zip(names, values, strict=True) if isinstance(name, bytes)
                }
                found.append(Fetched(int(_octets(response[1])), pairs))
        return found

    def select(self, mailbox: str = "INBOX") -> int:
        """SELECT; gives the number of messages."""
        responses = self.command(f'SELECT "{mailbox}"')
        return next(int(_octets(r[1])) for r in responses if len(r) == 3 and r[2] == b"EXISTS")

    def _response(self) -> list[bytes]:
        """One response as its pieces: text, literal, text, literal, ..., text."""
        pieces = [self._line.line()]
        while literal := _LITERAL.search(pieces[-1]):
            pieces[-1] = pieces[-1][: literal.start()]
            pieces += [self._line.exactly(int(literal[1])), self._line.line()]
        return pieces

    def logout(self) -> None:
        """End the session."""
        self.command("LOGOUT")
        self.close()

    def close(self) -> None:
        """End the connection, whatever the server does."""
        self._line.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: object) -> None:
        self.logout() if kind is None else self._line.close()


def _octets(value: Value) -> bytes:
    assert isinstance(value, bytes), value
    return value


def _values(pieces: Sequence[bytes]) -> list[Value]:
    """The values of one response line; unbalanced text of a resp-text stays flat."""
    root: list[Value] = []
    stack = [root]
    for token, is_literal in _tokens(pieces):
        if is_literal:
            stack[-1].append(token)
        elif token == b"(":
            inner: list[Value] = []
            stack[-1].append(inner)
            stack.append(inner)
        elif token == b")":
            if len(stack) > 1:
                stack.pop()
        elif token.startswith(b'"'):
            stack[-1].append(re.sub(rb"\\(.)", rb"\1", token[1:-1], flags=re.DOTALL))
        else:
            stack[-1].append(None if token.upper() == b"NIL" else token)
    return root


def _tokens(pieces: Sequence[bytes]) -> Iterator[tuple[bytes, bool]]:
    for number, piece in enumerate(pieces):
        if number % 2:
            yield piece, True
        else:
            yield from ((match.group(), False) for match in _TOKEN.finditer(piece.removesuffix(b"\r\n")))
