"""Flags and keywords, RFC 3501 §2.3.2: system flags as the bits that are stored, keywords as they are spelled."""

from collections.abc import Iterable
from functools import lru_cache

from protocol.imap.cursor import Cursor, expect_atom, expect_list, take_atom

SYSTEM_FLAGS = {rb"\Seen": 1, rb"\Answered": 2, rb"\Flagged": 4, rb"\Deleted": 8, rb"\Draft": 16}
RECENT = rb"\Recent"  # no stored flag, and no client may set it (RFC 3501 §2.3.2)
KEYWORD_OCTETS = 128  # ours: the longest keyword

_CANONICAL = {name.upper(): name for name in SYSTEM_FLAGS}
# RFC 9051 §2.3.2 has these keywords case-insensitive; one spelling of each is stored.
_REGISTERED = (b"$Forwarded", b"$MDNSent", b"$Junk", b"$NotJunk", b"$Phishing")
_KEYWORDS = {name.upper(): name for name in _REGISTERED}


def bits_of(flags: Iterable[bytes]) -> tuple[int, list[str]]:
    """Flags as the parser gives them, as (bits of the system flags, keywords), the keywords in order and once each."""
    bits = 0
    keywords: dict[str, None] = {}
    for flag in flags:
        bit = SYSTEM_FLAGS.get(flag)
        if bit is None:
            keywords[flag.decode("ascii")] = None
        else:
            bits |= bit
    return bits, list(keywords)


@lru_cache(maxsize=4096)
def render_flags(bits: int, keywords: tuple[str, ...] = (), is_recent: bool = False) -> bytes:
    """`(\\Seen $Forwarded \\Recent)`: system flags by bit order, keywords, then \\Recent."""
    names = [name for name, bit in SYSTEM_FLAGS.items() if bits & bit]
    names += [keyword.encode("ascii") for keyword in keywords]
    if is_recent:
        names.append(RECENT)
    return b"(" + b" ".join(names) + b")"


# flag         = "\Answered" / "\Flagged" / "\Deleted" / "\Seen" / "\Draft" / flag-keyword / flag-extension
# flag-keyword = atom
def expect_flag(cursor: Cursor) -> bytes:
    r"""A flag in its canonical spelling. \Recent is returned as it is: the lists drop it."""
    if not cursor.take(b"\\"):
        return expect_keyword(cursor)
    name = b"\\" + expect_atom(cursor, "a flag").upper()
    if name == rb"\RECENT":
        return RECENT
    flag = _CANONICAL.get(name)
    if flag is None:  # flag-extension: "server implementations MUST NOT generate" it, and there is nothing to store
        cursor.refuse("unknown system flag")
    return flag


def expect_keyword(cursor: Cursor) -> bytes:
    """A keyword: an atom of ASCII, since it goes back to clients that know nothing else in a flag list."""
    atom = take_atom(cursor)
    if atom is None or not atom.isascii():
        cursor.fail("a flag")
    if len(atom) > KEYWORD_OCTETS:
        cursor.refuse("keyword too long")
    return _KEYWORDS.get(atom.upper(), atom)


# flag-list = "(" [flag *(SP flag)] ")"
def expect_flag_list(cursor: Cursor) -> tuple[bytes, ...]:
    r"""Flags in parentheses, each once, without \Recent.

    Clients that copy mail from another server send its \Recent along with the rest; it may not be set, and refusing the
    message for it would help nobody.
    """
    return _settable(expect_list(cursor, expect_flag, may_be_empty=True))


# store-att-flags = … (flag-list / (flag *(SP flag)))
def expect_flags_to_store(cursor: Cursor) -> tuple[bytes, ...]:
    """Flags with or without parentheses, to the end of STORE."""
    if cursor.is_next(b"("):
        return expect_flag_list(cursor)
    flags = [expect_flag(cursor)]
    while not cursor.is_at_end():
        cursor.expect_space()
        cursor.count_item()
        flags.append(expect_flag(cursor))
    return _settable(flags)


def _settable(flags: Iterable[bytes]) -> tuple[bytes, ...]:
    return tuple(flag for flag in dict.fromkeys(flags) if flag is not RECENT)
