"""Mails as an office sends them: deterministic, each one different, sizes with a median of 8 KB and a tail to 5 MB.

Sizes are the quantiles of a log-normal distribution, shuffled, and one mail of 5 MB in a thousand: so a run of any
length has the same mean (about 29 KB). Never reads a clock or the system's randomness.
"""

import base64
import random
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import accumulate
from statistics import NormalDist

_MEDIAN_OCTETS = 8 * 1024
_SIGMA = 1.5
_SMALLEST_OCTETS = 900
_LARGEST_OCTETS = 5 * 1024 * 1024
_FIRST = 0.4  # of the mails begin a thread
_REFERENCES = 20
_REMEMBERED = 300  # mails back that an answer may be to
_POOL_OCTETS = 2 * 1024 * 1024
_SYLLABLES = (
    *("ba", "ce", "di", "fo", "gu", "ha", "je", "ki", "lo", "mu", "na", "pe", "ri", "so", "tu", "ver", "ward", "stein"),
    *("berg", "mann", "hof", "el", "an", "ist", "und", "ung", "keit", "lich"),
)
_HTML = (
    b"<html><head><style>p { margin: 0 0 8px 0; font-family: sans-serif }</style></head><body>\r\n%s</body></html>\r\n"
)


@dataclass(frozen=True, slots=True)
class Mail:
    """One mail: its octets, and the same as SMTP DATA wants them (dots doubled, closed by CRLF . CRLF)."""

    octets: bytes
    wire: bytes


@dataclass(frozen=True, slots=True)
class Place:
    """Where a mail stands in its thread. references: the Message-IDs of those before it, its parent last."""

    message_id: str
    subject: str  # without Re:
    references: tuple[str, ...]


def mails(count: int, *, seed: int, size_octets: int | None = None) -> Iterator[Mail]:
    """Give `count` mails one by one. size_octets: all of about this size instead of realistic ones."""
    chance = random.Random(seed)
    sizes = [size_octets] * count if size_octets else _sizes(count, chance)
    earlier: deque[Place] = deque(maxlen=_REMEMBERED)
    for number, size in enumerate(sizes):
        place = _place(chance, f"{seed}.{number}", earlier)
        earlier.append(place)
        octets = _mail(chance, f"{seed}.{number}", size, place)
        yield Mail(octets, b"%s.\r\n" % octets.replace(b"\r\n.", b"\r\n.."))


def _place(chance: random.Random, identity: str, earlier: Sequence[Place]) -> Place:
    """A new thread, or more often an answer to one of the mails before."""
    message_id = f"<{identity}.{chance.randrange(10**9)}@sender.test>"
    if not earlier or chance.random() < _FIRST:
        subject = _text(chance, chance.randrange(20, 60)).replace(b"\r\n", b" ").decode().strip()
        return Place(message_id, subject, ())
    answered = chance.choice(earlier)
    return Place(message_id, answered.subject, (*answered.references, answered.message_id)[-_REFERENCES:])


def _sizes(count: int, chance: random.Random) -> list[int]:
    quantile = NormalDist(0, _SIGMA).inv_cdf
    factors = [2.718281828 ** quantile((index + 0.5) / count) for index in range(count)]
    sizes = [min(max(int(_MEDIAN_OCTETS * factor), _SMALLEST_OCTETS), _LARGEST_OCTETS) for factor in factors]
    for index in range(count // 1000):
        sizes[-1 - index] = _LARGEST_OCTETS
    chance.shuffle(sizes)
    return sizes


def _mail(chance: random.Random, identity: str, size: int, place: Place) -> bytes:
    header = _header(chance, identity, place)
    if size < 4096:
        return header + b"Content-Type: text/plain; charset=utf-8\r\n\r\n" + _text(chance, size - len(header))
    boundary = b"=_%s_part" % identity.encode()
    if size < 24 * 1024:
        inner, kind = _alternative(chance, size - len(header) - 300, boundary), b"alternative"
    else:
        inner, kind = _with_attachment(chance, size - len(header) - 400, boundary, identity), b"mixed"
    return b'%sContent-Type: multipart/%s; boundary="%s"\r\n\r\n%s' % (header, kind, boundary, inner)


def _alternative(chance: random.Random, size: int, boundary: bytes) -> bytes:
    plain = _text(chance, size // 3)
    paragraphs = b"".join(b"<p>%s</p>\r\n" % line for line in _text(chance, size * 2 // 3).split(b"\r\n"))
    return (
        b"--%s\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n%s\r\n"
        b"--%s\r\nContent-Type: text/html; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n%s\r\n--%s--\r\n"
    ) % (boundary, plain, boundary, _HTML % paragraphs, boundary)


def _with_attachment(chance: random.Random, size: int, boundary: bytes, identity: str) -> bytes:
    body = _text(chance, 2500)
    encoded = base64.encodebytes(chance.randbytes(max(1024, (size - len(body)) * 3 // 4 * 76 // 78)))
    return (
        b"--%s\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n%s\r\n"
        b'--%s\r\nContent-Type: application/pdf; name="report-%s.pdf"\r\nContent-Transfer-Encoding: base64\r\n'
        b'Content-Disposition: attachment; filename="report-%s.pdf"\r\n\r\n%s\r\n--%s--\r\n'
    ) % (
        *(boundary, body, boundary, identity.encode(), identity.encode()),
        *(encoded.replace(b"\n", b"\r\n"), boundary),
    )


def _header(chance: random.Random, identity: str, place: Place) -> bytes:
    sender = chance.randrange(500)
    day, hour, minute = chance.randrange(1, 29), chance.randrange(24), chance.randrange(60)
    date = f"{day:02} Nov 2026 {hour:02}:{minute:02}:{chance.randrange(60):02} +0000"
    signature = base64.b64encode(chance.randbytes(256)).decode()
    thread = ""
    if place.references:
        thread = f"In-Reply-To: {place.references[-1]}\r\nReferences: " + "\r\n ".join(place.references) + "\r\n"
    subject = f"Re: {place.subject}" if place.references else place.subject
    return (
        f"Received: from mail{sender}.sender.test (mail{sender}.sender.test [192.0.2.{sender % 250}])\r\n"
        f"\tby relay.sender.test with ESMTPS id {identity}; {date}\r\n"
        f"DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed; d=sender.test; s=key1;\r\n"
        f"\th=from:to:subject:date:message-id; bh={signature[:43]}=;\r\n\tb={signature[:70]}\r\n\t {signature[70:140]}"
        f"\r\n\t {signature[140:]}\r\n"
        f"Message-ID: {place.message_id}\r\n{thread}Date: {date}\r\n"
        f'From: "Sender Number {sender}" <sender{sender}@sender.test>\r\nTo: "Some Team" <team@bench.test>\r\n'
        f"Subject: {subject}\r\nUser-Agent: Mozilla Thunderbird\r\nContent-Language: de-DE\r\nMIME-Version: 1.0\r\n"
    ).encode()


def _text(chance: random.Random, size: int) -> bytes:
    """About `size` octets of lines of prose: a slice of one long text, so that no two mails have the same."""
    pool = _pool()
    size = max(size, 64)
    start = chance.randrange(len(pool) - min(size, len(pool) // 2) - 200)
    start = pool.index(b"\r\n", start) + 2
    end = pool.index(b"\r\n", min(start + size, len(pool) - 100))
    return pool[start:end] + b"\r\n"


@cache
def _pool() -> bytes:
    chance = random.Random(20261122)
    words = ["".join(chance.choices(_SYLLABLES, k=chance.randrange(1, 5))) for _ in range(6000)]
    weights = list(accumulate(1 / (rank + 3) for rank in range(len(words))))
    lines: list[str] = []
    length = 0
    while length < _POOL_OCTETS:
        line = " ".join(chance.choices(words, cum_weights=weights, k=chance.randrange(4, 12)))
        lines.append(line.capitalize() + chance.choice(".,!?"))
        length += len(line) + 3
    return "\r\n".join(lines).encode() + b"\r\n"
