"""Signatures: the example of RFC 8463, dkimpy's own verdict on ours, what breaks them and what must not, and their price."""

import base64
import re
import time
from collections.abc import Callable

import dkim
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1
from cryptography.hazmat.primitives.asymmetric.ec import generate_private_key as generate_ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from hypothesis import given
from hypothesis import strategies as st

from protocol.dkim.canonicalization import MessageHash
from protocol.dkim.record import record_text
from protocol.dkim.signature import (
    PrivateKey,
    SigningKey,
    algorithm_of,
    load_private_key,
    private_octets,
    public_octets,
    sign_field,
    signature_fields,
)
from protocol.message.header import read
from tests.mails import CORPORA, as_sent

RSA = generate_private_key(65537, 2048)
ED25519 = Ed25519PrivateKey.generate()
KEYS = [
    SigningKey("example.net", "one", "rsa-sha256", RSA),
    SigningKey("example.net", "two", "ed25519-sha256", ED25519),
]
NOW = int(time.time())

MAIL = (
    b"From: Alice <alice@example.net>\r\nTo: bob@example.org\r\nSubject: Is dinner\r\n ready?\r\n"
    b"Date: Fri, 11 Jul 2003 21:00:37 -0700\r\nMessage-ID: <1@example.net>\r\nX-Other: 1\r\n"
    b"List-Id: <l.example.net>\r\n\r\nHi.\r\n\r\nWe lost the game.  Are you hungry yet?\r\n\r\nAlice.\r\n\r\n"
)

# RFC 8463 §A.3, with the key of §A.1.
RFC_8463_SEED = "nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A="
RFC_8463_VALUE = (
    b" v=1; a=ed25519-sha256; c=relaxed/relaxed;\r\n d=football.example.com; i=@football.example.com;\r\n"
    b" q=dns/txt; s=brisbane; t=1528637909; h=from : to :\r\n subject : date : message-id : from : subject : date;\r\n"
    b" bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;\r\n b="
)
RFC_8463_SIGNATURE = "/gCrinpcQOoIfuHNQIbq4pgh9kyIK3AQUdt9OdqQehSwhEIug4D11BusFa3bT3FY5OsU7ZbnKELq+eXdp1Q1Dw=="
RFC_8463_HEADER = (
    b"From: Joe SixPack <joe@football.example.com>\r\nTo: Suzie Q <suzie@shopping.example.net>\r\n"
    b"Subject: Is dinner ready?\r\nDate: Fri, 11 Jul 2003 21:00:37 -0700 (PDT)\r\n"
    b"Message-ID: <20030712040037.46341.5F8J@football.example.com>\r\n"
)
RFC_8463_BODY = b"\r\nHi.\r\n\r\nWe lost the game.  Are you hungry yet?\r\n\r\nJoe.\r\n\r\n"


def signed(message: bytes, keys: list[SigningKey] = KEYS, lifetime: int = 86400) -> bytes:
    """The message with its signatures on top."""
    hashed = MessageHash()
    hashed.update(message)
    return signature_fields(keys, read(hashed.header), hashed.digest(), at=NOW, lifetime=lifetime) + message


def record_of(name: bytes, timeout: int = 5) -> bytes:
    """What the DNS would say to stock dkimpy."""
    key = next(key for key in KEYS if name.startswith(key.selector.encode()))
    return record_text(key.algorithm, public_octets(key.private_key)).encode()


def verdicts(message: bytes) -> list[bool]:
    """What stock dkimpy makes of each of the two signatures."""
    found = []
    for index in range(2):
        try:
            found.append(dkim.DKIM(message).verify(index, dnsfunc=record_of))
        except dkim.ValidationError:
            found.append(False)
    return found


def test_the_example_of_rfc_8463() -> None:
    """RFC 8463 §A.3: its header and body give its body hash and, with its key, its signature to the last bit."""
    hashed = MessageHash()
    hashed.update(RFC_8463_HEADER + RFC_8463_BODY)
    assert base64.b64encode(hashed.digest()) == b"2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8="
    key = Ed25519PrivateKey.from_private_bytes(base64.b64decode(RFC_8463_SEED))
    names = b"from to subject date message-id from subject date".split()
    fields = [(name.lower(), body + b"\r\n") for name, body, _ in read(hashed.header)]
    assert base64.b64encode(sign_field(key, fields, names, RFC_8463_VALUE)).decode() == RFC_8463_SIGNATURE
    assert base64.b64encode(public_octets(key)).decode() == "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="


@pytest.mark.parametrize(
    "name",
    [
        *("dkimpy/test2.message", "mimekit-dkim/gmail.msg", "nodemailer-mailparser/nodemailer.eml"),
        *("rspamd-messages/ed25519-broken.eml", "mailauth-postalsys/zproov.eml", "webklex-php-imap/issue-275.eml"),
    ],
)
def test_stock_dkimpy_verifies_what_we_sign(name: str) -> None:
    """Mails of all kinds, signed with both algorithms, verify with dkimpy as it comes, RSA in Python and Ed25519 by libsodium."""
    assert verdicts(signed(as_sent(CORPORA / name))) == [True, True]


@pytest.mark.parametrize(
    "change",
    [
        (b"Hi.\r\n", b"Ho.\r\n"),
        (b"bob@", b"eve@"),
        (b"X-Other", b"From: Eve <eve@example.com>\r\nX-Other"),
        (b"X-Other", b"Subject: Another\r\nX-Other"),
        (b"X-Other", b"Reply-To: eve@example.com\r\nX-Other"),
        (b"X-Other", b"Cc: eve@example.com\r\nX-Other"),
        (b"X-Other", b"Content-Type: text/html\r\nX-Other"),
        (b"Alice.\r\n", b"Alice.\r\nP.S.\r\n"),
    ],
)
def test_a_change_breaks_both(change: tuple[bytes, bytes]) -> None:
    """Neither the text nor what a reader sees of the header can be changed or added to, not even fields that were missing."""
    assert verdicts(signed(MAIL).replace(*change)) == [False, False]


@pytest.mark.parametrize(
    "change",
    [
        (b"Subject: Is dinner\r\n ready?", b"subject:  Is dinner ready? "),
        (b"game.  Are", b"game. Are"),
        (b"yet?\r\n", b"yet? \t\r\n"),
        (b"Alice.\r\n\r\n", b"Alice.\r\n\r\n\r\n"),
        (b"X-Other: 1", b"X-Other: 2\r\nReceived: from a by b\r\nList-Unsubscribe: <mailto:l>"),
    ],
)
def test_what_relays_do_breaks_none(change: tuple[bytes, bytes]) -> None:
    """RFC 6376 §3.4: refolded fields, white space at line ends, and fields on the way added keep the signatures valid."""
    changed = signed(MAIL).replace(*change)
    assert changed != signed(MAIL)
    assert verdicts(changed) == [True, True]


def test_the_fields_say_what_they_must() -> None:
    """RFC 6376 §3.5: version, algorithm, domain, selector, times, fields and hash, in lines that need no other folding."""
    first, second = re.findall(rb"DKIM-Signature:(?:.*\r\n(?:[ \t].*\r\n)*)", signed(MAIL, lifetime=100))
    for octets, key in ((first, KEYS[0]), (second, KEYS[1])):
        value = octets.partition(b":")[2]
        tags = dict(re.sub(rb"\s", b"", tag).split(b"=", 1) for tag in value.split(b";"))
        assert (tags[b"v"], tags[b"c"], tags[b"d"]) == (b"1", b"relaxed/relaxed", b"example.net")
        assert (tags[b"a"], tags[b"s"]) == (key.algorithm.encode(), key.selector.encode())
        assert (int(tags[b"t"]), int(tags[b"x"])) == (NOW, NOW + 100)
        names = tags[b"h"].split(b":")
        assert (names.count(b"from"), names.count(b"subject"), names.count(b"reply-to")) == (2, 2, 1)
        assert names.count(b"list-id") == 1
        assert b"x-other" not in names
        assert b"l" not in tags
        assert max(len(line) for line in octets.split(b"\r\n")) <= 78
    assert b"; x=" not in signed(MAIL, lifetime=0)


def test_a_long_domain_is_not_cut() -> None:
    """A domain as long as they come is still one word, and the signature valid."""
    domain = ".".join(["a" * 60] * 4)
    octets = signed(MAIL, [SigningKey(domain, key.selector, key.algorithm, key.private_key) for key in KEYS])
    assert f"d={domain};".encode() in octets
    assert verdicts(octets) == [True, True]


FIELD_NAMES = st.sampled_from(["From", "from", "To", "Subject", "Received", "List-Id", "Resent-To", "X-A", "Date"])
FIELD_BODIES = st.lists(st.sampled_from([b"a", b" ", b"\t", b"\r\n ", b"=", b"b=c;", b":", b"\xff", b"\x01", b";"]))


@given(st.lists(st.tuples(FIELD_NAMES, FIELD_BODIES), max_size=25), st.binary(max_size=40))
def test_whatever_the_header_holds_verifies(fields: list[tuple[str, list[bytes]]], body: bytes) -> None:
    """Repeated, folded, empty and 8-bit fields, in any number, verify with stock dkimpy."""
    header = b"".join(name.encode() + b":" + b"".join(pieces) + b"a\r\n" for name, pieces in fields)
    text = re.sub(rb"[\r\n]", b"", body) + b"\r\n"
    message = b"From: a@example.net\r\n" + header + b"\r\n" + text
    octets = signed(message)
    if sum(name.lower() == "from" for name, _ in fields) < 7:  # dkimpy wants every From field signed, however many
        assert verdicts(octets) == [True, True]


def test_the_number_of_signed_fields_is_bounded() -> None:
    """A message with thousands of fields of one name gets a signature field of usual length."""
    message = b"From: a@example.net\r\n" + b"To: b@example.net\r\nList-Id: x\r\n" * 4000 + b"\r\n"
    assert len(signed(message)) - len(message) < 2500


@pytest.mark.parametrize("key", [RSA, ED25519], ids=["rsa", "ed25519"])
def test_keys_are_stored_and_read(key: PrivateKey) -> None:
    """A private key comes back from PKCS #8 and from PEM, and says what it is for."""
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    for octets in (private_octets(key), pem):
        assert public_octets(load_private_key(octets)) == public_octets(key)
    assert public_octets(load_private_key(private_octets(key), is_trusted=True)) == public_octets(key)
    assert algorithm_of(key) == ("rsa-sha256" if key is RSA else "ed25519-sha256")


def _pem(key: object, password: bytes | None = None) -> bytes:
    encryption = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    made: bytes = key.private_bytes(  # type: ignore[attr-defined]
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption
    )
    return made


@pytest.mark.parametrize(
    "octets",
    [b"", b"nonsense", b"-----BEGIN PRIVATE KEY-----\n", _pem(generate_ec(SECP256R1())), _pem(RSA, b"password")],
    ids=["empty", "nonsense", "cut", "elliptic curve", "protected"],
)
def test_other_keys_are_refused(octets: bytes) -> None:
    """What cannot sign for DKIM is told as a ValueError."""
    with pytest.raises(ValueError):  # noqa: PT011  # the words are those of the library
        load_private_key(octets)


def _fastest(act: Callable[[], object]) -> float:
    """CPU seconds of the fastest of several goes."""
    taken = []
    for _ in range(15):
        start = time.thread_time()
        act()
        taken.append(time.thread_time() - start)
    return min(taken)


def test_signing_is_several_times_as_fast_as_with_dkimpy_alone() -> None:
    """RSA of 2,048 bits by cryptography: signing a message takes less than a fifth of what stock dkimpy takes."""
    body = b"The quick brown fox jumps over the lazy dog, once more.\r\n" * 70
    message = MAIL + body
    pem = RSA.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )
    stock = _fastest(lambda: dkim.sign(message, b"one", b"example.net", pem, canonicalize=(b"relaxed", b"relaxed")))
    ours = _fastest(lambda: signed(message, KEYS[:1]))
    assert stock / ours > 5, f"{stock * 1000:.2f} ms by {ours * 1000:.2f} ms"
