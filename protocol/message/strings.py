"""IMAP strings for rendered items, RFC 3501 §4.3: quoted where the grammar allows it, else a literal.

Values may hold any octets. A NUL, which neither form may carry, becomes U+FFFD.
"""

import re
from collections.abc import Callable
from functools import lru_cache
from typing import TypeVar

_PLAIN = re.compile(rb"[\x01-\x09\x0b\x0c\x0e-!#-\[\]-\x7f]*+").fullmatch  # quotable without a backslash
_QUOTABLE = re.compile(rb"[\x01-\x09\x0b\x0c\x0e-\x7f]*+").fullmatch
_SPECIALS = re.compile(rb'(["\\])')
_LINE_END = re.compile(rb"\r\n|[\r\n]")
_WHITE = re.compile(rb"[ \t\r\n]+")
_UNTIDY = re.compile(rb"[\t\r\n]|  |\A | \Z").search

NIL = b"NIL"

_MAX_REMEMBERED_OCTETS = 128
_Result = TypeVar("_Result")


def remembering(maxsize: int) -> Callable[[Callable[[bytes], _Result]], Callable[[bytes], _Result]]:
    """An lru_cache for functions of octets that keeps short arguments only, so that no mail can fill the memory."""

    def decorate(function: Callable[[bytes], _Result]) -> Callable[[bytes], _Result]:
        cached = lru_cache(maxsize)(function)

        def remembered(octets: bytes) -> _Result:
            return cached(octets) if len(octets) <= _MAX_REMEMBERED_OCTETS else function(octets)

        return remembered

    return decorate


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
