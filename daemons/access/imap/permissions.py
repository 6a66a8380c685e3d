r"""What rights allow in a selected mailbox (RFC 4314 §4, §5.2): which flags may change. No I/O here."""

from daemons.access.imap.selected import Selected
from storage.messages import KEYWORDS
from storage.rows import ANSWERED, DELETED, DRAFT, FLAGGED, SEEN

# RFC 4314 §2.1: "s" and "t" for one flag each, "w" for all others.
_CHANGEABLE = {"s": SEEN, "t": DELETED, "w": ANSWERED | FLAGGED | DRAFT | KEYWORDS}


def changeable(rights: frozenset[str]) -> int:
    """The flags that may be set and removed: bits of system flags, and KEYWORDS."""
    bits = 0
    for letter, flags in _CHANGEABLE.items():
        if letter in rights:
            bits |= flags
    return bits


def kept(rights: frozenset[str], bits: int, keywords: list[str]) -> tuple[int, list[str]]:
    """The flags of a new message that may be set: the others are left out, which is no error (RFC 4314 §4, APPEND and COPY)."""
    may = changeable(rights)
    return bits & may, keywords if may & KEYWORDS else []


def is_read_write(selected: Selected) -> bool:
    r"""Whether SELECT says READ-WRITE: an own \Seen alone is no write access (RFC 4314 §5.2)."""
    if selected.is_read_only:
        return False
    shared_flags = "wt" if selected.view.viewer else "swt"
    return not selected.rights.isdisjoint("ie" + shared_flags)
