"""What else happens in the transaction that stores a message: done exactly when it is stored, however often that is tried."""

from abc import ABC, abstractmethod
from collections.abc import Collection

from storage.pool import Connection


class Effect(ABC):
    """One change of the database that belongs to a message. Derived classes are frozen dataclasses."""

    __slots__ = ()

    @abstractmethod
    async def apply(self, connection: Connection, content_id: int) -> None:
        """Do it, after the message was inserted. What is raised, a StorageError best, stores nothing of the message's group.

        It may be called again for a message that was not stored after all, so it changes nothing but the database.
        """

    def lock(self) -> str:
        """What rows it waits for that other transactions may hold, "" for none.

        Effects of a batch are applied in ascending order of it: no two batches wait for each other.
        """
        return ""

    def mailboxes(self) -> Collection[int]:
        """The mailboxes that it writes to. All of a batch are locked before anything is written to one: see LOCK_MAILBOXES."""
        return ()
