"""SEARCH keys, RFC 3501 §6.4.4: the tree a command's criteria make, its strings decoded by their charset."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date

from protocol.imap.sequence import SequenceSet


@dataclass(frozen=True, slots=True)
class All:
    """Every message."""


@dataclass(frozen=True, slots=True)
class And:
    """All of the keys match."""

    keys: "tuple[SearchKey, ...]"


@dataclass(frozen=True, slots=True)
class Or:
    """One of the two matches."""

    left: "SearchKey"
    right: "SearchKey"


@dataclass(frozen=True, slots=True)
class Not:
    """The key does not match."""

    key: "SearchKey"


@dataclass(frozen=True, slots=True)
class HasFlag:
    r"""ANSWERED, DELETED, DRAFT, FLAGGED, SEEN and KEYWORD: the flag is set. UNSEEN is Not(HasFlag(b"\\Seen"))."""

    flag: bytes  # canonical, as in a flag list


@dataclass(frozen=True, slots=True)
class Recent:
    r"""RECENT. NEW is And((Recent(), Not(HasFlag(b"\\Seen")))), OLD is Not(Recent())."""


@dataclass(frozen=True, slots=True)
class SequenceNumbers:
    """A bare sequence set: message sequence numbers."""

    sequence: SequenceSet


@dataclass(frozen=True, slots=True)
class Uids:
    """UID: unique identifiers."""

    sequence: SequenceSet


@dataclass(frozen=True, slots=True)
class Before:
    """INTERNALDATE, disregarding time and zone, is before the day."""

    day: date


@dataclass(frozen=True, slots=True)
class On:
    """INTERNALDATE is within the day."""

    day: date


@dataclass(frozen=True, slots=True)
class Since:
    """INTERNALDATE is within or after the day."""

    day: date


@dataclass(frozen=True, slots=True)
class SentBefore:
    """The Date field is before the day."""

    day: date


@dataclass(frozen=True, slots=True)
class SentOn:
    """The Date field is within the day."""

    day: date


@dataclass(frozen=True, slots=True)
class SentSince:
    """The Date field is within or after the day."""

    day: date


@dataclass(frozen=True, slots=True)
class Header:
    """HEADER, and BCC, CC, FROM, SUBJECT, TO, which are the same with a fixed name.

    The named field is there and contains the text; an empty text asks only for the field (RFC 3501 §6.4.4).
    """

    name: bytes  # upper case
    text: str


@dataclass(frozen=True, slots=True)
class Body:
    """The body of the message contains the text."""

    text: str


@dataclass(frozen=True, slots=True)
class Text:
    """The header or the body contains the text."""

    text: str


@dataclass(frozen=True, slots=True)
class Larger:
    """RFC822.SIZE is larger than this."""

    size_octets: int


@dataclass(frozen=True, slots=True)
class Smaller:
    """RFC822.SIZE is smaller than this."""

    size_octets: int


@dataclass(frozen=True, slots=True)
class Older:
    """INTERNALDATE is that long ago, or longer (RFC 5032 §3)."""

    seconds: int


@dataclass(frozen=True, slots=True)
class Younger:
    """INTERNALDATE is that long ago, or less (RFC 5032 §3)."""

    seconds: int


@dataclass(frozen=True, slots=True)
class ModSeq:
    """MODSEQ is this or greater (RFC 7162 §3.1.5). The entry that may be named is parsed and ignored, as the RFC lets us."""

    modseq: int


@dataclass(frozen=True, slots=True)
class SavedBefore:
    """The message was saved in the mailbox before the day (RFC 8514 §4.3)."""

    day: date


@dataclass(frozen=True, slots=True)
class SavedOn:
    """The message was saved in the mailbox within the day (RFC 8514 §4.3)."""

    day: date


@dataclass(frozen=True, slots=True)
class SavedSince:
    """The message was saved in the mailbox within or after the day (RFC 8514 §4.3)."""

    day: date


@dataclass(frozen=True, slots=True)
class EmailId:
    """EMAILID is exactly this (RFC 8474 §6)."""

    objectid: bytes


@dataclass(frozen=True, slots=True)
class ThreadId:
    """THREADID is exactly this (RFC 8474 §6)."""

    objectid: bytes


@dataclass(frozen=True, slots=True)
class Fuzzy:
    """The key may match nearly (RFC 6203 §3)."""

    key: "SearchKey"


SearchKey = (
    All | And | Or | Not | HasFlag | Recent | SequenceNumbers | Uids
    | Before | On | Since | SentBefore | SentOn | SentSince
    | Header | Body | Text | Larger | Smaller | Older | Younger | ModSeq
    | SavedBefore | SavedOn | SavedSince | EmailId | ThreadId | Fuzzy
)  # fmt: skip


def leaves(key: SearchKey) -> Iterator[SearchKey]:
    """All keys of the tree that hold no others."""
    match key:
        case And(keys):
            for part in keys:
                yield from leaves(part)
        case Or(left, right):
            yield from leaves(left)
            yield from leaves(right)
        case Not(inner) | Fuzzy(inner):
            yield from leaves(inner)
        case _:
            yield key


def mentions(key: SearchKey, *kinds: type) -> bool:
    """Whether a key of one of these kinds is anywhere in the tree; they hold no other keys."""
    return any(isinstance(leaf, kinds) for leaf in leaves(key))


def has_numbers(key: SearchKey) -> bool:
    """Whether message sequence numbers are among the keys. "$" names messages, not numbers."""
    return any(isinstance(leaf, SequenceNumbers) and not leaf.sequence.is_saved for leaf in leaves(key))


def has_saved(key: SearchKey) -> bool:
    """Whether the saved result "$" is among the keys."""
    return any(isinstance(leaf, SequenceNumbers | Uids) and leaf.sequence.is_saved for leaf in leaves(key))
