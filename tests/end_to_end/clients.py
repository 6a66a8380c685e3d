"""Clients for the tests that see every octet: SMTP, LMTP and POP3 over blocking sockets.

They send what a test tells them, also what no good client sends, and check nothing themselves.
"""

import re
import socket
import ssl
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

_TIMEOUT_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Reply:
    """An SMTP reply: its code and its lines without code and line end."""

    code: int
    lines: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.code} {' / '.join(self.lines)}"


class Line:
    """A socket with a buffer: lines and counted octets."""

    def __init__(self, endpoint: tuple[str, int], tls: ssl.SSLContext | None = None) -> None:
        plain = socket.create_connection(endpoint, _TIMEOUT_SECONDS)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket = plain if tls is None else tls.wrap_socket(plain, server_hostname="localhost")
        self._file = self._socket.makefile("rb")

    def send(self, octets: bytes) -> None:
        """Send all of it."""
        self._socket.sendall(octets)

    def line(self) -> bytes:
        """The next line with its line end. Raises ConnectionError at the end."""
        octets = self._file.readline()
        if not octets.endswith(b"\n"):
            raise ConnectionError("closed by the server")
        return octets

    def exactly(self, count: int) -> bytes:
        """The next `count` octets."""
        octets = self._file.read(count)
        if len(octets) != count:
            raise ConnectionError("closed by the server")
        return octets

    def close(self) -> None:
        """Close both directions."""
        self._file.close()
        self._socket.close()


class Smtp:
    """A session of SMTP, or of LMTP, after its greeting and EHLO or LHLO. tls: of a port that begins with TLS."""

    def __init__(self, endpoint: tuple[str, int], *, is_lmtp: bool = False, tls: ssl.SSLContext | None = None) -> None:
        self._line = Line(endpoint, tls)
        self._is_lmtp = is_lmtp
        self._sender = b"sender@sender.test"
        try:
            self.greeting = self.reply()
            self.keywords = self.command(b"LHLO client.test" if is_lmtp else b"EHLO client.test").lines[1:]
        except OSError:
            self.close()
            raise

    def reply(self) -> Reply:
        """The next reply."""
        lines = []
        while True:
            octets = self._line.line()
            lines.append(octets[4:].decode("utf-8", "replace").rstrip("\r\n"))
            if octets[3:4] != b"-":
                return Reply(int(octets[:3]), tuple(lines))

    def command(self, octets: bytes) -> Reply:
        """Send a command line, wait for its reply."""
        self._line.send(octets + b"\r\n")
        return self.reply()

    def log_in(self, login: str, password: str) -> Reply:
        """AUTH PLAIN; all that is sent then comes from the login's address."""
        self._sender = login.encode()
        return self.command(b"AUTH PLAIN " + b64encode(f"\0{login}\0{password}".encode()))

    def data(self, recipients: Sequence[str], octets: bytes, *, sender: str = "") -> list[Reply]:
        """One transaction with DATA, its commands pipelined; gives one reply a recipient: to the message, or what refused."""
        self._sender = sender.encode() or self._sender
        self._line.send(self._envelope(recipients, octets) + b"DATA\r\n")
        replies = [self.reply() for _ in range(len(recipients) + 2)]
        if replies[-1].code != 354:
            return self._refused(recipients, replies)
        end = b".\r\n" if not octets or octets.endswith(b"\r\n") else b"\r\n.\r\n"
        self._line.send(re.sub(rb"(?:\A|(?<=\r\n))\.", b"..", octets) + end)
        return self._answers(replies[1:-1])

    def bdat(self, recipients: Sequence[str], octets: bytes, chunks: int = 1) -> list[Reply]:
        """The same with BDAT (RFC 3030 §2) in `chunks` chunks, all of it pipelined."""
        size = max(1, -(-len(octets) // chunks))
        pieces = [octets[start : start + size] for start in range(0, len(octets), size)] or [b""]
        wire = [b"BDAT %d\r\n%s" % (len(piece), piece) for piece in pieces[:-1]]
        wire.append(b"BDAT %d LAST\r\n%s" % (len(pieces[-1]), pieces[-1]))
        self._line.send(self._envelope(recipients, octets) + b"".join(wire))
        replies = [
            self.reply() for _ in range(len(recipients) + len(pieces))
        ]  # MAIL, each RCPT, each chunk but the last
        of_recipients, of_chunks = replies[1 : 1 + len(recipients)], replies[1 + len(recipients) :]
        is_refused = any(reply.code >= 400 for reply in (replies[0], *of_chunks))
        if is_refused or all(reply.code >= 400 for reply in of_recipients):
            return self._refused(recipients, [*replies, self.reply()])
        return self._answers(of_recipients)

    def _refused(self, recipients: Sequence[str], replies: Sequence[Reply]) -> list[Reply]:
        self.command(b"RSET")  # MAIL may have been accepted
        return [next(reply for reply in replies if reply.code >= 400)] * len(recipients)

    def _answers(self, of_recipients: Sequence[Reply]) -> list[Reply]:
        """What each recipient gets once the message is sent: one reply for all, in LMTP one for each accepted one."""
        if not self._is_lmtp:
            last = self.reply()
            return [reply if reply.code >= 400 else last for reply in of_recipients]
        return [reply if reply.code >= 400 else self.reply() for reply in of_recipients]

    def _envelope(self, recipients: Sequence[str], octets: bytes) -> bytes:
        body = b" BODY=8BITMIME" if not octets.isascii() else b""
        paths = b"".join(b"RCPT TO:<%s>\r\n" % recipient.encode() for recipient in recipients)
        return b"MAIL FROM:<%s>%s SIZE=%d\r\n%s" % (self._sender, body, len(octets), paths)

    def quit(self) -> None:
        """QUIT and close."""
        self.command(b"QUIT")
        self._line.close()

    def close(self) -> None:
        """Close without QUIT."""
        self._line.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: object) -> None:
        """QUIT after success; after a failure only close, for the server may wait for something else."""
        self.quit() if kind is None else self.close()


class Pop3:
    """A POP3 session after login. Commands raise AssertionError at -ERR."""

    def __init__(self, endpoint: tuple[str, int], tls: ssl.SSLContext, login: str, password: str) -> None:
        self._line = Line(endpoint, tls)
        self._answer()
        self.command(f"USER {login}")
        self.command(f"PASS {password}")

    def _answer(self) -> str:
        answer = self._line.line()
        assert answer.startswith(b"+OK"), answer
        return answer.decode("utf-8", "replace").rstrip()

    def command(self, text: str) -> str:
        """A command with one line of answer."""
        self._line.send(text.encode() + b"\r\n")
        return self._answer()

    def multi(self, text: str) -> bytes:
        """A command with a multi-line answer; gives its octets without the doubled dots and without the end."""
        self.command(text)
        lines = []
        while (octets := self._line.line()) != b".\r\n":
            lines.append(octets[1:] if octets.startswith(b".") else octets)
        return b"".join(lines)

    def quit(self) -> None:
        """QUIT, which applies the deletions, and close."""
        self.command("QUIT")
        self._line.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: object) -> None:
        self.quit() if kind is None else self._line.close()
