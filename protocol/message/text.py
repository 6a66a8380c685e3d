"""The searchable text of a message: decoded headers and the decoded text of its parts, for SEARCH and the index.

For substring search only: markup is stripped crudely and nothing is laid out. Never fails; unknown charsets and
broken encodings give what can be read.

The index is filled and the unindexed is scanned by the same functions, so that both give one answer. Whoever changes
what they collect or how canonical() writes it gives TEXT_VERSION the next number: what was indexed by another version is
scanned until it is indexed again.
"""

import html
import re
import unicodedata

from protocol.message import header, words
from protocol.message.content import parameter
from protocol.message.mime import Buffer, Part

TEXT_VERSION = 1
MAX_TEXT_PARTS = 1_000  # of one message; later ones are not read

_MAX_MAPPED = 20_000  # characters beyond ASCII whose mapping is kept
_BEYOND_ASCII = re.compile(r"[^\x00-\x7f]+")

_HIDDEN = re.compile(r"<(?:!--|(script|style)\b)", re.IGNORECASE)
_END_OF = {
    "": re.compile("-->"),
    "script": re.compile(r"</script\s*>", re.I),
    "style": re.compile(r"</style\s*>", re.I),
}
# [^<>]: a tag that never ends stops at the next one, so that a million of them cost no quadratic time.
_BREAK = re.compile(
    r"<(?:br|p|div|tr|td|th|li|h[1-6]|table|blockquote|hr)\b[^<>]*+>|</(?:p|div|tr|li|h[1-6])\s*+>", re.IGNORECASE
)
_TAG = re.compile(r"</?[A-Za-z!?][^<>]*+>")


def canonical(text: str) -> str:
    """Give text as i;unicode-casemap compares it, RFC 5051 §2: each character titlecased, then decomposed.

    Character by character: the canonical form of a text joined from two is that of the one and that of the other joined.
    """
    if text.isascii():
        return text.upper()
    # Octets of ASCII letters alone change their case here, many times faster than a table does it.
    raised = text.encode("utf-8", "surrogatepass").upper().decode("utf-8", "surrogatepass")
    return _BEYOND_ASCII.sub(lambda found: found[0].translate(_CASEMAP), raised)


class _Casemap(dict[int, str]):
    """The table of str.translate, filled as characters occur."""

    def __missing__(self, code: int) -> str:
        mapped = _decomposed(_titlecased(chr(code)))
        if len(self) < _MAX_MAPPED:
            self[code] = mapped
        return mapped


_CASEMAP = _Casemap()


def _titlecased(character: str) -> str:
    """Its titlecase in UnicodeData.txt, which knows single characters only: "ß" has none there."""
    title = character.title()
    return title if len(title) == 1 else character


def _decomposed(character: str) -> str:
    """Its decomposition in UnicodeData.txt, compatibility included, to the end; Hangul syllables have none there."""
    written = unicodedata.decomposition(character).split()
    if written and written[0].startswith("<"):
        del written[0]
    return "".join([_decomposed(chr(int(code, 16))) for code in written]) or character


def canonical_text(head: bytes, octets: Buffer, part: Part) -> tuple[str, str]:
    """Give searchable() in its canonical form: what SEARCH TEXT and BODY look through."""
    header, body = searchable(octets, part, head)
    return canonical(header), canonical(body)


def header_text(section: bytes, name: bytes | None) -> str:
    """Give the decoded text of a header section: of all fields called name, one a line, or of all with their names."""
    if name is None:
        return "\n".join([f"{_name(field)}: {field_text(field.body)}" for field in header.fields(section)])
    wanted = name.upper()
    return "\n".join([field_text(field.body) for field in header.fields(section) if field.name.upper() == wanted])


def field_text(body: bytes) -> str:
    """Give the decoded text of a field's raw body. One line, whatever encoded words hold: lines tell fields apart."""
    text = words.decode(body).strip()
    return text.replace("\n", " ") if "\n" in text else text


def fields_named(header_text: str, name: str) -> list[str]:
    """Give the texts of the fields of that name out of header_text(..., None), both canonical."""
    start = f"{name}: "
    return [line[len(start) :] for line in header_text.split("\n") if line.startswith(start)]


def _name(field: header.Field) -> str:
    return words.decode_octets(field.name, None)


def searchable(octets: Buffer, part: Part, head: bytes = b"") -> tuple[str, str]:
    """Give (header text, body text) of the message whose root is part. `head` stands before the octets: our trace fields.

    The body text is that of all text/* and message/* leaves, and the headers of the messages within, in order. Lines
    end with LF. It is as long as the text itself: no part of it is left out.
    """
    return header_text(head + octets[part.header_start : part.body_start], None), body_text(octets, part)


def body_text(octets: Buffer, part: Part) -> str:
    """Give the body text alone."""
    pieces: list[str] = []
    _collect(octets, part, pieces)
    return "\n".join(pieces)


def part_text(octets: Buffer, part: Part) -> str:
    """Give the decoded text of one text part; HTML without its markup."""
    text = words.decode_octets(decode_body(octets, part), parameter(part.parameters, b"charset"))
    if "\r" in text:
        text = text.replace("\r\n", "\n")
    return strip_html(text) if part.subtype.lower() == b"html" else text


def decode_body(octets: Buffer, part: Part) -> bytes:
    """Give a part's body with its transfer encoding undone, RFC 2045 §6; an unknown encoding is none."""
    body = octets[part.body_start : part.end]
    encoding = (part.encoding or b"").lower()
    if encoding == b"base64":
        return words.decode_base64(body)
    if encoding == b"quoted-printable":
        return words.decode_quoted_printable(body)
    return body


def strip_html(text: str) -> str:
    """Take the markup out of HTML: scripts, styles, comments and tags go, character references are read."""
    text = _TAG.sub("", _BREAK.sub("\n", _shown(text)))
    return words.storable(html.unescape(text)) if "&" in text else text


def _shown(text: str) -> str:
    """The text without comments, scripts and styles; one that never ends hides nothing."""
    kept: list[str] = []
    endless: set[str] = set()
    position = 0
    for match in _HIDDEN.finditer(text):
        kind = (match[1] or "").lower()
        if match.start() < position or kind in endless:
            continue
        end = _END_OF[kind].search(text, match.end())
        if end is None:
            endless.add(kind)
            continue
        kept.append(text[position : match.start()])
        position = end.end()
    kept.append(text[position:])
    return " ".join(kept)


def _collect(octets: Buffer, part: Part, pieces: list[str]) -> None:
    if len(pieces) >= MAX_TEXT_PARTS:
        return
    if part.children:
        for child in part.children:
            if part.is_message:
                pieces.append(header_text(octets[child.header_start : child.body_start], None))
            _collect(octets, child, pieces)
    elif part.is_text or part.type.lower() == b"message":
        pieces.append(part_text(octets, part))
