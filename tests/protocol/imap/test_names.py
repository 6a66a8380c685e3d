"""Mailbox names: modified UTF-7 by the tables of other implementations, and INBOX."""

import json
from pathlib import Path
from typing import Any

import pytest

from protocol.imap import names

# Values of RFC 3501 §5.1.3 and of the test tables of go-imap, Dovecot and MailKit (all MIT) and imapclient (BSD-3-Clause).
NAMES = [
    ("", b""),
    ("abc", b"abc"),
    ("abc&", b"abc&-"),
    ("a&b&c", b"a&-b&-c"),
    ("\u0019", b"&ABk-"),
    ("ABk-", b"ABk-"),
    ("&&,ÿ&", b"&-&-,&AP8-&-"),
    ("abc & ÿÿÿ & xyz", b"abc &- &AP8A,wD,- &- xyz"),
    ("😊 😋 😎", b"&2D3eCg- &2D3eCw- &2D3eDg-"),
    ("&&x&&", b"&-&-x&-&-"),
    ("~peter/mail/台北/日本語", b"~peter/mail/&U,BTFw-/&ZeVnLIqe-"),
    ("tietä&jä&", b"tiet&AOQ-&-j&AOQ-&-"),
    ("Foo Bar", b"Foo Bar"),
    ("Stuff & Things", b"Stuff &- Things"),
    ("Helloÿworld", b"Hello&AP8-world"),
    ("ÿþýü", b"&AP8A,gD9APw-"),
    ("\0foo", b"&AAA-foo"),
    ("foo\r\n\nbar\n", b"foo&AA0ACgAK-bar&AAo-"),
    ("Les Mise\u0301rables", b"Les Mise&AwE-rables"),
    ("狂ったこの世で狂うなら気は確かだ。", b"&csIwYzBfMFMwbk4WMGdywjBGMGowiWwXMG94ujBLMGAwAg-"),
    ("pää", b"p&AOQA5A-"),
]
INVALID = [
    (b"\0", "character that must not stand unencoded"),
    (b"\x1f", "character that must not stand unencoded"),
    (b"abc\n", "character that must not stand unencoded"),
    (b"abc\x7fxyz", "character that must not stand unencoded"),
    ("\ufffd".encode(), "octet outside ASCII"),
    (b"&/+8-", "character outside the modified base64 alphabet"),
    (b"&*-", "character outside the modified base64 alphabet"),
    (b"&ZeVn\r\n\r\nLIqe-", "character outside the modified base64 alphabet"),
    (b"&AAAAHw==-", "padding"),
    (b"&2A-", "odd number of octets"),
    (b"&2ADc-", "odd number of octets"),
    (b"&AOR-", "bits left over that are not zero"),
    (b"&", "unfinished"),
    (b"a&AOQ", "unfinished"),
    (b"&AGE-", "printable ASCII in base64"),
    (b"&2AA-", "half a surrogate pair"),
    (b"&AOQ-&AOQ-", "superfluous shift"),
]


# Collected from the same sources: values only.
VECTORS = json.loads(Path(__file__).with_name("names.json").read_text("utf-8"))


@pytest.mark.parametrize("vector", VECTORS, ids=[repr(vector["mutf7"]) for vector in VECTORS])
def test_vectors(vector: dict[str, Any]) -> None:
    """A valid spelling is decoded and encoded as it was; an invalid one is no modified UTF-7."""
    octets = vector["mutf7"].encode("utf-8")
    if vector["valid"]:
        assert names.decode(octets) == vector["name"]
        assert names.encode(vector["name"]) == octets
        return
    with pytest.raises(ValueError, match=r"\w"):
        names.decode(octets)


@pytest.mark.parametrize(("name", "octets"), NAMES)
def test_both_ways(name: str, octets: bytes) -> None:
    """A name and its spelling belong to each other."""
    assert names.encode(name) == octets
    assert names.decode(octets) == name


@pytest.mark.parametrize(("octets", "why"), INVALID, ids=[repr(octets) for octets, _ in INVALID])
def test_invalid(octets: bytes, why: str) -> None:
    """What no encoder writes is no modified UTF-7."""
    with pytest.raises(ValueError, match=r"."):
        names.decode(octets)


@pytest.mark.parametrize(
    ("name", "canonical"),
    [
        ("inbox", "INBOX"),
        ("InBox/a", "INBOX/a"),
        ("inbox2", "inbox2"),
        ("a/inbox", "a/inbox"),
        ("", ""),
        ("INBO", "INBO"),
    ],
)
def test_inbox(name: str, canonical: str) -> None:
    """INBOX is one mailbox in any case (RFC 3501 §5.1); nothing else is folded."""
    assert names.canonical(name) == canonical
