"""The client against tests/transcripts/smtp_client: what it sends and what it makes of the replies, whatever their cut.

Notes of a transcript that say what the caller does and gets:

    # client: lmtp nochunking                         how the client is made
    # then: send FROM TO TO key=value                 when it is idle; also `tls`, `auth NAME`, `reset`, `quit`
    # becomes: delivered 250 ours uncertain surplus   the next recipient's outcome
    # denied: AUTH 535 / # authenticated / # ends: reason
    # eof                                             the connection is closed behind the last line
"""

from pathlib import Path
from typing import Any

import pytest

from protocol.sasl import LoginClient, PlainClient, ScramClient
from protocol.smtp.client import (
    Authenticated,
    Client,
    ClientError,
    Denied,
    Ended,
    Event,
    Finished,
    Outcome,
    Recipient,
    TlsAllowed,
    Transaction,
)
from tests.feeding import cut, transcripts, turns, unescape

MESSAGE = b"Subject: dots\r\n\r\n.one\r\n"
MECHANISMS = {"PLAIN": PlainClient, "LOGIN": LoginClient}


class Caller:
    """Does what the notes say and writes down what comes of it, in their words."""

    def __init__(self, text: str) -> None:
        notes = [line[2:].strip() for line in text.splitlines() if line.startswith("# ")]
        options = " ".join(note.removeprefix("client:") for note in notes if note.startswith("client:"))
        self.client = Client("us.test", is_lmtp="lmtp" in options, uses_chunking="nochunking" not in options)
        self.expected = [note for note in notes if note.startswith(("becomes:", "denied:", "authenticated", "ends:"))]
        self.happened: list[str] = []
        self.output = b""
        self.closes = "eof" in notes
        self._steps = [note.removeprefix("then: ").split(" ") for note in notes if note.startswith("then: ")]
        self._pieces: list[bytes] = []
        self._waits = False

    def receive(self, octets: bytes) -> None:
        self.note(self.client.receive(octets))
        self.go_on()

    def go_on(self) -> None:
        """Whatever can be done now."""
        while True:
            if self.client.is_content_wanted and self._pieces:
                piece = self._pieces.pop(0)
                self.note(self.client.content(piece, is_last=not self._pieces and not self._waits))
            elif self.client.is_idle and self._steps:
                self.step(*self._steps.pop(0))
            else:
                break
        self.output += self.client.take_output()

    def step(self, verb: str, *words: str) -> None:
        if verb == "send":
            self.note(self.client.send(self.transaction(*words)))
        elif verb == "auth":
            self.client.authenticate(words[0].encode(), MECHANISMS[words[0]]("user", "secret"))
        else:
            {"tls": self.client.start_tls, "reset": self.client.reset, "quit": self.client.quit}[verb]()

    def transaction(self, reverse_path: str, *words: str) -> Transaction:
        options = dict(word.split("=", 1) for word in words if "=" in word)
        content = unescape(options["content"]) if "content" in options else MESSAGE
        self._waits = options.get("pieces") == "wait"
        self._pieces = [content[:11], content[11:]] if "pieces" in options else [content]
        del self._pieces[1 if self._waits else 2 :]
        notify = tuple(options["notify"].split(",")) if "notify" in options else None
        recipients = [Recipient(word, notify, options.get("orcpt")) for word in words if "=" not in word]
        return Transaction(
            reverse_path.strip("<>"),
            tuple(recipients),
            len(content) if "size" in options else None,
            body=options.get("body", "7BIT"),  # type: ignore[arg-type]
            is_requiretls="requiretls" in options,
            ret=options.get("ret"),
            envid=options.get("envid"),
            deliver_by_seconds=int(options["by"]) if "by" in options else None,
            priority=int(options["priority"]) if "priority" in options else None,
        )

    def note(self, events: list[Event]) -> None:
        for event in events:
            match event:
                case Finished(outcomes):
                    self.happened += [f"becomes: {_words(outcome)}" for outcome in outcomes]
                case Denied(phase, reply):
                    self.happened.append(f"denied: {phase} {reply.code}")
                case Authenticated():
                    self.happened.append("authenticated")
                case Ended(reason):
                    self.happened.append(f"ends: {reason}")
                case TlsAllowed():
                    self.client.tls_started()


def _words(outcome: Outcome) -> str:
    marks = {"ours": not outcome.is_remote, "uncertain": outcome.is_uncertain, "surplus": outcome.is_surplus}
    return " ".join([outcome.state, str(outcome.reply.code), *(word for word, holds in marks.items() if holds)])


@pytest.mark.parametrize("step", [None, 1], ids=["whole", "octets"])
@pytest.mark.parametrize("path", transcripts("smtp_client"), ids=lambda path: path.stem)
def test_transcript(path: Path, step: int | None) -> None:
    """The client sends what the transcript has, and every recipient becomes what it says."""
    text = path.read_text("utf-8")
    caller = Caller(text)
    for client, server in turns(text):
        assert caller.output == client
        caller.output = b""
        for piece in cut(server, step):
            caller.receive(piece)
    if caller.closes:
        caller.note(caller.client.receive_eof())
    assert caller.output == b""
    # A session whose end is not told in the notes goes on.
    assert [word for word in caller.happened if not word.startswith("ends:") or "# ends:" in text] == caller.expected
    assert (caller.client.ended is not None) == (caller.closes or "# ends:" in text)


def test_octets_behind_the_reply_to_starttls_end_the_session() -> None:
    """What came in the clear is never taken for something said in TLS (CVE-2011-0411)."""
    for behind in (b"250 evil\r\n", b"2", b"\x16\x03\x01"):
        caller = Caller("# then: tls")
        caller.receive(b"220 mx.test\r\n")
        caller.receive(b"250-mx.test\r\n250 STARTTLS\r\n")
        assert caller.client.receive(b"220 go ahead\r\n" + behind) == [
            Ended("the server sent more than its reply before TLS")
        ]


def test_scram_server_must_prove_itself() -> None:
    """A server that says 235 without its proof is not the one that knows the password (RFC 5802 §5)."""
    client = Client("us.test")
    client.receive(b"220 mx.test\r\n")
    client.receive(b"250-mx.test\r\n250 AUTH SCRAM-SHA-256\r\n")
    client.authenticate(b"SCRAM-SHA-256", ScramClient("user", "secret", nonce="n" * 20))
    denied, ended = client.receive(b"235 2.7.0 welcome\r\n")
    assert isinstance(denied, Denied)
    assert denied.reply.code == 535
    assert isinstance(ended, Ended)


def test_endless_challenges_end() -> None:
    """A server cannot keep an exchange going for ever."""
    client = Client("us.test")
    client.receive(b"220 mx.test\r\n")
    client.receive(b"250-mx.test\r\n250 AUTH PLAIN\r\n")
    client.authenticate(b"PLAIN", PlainClient("user", "secret"))
    for _ in range(20):
        client.receive(b"334 \r\n")
    assert client.ended is not None


def test_what_does_not_fit_the_moment_is_refused() -> None:
    """A caller that asks for what the session does not allow is told so, and nothing goes out."""
    client = Client("us.test")
    for ask in (client.start_tls, client.reset, client.noop, client.quit, client.tls_started):
        with pytest.raises(ClientError):
            ask()
    with pytest.raises(ClientError):
        client.content(b"", is_last=True)
    with pytest.raises(ClientError):
        client.send(Transaction("", (Recipient("a@b.test"),)))
    assert client.take_output() == b""


@pytest.mark.parametrize(
    ("offer", "options", "code", "status"),
    [
        ("SIZE 22", {"size_octets": 23}, 552, "5.3.4"),
        ("DSN", {"body": "8BITMIME"}, 554, "5.6.3"),
        ("BINARYMIME", {"body": "BINARYMIME"}, 554, "5.6.3"),
        ("REQUIRETLS", {"is_requiretls": True}, 550, "5.7.30"),
        ("DSN", {"is_smtputf8": True}, 553, "5.6.7"),
        ("DSN", {"deliver_by_seconds": 60, "deliver_by_mode": "R"}, 550, "5.3.3"),
        ("DELIVERBY 120", {"deliver_by_seconds": 60, "deliver_by_mode": "R"}, 550, "5.4.7"),
        ("DSN", {"reverse_path": "a b@c.test"}, 550, "5.1.7"),
        ("DSN", {"recipients": (Recipient("a@b.test> NOTIFY=NEVER"),)}, 550, "5.1.3"),
        ("DSN", {"recipients": (Recipient("a@b.test\r\nRSET"),)}, 550, "5.1.3"),
    ],
)
def test_obstacles(offer: str, options: dict[str, Any], code: int, status: str) -> None:
    """What the server cannot take, or what would break a command, fails here without a word to the server."""
    client = Client("us.test")
    client.receive(b"220 mx.test\r\n")
    client.receive(f"250-mx.test\r\n250 {offer}\r\n".encode())
    client.take_output()
    values: dict[str, Any] = {"reverse_path": "a@x.test", "recipients": (Recipient("b@y.test"),), **options}
    (finished,) = client.send(Transaction(**values))
    assert isinstance(finished, Finished)
    (outcome,) = finished.outcomes
    assert (outcome.state, outcome.reply.code, str(outcome.reply.enhanced)) == ("failed", code, status)
    assert client.take_output() == b""
    assert client.is_idle
