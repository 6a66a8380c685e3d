"""What a text search looks for, and the scan: looking for it in messages that the search index does not hold.

A scan and the index give one answer, since both look through what protocol.message.text makes of a message. Here stands
besides only what shows quickly that a message cannot have the text.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

from protocol.message import Part, unpack
from protocol.message.content import parameter
from protocol.message.header import fields
from protocol.message.text import canonical, canonical_text, field_text, header_text

_WORD = 40  # octets of a word that are looked for in undecoded text
_IDENTITIES = frozenset({b"7bit", b"8bit", b"binary"})
_HIDING = (b"utf-7", b"utf7", b"hz", b"unicode-1-1", b"iso-2022", b"csiso2022", b"utf-16", b"utf16", b"utf-32")


class Needle:
    """The text looked for, as i;unicode-casemap compares it (RFC 5051)."""

    def __init__(self, text: str) -> None:
        self.text = canonical(text.replace("\r\n", "\n"))
        self.octets = self.text.encode("utf-8", "replace")
        # NUL and lone surrogates are never kept of a message (words.storable), and no database takes them.
        self.is_impossible = "\0" in text or any("\ud800" <= character <= "\udfff" for character in text)
        self.is_empty = not self.text
        # A part of it that must stand in undecoded ASCII, however that is folded or wrapped.
        self._word = max(self.octets.split(), key=len, default=b"")[:_WORD] if self.text.isascii() else b""
        self._broken = _broken(self._word)
        is_plain = self.text.isascii() and self.text.isprintable() and self.text == self.text.strip()
        self._plain = self.octets if is_plain else b""  # stands in undecoded ASCII as in what that decodes to

    def is_in(self, text: str) -> bool:
        """Whether decoded text contains it."""
        return self.text in canonical(text)

    def is_surely_not_in(self, octets: bytes) -> bool:
        """True where pure ASCII without its longest word cannot hold the text; costs a tenth of decoding it."""
        return bool(self._word) and self._word not in octets.upper() and octets.isascii()

    def is_in_field(self, section: bytes, name: bytes) -> bool:
        """Whether a field of that name contains it; an empty text asks only for the field (RFC 3501 §6.4.4)."""
        if self.is_empty:
            return any(field.name.upper() == name for field in fields(section))
        if b"=?" not in section and self.is_surely_not_in(section):
            return False
        return self.is_in(header_text(section, name))

    def is_in_bodies(self, bodies: Sequence[bytes]) -> bool:
        """As is_in_field, of the raw bodies of a message's fields of one name; decodes only what needs it."""
        if self.is_empty or not bodies:
            return bool(bodies)
        octets = b"\n".join(bodies)
        if b"=?" not in octets and octets.isascii():
            raised = octets.upper()
            if self._word not in raised:
                return False
            if self._plain and self._plain in raised:
                return True
        return self.is_in("\n".join([field_text(body) for body in bodies]))

    def may_be_in_header(self, section: bytes) -> bool:
        """False where no field can contain it, which is quickly seen (RFC 2047 words apart)."""
        return b"=?" in section or not self.is_surely_not_in(section)

    def may_be_in_body(self, original: bytes, part: Part) -> bool:
        """False where no text of the message can contain it. Its words do not reach from one part into the next."""
        if part.children:
            for child in part.children:
                if part.is_message and self.may_be_in_header(original[child.header_start : child.body_start]):
                    return True
                if self.may_be_in_body(original, child):
                    return True
            return False
        if not part.is_text and part.type.lower() != b"message":
            return False
        if not _is_plain(part):
            return True
        body = original[part.body_start : part.end]
        if b"\x1b" in body or not self.is_surely_not_in(body):
            return True
        # Tags may stand within a word, and character references may be letters; a space that does not break is none.
        is_markup = part.subtype.lower() == b"html"
        return is_markup and (
            body.count(b"&") != body.count(b"&nbsp;") or self._broken.search(body.upper()) is not None
        )


def _broken(word: bytes) -> re.Pattern[bytes]:
    """Finds a beginning of the word in front of markup."""
    form = b""
    for octet in reversed(word[:-1]):
        form = re.escape(bytes((octet,))) + (b"(?:%b)?" % form if form else b"")
    return re.compile(form + b"<")


def _is_plain(part: Part) -> bool:
    """Whether ASCII octets stand for themselves: no transfer encoding, and no charset that hides text in ASCII."""
    charset = (parameter(part.parameters, b"charset") or b"").lower()
    return (part.encoding or b"7bit").lower() in _IDENTITIES and not charset.startswith(_HIDING)


class Candidate(NamedTuple):
    """One message whose text is to be looked at."""

    place: int
    head: bytes
    original: bytes
    structure: bytes


def containing(candidates: Sequence[Candidate], needle: Needle, in_header: bool) -> set[int]:
    """The places of those that contain it in the body, or (in_header) in header or body. Runs in a thread."""
    found = set()
    for place, head, original, structure in candidates:
        tree = unpack(structure)
        section = head + original[tree.header_start : tree.body_start]
        if not (in_header and needle.may_be_in_header(section)) and not needle.may_be_in_body(original, tree):
            continue
        header, body = canonical_text(head, original, tree)
        if needle.text in body or (in_header and needle.text in header):
            found.add(place)
    return found
