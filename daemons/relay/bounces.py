"""Reports to senders on what became of their mail in the queue: failure, delay, and success where it was asked for (RFC 3461 §5.2).

A report has the null reverse path and is stored in the transaction that settles what it is about: neither is without the other.
None is ever made for mail that has a null reverse path itself; what fails then is dropped, with a record.
"""

from collections.abc import Sequence

from daemons.context import Context
from daemons.relay.attempt import Settled
from protocol.message.dsn import Action
from storage.rows import NewMessage


class Bounces:
    """Makes the reports of a process."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def of(self, settled: Sequence[Settled]) -> list[NewMessage]:
        """The reports that are due with these settlements, one for all recipients of a message: often none.

        They go into Ingest.store together with the settlements, in one group. Raises UnavailableError when database or
        segments cannot be asked.
        """
        return []


def action_of(settled: Settled) -> Action | None:
    """What the sender is to be told of, by NOTIFY (RFC 3461 §4.1); None: nothing. The null reverse path is not looked at."""
    attempt, notify = settled.attempt, settled.leased.notify  # type: ignore[attr-defined]
    match attempt.kind:
        case "failed":
            return "failed" if notify is None or "FAILURE" in notify else None
        case "deferred":
            return "delayed" if settled.is_delay_due and (notify is None or "DELAY" in notify) else None
        case "delivered":
            is_asked = notify is not None and "SUCCESS" in notify
            return "relayed" if is_asked and not attempt.is_reported_by_peer else None
