"""Scripts that run after what happens in a mailbox over IMAP, RFC 6785: mail that is stored or copied there, flags that change.

The annotation /shared/imapsieve/script of the mailbox, or of the server, names a script of the mailbox's owner or a global one.
What such a script does starts no other script. Its mistakes and those of the database undo nothing of what happened.

What happens is noted in its own transaction, and the note goes in the one that stores what the script did: a script runs though
the process of the command dies, by the keeper then (daemons/scripting/left.py), and nothing of what it does is done twice.
"""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from daemons.context import Context
from daemons.delivery import facts_of
from daemons.logs import logger
from daemons.notifying import Notifications
from daemons.outgoing import compose, new_transaction_id
from daemons.postmaster import postmaster_of
from daemons.relay.content import without_return_path
from daemons.scripting.lying import Carrier, Lying
from daemons.scripting.mailboxes import Mailboxes
from daemons.scripting.owners import AccountOwner
from daemons.scripting.running import Scripting
from daemons.smtp.delivering.answers import Answers
from daemons.smtp.sending import Sending
from filters.sieve.actions import Fcc, Notify, Redirect, Result
from filters.sieve.message import Message
from filters.sieve.ports import Envelope, Surroundings
from protocol.address import AddressError, AddrSpec, parse_addr_spec
from protocol.imap.flags import bits_of
from storage import global_scripts, mailbox_events, mailboxes, messages, scripts
from storage.effects import Effect
from storage.errors import LeaseLostError, MailboxNotFoundError, NotFoundError, OverQuotaError, StorageError
from storage.mailbox_events import Cause, Happening, HasRun, NoteNew
from storage.memory import AlreadyRememberedError, Remember
from storage.pool import Connection, reported
from storage.quota import Rooms
from storage.rows import Mailbox, MessageRow, NewMessage, Placement
from storage.scripts import Stored

_SERVER = 0  # the place of an annotation of the server

_log = logger("scripting")


@dataclass(frozen=True, slots=True)
class _Author:
    """Whose caps count."""

    account_id: int
    tenant_id: int
    login: str


class EventScripts:
    """One per process."""

    def __init__(self, context: Context, rooms: Rooms) -> None:
        self._context = context
        self._limits = context.settings.sieve
        self._scripting = Scripting(context)
        self._carrier = Carrier(context, rooms)
        self._mailboxes = Mailboxes(context)
        self._answers = Answers(context, postmaster_of(context.settings.smtp, context.settings.hostname))
        self._notifications = Notifications(context)
        self._sending = Sending(context.settings.sending, context.pool, context.changes)
        self._named: dict[int, dict[int, str]] = {}  # by tenant
        self._changes = 0  # what was asked before a change is not remembered behind it
        self._end = context.changes.subscribe_scripts(self._heard)

    async def close(self) -> None:
        """Stop listening for changes."""
        self._end()
        self._scripting.close()
        await self._sending.close()

    def forget(self) -> None:
        """Annotations have changed: here, which nobody need be told of by the database, or anywhere."""
        self._changes += 1
        self._named.clear()

    async def name_of(self, tenant_id: int, mailbox_id: int) -> str:
        """The script that concerns the mailbox, "" for none. Costs no query while nothing changes. Raises StorageError."""
        named = self._named.get(tenant_id)
        if named is None:
            changes = self._changes
            named = await scripts.event_scripts(self._context.pool, tenant_id)
            if self._context.changes.is_connected and changes == self._changes:
                self._named[tenant_id] = named
        return named.get(mailbox_id, named.get(_SERVER, "")) if named else ""

    async def expected(self, cause: Cause, owner: AccountOwner, mailbox_id: int, login: str) -> Happening | None:
        """What is about to happen to messages of the mailbox, when that starts a script: to be noted in the same transaction, and
        run() after it. Raises StorageError."""
        name = await self.name_of(owner.tenant_id, mailbox_id)
        if not name:
            return None
        limit = self._limits.event_limit
        command_id = await mailbox_events.next_command(self._context.pool, owner.account_id, limit)
        return Happening(command_id, owner.tenant_id, owner.account_id, mailbox_id, cause, name, login)

    def noted(self, happening: Happening) -> tuple[Effect, ...]:
        """What notes it, with a message that is stored."""
        return () if happening.command_id is None else (NoteNew(happening, self._limits.event_lease),)

    async def note(self, connection: Connection, happening: Happening, uids: Mapping[int, str]) -> None:
        """Note it in the transaction in which it happens. With FLAG each UID comes with the flags that changed."""
        await mailbox_events.note(connection, happening, uids, lease_seconds=self._limits.event_lease)

    async def run(self, happening: Happening, uids: Mapping[int, str]) -> None:
        """Run the script for each of the messages, in their order; with FLAG each UID comes with the flags that changed.

        What goes wrong is logged; what the database could not do then is done by the keeper.
        """
        try:
            script, mailbox, rows = await self._sought(happening, uids)
            await mailbox_events.drop(self._context.pool, happening, sorted(uids.keys() - {row.uid for row in rows}))
            if script is None or mailbox is None:
                return
            environment = {
                "location": "MS",
                "phase": "post",
                "imap.cause": happening.cause,
                "imap.user": happening.login,
                "imap.email": happening.login,
                "imap.mailbox": mailbox.name,
            }
            base = await self._scripting.surroundings(_owner(happening), Envelope(), remote=environment)
            for row in rows:
                lying, changed = Lying(happening.mailbox_id, row), {"imap.changedflags": uids[row.uid]}
                surroundings = replace(
                    base, environment={**base.environment, **changed}, flags=lying.flags, is_event=True
                )
                await self._run_one(happening, script, lying, surroundings)
        except StorageError as error:
            _log.error("script of an IMAP event", error=f"{type(error).__name__}: {error}")

    async def _sought(
        self, happening: Happening, uids: Mapping[int, str]
    ) -> tuple[Stored | None, Mailbox | None, list[MessageRow]]:
        """The script, the mailbox, and the messages that are still there; none where there is nothing to run."""
        script = await self._found(_owner(happening), happening.script)
        if script is None:
            return None, None, []
        async with reported(), self._context.pool.acquire() as connection:
            mailbox = await mailboxes.get(connection, happening.mailbox_id)
            return script, mailbox, await messages.rows(connection, happening.mailbox_id, list(uids))

    async def _found(self, owner: AccountOwner, name: str) -> Stored | None:
        stored = await scripts.read(self._context.pool, owner.account_id, name)
        return stored or await global_scripts.find(self._context.pool, owner.tenant_id, name)

    async def _run_one(self, happening: Happening, script: Stored, lying: Lying, surroundings: Surroundings) -> None:
        owner, done = _owner(happening), HasRun(happening, lying.row.uid)
        try:
            octets, now = await self._context.blobs.message(lying.row.content_id), datetime.now(UTC)
            result = await self._scripting.run_one(owner, script, octets, surroundings, now=now)
            if result.error is not None:
                await self._tell(owner, script, result, surroundings, lying, done)
                return
            sent, effects = await self._sent(owner, result, octets, surroundings, now)
            try:
                await self._carrier.carry_out(owner, lying, result, unkept="mark", sent=sent, effects=[*effects, done])
            except OverQuotaError:
                _log.info("script of an IMAP event: no room for a copy", account_id=owner.account_id)
                await self._carrier.store(sent, [*effects, done], lying)
        except LeaseLostError:
            return  # somebody else has it
        except MailboxNotFoundError:
            raise  # where the script files to was deleted a moment ago: it is looked for again
        except NotFoundError:
            await mailbox_events.drop(self._context.pool, happening, [lying.row.uid])

    async def _tell(
        self,
        owner: AccountOwner,
        script: Stored,
        result: Result,
        surroundings: Surroundings,
        lying: Lying,
        done: HasRun,
    ) -> None:
        """Word of a mistake to the owner of the mailbox, once for each version of the script."""
        assert result.error is not None
        address = _address(surroundings.owner.addresses[0]) if surroundings.owner.addresses else None
        if address is not None:
            told = await self._answers.fault(owner, address, result.error_script, result.error, script.digest.hex())
            with suppress(AlreadyRememberedError):
                await self._carrier.store(told.messages, [*told.effects, done], lying)
                return
        await self._carrier.store((), [done], lying)

    async def _sent(
        self, owner: AccountOwner, result: Result, octets: bytes, surroundings: Surroundings, now: datetime
    ) -> tuple[list[NewMessage], list[Effect]]:
        """What redirect and notify send, and the memory of duplicate."""
        view, told = Message(octets).view, set[str]()
        sent: list[NewMessage] = []
        effects: list[Effect] = []
        for action in result.actions:
            if isinstance(action, Redirect):
                sent += await self._redirected(owner, action, octets, surroundings)
            elif isinstance(action, Notify):
                trace_id = new_transaction_id()
                planned = await self._notifications.plan(
                    owner, action, view, surroundings, now=now, trace_id=trace_id, told=told
                )
                sent += planned.messages
                effects += planned.effects
                if planned.copy is not None and action.fcc is not None:
                    sent += await self._filed(owner, planned.copy, action.fcc, now)
        for each in result.tracked:
            effects.append(Remember(owner.account_id, "duplicate", each.unique_id, each.seconds))
        return sent, effects

    async def _filed(self, owner: AccountOwner, octets: bytes, fcc: Fcc, now: datetime) -> list[NewMessage]:
        """The owner's own copy of what is sent, RFC 8580; none where there is no such mailbox."""
        found = await self._mailboxes.of(owner, fcc)
        if found is None:
            return []
        bits, keywords = bits_of(flag.encode() for flag in fcc.flags)
        placement = Placement(found, bits, tuple(keywords), now)
        return [NewMessage(owner.tenant_id, b"", octets, await facts_of(octets), [placement])]

    async def _redirected(
        self, owner: AccountOwner, action: Redirect, octets: bytes, surroundings: Surroundings
    ) -> list[NewMessage]:
        """The message as it lies there, sent by the owner: who sent it before has nothing to do with that, and caps hold."""
        addresses = surroundings.owner.addresses
        targets = await self._scripting.members(owner, action.list_name) if action.list_name else [action.address]
        sender = _address(addresses[0]) if addresses else None
        paths = [path for path in map(_address, targets) if path is not None]
        if sender is None or not paths:
            return []
        author = _Author(owner.account_id, owner.tenant_id, addresses[0])
        if await self._sending.admit(author, sender, len(paths)) is not None:
            _log.info("script of an IMAP event: not sent, a cap is reached", account_id=owner.account_id)
            return []
        return await compose(
            self._context,
            owner.tenant_id,
            sender,
            paths,
            without_return_path(action.message or octets),
            trace_id=new_transaction_id(),
            account_id=owner.account_id,
            notify=action.notify,
        )

    def _heard(self, account_id: int) -> None:
        if not account_id:  # scripts of one account name no mailbox
            self.forget()


def _owner(happening: Happening) -> AccountOwner:
    return AccountOwner(happening.tenant_id, happening.account_id)


def _address(text: str) -> AddrSpec | None:
    try:
        return parse_addr_spec(text)
    except AddressError:
        return None
