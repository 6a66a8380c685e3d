"""What stands before, between and within the messages of APPEND and REPLACE; the reader takes the messages themselves.

APPEND: RFC 3501 §6.3.11, RFC 3502 §6.3.11 (several messages), RFC 4469 §3 (CATENATE), RFC 6855 §4 (UTF8). REPLACE: RFC 8508 §3.
"""

import re
from dataclasses import dataclass
from datetime import datetime

from protocol.imap.cursor import Cursor, expect_number
from protocol.imap.dates import take_date_time
from protocol.imap.flags import expect_flag_list

_APPENDING = re.compile(rb"[^ ]+ +(?:APPEND|(?:UID +)?REPLACE) ", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Replaced:
    """The message that REPLACE takes away."""

    number: int | None  # None for "*": the last message
    is_uid: bool = False


def takes_messages(line: bytes) -> bool:
    """Whether a line begins a command that carries messages."""
    return _APPENDING.match(line) is not None


# append  = "APPEND" SP mailbox 1*append-message                                        (RFC 3502 §6.3.11)
# replace = "REPLACE" SP seq-number SP mailbox append-message, and "UID" SP "REPLACE" …  (RFC 8508 §3.6)
def take_replaced(cursor: Cursor, verb: bytes) -> Replaced | None:
    """What stands between the verb, which the cursor is behind, and the mailbox; None for APPEND."""
    if verb == b"APPEND":
        return None
    is_uid = verb == b"UID"
    if is_uid:
        cursor.expect_space()
        if not cursor.take_keyword(b"REPLACE"):
            cursor.fail("REPLACE")
    cursor.expect_space()
    if cursor.take(b"*"):
        return Replaced(None, is_uid)
    return Replaced(expect_number(cursor, "a message number", least=1), is_uid)


# append-message = [SP flag-list] [SP date-time] SP append-data
def expect_append_opts(cursor: Cursor) -> tuple[tuple[bytes, ...], datetime | None]:
    """Flags and date-time in front of append-data, the space before them included."""
    cursor.expect_space()
    flags: tuple[bytes, ...] = ()
    if cursor.is_next(b"("):
        flags = expect_flag_list(cursor)
        cursor.expect_space()
    internaldate = take_date_time(cursor)
    if internaldate is not None:
        cursor.expect_space()
    return flags, internaldate
