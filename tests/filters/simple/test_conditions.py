"""Conditions in words: what they mean to whom mail comes, and that they can be read again."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from filters.simple.conditions import WordsError, parse, spell
from filters.simple.settings import Attachment, Body, Condition, Contact, Fax, Header, Size
from tests.filters.sieve.running import AROUND, Outside
from tests.filters.simple.running import acts

MAIL = (
    b"From: =?utf-8?q?J=C3=BCrgen?= Boss <Boss@Example.org>\r\nTo: Team <team@example.test>\r\nCc: x@other.test\r\n"
    b"Subject: Ihre =?utf-8?q?RECHNUNG_f=C3=BCr?= ${monat} (a*b)\r\nX-Prio: 1\r\nMIME-Version: 1.0\r\n"
    b'Content-Type: multipart/mixed; boundary="x"\r\n\r\n--x\r\nContent-Type: text/html\r\n\r\n'
    b"<p>Please <b>pay</b> now, \xc3\x84nne</p>\r\n"
    b'--x\r\nContent-Type: application/pdf\r\nContent-Disposition: attachment; filename="a.pdf"\r\n\r\nabc\r\n--x--\r\n'
)
FAX = b"From: gateway@fax.test\r\nSubject: Fax from 0209 123456\r\n\r\n"

TEXTS = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=20)
NAMES = st.from_regex(r"[!-9;-~]{1,20}", fullmatch=True)


@pytest.mark.parametrize(
    ("words", "holds"),
    [
        ("from is boss@example.org", True),
        ("from is boss", False),
        ("from contains boss", True),
        ("from contains JÜRGEN", True),
        ("from matches *@example.org", True),
        ("from matches *@example", False),
        ("not from is nobody@example.org or boss@example.org", False),
        ("to is x@other.test", False),
        ("recipient is x@other.test", True),
        ("recipient matches *@example.test or *@nowhere.test", True),
        ("recipient exists", True),
        ("cc exists", True),
        ("reply-to exists", False),
        ("subject contains rechnung FÜR", True),
        ("subject contains rechnung fur", False),
        ('subject contains "${monat}"', True),
        ("subject contains a*b", True),
        (r"subject matches *(a\*b)", True),
        (r"subject matches *(a\*c)", False),
        ("subject is Ihre", False),
        ("header X-Prio is 1", True),
        ("header X-Prio is 2", False),
        ("header X-Other exists", False),
        ("body contains pay now", True),
        ("body contains änne", True),
        ("body contains <b>", False),
        ("size over 100", True),
        ("size over 1M", False),
        ("size under 1M", True),
        ("attachment", True),
        ("contact", True),
        ("not contact", False),
        ("fax", False),
    ],
)
def test_what_they_mean(words: str, *, holds: bool) -> None:
    """Case does not matter, of any letter; addresses are compared as addresses, texts as they read."""
    outside = Outside(lists={":addrbook:default": {"Boss@Example.org"}})
    assert acts(words, MAIL, outside=outside) is holds


def test_a_fax() -> None:
    """A fax has the subject that the host says, and comes from its gateways if it says which."""
    assert acts("fax", FAX)
    assert not acts("fax", FAX.replace(b"Fax from", b"A fax from"))
    gateway = replace(AROUND, envelope=replace(AROUND.envelope, reverse_path="gateway@fax.test"))
    assert acts("fax", FAX, around=gateway, fax_senders=["gateway@fax.test"])
    assert not acts("fax", FAX, fax_senders=["gateway@fax.test"])


@pytest.mark.parametrize("words", ["attachment", "body contains pay", "subject contains a"])
def test_mail_without_any(words: str) -> None:
    """An empty message has none of it."""
    assert not acts(words, b"\r\n")


CONDITIONS = st.one_of(
    st.builds(
        Header,
        field=NAMES,
        match=st.sampled_from(["contains", "is", "matches"]),
        values=st.lists(TEXTS, min_size=1, max_size=3).map(tuple),
        is_not=st.booleans(),
    ),
    st.builds(Header, field=NAMES, match=st.just("exists"), is_not=st.booleans()),
    st.builds(Body, values=st.lists(TEXTS, min_size=1, max_size=3).map(tuple), is_not=st.booleans()),
    st.builds(Size, over=st.booleans(), octets=st.integers(1, 1 << 31), is_not=st.booleans()),
    *(st.builds(kind, is_not=st.booleans()) for kind in (Attachment, Contact, Fax)),
)


@given(CONDITIONS)
def test_words_and_conditions(condition: Condition) -> None:
    """The words of any condition are read as the same condition."""
    assert parse(spell(condition)) == condition


@given(
    st.text(max_size=60)
    | st.lists(st.sampled_from(["not", "from", "header", "size", "over", "or", "is", '"a"', "x", '"', "5M", "\\"])).map(
        " ".join
    )
)
def test_any_words(text: str) -> None:
    """Any text is a condition, or refused as one."""
    try:
        condition = parse(text)
    except WordsError:
        return
    assert parse(spell(condition)) == condition
