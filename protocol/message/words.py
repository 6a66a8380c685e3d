"""Text out of header octets: encoded words (RFC 2047), parameter values (RFC 2231) and charsets by name.

Never fails: an unknown charset is guessed, an undecodable octet becomes U+FFFD, and what only looks like an encoded
word stays as it is. The text never holds NUL or lone surrogates, so that it can be stored anywhere.
"""

import binascii
import codecs
import re
from functools import lru_cache

from protocol.message.content import Parameters

_ENCODED_WORD = re.compile(rb"=\?([^?\s*]{1,64})(?:\*[^?\s]*)?\?([BbQq])\?([^?]*)\?=")
_WHITE_ONLY = re.compile(rb"[ \t\r\n]*")
_FOLD = re.compile(rb"\r?\n")
_HEX = re.compile(rb"=([0-9A-Fa-f]{2})")
_PERCENT = re.compile(rb"%([0-9A-Fa-f]{2})")
_NOT_BASE64 = re.compile(rb"[^A-Za-z0-9+/]")
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")

# Supersets and names that Python lacks, as browsers read them (WHATWG Encoding, "names and labels").
_ALIASES = {
    "us-ascii": "ascii",
    "ansi_x3.4-1968": "ascii",
    "iso-8859-1": "cp1252",
    "iso8859-1": "cp1252",
    "latin1": "cp1252",
    "latin-1": "cp1252",
    "iso-8859-8-i": "iso-8859-8",
    "iso-8859-9": "cp1254",
    "tis-620": "cp874",
    "windows-874": "cp874",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "x-gbk": "gb18030",
    "gb_2312-80": "gb18030",
    "chinesebig5": "big5hkscs",
    "big5": "big5hkscs",
    "ks_c_5601-1987": "cp949",
    "euc-kr": "cp949",
    "x-windows-949": "cp949",
    "shift_jis": "cp932",
    "shift-jis": "cp932",
    "x-sjis": "cp932",
    "windows-31j": "cp932",
    "iso-2022-jp": "iso2022_jp_ext",
    "unicode-1-1-utf-7": "utf-7",
    "utf8mb4": "utf-8",
    "unicode": "utf-8",
    "x-mac-roman": "mac_roman",
    "macintosh": "mac_roman",
}
# Python codecs that are no charsets: they transform, take quadratic time, or read escapes that no mail means.
_REFUSED = frozenset({"idna", "punycode", "unicode_escape", "raw_unicode_escape", "undefined", "mbcs", "oem"})


@lru_cache(maxsize=256)
def codec(charset: str) -> str | None:
    """The Python codec for a charset name, or None when there is none that we let mail choose."""
    name = charset.strip().strip("\"'").lower()
    try:
        found = codecs.lookup(_ALIASES.get(name, name))
    except (LookupError, ValueError):  # ValueError: a NUL in the name
        return None
    if found.name.replace("-", "_") in _REFUSED or not getattr(found, "_is_text_encoding", True):
        return None
    return found.name


def decode_octets(octets: bytes, charset: bytes | None) -> str:
    """Decode by a charset name; without a known one, or when us-ascii is not kept to, UTF-8 and then windows-1252."""
    name = codec(charset.decode("ascii", "replace")) if charset else None
    if name is None or name in ("ascii", "utf-8"):
        try:
            text = octets.decode("utf-8")
        except UnicodeDecodeError:
            text = octets.decode("utf-8", "replace") if name == "utf-8" else octets.decode("cp1252", "replace")
    else:
        try:
            text = octets.decode(name, "replace")
        except (UnicodeError, LookupError, ValueError):  # a few stateful codecs raise in spite of "replace"
            text = octets.decode("latin-1")
    return storable(text)


def storable(text: str) -> str:
    """Take out what a text column cannot hold: NUL and lone surrogates."""
    if "\0" not in text:
        try:
            text.encode()  # what has no lone surrogate; sooner told than by looking for them
        except UnicodeEncodeError:
            pass
        else:
            return text
    return _UNSTORABLE.sub("", text)


def decode(value: bytes) -> str:
    """Decode a header field body: unfolded, encoded words read, other octets as UTF-8 or windows-1252."""
    if b"\n" in value:
        value = _FOLD.sub(b"", value)
    if b"=?" not in value:
        return decode_octets(value, None)
    text: list[str] = []
    word_octets: list[
        bytes
    ] = []  # of adjacent words in one charset: a character may be cut between them, against RFC 2047 §5
    word_charset = b""
    position = 0
    for match in _ENCODED_WORD.finditer(value):
        between = value[position : match.start()]
        charset = match[1].lower()
        if position and _WHITE_ONLY.fullmatch(between):  # RFC 2047 §6.2: not shown between encoded words
            between = b""
        if between or charset != word_charset:
            text.append(decode_octets(b"".join(word_octets), word_charset))
            text.append(decode_octets(between, None))
            word_octets, word_charset = [], charset
        word_octets.append(_word(match[2], match[3]))
        position = match.end()
    text.append(decode_octets(b"".join(word_octets), word_charset))
    text.append(decode_octets(value[position:], None))
    return "".join(text)


def decode_parameter(parameters: Parameters, name: bytes) -> str | None:
    """The decoded value of a parameter (lower-case name): name*, RFC 2231 §4, before name with encoded words."""
    plain: str | None = None
    for key, value in parameters:
        lowered = key.lower()
        if lowered == name + b"*":
            charset, mark, rest = value.partition(b"'")
            _, second, text = rest.partition(b"'")
            if not (mark and second):
                charset, text = b"", value
            return decode_octets(_PERCENT.sub(_unhex, text), charset or None)
        if lowered == name and plain is None:
            plain = decode(value)
    return plain


def _word(encoding: bytes, text: bytes) -> bytes:
    """The octets of one encoded word, RFC 2047 §4."""
    if encoding in b"Qq":
        return _HEX.sub(_unhex, text.replace(b"_", b" "))
    return decode_base64(text)


def decode_base64(text: bytes) -> bytes:
    """Decode base64, RFC 2045 §6.8, passing over what is not of its alphabet; padding may be missing or early."""
    try:
        return binascii.a2b_base64(text, strict_mode=True)
    except binascii.Error:
        pieces = [_NOT_BASE64.sub(b"", piece) for piece in text.split(b"=")]
        return b"".join([decode_piece(piece) for piece in pieces if piece])


def decode_quoted_printable(text: bytes) -> bytes:
    """Decode whole lines of quoted-printable, RFC 2045 §6.7: white space at their ends was added on the way (rule 3)."""
    *lines, last = text.split(b"\n")
    kept = [line[:-1].rstrip(b" \t") + b"\r" if line.endswith(b"\r") else line.rstrip(b" \t") for line in lines]
    return binascii.a2b_qp(b"\n".join([*kept, last.rstrip(b" \t")]))


def decode_piece(piece: bytes) -> bytes:
    """Decode base64 without its padding; a last character that is too little for an octet is left out."""
    if len(piece) % 4 == 1:
        piece = piece[:-1]
    return binascii.a2b_base64(piece + b"=" * (-len(piece) % 4))


def _unhex(match: re.Match[bytes]) -> bytes:
    return bytes((int(match[1], 16),))
