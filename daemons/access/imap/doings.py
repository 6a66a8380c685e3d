"""What a session has done itself and need not be told of (RFC 5465 §5), from the command until the next comparison."""

from daemons.access.imap.session import Completion
from protocol.imap import command
from protocol.imap.command import Command
from protocol.imap.events import AppendStarts
from protocol.imap.metadata import SPECIAL_USE, SetMetadata
from protocol.imap.names import DELIMITER
from storage.rows import Mailbox


class Doings:
    """Names that were created, deleted or renamed, subscriptions, and messages that were placed."""

    def __init__(self) -> None:
        self._names: set[str] = set()
        self._subscribed: set[str] = set()
        self._placed: dict[str, int] = {}  # number of messages, by target: of the last command
        self._uids: list[tuple[int, int]] = []  # theirs, in the one mailbox

    def note(self, done: AppendStarts | Command, completion: Completion) -> bool:
        """Remember a command that succeeded; says whether it may have changed names or subscriptions."""
        match done:
            case command.Create() | command.Delete():
                self._names.add(done.mailbox.rstrip(DELIMITER))
            case command.Rename():
                self._names |= {done.old, done.new}
            case command.Subscribe() | command.Unsubscribe():
                self._subscribed.add(done.mailbox.rstrip(DELIMITER))
            case SetMetadata() if SPECIAL_USE in done.values:
                self._names.add(done.mailbox)
            case AppendStarts() | command.Copy():
                self._note_placed(done.mailbox, completion.code)
                return False
            case _:
                return False
        return True

    def _note_placed(self, target: str, code: bytes | None) -> None:
        if code is None or not code.startswith((b"APPENDUID ", b"COPYUID ")):
            return
        self.clear_placed()
        for part in code.rsplit(b" ", 1)[1].split(b","):
            low, _, high = part.partition(b":")
            self._uids.append((int(low), int(high or low)))
        self._placed = {target: sum(high - low + 1 for low, high in self._uids)}

    def has_named(self, name: str) -> bool:
        """Whether the name, one above or one below it was created, deleted or renamed."""
        below = name + DELIMITER
        return any(below.startswith(own + DELIMITER) or own.startswith(below) for own in self._names)

    def has_subscribed(self, name: str) -> bool:
        """Whether the name was subscribed or unsubscribed."""
        return name in self._subscribed

    def has_placed(self, uid: int) -> bool:
        """Whether the message was appended or copied, wherever."""
        return any(low <= uid <= high for low, high in self._uids)

    def explains(self, before: Mailbox, after: Mailbox) -> bool:
        """Whether nothing has happened in the mailbox but one command that placed messages in it."""
        placed = self._placed.get(after.name, 0)
        return placed > 0 and (after.uidnext, after.message_count, after.highestmodseq) == (
            before.uidnext + placed,
            before.message_count + placed,
            before.highestmodseq + 1,
        )

    def clear_names(self) -> None:
        """Names and subscriptions have been compared."""
        self._names.clear()
        self._subscribed.clear()

    def clear_placed(self) -> None:
        """Messages have been compared."""
        self._placed.clear()
        self._uids.clear()
