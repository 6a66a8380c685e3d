"""METADATA and METADATA-SERVER, RFC 5464: annotations of mailboxes and of the server.

On a mailbox: whoever has "l" and one of "rswip" reads shared annotations and has private ones of its own (RFC 5464 §3.3); writing
shared ones also needs "w". Of the server: everybody has private ones; the shared ones are the tenant's, and only an
administrator writes them. `/private/specialuse` is the mailbox's special use (RFC 6154 §4), `/shared/admin` stands in the
configuration.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from daemons.access.imap.rights import look_up
from daemons.access.imap.session import Completion, RefusalError, Session
from protocol.imap import metadata as protocol
from protocol.imap.metadata import ADMIN, SPECIAL_USE
from storage import metadata, quota
from storage.errors import MailboxNotFoundError
from storage.mailboxes import DEFAULT_MAILBOXES
from storage.metadata import SERVER, Bounds, TooManyAnnotationsError
from storage.pool import Connection
from storage.rows import Mailbox
from storage.scripts import EVENT_SCRIPT
from storage.sharing import Visible

_ANY_OF = frozenset("rswip")
_USES = {use.encode() for _, use in DEFAULT_MAILBOXES if use}  # as CREATE takes them, RFC 6154 §3

Values = dict[str, bytes | None]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is asked of each mailbox: entries as the client wrote them, and how deep below them."""

    entries: Sequence[str]
    depth: int = 0

    def spelled(self, found: Mapping[str, bytes]) -> Values:
        """The values under the names the client used; without depth, NIL for what is not there."""
        spellings = {entry.lower(): entry for entry in self.entries}
        values: Values = {} if self.depth else dict.fromkeys(self.entries)
        for entry, value in found.items():
            values[spellings.get(entry, entry)] = value
        return values

    def means(self, entry: str) -> bool:
        """Whether an entry that is not in the database is asked for."""
        for root in map(str.lower, self.entries):
            below = entry.removeprefix(root).count("/")
            if entry == root or (entry.startswith(f"{root}/") and not 0 <= self.depth < below):
                return True
        return False


async def get_metadata(session: Session, asked: protocol.GetMetadata) -> Completion:
    """GETMETADATA, RFC 5464 §4.2."""
    wanted = Wanted(asked.entries, asked.depth)
    if asked.mailbox:
        mailbox = (await _annotated(session, asked.mailbox)).mailbox
        values = (await read(session, [mailbox], wanted))[mailbox.mailbox_id]
    else:
        values = await _read_server(session, wanted)
    longest = 0
    if asked.max_size is not None:
        sizes = {entry: len(value or b"") for entry, value in values.items()}
        longest = max((size for size in sizes.values() if size > asked.max_size), default=0)
        values = {entry: value for entry, value in values.items() if sizes[entry] <= asked.max_size}
    if values:
        session.put(protocol.metadata_line(session.mailbox_name(asked.mailbox), values.items()))
    return Completion("done", protocol.longentries(longest) if longest else None)


async def read(session: Session, mailboxes: Sequence[Mailbox], wanted: Wanted) -> dict[int, Values]:
    """What is asked of each of the mailboxes, whose rights are the caller's to check: one query. Raises StorageError."""
    account = session.account
    entries = [entry.lower() for entry in wanted.entries]
    async with session.database() as connection:
        found = await metadata.read(
            connection,
            account.tenant_id,
            account.account_id,
            [mailbox.mailbox_id for mailbox in mailboxes],
            entries,
            depth=wanted.depth,
        )
    asks_use = wanted.means(SPECIAL_USE)
    for mailbox in mailboxes:
        if asks_use and mailbox.special_use and mailbox.account_id == account.account_id:
            found.setdefault(mailbox.mailbox_id, {})[SPECIAL_USE] = mailbox.special_use.encode()
    return {mailbox.mailbox_id: wanted.spelled(found.get(mailbox.mailbox_id, {})) for mailbox in mailboxes}


async def _read_server(session: Session, wanted: Wanted) -> Values:
    account = session.account
    entries = [entry.lower() for entry in wanted.entries]
    async with session.database() as connection:
        read = await metadata.read(
            connection, account.tenant_id, account.account_id, [SERVER], entries, depth=wanted.depth
        )
    found = read.get(SERVER, {})
    contact = session.shared.settings.contact
    if contact and wanted.means(ADMIN):
        found[ADMIN] = contact.encode()
    return wanted.spelled(found)


async def _annotated(session: Session, name: str) -> Visible:
    """The mailbox, also one that only holds others (RFC 5464 §4.1). NO without the rights of §3.3."""
    found = await look_up(session, name)
    if found is None or "l" not in found.rights:
        raise RefusalError.no(b"NONEXISTENT", "no such mailbox")
    if not may_read(found):
        raise RefusalError.no(b"NOPERM", "your rights on this mailbox do not allow that")
    return found


def may_read(found: Visible) -> bool:
    """Whether the session may see the mailbox's annotations (RFC 5464 §3.3)."""
    return "l" in found.rights and not _ANY_OF.isdisjoint(found.rights)


async def set_metadata(session: Session, asked: protocol.SetMetadata) -> Completion:
    """SETMETADATA, RFC 5464 §4.3: all values or none."""
    _check_sizes(session, asked.values)
    values = dict(asked.values)
    found = await _annotated(session, asked.mailbox) if asked.mailbox else None
    if found is None:
        await _check_server(session, values)
    elif "w" not in found.rights and any(entry.startswith("/shared/") for entry in values):
        raise RefusalError.no(b"NOPERM", "your rights on this mailbox do not allow that")
    settings, account = session.shared.settings, session.account
    bounds = Bounds(settings.metadata_entries, settings.metadata_octets)
    place = found.mailbox.mailbox_id if found else SERVER
    try:
        async with session.database() as connection, connection.transaction():
            if found is not None and SPECIAL_USE in values:
                await _set_special_use(connection, found, values.pop(SPECIAL_USE))
            await metadata.write(
                connection, account.tenant_id, account.account_id, place, values, bounds=bounds, origin=session.origin
            )
    except TooManyAnnotationsError:
        raise RefusalError.no(protocol.TOOMANY, "too many annotations") from None
    except MailboxNotFoundError:  # deleted a moment ago
        raise RefusalError.no(b"NONEXISTENT", "no such mailbox") from None
    if EVENT_SCRIPT in values:
        session.shared.events.forget()
    return Completion("annotations are set")


def _check_sizes(session: Session, values: Mapping[str, bytes | None]) -> None:
    most = session.shared.settings.metadata_value_limit
    if any(len(value or b"") > most for value in values.values()):
        raise RefusalError.no(protocol.maxsize(most), "the value is too long")


async def _check_server(session: Session, values: Values) -> None:
    if ADMIN in values or SPECIAL_USE in values:
        raise RefusalError.no(b"CANNOT", "this entry cannot be set")
    if all(entry.startswith("/private/") for entry in values):
        return
    async with session.database() as connection:
        if not await quota.is_administrator(connection, session.account.account_id):
            raise RefusalError.no(b"NOPERM", "only an administrator sets shared annotations of the server")


async def _set_special_use(connection: Connection, found: Visible, value: bytes | None) -> None:
    """RFC 6154 §4: the same uses as CREATE takes, one for each mailbox."""
    if found.prefix:
        raise RefusalError.no(b"NOPERM", "the special use is the owner's to set")
    use = (value or b"").strip()
    if use and use not in _USES:
        raise RefusalError.no(b"USEATTR", "no such special use here")
    if not await metadata.set_special_use(connection, found.mailbox.mailbox_id, use.decode() if use else None):
        raise RefusalError.no(b"USEATTR", "another mailbox has this use")
