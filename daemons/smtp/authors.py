"""Who a message says it is from: the addresses of From and Sender, and of their likes in resent messages (RFC 5322 §3.6.2, §3.6.6).

What cannot be read as an address is still somebody: it is given as it stands, so that nobody may send as that.
"""

import mmap
import re
from dataclasses import dataclass
from pathlib import Path

from filters.subject import HEADER_LIMIT
from protocol.address import AddrSpec
from protocol.message import address_list, header

_AUTHORS = frozenset({b"FROM", b"SENDER", b"RESENT-FROM", b"RESENT-SENDER"})
_SINGLE = frozenset({b"FROM", b"SENDER"})  # RFC 5322 §3.6: once at most; readers differ in which one they show
_SPECIAL = re.compile(rb'["(]')
_QUOTED_REST = re.compile(rb'(?:[^"\\]|\\.)*+"', re.DOTALL)
_IN_COMMENT = re.compile(rb"\\.|[()]", re.DOTALL)
# The form that nearly all mail has: one address, alone or behind a name, in which nothing is left to guess.
_DOT_ATOM = rb"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?:\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*"
_PLAIN = re.compile(
    rb'(?:(?:"[^"\\\x00-\x1f]*"|[A-Za-z0-9!#$%%&\'*+/=?^_`{|}~. -]*) ?<(%(dot)s)@(%(dot)s)>|(%(dot)s)@(%(dot)s))[ \t]*'
    % {b"dot": _DOT_ATOM}
)
_WORD = re.compile(rb'[^\s<>,;:"()@]*@[^\s<>,;:"()]*')


@dataclass(frozen=True, slots=True)
class Heading:
    """What submission wants to know of a header section."""

    authors: tuple[AddrSpec, ...]  # each once
    has_from: bool
    is_ambiguous: bool  # From or Sender more than once
    has_date: bool
    has_message_id: bool


def read_heading(section: bytes) -> Heading:
    """Read a header section."""
    found = header.read(section)
    names = [name for name, _, _ in found]
    authors: dict[AddrSpec, None] = {}
    for name, body, _ in found:
        if name in _AUTHORS:
            authors |= dict.fromkeys(_addresses(body))
    return Heading(
        authors=tuple(authors),
        has_from=b"FROM" in names,
        is_ambiguous=any(names.count(name) > 1 for name in _SINGLE),
        has_date=b"DATE" in names,
        has_message_id=b"MESSAGE-ID" in names,
    )


def header_section(octets: bytes | mmap.mmap) -> bytes:
    """The header section without the empty line behind it, at most HEADER_LIMIT octets (RFC 5322 §2.1)."""
    if octets[:2] == b"\r\n":
        return b""
    end = octets.find(b"\r\n\r\n", 0, HEADER_LIMIT)
    return bytes(octets[: end + 2 if end >= 0 else HEADER_LIMIT])


def header_of(original: bytes | Path) -> bytes:
    """The same of a message in memory or in a file. Raises OSError."""
    if isinstance(original, bytes):
        return header_section(original)
    with original.open("rb") as file:
        return header_section(file.read(HEADER_LIMIT))


def _addresses(body: bytes) -> list[AddrSpec]:
    """Everybody whom some reader could take for an author: the addresses, and any word with an @ that is no comment and not quoted.

    Broken fields are read in as many ways as there are mail programs: `From: me@here <you@there>` is from both.
    """
    body = header.unfold(body)
    plain = _PLAIN.fullmatch(body)
    if plain is not None:
        return [AddrSpec(_text(plain[1] or plain[3]), _text(plain[2] or plain[4]))]
    parsed = [
        AddrSpec(_text(address.mailbox), _text(address.host))
        for address in address_list.parse(body)
        if address.host is not None  # otherwise a group begins or ends
    ]
    words = [word.rpartition(b"@") for word in _WORD.findall(_bare(body))]
    return parsed + [AddrSpec(_text(local), _text(domain)) for local, _, domain in words if local]


def _bare(body: bytes) -> bytes:
    """The body without its quoted strings and comments. What is opened and not closed is left as it stands."""
    kept: list[bytes] = []
    at = 0
    while at < len(body):
        special = _SPECIAL.search(body, at)
        if special is None:
            break
        kept.append(body[at : special.start()])
        end = _end_of_quoted(body, special.end()) if special[0] == b'"' else _end_of_comment(body, special.end())
        if end is None:
            at = special.start()
            break
        kept.append(b" " if special[0] == b"(" else b"")
        at = end
    return b"".join([*kept, body[at:]])


def _end_of_quoted(body: bytes, at: int) -> int | None:
    found = _QUOTED_REST.match(body, at)
    return None if found is None else found.end()


def _end_of_comment(body: bytes, at: int) -> int | None:
    depth = 1
    for found in _IN_COMMENT.finditer(body, at):
        depth += {b"(": 1, b")": -1}.get(found[0], 0)
        if not depth:
            return found.end()
    return None


def _text(octets: bytes | None) -> str:
    return (octets or b"").decode("utf-8", "replace")
