"""Rewritten senders: every sender there and back, none that is forged, old or another domain's."""

import string

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from protocol.address import LOCAL_PART_LIMIT, AddrSpec, parse_addr_spec
from protocol.srs import (
    SrsError,
    SrsLengthError,
    Stored,
    is_rewritten,
    reversed_path,
    rewritten,
    rewritten_stored,
    token_of,
)

KEY, OTHER_KEY = b"k" * 32, b"o" * 32
HERE = "forwarder.example"
DAY = 20_000
LIFETIME = 21
ALICE = AddrSpec("Alice+tag", "example.net")

LOCAL_PARTS = st.one_of(
    st.text(string.ascii_letters + string.digits + "!#$%&'*+-/=?^_`{|}~. \"\\()<>[]:;@,", min_size=1, max_size=40),
    st.text(min_size=1, max_size=20).filter(lambda text: text.isprintable()),
    st.sampled_from(
        ["SRS0=abc=de=x.example=bob", "SRS1=abc=x.example==ab=cd=y.example=bob", "srs0+a", "SRS1=", "SRS1==="]
    ),
)
DOMAINS = st.sampled_from(
    ["example.net", "a.b.c.example", "xn--mller-kva.example", "[192.0.2.1]", "[IPv6:2001:db8::1]"]
)
SENDERS = st.builds(AddrSpec, LOCAL_PARTS, DOMAINS)


def back(address: AddrSpec, *, keys: tuple[bytes, ...] = (KEY,), day: int = DAY) -> AddrSpec | Stored:
    """The way back at HERE."""
    return reversed_path(address, keys, day, LIFETIME)


@given(SENDERS, st.integers(0, 100_000), st.integers(0, LIFETIME))
def test_every_sender_comes_back(sender: AddrSpec, day: int, age: int) -> None:
    """Whatever the sender, its bounce goes to it, or to the host that rewrote it first, until the last day."""
    try:
        address = rewritten(sender, HERE, KEY, day)
    except SrsLengthError:
        assume(False)
    assert address.domain == HERE
    assert len(address.local_part.encode()) <= LOCAL_PART_LIMIT
    assert is_rewritten(address.local_part)
    assert parse_addr_spec(str(address)) == address
    found = back(address, day=day + age)
    if address.local_part.startswith("SRS1"):
        assert isinstance(found, AddrSpec)
        assert found.local_part.startswith("SRS0")
    else:
        assert found == sender


@given(SENDERS, st.data())
def test_no_other_octet_comes_through(sender: AddrSpec, data: st.DataObject) -> None:
    """An address that was changed in any place, but for its case, is refused."""
    try:
        address = rewritten(sender, HERE, KEY, DAY)
    except SrsLengthError:
        assume(False)
    local_part = address.local_part
    place = data.draw(st.integers(5, len(local_part) - 1))
    other = data.draw(st.sampled_from("abcxyz=+.7"))
    assume(other != local_part[place].lower())
    forged = AddrSpec(local_part[:place] + other + local_part[place + 1 :], HERE)
    with pytest.raises(SrsError):
        back(forged)


@given(st.text(max_size=64))
def test_any_text_is_refused(text: str) -> None:
    """Nobody without the key has an address of ours, and nothing else than SrsError is raised."""
    for prefix in ("", "SRS0=", "SRS1=", "srs0+", "SRS0=aaaaaa=aa=", "SRS1=aaaaaa=b.example="):
        with pytest.raises(SrsError):
            back(AddrSpec(prefix + text, HERE))


def test_the_forms() -> None:
    """SRS0 holds hash, day, domain and local part; a second host makes SRS1 of it; a third one keeps the first one's name."""
    first = rewritten(ALICE, "one.example", KEY, DAY)
    assert first.local_part.split("=", 3)[3] == "example.net=Alice+tag"
    second = rewritten(first, "two.example", KEY, DAY)
    assert second.local_part.startswith("SRS1=")
    assert second.local_part.endswith("=one.example=" + first.local_part[4:])
    third = rewritten(second, "three.example", OTHER_KEY, DAY)
    assert third.local_part.endswith("=one.example=" + first.local_part[4:])
    assert reversed_path(third, [OTHER_KEY], DAY, LIFETIME) == first  # straight to the first, past the second
    assert reversed_path(second, [KEY], DAY, LIFETIME) == first
    assert reversed_path(first, [KEY], DAY, LIFETIME) == ALICE


@pytest.mark.parametrize("case", [str.lower, str.upper, str.swapcase])
def test_case_does_not_matter(case: type[str]) -> None:
    """A host on the way that changes case, as it must not (RFC 5321 §2.4), breaks nothing."""
    address = rewritten(AddrSpec("bob", "example.net"), HERE, KEY, DAY)
    found = back(AddrSpec(case(address.local_part), case(HERE)))
    assert isinstance(found, AddrSpec)
    assert str(found).lower() == "bob@example.net"


def test_an_address_ends() -> None:
    """It is taken for its lifetime and not a day longer, however the count of days wraps; a clock may be a day behind."""
    for day in (DAY, 1023, 1024, 2047):
        address = rewritten(ALICE, HERE, KEY, day)
        for age in (-1, 0, LIFETIME):
            assert back(address, day=day + age) == ALICE
        for age in (-2, LIFETIME + 1, 500, 1000):
            with pytest.raises(SrsError, match="expired"):
                back(address, day=day + age)


def test_keys_rotate() -> None:
    """An address verifies with any key that is still known, and with no other."""
    address = rewritten(ALICE, HERE, KEY, DAY)
    assert back(address, keys=(OTHER_KEY, KEY)) == ALICE
    for keys in ((OTHER_KEY,), ()):
        with pytest.raises(SrsError, match="forged"):
            back(address, keys=keys)


def test_an_address_is_of_one_domain() -> None:
    """What one of our domains rewrote is nothing at another one."""
    address = rewritten(ALICE, HERE, KEY, DAY)
    with pytest.raises(SrsError):
        back(AddrSpec(address.local_part, "other.example"))


def test_what_does_not_fit_is_stored() -> None:
    """RFC 5321 §4.5.3.1.1: a sender that would make the local part longer than 64 octets goes by a token, which nobody guesses."""
    sender = AddrSpec("bounces+1234567-abcd-user=example.com", "em1234.mailing.example.org")
    with pytest.raises(SrsLengthError):
        rewritten(sender, HERE, KEY, DAY)
    token = token_of(sender, KEY)
    assert token == token_of(sender, KEY)
    assert token != token_of(sender, OTHER_KEY)
    address = rewritten_stored(token, HERE, KEY, DAY)
    assert back(AddrSpec(address.local_part.upper(), HERE)) == Stored(token)
    with pytest.raises(SrsError):
        back(AddrSpec(address.local_part[:-1] + ("a" if address.local_part[-1] != "a" else "b"), HERE))
