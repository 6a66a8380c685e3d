"""What storage raises. Daemons translate these into protocol replies; the text is for the log, never for the peer."""


class StorageError(Exception):
    """Anything storage could not do. The state of the database is as before the call."""


class UnavailableError(StorageError):
    """Database or segment directory cannot be used now (away, disk full). Retrying later may succeed."""


class DiskError(UnavailableError):
    """The segment directory cannot be written: full, read-only, or failing."""


class NotFoundError(StorageError):
    """The named tenant, domain, account, address or message does not exist."""


class ExistsError(StorageError):
    """A row with that name exists already."""


class MailboxNotFoundError(NotFoundError):
    """The mailbox does not exist (any more)."""


class MailboxExistsError(ExistsError):
    """A mailbox of that name exists already in the account."""


class OverQuotaError(StorageError):
    """Account or tenant has no room for what was to be stored."""


class TooManyError(StorageError):
    """One more of something than an account may have."""


class CorruptError(StorageError):
    """Stored octets do not match what the database says of them (CRC, length, key or digest)."""


class LeaseLostError(StorageError):
    """A lease of the outbound queue is no longer the settler's: somebody else has it, or has finished the recipient."""
