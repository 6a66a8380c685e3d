"""Parts are taken out of messages, and nothing else of them is touched."""

import email
import email.policy
from email.message import EmailMessage

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.message import scan
from protocol.message.mime import Part
from protocol.message.section import find
from protocol.message.stripping import Language, Notice, PartPath, body, leaves, strip
from tests.mails import MAILS, as_sent, name_of
from tests.mime import attached

VIRUS = Notice("virus", "Some.Virus", "en", "0123456789abcdef")


def stripped(octets: bytes, *paths: PartPath, notice: Notice = VIRUS) -> bytes:
    return b"".join(strip(octets, scan(octets), dict.fromkeys(paths, notice)))


def shape(part: Part) -> object:
    """The tree without its offsets."""
    return [shape(child) for child in part.children] if part.children else "leaf"


@pytest.mark.parametrize(
    ("notice", "told"),
    [
        (VIRUS, ["“facture café.exe” was removed", "holds a virus", "Some.Virus", "archive", "0123456789abcdef"]),
        (Notice("virus", "Some.Virus", "de", "77"), ["„facture café.exe“ wurde", "Virus enthält", "Some.Virus", "77"]),
        (Notice("attachment", ".exe", "en", "77"), ["files of its kind are not allowed", ".exe"]),
        (Notice("attachment", ".exe", "de", "77"), ["Dateien dieser Art hier nicht erlaubt", ".exe"]),
        (Notice("encrypted", "zip", "en", "77"), ["encrypted and cannot be checked"]),
        (Notice("encrypted", "zip", "de", "77"), ["verschlüsselt ist und nicht auf Viren geprüft"]),
    ],
)
def test_notice(notice: Notice, told: list[str]) -> None:
    """The notice says in the recipient's language what was removed, why, and where the original is."""
    message = attached(("facture café.exe", b"infected"), ("b.txt", b"fine"))
    parsed = email.message_from_bytes(stripped(message, (2,), notice=notice), policy=email.policy.default)
    assert isinstance(parsed, EmailMessage)
    text, removed, other = parsed.iter_parts()
    assert text.get_content() == "Hello.\r\n"
    assert other.get_content() == b"fine"
    assert removed.get_content_type() == "text/plain"
    assert removed["Content-Language"] == notice.language
    assert removed["Content-Disposition"] is None
    for piece in told:
        assert piece in removed.get_content()
    assert b"infected" not in removed.get_payload(decode=True)


def test_message_without_parts() -> None:
    """A message that is its own part 1 keeps its header but for what was said of the body."""
    message = (
        b"Received: a\r\nX-Odd:x\r\n y\r\nSubject: =?utf-8?q?=C3=BC?=\r\nContent-Type: application/zip; name=a.zip\r\n"
        b"Content-Transfer-Encoding: base64\r\nTo: b@example.test\r\n\r\nUEsDBA==\r\n"
    )
    result = stripped(message, (1,))
    header, _, text = result.partition(b"\r\n\r\n")
    assert header == (
        b"Received: a\r\nX-Odd:x\r\n y\r\nSubject: =?utf-8?q?=C3=BC?=\r\nTo: b@example.test\r\nMIME-Version: 1.0\r\n"
        b"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\nContent-Language: en"
    )
    assert b"a.zip" in text
    assert result.endswith(b"\r\n")


def test_message_within_a_message() -> None:
    """A part of a message within message/rfc822 is taken out of it; one that is encoded as a whole is one part."""
    inner = attached(("a.bin", b"infected"))
    head = b'MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary="o"\r\n\r\n--o\r\nContent-Type: message/rfc822\r\n'
    message = head + b"\r\n" + inner + b"\r\n--o--\r\n"
    assert [path for path, _ in leaves(scan(message))] == [(1, 1), (1, 2)]
    result = stripped(message, (1, 2))
    before = message.index(b"\r\nContent-Type: application/octet-stream") + 2
    assert result[:before] == message[:before]
    assert result.endswith(message[message.index(b"\r\n--=_tests--") :])
    encoded = head + b"Content-Transfer-Encoding: base64\r\n\r\nRnJvbTogYQ0KDQpi\r\n--o--\r\n"
    ((path, part),) = leaves(scan(encoded))
    assert path == (1,)
    assert body(encoded, part) == b"From: a\r\n\r\nb"
    assert b"RnJv" not in stripped(encoded, (1,))


def test_part_without_blank_line() -> None:
    """A part that is all header, up to the delimiter, leaves the delimiter on a line of its own."""
    message = (
        b'Content-Type: multipart/mixed; boundary="o"\r\n\r\n--o\r\nContent-Type: a/b\r\n--o\r\n\r\nrest\r\n--o--\r\n'
    )
    result = stripped(message, (1,))
    assert shape(scan(result)) == shape(scan(message)) == ["leaf", "leaf"]
    assert result.endswith(b"\r\n--o\r\n\r\nrest\r\n--o--\r\n")


def test_names_of_strangers() -> None:
    """A file name cannot bring lines or control characters into the notice, nor make it long."""
    message = attached(("x" * 500 + "\u202e", b"infected"))
    result = stripped(message, (2,), notice=Notice("virus", "a\r\n\r\n--=_tests--\r\n", "de", "1"))
    assert shape(scan(result)) == ["leaf", "leaf"]
    assert max(map(len, result.split(b"\r\n"))) <= 76 + 20


@pytest.mark.parametrize("path", MAILS, ids=name_of)
def test_nothing_else_is_touched(path: "object") -> None:
    """In real messages: whichever part goes, every octet outside of it stays, and so do all parts and their numbers."""
    _hold(as_sent(path))  # type: ignore[arg-type]


_PIECES = st.sampled_from(
    [
        b"--o\r\n",
        b"--o--\r\n",
        b"--p\n",
        b"\r\n",
        b"\n",
        b"x: y\r\n",
        b"Content-Type: message/rfc822\r\n",
        b"text \xff\r\n",
    ]
    + [b"Content-Type: multipart/mixed; boundary=%b\r\n" % name for name in (b"o", b"p")]
    + [b"Content-Transfer-Encoding: base64\r\n", b"aGVsbG8=", b"Content-Disposition: attachment; filename=a.exe\r\n"]
)


@given(st.lists(_PIECES, max_size=25).map(b"".join))
def test_any_octets(octets: bytes) -> None:
    """Of any octets whatever, each leaf can be taken out, and what is outside of it stays."""
    _hold(octets)


def _hold(octets: bytes) -> None:
    root = scan(octets)
    assert stripped(octets) == octets
    language: Language = "de"
    for path, part in list(leaves(root))[:50]:
        if not (part.is_multipart or (root.is_multipart and not root.children)):
            assert find(root, path) == part
        result = stripped(octets, path, (99, 99), notice=Notice("virus", "V", language, "1"))
        if part.header_start == part.end:
            assert result == octets
            continue
        assert result.startswith(octets[: part.header_start])
        assert result.endswith(octets[part.end :])
        notice = result[part.header_start : len(result) - (len(octets) - part.end)]
        assert b"Content-Type: text/plain; charset=utf-8\r\n" in notice
        again = dict(leaves(scan(result)))
        if (part.header_start, part.end) != (0, len(octets)):
            assert path in again
