"""The Date field, RFC 5322 §3.3 with the obsolete forms of §4.3: octets in, an aware datetime out.

Tolerant of what mail really carries: missing weekday, commas, seconds or zone, comments, long month names, ISO 8601.
A date that does not exist gives None; nothing here knows what time it is now.
"""

import re
from datetime import UTC, datetime, timedelta, timezone
from functools import lru_cache

_MONTHS = {
    name: number
    for number, name in enumerate(
        (b"jan", b"feb", b"mar", b"apr", b"may", b"jun", b"jul", b"aug", b"sep", b"oct", b"nov", b"dec"), start=1
    )
}
# RFC 5322 §4.3: these have a meaning; other letters, the military ones among them, are -0000, which is UTC to us.
_ZONES = {b"edt": -4, b"est": -5, b"cdt": -5, b"cst": -6, b"mdt": -6, b"mst": -7, b"pdt": -7, b"pst": -8}
_ZONES |= {b"cet": 1, b"mez": 1, b"met": 1, b"cest": 2, b"mesz": 2, b"mest": 2, b"bst": 1, b"eet": 2, b"eest": 3}
_ZONES |= {b"msk": 3, b"jst": 9, b"kst": 9}  # not in the RFC, yet old mail of those places carries them

_MAX_OCTETS = 256  # of a Date field; the rest is not looked at
_COMMENT = re.compile(rb"\([^()]*\)")
_DATE_TIME = re.compile(
    rb"(?:[A-Za-z]+[.,]?\s*,?\s*)?(\d{1,2})[\s\-./]+([A-Za-z]{3})[A-Za-z]*[.,]?[\s\-./]+(\d{2,4}),?\s+"
    rb"(\d{1,2})[:.](\d{2})(?:[:.](\d{2})(?:[.,]\d+)?)?\s*(?:([AaPp])[Mm]\b)?\s*(?:GMT|UTC?)?([+-]\d{1,2}:?\d{2}|[A-Za-z]+)?"
)
# Thu Feb  5 17:45:00 2004, with a zone in front of the year or behind it: what ctime() prints.
_CTIME = re.compile(
    rb"(?:[A-Za-z]{3,9},?\s+)?([A-Za-z]{3})[a-z]*\s+(\d{1,2}),?\s+(\d{1,2}):(\d{2})(?::(\d{2}))?\s+"
    rb"(?:([A-Za-z]{1,5}|[+-]\d{4})\s+)?(\d{4})(?:\s+([+-]\d{4}|[A-Za-z]{1,5}))?"
)
_ISO = re.compile(rb"(\d{4})-(\d{2})-(\d{2})(?:[T\s]+(\d{2}):(\d{2})(?::(\d{2})(?:\.\d+)?)?\s*(Z|[+-]\d{2}:?\d{2})?)?")


def parse(value: bytes) -> datetime | None:
    """Parse the body of a Date field. None when it names no point in time."""
    text = _COMMENT.sub(b" ", value[:_MAX_OCTETS]).strip()
    if match := _DATE_TIME.match(text):
        day, month, year, hour, minute, second, half, zone = match.groups()
        return _at(year, _MONTHS.get(month.lower()), day, _half_day(hour, half), minute, second, zone)
    if match := _CTIME.match(text):
        month, day, hour, minute, second, early_zone, year, zone = match.groups()
        return _at(year, _MONTHS.get(month.lower()), day, int(hour), minute, second, zone or early_zone)
    if match := _ISO.match(text):
        year, month, day, hour, minute, second, zone = match.groups()
        return _at(year, int(month), day, int(hour or 0), minute, second, zone)
    return None


def _half_day(hour: bytes, half: bytes | None) -> int:
    """The hour of a 24-hour clock."""
    if half is None:
        return int(hour)
    return int(hour) % 12 + (12 if half in b"Pp" else 0)


def _at(
    year: bytes,
    month: int | None,
    day: bytes,
    hour: int,
    minute: bytes | None,
    second: bytes | None,
    zone: bytes | None,
) -> datetime | None:
    if month is None:
        return None
    try:
        return datetime(_year(year), month, int(day), hour, int(minute or 0), min(int(second or 0), 59), 0, _zone(zone))
    except ValueError:  # 31 Feb, hour 25, year 0
        return None


def _year(digits: bytes) -> int:
    """Two digits mean 1950 to 2049, three 1900 and more: RFC 5322 §4.3."""
    year = int(digits)
    if len(digits) == 2:
        return year + (2000 if year < 50 else 1900)
    return year + 1900 if len(digits) == 3 else year


@lru_cache(maxsize=64)
def _zone(zone: bytes | None) -> timezone:
    """A zone offset or name; what is unknown or out of range is UTC. A leap second is the second before it."""
    if zone is None:
        return UTC
    if zone[0] in b"+-":
        digits = zone[1:].replace(b":", b"").rjust(4, b"0")
        minutes = int(digits[:2]) * 60 + int(digits[2:])
        if minutes >= 24 * 60:
            return UTC
        return timezone(timedelta(minutes=-minutes if zone[0] == 45 else minutes))
    return timezone(timedelta(hours=_ZONES.get(zone.lower(), 0)))
