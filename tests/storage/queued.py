"""Mail in the outbound queue, as it gets there: through the ingest, in the transaction that accepts it."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from daemons.context import Context
from storage.rows import NewMessage, Outbound, OutboundRecipient, Stored
from tests.conftest import Person
from tests.storage.messages_made import facts


def outbound(person: Person, forward_paths: Sequence[str], **changes: Any) -> Outbound:
    """What the person sends to remote addresses."""
    recipients = [OutboundRecipient(path, path.rpartition("@")[2]) for path in forward_paths]
    expires_at = datetime.now(UTC) + timedelta(days=5)
    return replace(Outbound(person.account_id, person.login, "0123456789abcdef", recipients, expires_at), **changes)


def outgoing(
    person: Person, forward_paths: Sequence[str], *, original: bytes = b"mail\r\n", **changes: Any
) -> NewMessage:
    """A message of the person that has no mailbox, only remote recipients."""
    return NewMessage(person.tenant_id, b"", original, facts(), [], outbound=outbound(person, forward_paths, **changes))


async def queue(context: Context, person: Person, forward_paths: Sequence[str], **changes: Any) -> Stored:
    """Have the person send one message."""
    (stored,) = await context.ingest.store([outgoing(person, forward_paths, **changes)])
    return stored
