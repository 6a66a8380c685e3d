"""Bad MIME: what is built to exhaust is refused, what is not wanted is refused, stripped or kept apart."""

from dataclasses import replace

import pytest

from filters.mime import ENCRYPTED, FORBIDDEN, TOO_DEEP, TOO_MANY_PARTS, Action, Mime, MimeRules, suffix_of
from filters.subject import Envelope, Subject
from filters.verdict import Quarantine, Refuse, StripPart, Verdict
from protocol.smtp.reply import Reply
from tests.filters.test_archives import zipped
from tests.mime import attached

RULES = MimeRules(
    forbidden_suffixes=frozenset({"exe", "js"}), forbidden_types=frozenset({"application/x-dosexec", "video/*"})
)
ENVELOPE = Envelope("id", "192.0.2.1", "client.example", False, False, None, ())


async def judged(message: bytes, rules: MimeRules = RULES, *, is_submitted: bool = False) -> list[Verdict]:
    envelope = replace(ENVELOPE, is_authenticated=is_submitted)
    return list(await Mime(rules).check(Subject(envelope, message)))


def refusal(verdicts: list[Verdict]) -> Reply:
    (verdict,) = verdicts
    assert isinstance(verdict, Refuse)
    return verdict.reply


def nested(depth: int) -> bytes:
    return b"".join(b"Content-Type: message/rfc822\r\n\r\n" for _ in range(depth - 1)) + b"\r\nx\r\n"


async def test_parts() -> None:
    """A message may have as many parts as the limit says, multiparts counted, and no more."""
    rules = replace(RULES, part_limit=12)
    assert await judged(attached(*[("a.txt", b"x")] * 10), rules) == []
    assert refusal(await judged(attached(*[("a.txt", b"x")] * 11), rules)) == TOO_MANY_PARTS
    assert refusal(await judged(attached(*[("a.txt", b"x")] * 20_000))) == TOO_MANY_PARTS


async def test_depth() -> None:
    """Parts may stand within each other as deep as the limit says."""
    assert await judged(nested(30)) == []
    assert refusal(await judged(nested(31))) == TOO_DEEP
    assert refusal(await judged(nested(5000))) == TOO_DEEP


@pytest.mark.parametrize(
    ("name", "suffix"),
    [
        ("a.exe", "exe"),
        ("A.B.EXE", "exe"),
        ("a.exe. .", "exe"),
        ("a.pdf .exe", "exe"),
        ("a\u202efdp.exe", "exe"),
        ("a.e\u200bxe", "exe"),
        ("exe", ""),
        ("", ""),
        ("a.", ""),
        ("a.tar.gz", "gz"),
    ],
)
def test_suffixes(name: str, suffix: str) -> None:
    """The end of a name is what the system goes by that opens it, however it is made to look."""
    assert suffix_of(name) == suffix


_HEADS = {
    "content type": b'Content-Type: application/octet-stream; name="a.EXE"',
    "disposition": b"Content-Type: text/plain\r\nContent-Disposition: attachment; filename=a.exe",
    "RFC 2231": b"Content-Type: a/b\r\nContent-Disposition: attachment; filename*0*=utf-8''a%2E; filename*1=exe",
    "RFC 2047": b'Content-Type: a/b; name="=?utf-8?b?YS5leGU=?="',
    "type": b"Content-Type: Application/X-DOSexec",
    "any of a type": b"Content-Type: video/mp4",
}


@pytest.mark.parametrize("head", _HEADS.values(), ids=_HEADS.keys())
async def test_forbidden(head: bytes) -> None:
    """Attachments are known by their names, however these are written, and by their media types."""
    message = b"Subject: x\r\n" + head + b"\r\n\r\nx\r\n"
    assert refusal(await judged(message)) == FORBIDDEN
    assert await judged(message, replace(RULES, forbidden="pass")) == []


@pytest.mark.parametrize("padding", [0, 100_000], ids=["small", "large"])
async def test_archives(padding: int) -> None:
    """A zip archive with an unwanted file in it is as unwanted, wherever it stands and whatever it is called."""
    message = attached(("a.txt", b"x" * padding), ("b.dat", zipped("x/y.txt", "x/y.js")))
    assert refusal(await judged(message)) == FORBIDDEN
    assert await judged(attached(("a.txt", b"x" * padding), ("b.dat", zipped("x/y.txt")))) == []


@pytest.mark.parametrize(
    ("action", "expected"),
    [
        ("pass", []),
        ("quarantine", [Quarantine("attachment: encrypted archive")]),
        ("strip", [StripPart((3,), "encrypted archive", None, "encrypted")]),
    ],
)
async def test_encrypted_archives(action: Action, expected: list[Verdict]) -> None:
    """What becomes of encrypted archives is a matter of policy; users are told at once that theirs go nowhere."""
    message = attached(("a.zip", zipped("a")), ("b.zip", zipped("b", is_secret=True)))
    rules = replace(RULES, encrypted_archives=action)
    assert await judged(message, rules) == expected
    if action != "pass":
        assert refusal(await judged(message, rules, is_submitted=True)) == ENCRYPTED
    assert refusal(await judged(message, replace(RULES, encrypted_archives="reject"))) == ENCRYPTED


async def test_several() -> None:
    """Each unwanted attachment is taken out."""
    message = attached(("a.exe", b"x"), ("b.txt", b"x"), ("c.js", b"x"))
    assert await judged(message, replace(RULES, forbidden="strip")) == [
        StripPart((2,), ".exe", None, "attachment"),
        StripPart((4,), ".js", None, "attachment"),
    ]
