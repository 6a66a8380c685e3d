"""ENVELOPE and BODYSTRUCTURE of a scanned message, RFC 3501 §7.4.2 and RFC 9051 §7.5.2; and the packed tree.

Rendered once, at intake. Strings come out as strings.string() makes them, so the result may hold literals.
"""

import re

import msgspec

from protocol.message import envelope, header
from protocol.message.content import Parameters
from protocol.message.mime import Buffer, Part
from protocol.message.strings import NIL, nstring, remembering, string

_CHARSET = b'"charset" "us-ascii"'  # the default of text/*, RFC 2045 §5.2
_DEFAULT_PARAMETERS = b"(" + _CHARSET + b")"
_NO_PARTS = b'("text" "plain" (' + _CHARSET + b') NIL NIL "7bit" 0 0'  # a body must have one, RFC 3501 §9
_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(Part)


def render_envelope(octets: Buffer, part: Part) -> bytes:
    """Render the ENVELOPE of the message whose root is part, with its outer parentheses."""
    stop = min(part.body_start, part.header_start + header.MAX_HEADER_OCTETS)
    return envelope.render(header.read(octets[part.header_start : stop]))


def render_bodystructure(part: Part) -> bytes:
    """Render BODYSTRUCTURE, extension data included, with its outer parentheses."""
    if part.is_multipart:
        parts = b"".join([render_bodystructure(child) for child in part.children])
        return b"(%b %b %b %b)" % (
            parts or _NO_PARTS + b" NIL NIL NIL NIL)",
            string(part.subtype),
            _parameters(part.parameters),
            _common(part),
        )
    is_text = part.is_text
    media = b'"message" ' + string(part.subtype.lower()) if part.is_message else _media(part)
    parameters = _text_parameters(part.parameters) if is_text else _parameters(part.parameters)
    encoding = b'"7bit"' if part.encoding is None else _token(part.encoding)
    size = part.end - part.body_start
    head = b"(%b %b %b %b %b %d" % (media, parameters, nstring(part.id), nstring(part.description), encoding, size)
    if is_text:
        head += b" %d" % part.lines
    elif part.is_message:
        child = part.children[0]
        head += b" %b %b %d" % (child.envelope or _NO_ENVELOPE, render_bodystructure(child), part.lines)
    return b"%b %b %b)" % (head, nstring(part.md5), _common(part))


_token = remembering(maxsize=256)(string)  # media types and encodings: few, and in every part
_NO_ENVELOPE = b"(" + b" ".join([NIL] * 10) + b")"


def _media(part: Part) -> bytes:
    return _token(part.type) + b" " + _token(part.subtype)


def _common(part: Part) -> bytes:
    """body-fld-dsp SP body-fld-lang SP body-fld-loc."""
    shown = NIL
    if part.disposition is not None:
        shown = b"(%b %b)" % (string(part.disposition[0]), _parameters(part.disposition[1]))
    if part.language is None and part.location is None:
        return shown + b" NIL NIL"
    languages = NIL if part.language is None else b"(" + b" ".join([string(tag) for tag in part.language]) + b")"
    return b"%b %b %b" % (shown, languages, nstring(part.location))


def _parameters(parameters: Parameters) -> bytes:
    if not parameters:
        return NIL
    return b"(" + b" ".join([b"%b %b" % (string(name), string(value)) for name, value in parameters]) + b")"


def _text_parameters(parameters: Parameters) -> bytes:
    """The parameters of text/*: the charset is shown even where the field leaves it out."""
    if not parameters:
        return _DEFAULT_PARAMETERS
    if len(parameters) == 1 and parameters[0][0] == b"charset":
        return _charset_alone(parameters[0][1])
    rendered = _parameters(parameters)
    if any(name.lower() == b"charset" for name, _ in parameters):
        return rendered
    return rendered[:-1] + b" " + _CHARSET + b")"


@remembering(maxsize=64)
def _charset_alone(charset: bytes) -> bytes:
    return b'("charset" %b)' % string(charset)


def pack(part: Part) -> bytes:
    """Serialise a tree of parts for storage."""
    return _ENCODER.encode(part)


def unpack(packed: bytes) -> Part:
    """Give back the tree that pack() serialised. Raises msgspec.DecodeError on anything else."""
    return _DECODER.decode(packed)


_ITEM = re.compile(rb'\(|\)| |"(?:[^"\\]|\\.)*"|NIL|\d+|\{(\d+)\}\r\n')


def body_of(bodystructure: bytes) -> bytes:
    """Derive BODY, the same without extension data, from a BODYSTRUCTURE that render_bodystructure() made."""
    return _Reader(bodystructure).body()


class _Reader:
    """A cursor over a rendered BODYSTRUCTURE."""

    __slots__ = ("at", "octets")

    def __init__(self, octets: bytes) -> None:
        self.octets = octets
        self.at = 0

    def body(self) -> bytes:
        """Read one body and give it without its extension data."""
        self.at += 1  # "("
        if self.octets[self.at] == 40:  # "(": a multipart begins with its first part
            parts = []
            while self.octets[self.at] == 40:
                parts.append(self.body())
            self.at += 1
            kept = b"(%b %b)" % (b"".join(parts), self.item())
        else:
            kept = b"(%b)" % self.single()
        while self.octets[self.at] != 41:  # ")"
            self.at += 1
            self.item()
        self.at += 1
        return kept

    def single(self) -> bytes:
        """Read body-type-basic, body-type-text or body-type-msg up to its extension data."""
        main = self.item()
        self.at += 1
        subtype = self.item()
        kept = main + b" " + subtype
        for _ in range(5):  # parameters, id, description, encoding, octets
            self.at += 1
            kept += b" " + self.item()
        if main.lower() == b'"text"':
            self.at += 1
            kept += b" " + self.item()
        elif main == b'"message"' and subtype in (b'"rfc822"', b'"global"'):
            self.at += 1
            kept += b" " + self.item()
            self.at += 1
            kept += b" " + self.body()
            self.at += 1
            kept += b" " + self.item()
        return kept

    def item(self) -> bytes:
        """Read one string, number, NIL or parenthesised list."""
        start = self.at
        depth = 0
        while True:
            match = _ITEM.match(self.octets, self.at)
            if match is None:
                raise ValueError(f"not a BODYSTRUCTURE of ours at octet {self.at}")
            self.at = match.end()
            if match[1] is not None:
                self.at += int(match[1])
            elif match[0] == b"(":
                depth += 1
            elif match[0] == b")":
                depth -= 1
            if not depth:
                return self.octets[start : self.at]
