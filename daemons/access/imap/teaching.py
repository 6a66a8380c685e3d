"""What people do in their mailboxes teaches the spam filter: mail moved or copied into Junk and out of it, $Junk and $NotJunk."""

from collections.abc import Sequence

from daemons.access.imap.view import JUNK, View
from storage.messages import Operation
from storage.rows import Mailbox

# Registered for this, https://www.iana.org/assignments/imap-jmap-keywords. The program of a user may also set Junk and NonJunk by
# itself, as its own filter guesses: these teach nothing.
_SPAM, _WANTED = "$JUNK", "$NOTJUNK"


def sorts(source: View, target: Mailbox) -> bool:
    """Whether who copies or moves mail says what is spam."""
    return source.is_junk != (target.special_use == JUNK)


def marked(operation: Operation, keywords: Sequence[str]) -> bool | None:
    """What a change of keywords says of the messages: that they are spam (True), that they are not, or nothing."""
    if operation == "remove" or not keywords:
        return None
    said = {_SPAM, _WANTED} & {keyword.upper() for keyword in keywords}
    return _SPAM in said if len(said) == 1 else None
