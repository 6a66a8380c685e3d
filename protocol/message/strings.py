"""IMAP strings for rendered items, RFC 3501 §4.3: quoted where the grammar allows it, else a literal.

Values may hold any octets. A NUL, which neither form may carry, becomes U+FFFD.
"""

import re

_PLAIN = re.compile(rb"[\x01-\x09\x0b\x0c\x0e-!#-\[\]-\x7f]*+").fullmatch  # quotable without a backslash
_QUOTABLE = re.compile(rb"[\x01-\x09\x0b\x0c\x0e-\x7f]*+").fullmatch
_SPECIALS = re.compile(rb'(["\\])')
_LINE_END = re.compile(rb"\r\n|[\r\n]")
_WHITE = re.compile(rb"[ \t\r\n]+")
_UNTIDY = re.compile(rb"[\t\r\n]|  |\A | \Z").search

NIL = b"NIL"


def string(value: bytes) -> bytes:
    """Render a value as quoted string or literal."""
    if _PLAIN(value) is not None:
        return b'"%b"' % value
    if _QUOTABLE(value) is None:
        if b"\0" in value:
            value = value.replace(b"\0", "\ufffd".encode())
        if b"\r" in value or b"\n" in value:  # a quoted string cannot hold them, and no header value means them
            value = _LINE_END.sub(b" ", value)
        if _QUOTABLE(value) is None:
            return b"{%d}\r\n%b" % (len(value), value)
    return b'"%b"' % _SPECIALS.sub(rb"\\\1", value)


def nstring(value: bytes | None) -> bytes:
    """Render a value or NIL."""
    return NIL if value is None else string(value)


def tidy_nstring(value: bytes | None) -> bytes:
    """Render text that people read: runs of white space become one space, none at either end."""
    if value is None:
        return NIL
    if _UNTIDY(value) is not None:
        value = _WHITE.sub(b" ", value).strip(b" ")
    return string(value)
