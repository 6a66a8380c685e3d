"""Feeding a CommandReader as the tests of this directory do: every row whole, octet by octet, and with more behind it."""

from protocol.imap.command import Authenticate, Idle, Noop
from protocol.imap.events import AppendLiteral, AppendOctets, AppendStarts
from protocol.imap.limits import Limits
from protocol.imap.reader import CommandReader, Event
from tests.feeding import cut

STEPS = [None, 1, 3]
TRAILING = b"zz NOOP\r\n"
SMALL = Limits(
    line_octets=120, literal_octets=30, command_octets=200, append_octets=40, discard_octets=100,
    nesting=5, section_parts=5, list_items=8, set_ranges=5,
)  # fmt: skip


def drain(reader: CommandReader, octets: bytes, *, accepts: bool = True) -> list[Event]:
    """What one receive() and the empty ones behind it give, APPEND accepted or refused where it is asked for."""
    found: list[Event] = []
    events = reader.receive(octets)
    while events:
        found += events
        if isinstance(events[-1], AppendStarts | AppendLiteral):
            (reader.accept if accepts else reader.refuse)()
        events = reader.receive(b"")
    return found


def read(
    octets: bytes,
    *,
    step: int | None = None,
    limits: Limits | None = None,
    is_strict: bool = False,
    accepts: bool = True,
) -> list[Event]:
    """All events of a new reader for these octets; AppendOctets that follow each other are joined."""
    reader = CommandReader(limits, is_strict=is_strict)
    found: list[Event] = []
    for piece in cut(octets, step):
        for event in drain(reader, piece, accepts=accepts):
            if isinstance(event, AppendOctets) and found and isinstance(found[-1], AppendOctets):
                found[-1] = AppendOctets(found[-1].octets + event.octets)
            else:
                found.append(event)
    return found


def read_three_ways(octets: bytes, *, limits: Limits | None = None, is_strict: bool = False) -> list[Event]:
    """The events of the octets, which must be the same however they are cut, and with another command behind them."""
    whole = read(octets, limits=limits, is_strict=is_strict)
    for step in STEPS[1:]:
        assert read(octets, step=step, limits=limits, is_strict=is_strict) == whole
    assert read(octets + TRAILING, limits=limits, is_strict=is_strict) == [*whole, Noop(b"zz")]
    return whole


def answered(octets: bytes, step: int | None, limits: Limits, *, is_strict: bool, accepts: bool) -> list[Event]:
    """A session that answers everything: APPEND by `accepts`, IDLE and AUTHENTICATE by asking for a line.

    It keeps no more octets than the limits allow.
    """
    reader = CommandReader(limits, is_strict=is_strict)
    kept_most = max(limits.line_octets + 1, limits.literal_octets)
    found: list[Event] = []
    for piece in cut(octets, step):
        events = reader.receive(piece)
        while events:
            for event in events:
                if isinstance(event, AppendOctets) and found and isinstance(found[-1], AppendOctets):
                    found[-1] = AppendOctets(found[-1].octets + event.octets)
                else:
                    found.append(event)
            if isinstance(events[-1], AppendStarts | AppendLiteral):
                (reader.accept if accepts else reader.refuse)()
            elif isinstance(events[-1], Idle | Authenticate):
                reader.expect_line()
            events = reader.receive(b"")
        assert reader.buffered_octets <= kept_most
    return found
