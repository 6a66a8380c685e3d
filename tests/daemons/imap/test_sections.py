"""Fields picked from what was kept at intake."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemons.access.imap.sections import fields_of
from protocol.message.header import CACHED_FIELDS, cached, read, select_fields
from tests.mails import MAILS, as_sent

NAMES = st.frozensets(st.sampled_from(sorted(CACHED_FIELDS)))
LINES = st.sampled_from(
    [*sorted(CACHED_FIELDS), b"X-Other", b"from", b"DATE", b" folded", b"\tmore", b"To :", b":", b"\r"]
)
HEADERS = st.lists(st.tuples(LINES, st.sampled_from([b": x", b":", b"", b":\n y"]), st.sampled_from([b"\r\n", b"\n"])))


@given(HEADERS, NAMES)
def test_any_fields_of_any_header(lines: list[tuple[bytes, bytes, bytes]], names: frozenset[bytes]) -> None:
    """However few or many names are asked for, the answer is what looking through the header field by field gives."""
    cache = cached(read(b"".join(b"".join(line) for line in lines)))
    assert fields_of(names)(cache) == select_fields(cache, names)


@pytest.mark.parametrize(
    "names", [{b"SUBJECT"}, {b"FROM", b"TO", b"DATE", b"CC"}, CACHED_FIELDS - {b"SUBJECT", b"LINES"}, CACHED_FIELDS]
)
def test_mails_of_the_corpora(names: frozenset[bytes]) -> None:
    """The same for every mail of the corpora."""
    select = fields_of(frozenset(names))
    for octets in map(as_sent, MAILS):
        cache = cached(read(octets.partition(b"\r\n\r\n")[0]))
        assert select(cache) == select_fields(cache, frozenset(names))
