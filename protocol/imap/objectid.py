"""Object identifiers, RFC 8474: EMAILID, THREADID and MAILBOXID, made from what is immutable, without a table of their own.

An objectid is of ALPHA, DIGIT, "_" and "-" (§7). Ours begin with a letter for the kind, go on in lower case only (§4 warns of
identifiers that differ in case alone), and two kinds are never equal.
"""

import re
from hashlib import blake2b

_REFERRING = re.compile(
    rb"^(References|In-Reply-To|Message-ID)[ \t]*+:([^\n]*+\n(?:[ \t][^\n]*+\n)*+)", re.IGNORECASE | re.MULTILINE
)
_MSG_ID = re.compile(rb"<([^<>]{1,998})>")
_OBJECTID = re.compile(rb"[A-Za-z0-9_-]{1,255}")
_EMAIL_ID = re.compile(rb"M([1-9a-f][0-9a-f]{0,15})")
_MAILBOX_ID = re.compile(rb"F([1-9a-f][0-9a-f]{0,15})")
_HASH_OCTETS = 12  # of a thread's root: two threads of a mailbox of a billion messages meet with a chance of 1 : 10^10


def email_id(content_id: int) -> bytes:
    """EMAILID, RFC 8474 §5.1: one per content, so copies and moved messages keep it."""
    return b"M%x" % content_id


def mailbox_id(number: int) -> bytes:
    """MAILBOXID, RFC 8474 §4: one per mailbox row, so it outlives RENAME and is never given to another mailbox."""
    return b"F%x" % number


def thread_id(header_cache: bytes, content_id: int) -> bytes:
    """THREADID, RFC 8474 §5.2: a digest of the msg-id that the message names as the beginning of its conversation.

    That is the first of References, else the first of In-Reply-To, else its own (RFC 5322 §3.6.4), so all messages of a
    conversation whose writers kept the references get the same one, in whatever order and mailbox they come, and it never
    changes. A message that names none is a thread by itself.
    """
    root = _root(header_cache)
    if root is None:
        return b"T-%x" % content_id
    return b"T" + blake2b(root, digest_size=_HASH_OCTETS).hexdigest().encode("ascii")


def _root(header_cache: bytes) -> bytes | None:
    found: dict[bytes, bytes] = {}
    for name, body in _REFERRING.findall(header_cache):
        first = _MSG_ID.search(body)
        if first is not None:
            found.setdefault(name.upper(), first[1])
    for name in (b"REFERENCES", b"IN-REPLY-TO", b"MESSAGE-ID"):
        if name in found:
            return b"".join(found[name].split())  # white space is not part of a msg-id, yet some fold within one
    return None


def is_objectid(octets: bytes) -> bool:
    """Whether this has the form of an objectid, RFC 8474 §7."""
    return _OBJECTID.fullmatch(octets) is not None


def content_of(octets: bytes) -> int | None:
    """The content id behind an EMAILID; None for one that we never gave."""
    return _number(_EMAIL_ID, octets)


def mailbox_of(octets: bytes) -> int | None:
    """The mailbox behind a MAILBOXID; None for one that we never gave."""
    return _number(_MAILBOX_ID, octets)


def _number(form: re.Pattern[bytes], octets: bytes) -> int | None:
    found = form.fullmatch(octets)
    if found is None:
        return None
    number = int(found[1], 16)
    return number if number < 1 << 63 else None
