"""Mail that was sent on and cannot be delivered, whose sender must not hear of it: it comes back to the account that sent it on.

It is stored in the transaction that settles the failure, once, however many of those it was sent on to cannot be reached.
"""

import asyncio
from collections.abc import Sequence
from contextlib import nullcontext
from datetime import UTC, datetime

from daemons.context import Context
from daemons.delivery import THREAD_OCTETS, facts_of
from daemons.logs import logger
from daemons.relay.attempt import Settled
from storage import returns
from storage.errors import CorruptError, NotFoundError
from storage.outbound import Leased
from storage.rows import NewMessage, Placement

_log = logger("relay")


def may_come_back(settled: Settled) -> bool:
    """Whether it is worth asking: users who send themselves hear of failures by reports."""
    return settled.attempt.kind == "failed" and settled.leased.account_id is None


class Returns:
    """One per process."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._reading = asyncio.Lock()  # a large message is held whole

    async def of(self, settled: Sequence[Settled]) -> list[NewMessage]:
        """What comes back with these settlements. Raises UnavailableError."""
        failed = {each.leased.outbound_id: each.leased for each in settled if may_come_back(each)}
        return [message for leased in failed.values() for message in await self._of(leased)]

    async def _of(self, leased: Leased) -> list[NewMessage]:
        holder = await returns.holder(self._context.pool, leased.outbound_id)
        if holder is None:
            return []
        blobs = self._context.blobs
        try:
            layout = await blobs.layout(leased.content_id)
            async with self._reading if layout.original_octets > THREAD_OCTETS else nullcontext():
                original = await blobs.read(leased.content_id)
                facts = await facts_of(original)
        except (NotFoundError, CorruptError) as error:
            _log.error("message cannot be read to come back", content=leased.content_id, error=str(error))
            return []
        self._context.recorder.note(
            leased.tenant_id, leased.trace_id, "bounced", forward_path=leased.forward_path, action="returned",
            reason="the sender is not told: it comes back to the account that sent it on",
        )  # fmt: skip
        placement = Placement(holder.inbox_id, internaldate=datetime.now(UTC))
        effects = (returns.CameBack(leased.outbound_id),)
        return [NewMessage(holder.tenant_id, layout.head, original, facts, [placement], effects=effects)]
