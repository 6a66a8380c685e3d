"""Every tests/transcripts/managesieve/*.txt, fed whole and fed one octet at a time, must read the same."""

from pathlib import Path

import pytest

from protocol import sasl
from protocol.managesieve import response
from protocol.managesieve.command import Authenticate, Capability, GetScript, ListScripts, Noop, PutScript
from protocol.managesieve.response import Code
from protocol.managesieve.session import Event, Limits, Response, ServerSession, capabilities
from tests.feeding import answered, transcripts, turns

LIMITS = Limits(line_octets=200, script_octets=300, discard_octets=1000, errors=5)


def told(session: ServerSession) -> list[tuple[str, str | None]]:
    return capabilities(
        implementation="Test", mechanisms=["PLAIN"], may_start_tls=False, sieve=["fileinto"], notify=["mailto"],
        max_redirects=4, owner="alice" if session.state.name == "AUTHENTICATED" else None,
    )  # fmt: skip


def answer(session: ServerSession, event: Event) -> None:
    """What a willing daemon says that has the scripts "a", which is active, and one with an odd name."""
    match event:
        case Capability():
            session.ok(before=response.capability_lines(told(session)))
        case Noop(bytes() as tag):
            session.ok("done", response.tag(tag))
        case Authenticate(_, None):
            session.challenge(b"")
        case Authenticate(_, bytes() as octets) | Response(octets):
            try:
                sasl.parse_plain(sasl.decode_response(octets))
                session.ok()
            except sasl.SaslError as error:
                session.refuse(str(error))
        case ListScripts():
            session.ok(before=response.script_lines([("a", True), ('say "hi"', False), ("two\nlines", False)]))
        case GetScript("a"):
            session.ok(before=response.literal(b"keep;") + b"\r\n")
        case GetScript(_):
            session.refuse("no such script", Code.NONEXISTENT)
        case PutScript(_, b"odd;"):
            session.ok("line 1, column 1: odd\nline 1, column 4: odder", Code.WARNINGS)
        case _:
            session.ok()


@pytest.mark.parametrize("step", [None, 1, 7], ids=["whole", "octets", "sevens"])
@pytest.mark.parametrize("path", transcripts("managesieve"), ids=lambda path: path.stem)
def test_transcript(path: Path, step: int | None) -> None:
    """The server's side of the conversation is what the file says, however the client's octets are cut."""
    session = ServerSession(LIMITS)
    session.tell_capabilities(told(session), "ready")
    for client, server in turns(path.read_text("utf-8")):
        assert answered(session, client, step, answer) == server
