"""Every tests/transcripts/pop3/*.txt, fed whole and fed one octet at a time, must read the same."""

from pathlib import Path

import pytest

from protocol import sasl
from protocol.pop3.command import Auth, Capa, List, Pass
from protocol.pop3.response import Code
from protocol.pop3.session import Event, Response, ServerSession
from tests.feeding import answered, transcripts, turns


def answer(session: ServerSession, event: Event) -> None:
    """What a willing daemon with an empty maildrop says; the password "wrong" is the only wrong one."""
    match event:
        case Pass("wrong"):
            session.refuse("no", Code.AUTH)
        case Capa():
            session.ok(lines=["TOP", "UIDL"])
        case List(None):
            session.ok(lines=[])
        case Auth(_, None):
            session.challenge(b"")
        case Response(line):
            try:
                sasl.parse_plain(sasl.decode_response(line))
                session.ok()
            except sasl.CancelledError:
                session.refuse("cancelled")
            except sasl.SaslError as error:
                session.refuse(str(error))
        case _:
            session.ok()


@pytest.mark.parametrize("step", [None, 1, 7], ids=["whole", "octets", "sevens"])
@pytest.mark.parametrize("path", transcripts("pop3"), ids=lambda path: path.stem)
def test_transcript(path: Path, step: int | None) -> None:
    """The server's side of the conversation is what the file says, however the client's octets are cut."""
    session = ServerSession()
    session.greet("ready")
    for client, server in turns(path.read_text("utf-8")):
        assert answered(session, client, step, answer) == server
