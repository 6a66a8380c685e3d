"""The preview of a message, RFC 8970 §3: the beginning of what its writer says, as one line of plain text. Never fails.

Markup, quoted lines and padding go, white space becomes one space each. No part is read further than READ_OCTETS.
"""

import re
from collections.abc import Iterator

from protocol.message.content import parameter
from protocol.message.mime import Buffer, Part
from protocol.message.text import decode_body, strip_html
from protocol.message.words import decode_octets

PREVIEW_CHARACTERS = 200  # RFC 8970 §3.3: 256 at most, and no more than 200 recommended
READ_OCTETS = 64 << 10  # of one part's body, encoded; newsletters begin with 40 KiB of style sheet
MAX_CANDIDATES = 10  # parts that are looked into; beyond that there is no preview

_BODY = re.compile(r"<body\b[^<>]*+>", re.IGNORECASE)
_OPEN = (("<!--", "-->"), ("<style", "</style"), ("<script", "</script"))
_HALF_TAG = re.compile(r"<[^<>]*\Z")
_HALF_CHARACTER = re.compile(rb"[\xc0-\xff][\x80-\xbf]*\Z")
# White space and controls; and what mailings put behind their first line to push the rest out of the preview.
_WHITE = re.compile(r"[\s\x00-\x1f\x7f-\x9f]")
_PADDING = re.compile(
    r"[\s\x00-\x1f\x7f-\x9f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180e\u200b-\u200f\u2060-\u206f\u3164\ufeff\uffa0]++"
)
_ENCRYPTED = "-----BEGIN PGP MESSAGE"


def preview(octets: Buffer, part: Part) -> str:
    """The preview of the message whose root is part; "" when there is nothing to show (RFC 8970 §3.2). Never raises."""
    for found in candidates(part):
        text = preview_of(octets[found.body_start : min(found.end, found.body_start + READ_OCTETS)], found)
        if text:
            return text
    return ""


def candidates(part: Part) -> Iterator[Part]:
    """The parts that a preview may come from, best first: give preview_of() READ_OCTETS of their bodies until it finds some."""
    leaves = _leaves(part)
    for _ in range(MAX_CANDIDATES):
        found = next(leaves, None)
        if found is None:
            return
        yield found


def _leaves(part: Part) -> Iterator[Part]:
    """Texts to read, in order: plain text stands before its HTML (RFC 2046 §5.1.4), and what is attached is not the message."""
    if part.disposition is not None and part.disposition[0].lower() == b"attachment":
        return
    for child in part.children:
        yield from _leaves(child)
    if not part.children and part.is_text and part.subtype.lower() in (b"plain", b"html"):
        yield part


def preview_of(body: bytes, part: Part) -> str:
    """The preview of one part, of which `body` is the beginning (READ_OCTETS) or all; "" when it says nothing."""
    is_cut = len(body) < part.end - part.body_start
    octets = decode_body(body, _alone(part, len(body)))
    if is_cut:
        octets = _HALF_CHARACTER.sub(b"", octets)
    text = decode_octets(octets, parameter(part.parameters, b"charset"))
    if part.subtype.lower() == b"html":
        return _one_line(_shown(text, is_cut=is_cut))
    return "" if _ENCRYPTED in text[:1000] else _one_line(_unquoted(text))


def _alone(part: Part, size_octets: int) -> Part:
    """The part as if its body were all there is, from octet 0 on."""
    return Part(0, 0, size_octets, type=part.type, subtype=part.subtype, encoding=part.encoding)


def _shown(text: str, *, is_cut: bool) -> str:
    """HTML without markup, and without what was cut off in its middle."""
    body = _BODY.search(text)
    if body is not None:
        text = text[body.end() :]
    if is_cut:
        lowered = text.lower() if text.isascii() else text
        for start, end in _OPEN:
            at = lowered.rfind(start)
            if at >= 0 and lowered.find(end, at) < 0:
                text = text[:at]
        text = _HALF_TAG.sub("", text)
    return strip_html(text)


def _unquoted(text: str) -> str:
    """Plain text without the lines that quote another message, the line that introduces them, and the signature.

    A message that is nothing but a quotation keeps it.
    """
    kept: list[str] = []
    for line in text.splitlines():
        if line.startswith(">"):
            while kept and not kept[-1].strip():
                kept.pop()
            if kept and kept[-1].rstrip().endswith(":"):  # "On Monday Bob wrote:", in any language
                kept.pop()
        elif line == "-- ":  # RFC 3676 §4.3
            break
        else:
            kept.append(line)
    said = "\n".join(kept)
    return said if said.strip() else text


def _one_line(text: str) -> str:
    return _PADDING.sub(_space, text).strip()[:PREVIEW_CHARACTERS].rstrip()


def _space(run: re.Match[str]) -> str:
    """One space; a lone joiner or soft hyphen within a word is part of the word."""
    return run[0] if len(run[0]) == 1 and not _WHITE.match(run[0]) else " "
