"""Reads rendered IMAP lists back, so that tests compare meaning and not the choice between quoted and literal."""

import re
from typing import Any

_TOKEN = re.compile(rb'\(|\)| |"((?:[^"\\]|\\.)*)"|NIL|(\d+)|\{(\d+)\}\r\n', re.DOTALL)
_ESCAPED = re.compile(rb"\\(.)", re.DOTALL)


def read(octets: bytes) -> list[Any]:
    """Give the values in octets: bytes for strings, int, None for NIL, list for parenthesised lists."""
    stack: list[list[Any]] = [[]]
    at = 0
    while at < len(octets):
        match = _TOKEN.match(octets, at)
        assert match is not None, octets[at : at + 60]
        at = match.end()
        if match[0] == b"(":
            stack.append([])
        elif match[0] == b")":
            closed = stack.pop()
            stack[-1].append(closed)
        elif match[1] is not None:
            stack[-1].append(_ESCAPED.sub(rb"\1", match[1]))
        elif match[2] is not None:
            stack[-1].append(int(match[2]))
        elif match[3] is not None:
            size = int(match[3])
            assert at + size <= len(octets)
            stack[-1].append(octets[at : at + size])
            at += size
        elif match[0] == b"NIL":
            stack[-1].append(None)
    assert len(stack) == 1
    return stack[0]


def one(octets: bytes) -> list[Any]:
    """Give the only list in octets."""
    (value,) = read(octets)
    assert isinstance(value, list)
    return value


def comparable(body: list[Any]) -> list[Any]:
    """A BODYSTRUCTURE with what may differ without meaning made equal.

    Media types compare in lower case. The octets and lines of a message/rfc822 are left out: Dovecot counts the line
    end in front of the next delimiter line when a multipart ends the message, RFC 2046 §5.1.1 does not.
    """
    if isinstance(body[0], list):
        return [
            comparable(item) if isinstance(item, list) and index < _parts(body) else item
            for index, item in enumerate(body)
        ]
    shown = [body[0].lower(), body[1].lower(), *body[2:]]
    if shown[2] == [b"charset", b"US-ASCII"]:
        shown[2] = [b"charset", b"us-ascii"]
    if shown[:2] == [b"message", b"rfc822"] and isinstance(shown[7], list):
        shown[6], shown[8], shown[9] = 0, comparable(shown[8]), 0
    return shown


def _parts(body: list[Any]) -> int:
    return next(index for index, item in enumerate(body) if not isinstance(item, list))
