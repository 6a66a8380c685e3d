"""Dates of SEARCH and APPEND, and INTERNALDATE's form, RFC 3501 §9 "date", "date-time"."""

import re
from datetime import UTC, date, datetime, timedelta, timezone

from protocol.imap.cursor import Cursor

MONTHS = (b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec")

_MONTH_NUMBERS = {name.upper(): number for number, name in enumerate(MONTHS, start=1)}
_MONTH_NAMES = tuple(name.decode() for name in MONTHS)
_DATE = re.compile(rb'("?)([0-9]{1,2})-([A-Za-z]{3})-([0-9]{4})\1')
_DATE_TIME = re.compile(
    rb'"( [0-9]|[0-9]{1,2})-([A-Za-z]{3})-([0-9]{4}) ([0-9]{2}):([0-9]{2}):([0-9]{2}) ([+-])([0-9]{2})([0-9]{2})"'
)


# date      = date-text / DQUOTE date-text DQUOTE
# date-text = date-day "-" date-month "-" date-year
def expect_date(cursor: Cursor) -> date:
    """A day, without a zone."""
    found = _DATE.match(cursor.octets, cursor.position)
    if found is None:
        cursor.fail("a date")
    try:
        day = date(int(found[4]), _MONTH_NUMBERS.get(found[3].upper(), 0), int(found[2]))
    except ValueError:
        cursor.fail("a date")
    cursor.position = found.end()
    return day


# date-time      = DQUOTE date-day-fixed "-" date-month "-" date-year SP time SP zone DQUOTE
# date-day-fixed = (SP DIGIT) / 2DIGIT
def take_date_time(cursor: Cursor) -> datetime | None:
    """A moment, in UTC; None if no quoted string is next.

    A single digit without the space before it is taken too: there is nothing else it could mean. The leap second :60 is
    taken as :59.
    """
    if not cursor.is_next(b'"'):
        return None
    found = _DATE_TIME.match(cursor.octets, cursor.position)
    if found is None or (cursor.is_strict and len(found[1]) != 2):
        cursor.fail("a date-time")
    sign = -1 if found[7] == b"-" else 1
    offset = sign * timedelta(hours=int(found[8]), minutes=int(found[9]))
    second = min(int(found[6]), 59) if found[6] == b"60" else int(found[6])
    try:
        moment = datetime(
            int(found[3]),
            _MONTH_NUMBERS.get(found[2].upper(), 0),
            int(found[1]),
            int(found[4]),
            int(found[5]),
            second,
            tzinfo=timezone(offset),
        ).astimezone(UTC)
    except (ValueError, OverflowError):
        cursor.fail("a date-time")
    cursor.position = found.end()
    return moment


def render_date_time(moment: datetime) -> bytes:
    """`"17-Jul-1996 02:44:25 -0700"`, quotes included; `moment` is aware and keeps its zone."""
    offset = moment.utcoffset()
    zone = "+0000"
    if offset:
        minutes = round(offset.total_seconds() / 60)
        sign = "-" if minutes < 0 else "+"
        zone = f"{sign}{abs(minutes) // 60:02d}{abs(minutes) % 60:02d}"
    return (
        f'"{moment.day:2d}-{_MONTH_NAMES[moment.month - 1]}-{moment.year:04d} '
        f'{moment.hour:02d}:{moment.minute:02d}:{moment.second:02d} {zone}"'
    ).encode("ascii")
