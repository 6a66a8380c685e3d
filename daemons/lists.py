"""The filter `lists`, with what people have listed in the database."""

from collections.abc import Sequence

from daemons.context import Context
from filters.lists import Lists
from filters.sender_lists import Entry, SenderList
from filters.subject import Account
from storage.listed_senders import Listed, ListedSenders

_KEPT = 20_000  # lists that are kept ready


class StoredLists:
    """What accounts and tenants have listed, ready to be asked (filters.ports.SenderLists). One per process."""

    def __init__(self, listed: ListedSenders) -> None:
        self._listed = listed
        self._ready: dict[int, tuple[tuple[Listed, ...], SenderList]] = {}

    async def of(self, accounts: Sequence[Account]) -> dict[int, SenderList]:
        """By account_id. Raises UnavailableError."""
        found = await self._listed.of([(each.tenant_id, each.account_id) for each in accounts])
        return {account_id: self._list(account_id, entries) for account_id, entries in found.items()}

    def _list(self, account_id: int, entries: tuple[Listed, ...]) -> SenderList:
        ready = self._ready.get(account_id)
        if ready is not None and ready[0] is entries:  # they stay the same object until something changes
            return ready[1]
        made = SenderList(
            Entry(each.pattern, "allowed" if each.is_allowed else "blocked", each.is_own) for each in entries
        )
        if len(self._ready) >= _KEPT:
            self._ready.clear()
        self._ready[account_id] = entries, made
        return made


def build_sender_lists(context: Context) -> StoredLists:
    """What people have listed, for the process."""
    listed = ListedSenders(context.pool, context.changes)
    context.closing.callback(listed.close)
    return StoredLists(listed)


def build_lists(context: Context) -> Lists:
    """The filter `lists`."""
    return Lists(build_sender_lists(context))
