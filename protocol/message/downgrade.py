"""Surrogates of internationalised messages (RFC 6532) for clients that expect ASCII in headers: RFC 6858.

Only header sections change, the message's own and those of its parts; bodies are passed through. A section that is not
UTF-8 is no internationalised one: nobody knows what its octets mean, so it stays as it is.
"""

import binascii
import re
from collections.abc import Iterator, Sequence

from protocol.message import address_list, header, words
from protocol.message.address_list import GROUP_END, Address
from protocol.message.header import Field
from protocol.message.mime import Part

MAX_SECTION_OCTETS = 1 << 20  # ours: a longer header section is passed through as it is

# RFC 6858 §2.1: such an address must not be one that could be somebody's.
_NOBODY = b"<invalid@internationalized-address.invalid>"
_ADDRESS_FIELDS = frozenset(
    name.encode() for base in ("FROM", "SENDER", "REPLY-TO", "TO", "CC", "BCC") for name in (base, f"RESENT-{base}")
) | {b"RETURN-PATH"}
_TEXT_FIELDS = frozenset((b"SUBJECT", b"COMMENTS", b"KEYWORDS", b"CONTENT-DESCRIPTION"))
_PARAMETER_FIELDS = frozenset((b"CONTENT-TYPE", b"CONTENT-DISPOSITION"))
_PARAMETER = re.compile(rb'([^\s;="]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s;"]*))')
_ESCAPED = re.compile(rb"\\(.)", re.DOTALL)
_LINE = re.compile(rb"[^\n]*\n|[^\n]+")
_WORD_OCTETS = 45  # 60 of base64; with "=?utf-8?b?" and "?=" within the 75 of RFC 2047 §2
_FOLD = b"\r\n "


def header_ranges(part: Part) -> list[tuple[int, int]]:
    """Where the header sections of a message and its parts lie, ascending and disjoint."""
    return sorted((start, end) for start, end in _sections(part) if start < end)


def _sections(part: Part) -> Iterator[tuple[int, int]]:
    yield part.header_start, part.body_start
    for child in part.children:
        yield from _sections(child)


class Surrogate:
    """Downgrades the header sections of a message that goes by in pieces, in bounded memory."""

    def __init__(self, ranges: Sequence[tuple[int, int]]) -> None:
        self._ranges = [(start, end) for start, end in ranges if end - start <= MAX_SECTION_OCTETS]
        self._next = 0
        self._position = 0  # of what comes next in the message
        self._section = bytearray()

    def feed(self, octets: bytes) -> bytes:
        """The next piece as it is to be sent. Holds back a section that is not complete."""
        sent: list[bytes] = []
        at, stop = 0, self._position + len(octets)
        while self._next < len(self._ranges) and self._ranges[self._next][0] < stop:
            start, end = (max(0, bound - self._position) for bound in self._ranges[self._next])
            sent.append(octets[at:start])
            self._section += octets[max(at, start) : end]
            at = min(end, len(octets))
            if end > len(octets):
                break
            sent.append(downgrade(bytes(self._section)))
            self._section.clear()
            self._next += 1
        sent.append(octets[at:])
        self._position = stop
        return b"".join(sent)

    def end(self) -> bytes:
        """What was held back when the message ended within a section."""
        return downgrade(bytes(self._section))


def downgrade(section: bytes) -> bytes:
    """A header section, with its blank line if it has one, in ASCII."""
    if section.isascii():
        return section
    try:
        section.decode()
    except UnicodeDecodeError:
        return section
    kept: list[bytes] = []
    at = 0
    for field in header.fields(section):
        kept.append(_ascii_lines(section[at : field.start]))
        kept.append(_field(field, section[field.start : field.end]))
        at = field.end
    kept.append(_ascii_lines(section[at:]))
    return b"".join(kept)


def _ascii_lines(lines: bytes) -> bytes:
    """Lines that are no field, those left out that have no ASCII form."""
    if lines.isascii():
        return lines
    return b"".join([line for line in _LINE.findall(lines) if line.isascii()])


def _field(field: Field, lines: bytes) -> bytes:
    if lines.isascii():
        return lines
    name = field.name.upper()
    if name in _ADDRESS_FIELDS:
        return field.name + b": " + _addresses(address_list.parse(field.body)) + b"\r\n"
    if name in _TEXT_FIELDS:
        return field.name + b": " + encode_words(words.decode(header.unfold(field.body)).strip()) + b"\r\n"
    if name in _PARAMETER_FIELDS:
        return field.name + b": " + _with_ascii_parameters(header.unfold(field.body)) + b"\r\n"
    return b""  # RFC 6858 §2.4: what has no ASCII form is left out


def _addresses(found: Sequence[Address]) -> bytes:
    shown: list[bytes] = []
    group: list[bytes] | None = None
    opening = b""
    for address in found:
        if address == GROUP_END:
            shown.append(opening + b" " + b", ".join(group or ()) + b";")
            group = None
        elif address.host is None:
            opening, group = _phrase(address.mailbox or b"") + b":", []
        else:
            (shown if group is None else group).append(_address(address))
    if group is not None:
        shown.append(opening + b" " + b", ".join(group) + b";")
    return (b"," + _FOLD).join(shown)


def _address(address: Address) -> bytes:
    spec = (address.mailbox or b"") + b"@" + (address.host or b"")
    if not spec.isascii():
        return _phrase(address.name or spec) + b" " + _NOBODY
    mailbox = address.mailbox or b""
    local = mailbox if _DOT_ATOM.fullmatch(mailbox) else _quoted(mailbox)
    spec = b"<" + local + b"@" + (address.host or b"") + b">"
    return _phrase(address.name) + b" " + spec if address.name else spec


_DOT_ATOM = re.compile(rb"[!#-'*+\-/-9=?A-Z^-~]+(?:\.[!#-'*+\-/-9=?A-Z^-~]+)*")


def _phrase(name: bytes) -> bytes:
    text = words.decode(name)
    if not text.isascii():
        return encode_words(text)
    return name if b"=?" in name else _quoted(name)


def _quoted(text: bytes) -> bytes:
    return b'"' + text.replace(b"\\", b"\\\\").replace(b'"', b'\\"') + b'"'


def _with_ascii_parameters(value: bytes) -> bytes:
    """RFC 6858 §2.2: a parameter that is not ASCII is written as RFC 2231 §4 has it."""
    head, separator, rest = value.partition(b";")
    parameters = []
    for match in _PARAMETER.finditer(rest):
        name, quoted, token = match.groups()
        text = token if quoted is None else _ESCAPED.sub(rb"\1", quoted)
        if match[0].isascii():
            parameters.append(match[0])
        elif name.isascii() and b"*" not in name:
            parameters.append(name + b"*=utf-8''" + b"".join(map(_percent, text)))
    return head.decode().encode("ascii", "replace") + b"".join(separator + _FOLD + each for each in parameters)


def _percent(octet: int) -> bytes:
    return b"%c" % octet if (chr(octet).isascii() and chr(octet).isalnum()) or octet in b"-._" else b"%%%02X" % octet


def encode_words(text: str) -> bytes:
    """Encoded words in UTF-8 (RFC 2047 §2), folded; each holds whole characters (RFC 2047 §5)."""
    pieces = [b""]
    for character in text:
        octets = character.encode(errors="replace")
        if len(pieces[-1]) + len(octets) > _WORD_OCTETS:
            pieces.append(b"")
        pieces[-1] += octets
    return _FOLD.join(b"=?utf-8?b?" + binascii.b2a_base64(piece, newline=False) + b"?=" for piece in pieces)
