"""Dates of header fields."""

from datetime import datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.message.dates import parse


@pytest.mark.parametrize(
    ("value", "moment"),
    [
        ("Fri, 21 Nov 1997 09:55:06 -0600", "1997-11-21T09:55:06-06:00"),
        ("1 Jan 2024 00:00 +0000", "2024-01-01T00:00:00+00:00"),
        (
            "Thu,\r\n      13\r\n        Feb\r\n          1969\r\n      23:32\r\n               -0330 (Newfoundland Time)",
            "1969-02-13T23:32:00-03:30",
        ),
        ("21 Nov 97 09:55:06 GMT", "1997-11-21T09:55:06+00:00"),
        ("Fri, 21 Nov 1997 09(comment):   55  :  06 -0600", None),
        ("Tue, 1 Jul 03 10:52:37 EST", "2003-07-01T10:52:37-05:00"),
        ("Wed, 02 Oct 102 11:00:00 PDT", "2002-10-02T11:00:00-07:00"),
        ("Mon, 6 Jan 2020 7:05:09 Z", "2020-01-06T07:05:09+00:00"),
        ("Mon, 06 Jan 2020 07:05:09 GMT+0200", "2020-01-06T07:05:09+02:00"),
        ("Monday, January 6, 2020", None),
        ("Sat, 31 Dec 2016 23:59:60 +0000", "2016-12-31T23:59:59+00:00"),
        ("Thu Feb  5 17:45:00 2004", "2004-02-05T17:45:00+00:00"),
        ("Thu Feb  5 17:45:00 CET 2004", "2004-02-05T17:45:00+01:00"),
        ("Fri, 13-Jan-2012 10:00:00 +0100", "2012-01-13T10:00:00+01:00"),
        ("2020-03-04 05:06:07 +0100", "2020-03-04T05:06:07+01:00"),
        ("2020-03-04T05:06:07Z", "2020-03-04T05:06:07+00:00"),
        ("Mon, 6 Jan 2020 1:05:09 PM -0800", "2020-01-06T13:05:09-08:00"),
        ("Mon, 6 Jan 2020 07:05:09 +9999", "2020-01-06T07:05:09+00:00"),
        ("Mon, 31 Feb 2020 07:05:09 +0000", None),
        ("Mon, 6 Foo 2020 07:05:09 +0000", None),
        ("Mon, 6 Jan 2020 25:05:09 +0000", None),
        ("yesterday", None),
        ("", None),
    ],
)
def test_dates(value: str, moment: str | None) -> None:
    """A Date field gives the point in time it names, or None."""
    found = parse(value.replace("\r\n", "").encode())
    assert found == (None if moment is None else datetime.fromisoformat(moment))
    if found is not None and moment is not None:
        assert found.utcoffset() == datetime.fromisoformat(moment).utcoffset()


@settings(deadline=None)
@given(st.datetimes(datetime(1950, 1, 1), datetime(9000, 1, 1)), st.integers(-14 * 60, 14 * 60))
def test_what_is_written_by_the_grammar_reads_back(local: datetime, zone_minutes: int) -> None:
    """A date in the form of RFC 5322 §3.3 reads back to the second."""
    zone = f"{'-' if zone_minutes < 0 else '+'}{abs(zone_minutes) // 60:02}{abs(zone_minutes) % 60:02}"
    found = parse(f"{local:%a, %d %b}  {local.year:04} {local:%H:%M:%S} {zone}".encode())
    assert found is not None
    assert found.replace(tzinfo=None) == local.replace(microsecond=0)
    assert found.utcoffset() == timedelta(minutes=zone_minutes)


@settings(deadline=None)
@given(st.binary(max_size=80) | st.text("0123456789 :+-,.JanFeb/TZ()", max_size=60).map(str.encode))
def test_any_octets_give_an_aware_date_or_none(value: bytes) -> None:
    """Any octets give None or an aware datetime."""
    found = parse(value)
    assert found is None or found.tzinfo is not None
