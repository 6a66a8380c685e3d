"""Dates: RFC 5260."""

import re
from collections.abc import Callable
from datetime import datetime, timedelta, timezone

from filters.sieve.building import Builder
from filters.sieve.conditions import indexed
from filters.sieve.state import Check, Run, ScriptError
from protocol.message import dates
from protocol.sieve.syntax import Argument
from protocol.sieve.validation import Node

_ZONE = re.compile(r"([+-])([0-9]{2})([0-5][0-9])")
_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_JULIAN_OF_ORDINAL = -678_576  # Modified Julian Day of the day before 0001-01-01

_PARTS: dict[str, Callable[[datetime], str]] = {
    "year": lambda moment: f"{moment.year:04d}",
    "month": lambda moment: f"{moment.month:02d}",
    "day": lambda moment: f"{moment.day:02d}",
    "date": lambda moment: f"{moment:%Y-%m-%d}" if moment.year > 999 else f"{moment.date().isoformat()}",
    "julian": lambda moment: str(moment.toordinal() + _JULIAN_OF_ORDINAL),
    "hour": lambda moment: f"{moment.hour:02d}",
    "minute": lambda moment: f"{moment.minute:02d}",
    "second": lambda moment: f"{moment.second:02d}",
    "time": lambda moment: f"{moment:%H:%M:%S}",
    "iso8601": lambda moment: f"{moment.date().isoformat()}T{moment:%H:%M:%S}{_zone(moment, ':')}",
    "std11": lambda moment: (
        f"{_DAYS[moment.weekday()]}, {moment.day:02d} {_MONTHS[moment.month - 1]} {moment.year:04d} "
        f"{moment:%H:%M:%S} {_zone(moment)}"
    ),
    "zone": lambda moment: _zone(moment),
    "weekday": lambda moment: str((moment.weekday() + 1) % 7),  # 0 is Sunday
}


def _zone(moment: datetime, colon: str = "") -> str:
    minutes = int((moment.utcoffset() or timedelta()).total_seconds()) // 60
    sign = "-" if minutes < 0 else "+"
    return f"{sign}{abs(minutes) // 60:02d}{colon}{abs(minutes) % 60:02d}"


def parse_zone(text: str) -> timezone | None:
    """The zone of `+0100`, or None."""
    found = _ZONE.fullmatch(text)
    if found is None:
        return None
    minutes = int(found[2]) * 60 + int(found[3])
    return timezone(timedelta(minutes=-minutes if found[1] == "-" else minutes)) if minutes < 24 * 60 else None


def _zone_of(builder: Builder, node: Node) -> Callable[[Run, datetime], datetime]:
    """How :zone and :originalzone show a moment; without them it is in the zone of this host, RFC 5260 §4.1."""
    if "originalzone" in node.options:
        return lambda run, moment: moment
    argument = node.options.get("zone")
    if argument is None:
        return lambda run, moment: moment.astimezone(run.shared.now.tzinfo)
    constant = builder.constant(argument)
    if constant is not None and parse_zone(constant) is None:
        raise builder.fault(argument.place, f"invalid time zone '{constant}'")
    text = builder.text(argument)

    def shown(run: Run, moment: datetime) -> datetime:
        zone = parse_zone(text(run))
        if zone is None:
            raise ScriptError("invalid time zone")
        return moment.astimezone(zone)

    return shown


def _part_of(builder: Builder, argument: Argument | None) -> Callable[[Run, datetime], list[str]]:
    constant = builder.constant(argument)
    if argument is not None and constant is not None and constant.lower() not in _PARTS:
        raise builder.fault(argument.place, f"unknown date part '{constant}'")
    text = builder.text(argument)

    def read(run: Run, moment: datetime) -> list[str]:
        part = _PARTS.get(text(run).lower())
        return [] if part is None else [part(moment)]

    return read


def date(builder: Builder, node: Node) -> Check:
    """`date`, RFC 5260 §4: the date is the last one of the field's body that reads as one (Received has it behind its ;)."""
    name, part = builder.text(node.positional[0]), _part_of(builder, node.positional[1])
    shown, pick = _zone_of(builder, node), indexed(builder, node)
    matches = builder.matcher(node, node.positional[2])

    def check(run: Run) -> bool:
        bodies = [body.decode("utf-8", "surrogateescape") for body in run.shared.message.view.bodies(name(run))]
        values: list[str] = []
        for body in bodies[:1] if pick is None else pick(bodies):
            moment = _moment(body)
            if moment is not None:
                values.extend(part(run, shown(run, moment)))
        return matches(run, values)

    return check


def _moment(body: str) -> datetime | None:
    text = body.rpartition(";")[2].strip()
    try:
        found = dates.parse(text.encode("utf-8", "surrogateescape"))
        if found is not None:
            found.astimezone(timezone(timedelta(hours=14)))  # not representable at the ends of the calendar
            found.astimezone(timezone(timedelta(hours=-14)))
    except OverflowError:
        return None
    return found


def currentdate(builder: Builder, node: Node) -> Check:
    """`currentdate`, RFC 5260 §5."""
    part, shown = _part_of(builder, node.positional[0]), _zone_of(builder, node)
    matches = builder.matcher(node, node.positional[1])
    return lambda run: matches(run, part(run, shown(run, run.shared.now)))


TESTS = {"date": date, "currentdate": currentdate}
