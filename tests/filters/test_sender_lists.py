"""Lists of senders: what may be listed, what fits, and which entry decides."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from filters.sender_lists import Entry, Identity, PatternError, SenderList, normal


def standing(entries: list[tuple[str, str, bool]], *addresses: str, peer: str = "198.51.100.9") -> str | None:
    """What these entries (pattern, standing, of the account itself) make of a sender who is proven."""
    listed = SenderList(Entry(normal(pattern), said, own) for pattern, said, own in entries)  # type: ignore[arg-type]
    match = listed.judge(peer, [Identity(address, is_proven=True) for address in addresses])
    return None if match is None else match.standing


@pytest.mark.parametrize(
    ("pattern", "fits", "fits_not"),
    [
        ("Bob@Example.NET", ["bob@example.net"], ["bob@sub.example.net", "bobby@example.net", "xbob@example.net"]),
        ("example.net", ["a@example.net", "a@b.example.net", "a@c.b.example.net"], ["a@badexample.net", "a@net"]),
        ("*.example.net", ["a@b.example.net", "a@c.b.example.net"], ["a@example.net", "a@badexample.net"]),
        ("*@example.net", ["a@example.net"], ["a@b.example.net"]),
        (
            "news-*@example.net",
            ["news-1@example.net", "news-@example.net"],
            ["news@example.net", "xnews-1@example.net"],
        ),
        ("*casino*@*", ["best-casino-1@z.example"], ["bob@casino.example"]),
        ("*@*.top", ["a@b.top", "a@c.b.top"], ["a@top", "a@b.topp"]),
        ("bücher.example", ["a@xn--bcher-kva.example"], ["a@bucher.example"]),
    ],
)
def test_what_a_pattern_fits(pattern: str, fits: list[str], fits_not: list[str]) -> None:
    """Addresses, domains and wildcards fit what they say, and nothing that only looks like it."""
    for address in fits:
        assert standing([(pattern, "blocked", True)], address) == "blocked", address
    for address in fits_not:
        assert standing([(pattern, "blocked", True)], address) is None, address


@pytest.mark.parametrize("network", ["198.51.100.9", "198.51.100.0/24", "198.51.100.77/24"])
@pytest.mark.parametrize("peer", ["198.51.100.9", "::ffff:198.51.100.9"])
def test_a_network_fits_its_hosts(network: str, peer: str) -> None:
    """A network fits the host that brings the mail, in whatever form its address is told."""
    assert standing([(network, "blocked", False)], peer=peer) == "blocked"
    assert standing([(network, "blocked", False)], peer="198.51.101.9") is None
    assert standing([("2001:db8::/32", "blocked", False)], peer="2001:db8:1::5") == "blocked"
    assert standing([(network, "blocked", False)], peer="") is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "*",
        "*@*",
        "bob@",
        "@",
        "bob",
        "example..net",
        "0.0.0.0/0",
        "::/0",
        "a b@example.net*",
        "x" * 400,
        "a@b@c.example",
    ],
)
def test_what_is_no_pattern(text: str) -> None:
    """What fits everything, nothing, or makes no sense cannot be listed."""
    with pytest.raises(PatternError):
        normal(text)


@pytest.mark.parametrize(
    ("text", "pattern"),
    [
        ("192.0.2.7/24", "192.0.2.0/24"),
        ("192.0.2.7/32", "192.0.2.7"),
        ("2001:DB8:0::1", "2001:db8::1"),
        ("Bob@EXAMPLE.net", "bob@example.net"),
        ("*.Bücher.example", "*.xn--bcher-kva.example"),
        (" News-*@Bücher.example ", "news-*@xn--bcher-kva.example"),
    ],
)
def test_normal_forms(text: str, pattern: str) -> None:
    """However it is written, the same pattern is stored: it is there once, and found again to be removed."""
    assert normal(text) == pattern


@given(st.text(max_size=60))
def test_any_text_is_a_pattern_in_its_normal_form_or_none(text: str) -> None:
    """Whatever is given, it is refused, or its normal form stays as it is."""
    try:
        pattern = normal(text)
    except PatternError:
        return
    assert normal(pattern) == pattern
    SenderList([Entry(pattern, "blocked", is_own=True)]).judge("192.0.2.1", [Identity("a@b.example", is_proven=True)])


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        ([("example.net", "blocked", True), ("bob@example.net", "allowed", True)], "allowed"),
        ([("example.net", "allowed", True), ("bob@example.net", "blocked", True)], "blocked"),
        ([("bob@example.net", "blocked", False), ("example.net", "allowed", True)], "allowed"),
        ([("bob@example.net", "allowed", False), ("198.51.100.0/24", "blocked", True)], "blocked"),
        ([("198.51.100.0/24", "blocked", True), ("198.51.100.9", "allowed", True)], "allowed"),
        ([("*@example.net", "blocked", True), ("b*@example.net", "allowed", True)], "allowed"),
    ],
)
def test_the_more_exact_entry_decides(entries: list[tuple[str, str, bool]], expected: str) -> None:
    """The account's own entries go before the tenant's, and the more exact one before the others."""
    assert standing(entries, "bob@example.net") == expected
    assert standing(entries[::-1], "bob@example.net") == expected


def test_at_equal_terms_the_sender_is_allowed() -> None:
    """An author who is allowed is heard although the envelope's sender is blocked in the same way."""
    entries = [("bounces@lists.example", "blocked", True), ("friend1@home.example", "allowed", True)]
    assert standing(entries, "bounces@lists.example", "friend1@home.example") == "blocked"  # longer
    entries = [("bounces@l.example", "blocked", True), ("friend1@h.example", "allowed", True)]
    assert standing(entries, "bounces@l.example", "friend1@h.example") == "allowed"


def test_a_name_that_is_not_proven_allows_nothing() -> None:
    """Anybody can write an allowed name; being blocked needs no proof."""
    listed = SenderList([Entry("bob@example.net", "allowed", is_own=True), Entry("net", "blocked", is_own=False)])
    match = listed.judge("192.0.2.1", [Identity("bob@example.net", is_proven=False)])
    assert match is not None
    assert match.standing == "blocked"
    assert listed.may_allow(match)
