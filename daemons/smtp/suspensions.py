"""Accounts whose sending is suspended: what a burst had queued already is held, and tenant and operator are told.

Every process that submits mail runs this. A suspension is told of by whoever claims it first, and claimed again when that one
died before it had told: so people may hear twice of it, but never not at all.
"""

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from email.utils import format_datetime

from daemons.context import Context
from daemons.logs import logger
from daemons.outgoing import compose, new_transaction_id
from daemons.smtp.sending import Sending, held_reason
from protocol.address import AddrSpec, parse_addr_spec
from storage import sending as storage
from storage.errors import StorageError
from storage.outbound_changes import hold
from storage.outbound_listing import Selection
from storage.pool import Connection, reported
from storage.rows import NewMessage
from storage.sending import SENDING, Suspension

_log = logger("sending")
_LEASE_SECONDS = 60.0  # for telling; then somebody else may
_WORDS = {
    "en": (
        "Sending of {login} is suspended",
        "The account {login} ({tenant}) has sent far more mail than it used to:\n{reason}.\n\n"
        "Its sending has been suspended since {at}. What it sends from now on is accepted and held, and so is\n"
        "what it had queued: nothing of it leaves before you decide. Has somebody stolen the password? Then\n"
        "change it first. These are the commands:\n\n"
        "  postwerk account passwd {login}      a new password\n"
        "  postwerk queue list --from {login}   what is held\n"
        "  postwerk sending release {login}     send all of it, and let the account send again\n"
        "  postwerk sending discard {login}     delete all of it; the account stays suspended\n",
    ),
    "de": (
        "Versand von {login} angehalten",
        "Das Konto {login} ({tenant}) hat weit mehr Post verschickt als bisher:\n{reason}.\n\n"
        "Sein Versand ist seit {at} angehalten. Was es von jetzt an verschickt, wird angenommen und zurückgehalten,\n"
        "ebenso was schon in der Warteschlange stand: Nichts davon geht hinaus, bevor Sie entscheiden. Hat jemand\n"
        "das Passwort gestohlen? Dann ändern Sie es zuerst. Das sind die Befehle:\n\n"
        "  postwerk account passwd {login}      ein neues Passwort\n"
        "  postwerk queue list --from {login}   was zurückgehalten wird\n"
        "  postwerk sending release {login}     alles verschicken und den Versand wieder freigeben\n"
        "  postwerk sending discard {login}     alles löschen; der Versand bleibt angehalten\n",
    ),
}


class Suspensions:
    """One per process that submits."""

    def __init__(self, context: Context, sending: Sending, operator: AddrSpec) -> None:
        self._context = context
        self._sending = sending
        self._operator = operator
        self._changed = asyncio.Event()
        self._end: Callable[[], None] = context.changes.on(SENDING, self._changed.set)

    async def run(self) -> None:
        """Look at once, whenever something changed, and every minute, until cancelled: somebody may have died over it."""
        try:
            while True:
                self._changed.clear()
                try:
                    await self.look()
                except StorageError as error:
                    _log.warning("suspension not told of yet", reason=str(error))
                with suppress(TimeoutError):
                    async with asyncio.timeout(_LEASE_SECONDS):
                        await self._changed.wait()
        finally:
            self._end()

    async def look(self) -> None:
        """Refuse whom to refuse, hold what to hold, tell what to tell. Raises StorageError."""
        async with reported(), self._context.pool.acquire() as connection:
            suspended = await storage.suspended(connection)
        self._sending.refuse([one.account_id for one in suspended if not one.is_holding])
        while await self._tell_one():
            pass

    async def _tell_one(self) -> bool:
        async with reported(), self._context.pool.acquire() as connection:
            suspension = await storage.claim_untold(connection, lease_seconds=_LEASE_SECONDS)
            if suspension is None:
                return False
            await hold(connection, Selection(account_id=suspension.account_id), held_reason(suspension.reason))
            notices = await self._notices(connection, suspension)
        if notices:
            await self._context.ingest.store(notices)
        else:
            _log.error("nobody could be told of a suspension", account_id=suspension.account_id)
        async with reported(), self._context.pool.acquire() as connection:
            await storage.mark_told(connection, suspension.account_id)
        return True

    async def _notices(self, connection: Connection, suspension: Suspension) -> list[NewMessage]:
        """To the tenant's administrators in the tenant's language, and to the operator in that of reports."""
        context = self._context
        language = await connection.fetchval("SELECT language FROM tenant WHERE tenant_id = $1", suspension.tenant_id)
        logins = await storage.administrators(connection, suspension.tenant_id, besides=suspension.account_id)
        administrators = [parse_addr_spec(login) for login in logins]
        operator = await context.directory.resolve(self._operator.local_part, self._operator.domain)
        operators = operator.tenant_id if operator is not None else suspension.tenant_id
        told = [
            (suspension.tenant_id, administrators, str(language)),
            (operators, [self._operator], context.settings.smtp.report_language),
        ]
        notices: list[NewMessage] = []
        for tenant_id, people, spoken in told:
            if people:
                trace_id = new_transaction_id()
                octets = notice(suspension, spoken, self._operator, people, datetime.now(UTC))
                notices += await compose(context, tenant_id, None, people, octets, trace_id=trace_id, passes_quota=True)
        return notices


def notice(suspension: Suspension, language: str, author: AddrSpec, people: Sequence[AddrSpec], now: datetime) -> bytes:
    """The message that tells of a suspension."""
    subject, text = _WORDS["de" if language == "de" else "en"]
    facts = {
        "login": suspension.login,
        "tenant": suspension.tenant,
        "reason": suspension.reason,
        "at": f"{suspension.suspended_at.astimezone(UTC):%Y-%m-%d %H:%M} UTC",
    }
    lines = [
        f"From: Postwerk <{author}>",
        f"To: {', '.join(map(str, people))}",
        f"Subject: {subject.format(**facts)}",
        f"Date: {format_datetime(now)}",
        f"Message-ID: <{secrets.token_hex(12)}@{author.domain}>",
        "Auto-Submitted: auto-generated",  # RFC 3834 §5
        "MIME-Version: 1.0",
        "Content-Type: text/plain; charset=utf-8",
        "Content-Transfer-Encoding: 8bit",
        "",
        *text.format(**facts).splitlines(),
    ]
    return "".join(f"{line}\r\n" for line in lines).encode()


@asynccontextmanager
async def open_sending(context: Context, operator: AddrSpec) -> AsyncIterator[Sending]:
    """The process's caps, with suspensions told of, `operator` included; at the end unused room is given back."""
    sending = Sending(context.settings.sending, context.pool, context.changes)
    task = asyncio.create_task(Suspensions(context, sending, operator).run(), name="suspensions")
    try:
        yield sending
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        await sending.close()
