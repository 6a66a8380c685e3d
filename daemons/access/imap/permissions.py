r"""What rights allow in a selected mailbox (RFC 4314 §4, §5.2): which flags may change, and how that is told. No I/O here."""

from daemons.access.imap.selected import Selected
from protocol.imap import response
from protocol.imap.flags import SYSTEM_FLAGS
from storage.messages import KEYWORDS
from storage.rows import ANSWERED, DELETED, DRAFT, FLAGGED, SEEN

# RFC 4314 §2.1: "s" and "t" for one flag each, "w" for all others.
_CHANGEABLE = {"s": SEEN, "t": DELETED, "w": ANSWERED | FLAGGED | DRAFT | KEYWORDS}
_RIGHT_OF = {rb"\Seen": "s", rb"\Deleted": "t"}


def changeable(rights: frozenset[str]) -> int:
    """The flags that may be set and removed: bits of system flags, and KEYWORDS."""
    bits = 0
    for letter, flags in _CHANGEABLE.items():
        if letter in rights:
            bits |= flags
    return bits


def is_read_write(selected: Selected) -> bool:
    r"""Whether SELECT says READ-WRITE: an own \Seen alone is no write access (RFC 4314 §5.2)."""
    if selected.is_read_only:
        return False
    shared_flags = "wt" if selected.view.viewer else "swt"
    return not selected.rights.isdisjoint("ie" + shared_flags)


def describe_flags(selected: Selected) -> bytes:
    """FLAGS and PERMANENTFLAGS: what is known in the mailbox, and what of it this session may change for good."""
    keywords = [keyword.encode() for keyword in selected.view.table.spellings.values()]
    known = [*SYSTEM_FLAGS, *keywords]
    permanent: list[bytes] = []
    if not selected.is_read_only:
        permanent = [flag for flag in known if _RIGHT_OF.get(flag, "w") in selected.rights]
        if "w" in selected.rights:
            permanent.append(rb"\*")
    code = response.permanentflags(permanent)
    return response.flags_line(known) + response.untagged("OK", code, "flags that stay")
