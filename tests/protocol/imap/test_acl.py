"""The grammar of access control lists (RFC 4314 §7) fed three ways, and their responses."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.imap import acl
from protocol.imap.acl import RIGHTS, DeleteAcl, GetAcl, Identifier, ListRights, MyRights, SetAcl
from protocol.imap.command import Command
from protocol.imap.events import Rejected
from tests.protocol.imap.feeds import read_three_ways

BOB = Identifier("bob")

COMMANDS: list[tuple[bytes, Command]] = [
    (b"a SETACL INBOX bob lrs", SetAcl(b"a", "INBOX", BOB, "replace", frozenset("lrs"))),
    (b'a setacl inbox/x "bob" ""', SetAcl(b"a", "INBOX/x", BOB, "replace", frozenset())),
    (b"a SETACL b&APY-x bob +cd", SetAcl(b"a", "b\xf6x", BOB, "add", frozenset("kxet"))),
    (b"a SETACL INBOX -bob -w", SetAcl(b"a", "INBOX", Identifier("bob", True), "remove", frozenset("w"))),
    (b"a SETACL INBOX {3+}\r\nbob {4+}\r\n+acd", SetAcl(b"a", "INBOX", BOB, "add", frozenset("akxet"))),
    (b"a DELETEACL INBOX -anyone", DeleteAcl(b"a", "INBOX", Identifier("anyone", True))),
    (b"a DELETEACL INBOX {7+}\r\nb\xc3\xb6b\xef\xbd\x82", DeleteAcl(b"a", "INBOX", Identifier("b\xf6bb"))),
    (b"a GETACL INBOX", GetAcl(b"a", "INBOX")),
    (b"a LISTRIGHTS INBOX Bob", ListRights(b"a", "INBOX", Identifier("Bob"), b"Bob")),
    (b"a MYRIGHTS Shared/x", MyRights(b"a", "Shared/x")),
]
REFUSED = [
    (b"a SETACL INBOX bob", "expected a space at octet 19"),
    (b"a SETACL INBOX bob lrQ", "a right that is not known here; rights are in lower case"),
    (b"a SETACL INBOX bob +q", "a right that is not known here; rights are in lower case"),
    (b"a SETACL INBOX bob 0", "a right that is not known here; rights are in lower case"),
    (b'a SETACL INBOX "" lr', "not a possible identifier"),
    (b"a SETACL INBOX - lr", "not a possible identifier"),
    (b"a SETACL INBOX {3+}\r\na\tb lr", "not a possible identifier"),
    (b"a DELETEACL INBOX {1+}\r\n\xff", "identifier is not UTF-8"),
    (b"a GETACL", "expected a space at octet 9"),
    (b"a GETACL INBOX bob", "expected the end of the command at octet 15"),
    (b"a LISTRIGHTS INBOX", "expected a space at octet 19"),
    (b"a MYRIGHTS ", "expected a mailbox name at octet 12"),
]


@pytest.mark.parametrize(("octets", "command"), COMMANDS, ids=[octets.decode("latin-1") for octets, _ in COMMANDS])
def test_command(octets: bytes, command: Command) -> None:
    """Each form is read as the command it is, whole and in pieces."""
    assert read_three_ways(octets + b"\r\n") == [command]


@pytest.mark.parametrize(("octets", "text"), REFUSED, ids=[octets.decode("latin-1") for octets, _ in REFUSED])
def test_refusal(octets: bytes, text: str) -> None:
    """What is no command is BAD, with the reason."""
    (rejected,) = read_three_ways(octets + b"\r\n")
    assert isinstance(rejected, Rejected)
    assert (rejected.status, rejected.text) == ("BAD", text)


def test_responses() -> None:
    """Rights come in RFC 4314's order with the virtual ones behind, identifiers as they need to be quoted (§3.6 to §3.8)."""
    assert acl.myrights_line(b"INBOX", "xrle") == b"* MYRIGHTS INBOX lrxecd\r\n"
    assert acl.myrights_line(b"INBOX", "") == b'* MYRIGHTS INBOX ""\r\n'
    entries = [(Identifier("a b"), "lr"), (Identifier("b\xf6b", True), "w")]
    assert acl.acl_line(b'"x y"', entries) == b'* ACL "x y" "a b" lr {5}\r\n-b\xc3\xb6b w\r\n'
    line = acl.listrights_line(b"INBOX", b"Bob", "", list("lrk"))
    assert line == b'* LISTRIGHTS INBOX Bob "" l r k c\r\n'
    assert acl.listrights_line(b"INBOX", b"me", RIGHTS, []) == b"* LISTRIGHTS INBOX me lrswipkxteacd\r\n"


@given(st.sets(st.sampled_from(RIGHTS)))
def test_what_is_told_is_read_back(held: set[str]) -> None:
    """A client that gives back what it was told changes nothing, unless "c" or "d" stood for one member only (§2.1.1)."""
    told = acl.rights(held).decode().strip('"')
    whole = acl.expanded(told)
    assert whole >= held
    assert whole - held <= (set("kx") if held & set("kx") else set()) | (set("et") if held & set("et") else set())
