"""IMAP URLs that name octets of a message, RFC 5092 §11, as CATENATE takes them (RFC 4469 §3, RFC 5550 §3 for ;PARTIAL=).

Absolute ones name the server, relative ones are completed from the selected mailbox (RFC 5092 §7.2). No URLAUTH.
"""

import re
from dataclasses import dataclass

from protocol.imap.cursor import CommandError, Cursor
from protocol.imap.fetch import WHOLE, Section, expect_section
from protocol.imap.limits import Limits
from protocol.imap.names import canonical

MAX_URL_OCTETS = 8192  # ours

_NUMBER = rb"[1-9][0-9]{0,9}"
_SERVER = re.compile(rb"imap://(?:([^@/]*)@)?(\[[^\]/]*\]|[^:/@]*)(?::([0-9]{1,5}))?(?=/|\Z)", re.IGNORECASE)
# imessagepart = [imailbox-ref] "/" iuid ["/" isection] ["/" ipartial]; where the mailbox is left out, so is its "/"
_MESSAGE = re.compile(
    rb"(?:(?P<mailbox>[^;?#]*?)(?:;UIDVALIDITY=(?P<uidvalidity>%(n)b))?/)?;UID=(?P<uid>%(n)b)"
    rb"(?:/;SECTION=(?P<section>[^;?#]+?))?(?:/;PARTIAL=(?P<first>[0-9]{1,18})(?:\.(?P<count>[1-9][0-9]{0,17}))?)?"
    % {b"n": _NUMBER},
    re.IGNORECASE,
)
_ESCAPE = re.compile(rb"%([0-9A-Fa-f]{2})")
_LONE_PERCENT = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_UNSAYABLE = re.compile(rb"[^!-Z^-~]")  # what a response code cannot hold: controls, space, brackets, octets above 0x7e


class UrlError(Exception):
    """The URL names no octets of a message, or not by a form that we read."""


@dataclass(frozen=True, slots=True)
class Server:
    """The iserver part of an absolute URL."""

    user: str | None
    host: str  # lower case; an IPv6 address with its brackets


@dataclass(frozen=True, slots=True)
class MessageUrl:
    """The octets of a message that a URL names."""

    server: Server | None  # None: this one
    mailbox: str | None  # Unicode; None: the selected one
    uidvalidity: int | None
    uid: int
    section: Section = WHOLE
    partial: tuple[int, int | None] | None = None  # first octet from 0, and how many, or None for all


def parse(url: bytes, selected: str | None = None) -> MessageUrl:
    """Read a URL; `selected` is the name of the selected mailbox, if there is one. Raises UrlError, and nothing else."""
    if len(url) > MAX_URL_OCTETS or _LONE_PERCENT.search(url):
        raise UrlError("too long, or an escape without digits")
    server, path, is_absolute = None, url, False
    if found := _SERVER.match(url):
        server = Server(_text(found[1].partition(b";")[0]) or None if found[1] else None, _text(found[2]).lower())
        path, is_absolute = url[found.end() :], True
    if path.startswith(b"/"):
        path, is_absolute = path[1:], True
    if not is_absolute and b":" in path.partition(b"/")[0]:  # it would be a scheme, RFC 3986 §4.2
        raise UrlError("another scheme")
    found = _MESSAGE.fullmatch(path)
    if found is None:
        raise UrlError("no message part")
    first, count = found["first"], found["count"]
    return MessageUrl(
        server,
        _mailbox(found["mailbox"], selected, is_absolute=is_absolute),
        int(found["uidvalidity"]) if found["uidvalidity"] else None,
        int(found["uid"]),
        _section(_octets(found["section"])) if found["section"] else WHOLE,
        (int(first), int(count) if count else None) if first else None,
    )


def _mailbox(written: bytes | None, selected: str | None, *, is_absolute: bool) -> str | None:
    """The mailbox's name. A relative one stands beside the selected mailbox (RFC 3986 §5.2.3)."""
    if not written:
        if is_absolute or selected is None:
            raise UrlError("no mailbox")
        return None
    name = _text(written)
    if "\0" in name:
        raise UrlError("NUL in the mailbox name")
    if not is_absolute and selected is not None:
        name = selected[: selected.rfind("/") + 1] + name
    return canonical(name)


def _section(written: bytes) -> Section:
    cursor = Cursor(b"[" + written + b"]", {}, Limits())
    try:
        section = expect_section(cursor)
        cursor.expect_end()
    except CommandError as error:
        raise UrlError("no section") from error
    return section


def _octets(escaped: bytes) -> bytes:
    return _ESCAPE.sub(lambda found: bytes.fromhex(found[1].decode("ascii")), escaped)


def _text(escaped: bytes) -> str:
    try:
        return _octets(escaped).decode("utf-8")
    except UnicodeDecodeError as error:
        raise UrlError("not UTF-8") from error


def badurl(url: bytes) -> bytes:
    """The code BADURL, RFC 4469 §4, with the URL, what cannot stand in a response code escaped."""
    return b"BADURL " + _UNSAYABLE.sub(lambda octet: b"%%%02X" % octet[0][0], url[:MAX_URL_OCTETS])
