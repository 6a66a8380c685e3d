"""Address lists: RFC 5322 §3.4 and Appendix A, and what mail carries instead."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.message.address_list import GROUP_END, MAX_ADDRESSES, Address, parse


def mailbox(local_part: str, host: str, name: str | None = None, route: str | None = None) -> Address:
    return Address(_octets(name), _octets(route), local_part.encode(), host.encode())


def _octets(text: str | None) -> bytes | None:
    return None if text is None else text.encode()


def group(name: str) -> Address:
    return Address(None, None, name.encode(), None)


@pytest.mark.parametrize(
    ("value", "addresses"),
    [
        ("", []),
        ("john@example.com", [mailbox("john", "example.com")]),
        ("John Doe <jdoe@machine.example>", [mailbox("jdoe", "machine.example", "John Doe")]),
        ('"Joe Q. Public" <john.q@example.com>', [mailbox("john.q", "example.com", "Joe Q. Public")]),
        ('"Giant; \\"Big\\" Box" <b@example.net>', [mailbox("b", "example.net", 'Giant; "Big" Box')]),
        ("<a@x>, b@y, C <c@z>", [mailbox("a", "x"), mailbox("b", "y"), mailbox("c", "z", "C")]),
        ("Undisclosed recipients:;", [group("Undisclosed recipients"), GROUP_END]),
        (
            "A Group:E <e@x>,j@y;, z@z",
            [group("A Group"), mailbox("e", "x", "E"), mailbox("j", "y"), GROUP_END, mailbox("z", "z")],
        ),
        ("(Empty list)(start)Hidden recipients  :(nobody(that I know))  ;", [group("Hidden recipients"), GROUP_END]),
        ("Pete(A nice \\) chap) <pete(his account)@silly.test(his host)>", [mailbox("pete", "silly.test", "Pete")]),
        ("root@localhost (Cron Daemon)", [mailbox("root", "localhost", "Cron Daemon")]),
        ('"quoted local"@example.com', [mailbox("quoted local", "example.com")]),
        ("a@[192.0.2.1], b@[IPv6:::1]", [mailbox("a", "[192.0.2.1]"), mailbox("b", "[IPv6:::1]")]),
        ("<@one.test,@two.test:a@b>", [mailbox("a", "b", route="@one.test,@two.test")]),
        ("Foo\r\n Bar\r\n\t<a@b>", [mailbox("a", "b", "Foo Bar")]),
        ("jdoe @ machine . example", [mailbox("jdoe", "machine.example")]),
        ("Jürgen <j@exämple.test>", [mailbox("j", "exämple.test", "Jürgen")]),
        ("MAILER-DAEMON", [mailbox("MAILER-DAEMON", "MISSING_DOMAIN")]),
        ("Foo Bar", [mailbox("MISSING_MAILBOX", "MISSING_DOMAIN", "Foo Bar")]),
        ("Foo <>", [mailbox("MISSING_MAILBOX", "MISSING_DOMAIN", "Foo")]),
        ("Foo <a@b", [mailbox("a", "SYNTAX_ERROR", "Foo")]),
        ("<@b>", [mailbox("MISSING_MAILBOX", "MISSING_DOMAIN", route="INVALID_ROUTE")]),
        ("g: a@b", [group("g"), mailbox("a", "b"), GROUP_END]),
    ],
)
def test_addresses(value: str, addresses: list[Address]) -> None:
    """A field body gives its addresses in order, and broken ones say so."""
    assert parse(value.encode()) == addresses


def test_a_comma_costs_one_address_up_to_the_limit() -> None:
    """A field of commas stops at the limit of addresses."""
    assert len(parse(b"," * (MAX_ADDRESSES * 2))) == MAX_ADDRESSES


_PIECES = st.sampled_from(b'a|b.c|"x y"|(c)|<a@b>|@|<|>|,|:|;|"|\\|(|)|[|]| |\r\n |.|\xc3\xa4|\0'.split(b"|"))


@settings(deadline=None)
@given(st.lists(_PIECES, max_size=30).map(b"".join) | st.binary(max_size=80))
def test_any_octets_give_addresses(value: bytes) -> None:
    """Any octets give addresses: a host without a mailbox never comes out, and groups are closed."""
    addresses = parse(value)
    assert all((address.host is not None) <= (address.mailbox is not None) for address in addresses)
    starts = sum(address.mailbox is not None and address.host is None for address in addresses)
    assert starts == addresses.count(GROUP_END)


_ATOM = st.text("abcxyz019-_+", min_size=1, max_size=8)
_HOST = st.lists(_ATOM, min_size=1, max_size=3).map(".".join)
_NAME = st.none() | st.text('ab ."\\,<>@()', min_size=1, max_size=12).filter(lambda text: text.strip() != "")


@settings(deadline=None)
@given(st.lists(st.tuples(_NAME, _ATOM, _HOST), max_size=6))
def test_what_is_written_by_the_grammar_reads_back(written: list[tuple[str | None, str, str]]) -> None:
    """Quoted names and addr-specs in a list read back as they were."""
    texts = []
    for name, local_part, host in written:
        escaped = None if name is None else name.replace("\\", "\\\\").replace('"', '\\"')
        texts.append(f"{local_part}@{host}" if escaped is None else f'"{escaped}" <{local_part}@{host}>')
    expected = [mailbox(local_part, host, name) for name, local_part, host in written]
    assert parse(", ".join(texts).encode()) == expected
