"""The keeper's part in the quarantine: what nobody wanted in time goes, and people are told what was kept from them.

A notice is stored together with the fact that it was: who is killed over it neither forgets an account nor tells it twice.
"""

import asyncio
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from prometheus_client import Counter

from daemons.context import Context
from daemons.keeper.digests import digest
from daemons.logs import logger
from daemons.outgoing import compose, new_transaction_id
from daemons.postmaster import postmaster_of
from protocol.address import AddressError, parse_addr_spec
from storage import quarantine
from storage.errors import StorageError
from storage.pool import Connection
from storage.quarantine import Told, Untold

_log = logger("keeper")
_ACCOUNTS = 100  # told at a time
_FORGOTTEN = Counter("postwerk_expired_quarantine", "Messages that left the quarantine because their time was over.")
_TOLD = Counter("postwerk_quarantine_notices", "Messages that told an account of its quarantine.")


@dataclass(slots=True)
class Quarantined:
    """What one round did."""

    forgotten: int = 0
    told: int = 0  # accounts


class Quarantining:
    """Rounds over one database."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._settings = context.settings.quarantine
        self._author = postmaster_of(context.settings.smtp, context.settings.hostname)

    async def round(self, connection: Connection, stopping: asyncio.Event) -> Quarantined:
        """Go over everything once, in transactions of bounded size. Ends early when told to stop."""
        done = Quarantined()
        limit = self._context.settings.keeper.batch_limit
        while not stopping.is_set():
            gone = await quarantine.forget(connection, limit, older_than_seconds=self._settings.retention)
            done.forgotten += len(gone)
            for each in gone:
                facts = {"forward_path": each.forward_path, "by": "keeper", "reason": "its time in quarantine is over"}
                self._context.recorder.note(each.tenant_id, each.trace_id, "deleted", **facts)
            if len(gone) < limit:
                break
        after: int | None = 0
        while after is not None and not stopping.is_set():
            waiting = await quarantine.untold(connection, self._settings.notice, _ACCOUNTS, after=after)
            for account in waiting:
                done.told += await self._tell(connection, account)
            after = waiting[-1].account_id if waiting else None
        _FORGOTTEN.inc(done.forgotten)
        _TOLD.inc(done.told)
        return done

    async def _tell(self, connection: Connection, account: Untold) -> bool:
        """Whether the account was told. It is tried again in the next round."""
        try:
            owner = parse_addr_spec(account.address)
            kept = await quarantine.untold_of(connection, account.account_id, self._settings.retention)
            octets = digest(kept, account.language, self._author, owner, datetime.now(UTC))
            trace_id = new_transaction_id()
            messages = await compose(
                self._context, account.tenant_id, None, [owner], octets, trace_id=trace_id, passes_quota=True
            )
            if not kept or not messages:
                return False
            told = Told(account.account_id, tuple(each.quarantine_id for each in kept))
            await self._context.ingest.store([replace(messages[0], effects=[told]), *messages[1:]])
        except (StorageError, AddressError) as error:
            _log.warning("quarantine not told of", account_id=account.account_id, reason=type(error).__name__)
            return False
        return True
