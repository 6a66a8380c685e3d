"""Carries out what a script decides about a message that lies in a mailbox already.

What is kept stays where it is, what is filed is copied, and what is not kept is moved or, after an IMAP event, marked.
What the script sends besides is stored with that, in one transaction.
"""

from collections import Counter
from collections.abc import Collection, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from typing import Literal

from daemons.context import Context
from daemons.delivery import facts_of
from daemons.scripting.mailboxes import Mailboxes
from daemons.scripting.owners import AccountOwner
from filters.sieve.actions import FileInto, Keep, Redirect, Reject, Result
from protocol.imap.flags import bits_of, render_flags
from storage import filing, mailboxes, messages
from storage.effects import Effect
from storage.errors import NotFoundError
from storage.pool import Connection, reported
from storage.quota import Rooms
from storage.rows import DELETED, MessageRow, NewMessage, Placement
from storage.statements import LOCK_MAILBOXES

Unkept = Literal["move", "mark"]
_TRASH = r"\Trash"


@dataclass(frozen=True, slots=True)
class Lying:
    """A message in a mailbox."""

    mailbox_id: int
    row: MessageRow

    @property
    def flags(self) -> tuple[str, ...]:
        """As Surroundings has them."""
        names = render_flags(self.row.flags, self.row.keywords).decode()
        return tuple(names.strip("()").split())


def is_dropped(result: Result) -> bool:
    """Whether nobody is to have the message, here or elsewhere."""
    return not any(isinstance(action, Keep | FileInto | Redirect | Reject) for action in result.actions)


@dataclass(frozen=True, slots=True)
class _Wanted:
    """One place where the message is to lie."""

    mailbox_id: int
    flags: tuple[str, ...]
    octets: bytes | None  # as the script made it; None: as it is

    @property
    def parsed(self) -> tuple[int, tuple[str, ...]]:
        """The flags as they are stored."""
        bits, keywords = bits_of(flag.encode() for flag in self.flags)
        return bits, tuple(keywords)


@dataclass(frozen=True, slots=True)
class _Placing(Effect):
    """What becomes of the message itself, all of it or nothing."""

    lying: Lying
    copies: tuple[_Wanted, ...]
    here: _Wanted | None  # it stays so
    unkept: Unkept

    async def apply(self, connection: Connection, content_id: int) -> None:
        """See Effect. Raises NotFoundError when the message is gone."""
        source, uid = self.lying.mailbox_id, self.lying.row.uid
        for each in self.copies:
            copied = await messages.copy(connection, source, [uid], each.mailbox_id)
            await self._flag(connection, each, copied.target_uids)
        if self.here is not None:
            await self._flag(connection, self.here, [uid])
        elif self.unkept == "mark":
            await messages.store_flags(connection, source, [uid], "add", DELETED, [])
        elif not await messages.remove(connection, source, [uid]):
            raise NotFoundError("the message")

    def mailboxes(self) -> Collection[int]:
        """See Effect."""
        return [self.lying.mailbox_id, *(each.mailbox_id for each in self.copies)]

    async def _flag(self, connection: Connection, wanted: _Wanted, uids: Sequence[int]) -> None:
        if not uids:
            raise NotFoundError("the message")
        bits, keywords = wanted.parsed
        if (bits, frozenset(keywords)) != (self.lying.row.flags, frozenset(self.lying.row.keywords)):
            await messages.store_flags(connection, wanted.mailbox_id, uids, "replace", bits, keywords)


class Carrier:
    """Moves, copies, marks and rewrites messages. One per process."""

    def __init__(self, context: Context, rooms: Rooms) -> None:
        self._context = context
        self._rooms = rooms
        self._mailboxes = Mailboxes(context)

    async def carry_out(
        self,
        owner: AccountOwner,
        lying: Lying,
        result: Result,
        *,
        unkept: Unkept,
        sent: Sequence[NewMessage] = (),
        effects: Sequence[Effect] = (),
    ) -> None:
        """Do it, with what is sent and done besides: all of it or nothing.

        `unkept`: what becomes of the message where it lies when it is not kept there; what is moved goes to the trash when it is
        filed nowhere.

        Raises OverQuotaError when there is no room for copies, NotFoundError when the message is gone, what effects raise,
        UnavailableError.
        """
        here, elsewhere = await self._sorted(owner, lying, result)
        if here is None and not elsewhere and unkept == "move":
            if not is_dropped(result):
                return
            trash = await self._trash(owner)
            if trash is None or trash == lying.mailbox_id:
                return
            elsewhere.append(_Wanted(trash, lying.flags, None))
        edited = [each for each in (here, *elsewhere) if each is not None and each.octets is not None]
        copies = tuple(each for each in elsewhere if each.octets is None)
        is_rewritten = here is not None and here.octets is not None
        placing = _Placing(lying, copies, None if is_rewritten else here, "move" if is_rewritten else unkept)
        async with AsyncExitStack() as stack:
            await self._make_room(stack, lying, elsewhere, is_moved=here is None and unkept == "move")
            rewritten = await _rewritten(owner, lying, edited)
            await self.store([*sent, *rewritten], [placing, *effects], lying)

    async def store(self, group: Sequence[NewMessage], effects: Sequence[Effect], lying: Lying) -> None:
        """New messages and whatever else is done for the one that lies there, in one transaction. Raises as carry_out()."""
        if group:
            first, *rest = group
            await self._context.ingest.store([replace(first, effects=(*first.effects, *effects)), *rest])
            return
        locked = {mailbox_id for effect in effects for mailbox_id in effect.mailboxes()}
        async with reported(), self._context.pool.acquire() as connection, connection.transaction():
            if len(locked) > 1:
                await connection.execute(LOCK_MAILBOXES, sorted(locked))
            for effect in sorted(effects, key=Effect.lock):
                await effect.apply(connection, lying.row.content_id)

    async def _sorted(self, owner: AccountOwner, lying: Lying, result: Result) -> tuple[_Wanted | None, list[_Wanted]]:
        """How it stays where it lies, if it does, and where else it is to lie. A mailbox that is not there is this one."""
        here: _Wanted | None = None
        elsewhere: dict[tuple[int, bytes | None], _Wanted] = {}
        for action in result.actions:
            match action:
                case Keep():
                    here = _Wanted(lying.mailbox_id, action.flags, action.message)
                case FileInto():
                    found = await self._mailboxes.of(owner, action) or lying.mailbox_id
                    wanted = _Wanted(found, action.flags, action.message)
                    if found == lying.mailbox_id:
                        here = wanted
                    else:
                        elsewhere[found, action.message] = wanted
        return here, list(elsewhere.values())

    async def _trash(self, owner: AccountOwner) -> int | None:
        async with self._context.pool.acquire() as connection:
            return await filing.by_special_use(connection, owner.account_id, _TRASH)

    async def _make_room(
        self, stack: AsyncExitStack, lying: Lying, elsewhere: Sequence[_Wanted], *, is_moved: bool
    ) -> None:
        """Hold room for the copies in the accounts that get them; one of them takes the room of what is moved."""
        async with reported(), self._context.pool.acquire() as connection:
            found = await mailboxes.get_many(connection, [lying.mailbox_id, *(each.mailbox_id for each in elsewhere)])
        accounts = {mailbox.mailbox_id: mailbox.account_id for mailbox in found}
        counts = Counter(accounts[each.mailbox_id] for each in elsewhere if each.mailbox_id in accounts)
        if is_moved and lying.mailbox_id in accounts:
            counts[accounts[lying.mailbox_id]] -= 1
        for account_id, count in sorted(counts.items()):
            if count > 0:
                await stack.enter_async_context(self._rooms.held(account_id, count * lying.row.size_octets, count))


async def _rewritten(owner: AccountOwner, lying: Lying, edited: Sequence[_Wanted]) -> list[NewMessage]:
    """The messages that the script made."""
    group: list[NewMessage] = []
    for wanted in edited:
        assert wanted.octets is not None
        placement = Placement(wanted.mailbox_id, *wanted.parsed, lying.row.internaldate)
        facts = await facts_of(wanted.octets)
        group.append(NewMessage(owner.tenant_id, b"", wanted.octets, facts, [placement]))
    return group
