"""Messages that leave the quarantine by the rules of who gets them: filed, sent on and answered as if they came now.

Filters do not look at them again, and what they found is not known any more. The archive has the message since it came; only
another tenant to whom rules pass it on gets a journal entry.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

from daemons.context import Context
from daemons.delivery import facts_of
from daemons.forwarding import Forwarding
from daemons.outgoing import header_is_ascii
from daemons.postmaster import postmaster_of
from daemons.relay.content import without_return_path
from daemons.smtp.acceptance import PLANS
from daemons.smtp.delivering.groups import of_known
from daemons.smtp.delivering.incoming import Incoming
from daemons.smtp.delivering.planning import Delivering
from daemons.smtp.reports import Reports
from daemons.smtp.transaction import Addressee, Origin
from filters.pipeline import PASSED
from protocol.address import parse_addr_spec
from protocol.smtp.command import Mail, Rcpt
from protocol.smtp.parameters import MailParameters, RcptParameters
from storage import quarantine
from storage.errors import MailboxNotFoundError
from storage.memory import AlreadyRememberedError
from storage.pool import reported
from storage.quarantine import Kept, Released
from storage.rows import NewMessage, Recipient


class Releasing:
    """What releases by rules. One per process."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._forwarding = Forwarding(context)
        limits, hostname = context.settings.smtp, context.settings.hostname
        reports = Reports(context, postmaster_of(limits, hostname), limits.report_language)
        self._delivering = Delivering(context, limits, self._forwarding, reports)

    def close(self) -> None:
        """Stop listening for changes."""
        self._delivering.close()
        self._forwarding.close()

    async def release(self, kept: Kept) -> list[str]:
        """Do with the message what the rules say. Returns that in words. It leaves the quarantine in the same transaction, once.

        Raises NotFoundError when somebody else has released or deleted it, and other StorageErrors.
        """
        if kept.inbox_id is None:
            raise MailboxNotFoundError(f"{kept.login} has no inbox")
        recipient = Recipient(kept.tenant_id, kept.account_id, kept.inbox_id, is_disabled=False, is_over_quota=False)
        parameters = RcptParameters(orcpt=kept.orcpt)
        addressee = Addressee(Rcpt(parse_addr_spec(kept.forward_path), parameters), recipient)
        incoming = await self._incoming(kept)
        for _ in range(PLANS):
            deliveries = await self._delivering.plan(incoming, [addressee], "none")
            group = of_known(incoming, deliveries, kept.tenant_id)
            try:
                await self._store(kept, group)
            except (AlreadyRememberedError, MailboxNotFoundError):
                continue  # somebody was faster: has answered, or removed a mailbox
            return [done for delivery in deliveries for each in delivery.everyone() for done in each.done]
        raise MailboxNotFoundError(f"a mailbox of {kept.login}")

    async def _incoming(self, kept: Kept) -> Incoming:
        head = await self._context.blobs.head(kept.content_id)
        original = await self._context.blobs.read(kept.content_id)
        reverse_path = parse_addr_spec(kept.reverse_path) if kept.reverse_path else None
        is_smtputf8 = not header_is_ascii(original) or (reverse_path is not None and not reverse_path.is_ascii)
        return Incoming(
            mail=Mail(reverse_path, MailParameters(is_smtputf8=is_smtputf8)),
            origin=Origin(peer="", helo=self._context.settings.hostname, protocol="", tls=None),
            trace_id=kept.trace_id,
            received_at=datetime.now(UTC),
            received=without_return_path(head),
            decision=PASSED,
            original=original,
            facts=await facts_of(original),
            earlier_login=kept.sender_login,
        )

    async def _store(self, kept: Kept, group: Sequence[NewMessage]) -> None:
        if not group:  # a rule wants it gone
            async with reported(), self._context.pool.acquire() as connection:
                await quarantine.delete(connection, kept.quarantine_id)
            return
        first = replace(group[0], effects=(*group[0].effects, Released(kept.quarantine_id)))
        await self._context.ingest.store([first, *group[1:]])
