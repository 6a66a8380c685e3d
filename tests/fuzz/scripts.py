"""Fuzz target of ManageSieve: from octets to answers."""

from collections.abc import Iterator

from protocol.managesieve import response
from protocol.managesieve.command import Authenticate, GetScript, Noop, StartTls
from protocol.managesieve.session import Event, Limits, Response, ServerSession
from tests.feeding import answered, transcripts, turns

_SMALL = Limits(line_octets=30, script_octets=50, discard_octets=100, errors=7)


def managesieve(octets: bytes) -> None:
    """Any stream gives the same answers however it is cut, and in them every literal is whole."""
    if not octets:
        return
    choice, octets = octets[0], octets[1:]
    limits = _SMALL if choice & 1 else Limits()
    whole = answered(ServerSession(limits), octets, None, _answer)
    assert answered(ServerSession(limits), octets, 1 + (choice >> 1), _answer) == whole
    assert not whole or whole.endswith(b"\r\n")


def streams() -> Iterator[bytes]:
    """Whole conversations."""
    for index, path in enumerate(transcripts("managesieve")):
        yield bytes([index]) + b"".join(turn.client for turn in turns(path.read_text("utf-8")))


def _answer(session: ServerSession, event: Event) -> None:
    match event:
        case Authenticate(_, None):
            session.challenge(b"")
        case Authenticate(_, bytes()) | Response(b"*") | StartTls():
            session.refuse("no")
        case Noop(bytes() as tag):
            session.ok("done", response.tag(tag))
        case GetScript(name):
            session.ok(before=response.literal(name.encode()) + b"\r\n")
        case _:
            session.ok()
