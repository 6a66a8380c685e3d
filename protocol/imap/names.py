"""Mailbox names: modified UTF-7 (RFC 3501 §5.1.3) to Unicode and back, and INBOX in its one spelling."""

import binascii
import re

from protocol.imap.cursor import Cursor, expect_astring, expect_list_mailbox

DELIMITER = "/"

_ENCODED = re.compile(rb"&([A-Za-z0-9+,]*)-")
_PRINTABLE = re.compile(rb"[\x20-\x7e]*")
_UNPRINTABLE = re.compile(r"[^\x20-\x7e]+")


def decode(octets: bytes) -> str:
    """Modified UTF-7 to Unicode. Raises ValueError for everything that no encoder produces.

    That is: octets outside printable ASCII, an unfinished "&", padding or bits left over, half a surrogate pair, printable
    ASCII in base64, and two encoded runs side by side ("&AAA-&AAA-"): RFC 3501 §5.1.3 forbids them, so that each name has
    one spelling.
    """
    if not _PRINTABLE.fullmatch(octets):
        raise ValueError("octets outside printable ASCII")
    if b"&" not in octets:
        return octets.decode("ascii")
    pieces = []
    position = 0
    encoded_end = -1  # where the last encoded run ended
    while (start := octets.find(b"&", position)) >= 0:
        found = _ENCODED.match(octets, start)
        if found is None:
            raise ValueError("unfinished or misspelled base64")
        pieces.append(octets[position:start].decode("ascii"))
        position = found.end()
        if not found[1]:
            pieces.append("&")
            continue
        if encoded_end == start:
            raise ValueError("superfluous shift")
        encoded_end = position
        pieces.append(_decode_run(found[1]))
    pieces.append(octets[position:].decode("ascii"))
    return "".join(pieces)


def _decode_run(run: bytes) -> str:
    utf16 = binascii.a2b_base64(run.replace(b",", b"/") + b"=" * (-len(run) % 4), strict_mode=True)
    text = utf16.decode("utf-16-be")
    if _encode_run(text) != b"&" + run + b"-" or not _UNPRINTABLE.fullmatch(text):
        raise ValueError("another spelling than the one allowed")
    return text


def _encode_run(text: str) -> bytes:
    utf16 = text.encode("utf-16-be", "surrogatepass")
    return b"&" + binascii.b2a_base64(utf16, newline=False).rstrip(b"=").replace(b"/", b",") + b"-"


def encode(name: str) -> bytes:
    """Unicode to modified UTF-7."""
    if name.isascii() and name.isprintable():
        return name.replace("&", "&-").encode("ascii")
    pieces = []
    position = 0
    for found in _UNPRINTABLE.finditer(name):
        pieces.append(name[position : found.start()].replace("&", "&-").encode("ascii"))
        pieces.append(_encode_run(found[0]))
        position = found.end()
    pieces.append(name[position:].replace("&", "&-").encode("ascii"))
    return b"".join(pieces)


def canonical(name: str) -> str:
    """INBOX in any case as "INBOX", alone or as the first level (RFC 3501 §5.1); any other name as it is."""
    if name[:5].upper() == "INBOX" and (len(name) == 5 or name[5] == DELIMITER):
        return "INBOX" + name[5:]
    return name


def name_of(cursor: Cursor, octets: bytes) -> str:
    """The Unicode name behind the octets that a client sent.

    What is no modified UTF-7 is kept literally: clients create "A&B" without encoding it, and some send UTF-8 without
    having enabled it; both must find again what they created. Raises CommandError for what is no text at all.
    """
    text: str | None = None
    if not cursor.is_utf8:
        try:
            text = decode(octets)
        except ValueError:
            if cursor.is_strict:
                cursor.refuse("mailbox name is not modified UTF-7")
    if text is None:
        try:
            text = octets.decode("utf-8")
        except UnicodeDecodeError:
            cursor.refuse("mailbox name is neither modified UTF-7 nor UTF-8")
    if "\x00" in text:
        cursor.refuse("NUL in a mailbox name")
    return text


# mailbox = "INBOX" / astring
def expect_mailbox(cursor: Cursor) -> str:
    """A mailbox name, in Unicode, INBOX in capitals."""
    return canonical(name_of(cursor, expect_astring(cursor, "a mailbox name")))


def expect_pattern(cursor: Cursor) -> str:
    """A LIST pattern, in Unicode; its wildcards are ASCII and stay."""
    return name_of(cursor, expect_list_mailbox(cursor))


def expect_reference(cursor: Cursor) -> str:
    """LIST's reference: a mailbox name or prefix, often empty."""
    return name_of(cursor, expect_astring(cursor, "a reference name"))
