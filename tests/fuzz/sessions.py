"""Fuzz targets of conversations: POP3 from octets to answers, SASL exchanges, and the octets of COMPRESS."""

from contextlib import suppress

from daemons.compression import CompressionError, Deflate
from protocol import sasl as mechanisms
from protocol.pop3 import command
from protocol.pop3.response import Code, Stuffing, TopCut, stuffed_message
from protocol.pop3.session import Event, Limits, Response, ServerSession
from protocol.pop3.texts import Text, matching
from tests.feeding import answered, cut

_SMALL = Limits(line_octets=30, response_octets=50, errors=7)
_KEYS = mechanisms.derive("password", b"salt", 1).keys
_NONCE = "fedcba9876543210"
_BINDINGS = {"tls-exporter": b"\x01" * 32}
_INFLATE_OCTETS, _PIECE_OCTETS = 20_000, 700


def pop3(octets: bytes) -> None:
    """Any stream gives the same answers however it is cut, and each line of them is one of POP3's."""
    if not octets:
        return
    choice, octets = octets[0], octets[1:]
    limits = _SMALL if choice & 1 else Limits()
    whole = _answers(octets, None, limits)
    assert _answers(octets, 1 + (choice >> 1), limits) == whole
    assert not whole or whole.endswith(b"\r\n")
    for line in whole.split(b"\r\n")[:-1]:
        assert line[:3] == b"+OK" or line[:4] == b"-ERR" or line[:2] == b"+ " or line in (b".", b"1 x"), line
        assert b"\n" not in line
        assert b"\r" not in line


def _answers(octets: bytes, step: int | None, limits: Limits) -> bytes:
    session = ServerSession(limits)
    session.greet(Text.READY, hostname="mail.example.test")
    return answered(session, octets, step, _answer)


def _answer(session: ServerSession, event: Event) -> None:
    match event:
        case command.Capa():
            session.ok(lines=["1 x"])
        case command.Auth(_, initial):
            session.challenge(b"") if initial is None else session.refuse(Text.UNKNOWN_MECHANISM, Code.AUTH)
        case Response(line):
            session.ok() if line.startswith(b"a") else session.refuse(Text.BAD_EXCHANGE, reason="x")
        case command.Pass(password):
            session.ok() if password == "p" else session.refuse(Text.LOGIN_FAILED, Code.AUTH)
        case command.Lang(str(language)):
            if (found := matching(language)) is None:
                session.refuse(Text.UNKNOWN_LANGUAGE)
            else:
                session.language = found
                session.ok(Text.LANGUAGE_CHANGED)
        case command.Stls():
            session.refuse(Text.NO_TLS)
        case command.List(None) | command.Uidl(None):
            session.ok(lines=["1 x"])
        case command.List(int(number)) | command.Uidl(int(number)) | command.Dele(number) | command.Retr(number):
            session.ok() if number < 10 else session.refuse(Text.NO_MESSAGE)
        case _:
            session.ok()


def pop3_message(octets: bytes) -> None:
    """A message is stuffed the same however it is cut, comes back, and has no line that ends it early; TOP alike."""
    if len(octets) < 2:
        return
    step, lines, octets = 1 + octets[0], octets[1], octets[2:]
    stuffing, top, top_whole = Stuffing(), TopCut(lines), TopCut(lines)
    pieces = cut(octets, step)
    stuffed = b"".join([stuffing.feed(piece) for piece in pieces]) + stuffing.end()
    assert stuffed == stuffed_message(octets)
    *before, last, nothing = stuffed.split(b"\n")  # as clients do that know bare LFs
    assert (last, nothing) == (b".\r", b"")
    assert b"." not in [line.removesuffix(b"\r") for line in before]
    if b"\n" not in octets.replace(b"\r\n", b""):
        assert (b"\r\n" + stuffed).replace(b"\r\n..", b"\r\n.")[2:].startswith(octets)
    wanted = b"".join([top.feed(piece) for piece in pieces])
    assert wanted == top_whole.feed(octets)
    assert octets.startswith(wanted)


def sasl(octets: bytes) -> None:
    """A mechanism takes any responses, and ends an exchange with nothing but SaslError."""
    if not octets:
        return
    name = mechanisms.MECHANISMS[octets[0] % len(mechanisms.MECHANISMS)]
    machine = mechanisms.mechanism(name, nonce=_NONCE, bindings=_BINDINGS if octets[0] & 128 else {})
    first, *responses = octets[1:].split(b"\n")
    with suppress(mechanisms.SaslError):
        mechanisms.decode_initial(first)
        mechanisms.decode_response(first)
    if machine is None:
        return
    with suppress(mechanisms.SaslError):
        for response in (first or None, *responses):
            outcome = machine.step(response)
            repr(outcome)
            if isinstance(outcome, mechanisms.Lookup):
                assert isinstance(machine, mechanisms.Scram)
                outcome = machine.supply(b"salt", 1, [_KEYS])
            if not isinstance(outcome, mechanisms.Challenge):
                return
            assert b"\n" not in mechanisms.encode_challenge(outcome)


def inflate(octets: bytes) -> None:
    """What comes in becomes no more than the limit, in pieces no larger than asked for, the same however it is cut."""
    whole = _inflated(octets, None)
    assert _inflated(octets, 300) == whole or len(octets) > 300
    sender = Deflate(_INFLATE_OCTETS)
    sent = sender.outgoing(octets)
    sender.rest()
    sent += sender.outgoing(octets)
    assert _inflated(sent, None) == (octets * 2, False)


def _inflated(octets: bytes, step: int | None) -> tuple[bytes, bool]:
    deflate, found = Deflate(_INFLATE_OCTETS), b""
    try:
        for block in cut(octets, step):
            if deflate.is_over:
                break
            deflate.give(block)
            size_octets = 0
            while piece := deflate.take(_PIECE_OCTETS):
                assert len(piece) <= _PIECE_OCTETS
                size_octets += len(piece)
                found += piece
            assert size_octets <= _INFLATE_OCTETS
    except CompressionError:
        return found, True
    return found, False
