"""The reply that refuses a message by a rule of its recipient, RFC 5429 §2.1.1, in the words of that rule as far as possible."""

import textwrap

from protocol.smtp.reply import Reply
from protocol.status import enhanced

_STATUS = enhanced("5.7.1")
_LINE_CHARACTERS = 400  # of a reply line, RFC 5321 §4.5.3.1.5 allows 512 octets in all
_LINES = 20
_GENERIC = "message refused by a rule of the recipient"


def rejection(reason: str) -> Reply:
    """What is not ASCII, which few senders could read in a reply, becomes "?"; what is nothing else becomes our own words."""
    lines: list[str] = []
    for line in reason.splitlines():
        printable = "".join(each if each.isprintable() else " " for each in line).encode("ascii", "replace").decode()
        lines += textwrap.wrap(printable, _LINE_CHARACTERS)
    if not any(each.isalnum() for line in lines for each in line):
        lines = [_GENERIC]
    return Reply(550, _STATUS, tuple(lines[:_LINES]))
