"""Where messages go that a filter wants in quarantine (there, or into Junk, as their tenant has it), and how they leave it."""

from dataclasses import replace

from daemons.context import Context
from daemons.delivery import facts_of
from filters.pipeline import Decision
from filters.verdict import Junk, Quarantine
from storage import quarantine as storage
from storage.errors import MailboxNotFoundError
from storage.quarantine import Kept, Released
from storage.rows import NewMessage, Placement


class Quarantines:
    """One per process."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def placed(self, tenant_id: int, decision: Decision) -> Decision:
        """The decision for recipients of the tenant, with Junk in place of a quarantine that is Junk there.

        Ask after for_account(). Raises UnavailableError.
        """
        if decision.quarantine is None:
            return decision
        policy = await storage.policy_of(self._context.pool, tenant_id)
        softened = policy.junk if policy.junk is not None else frozenset(self._context.settings.quarantine.junk)
        reasons = []
        for result in decision.results:
            for verdict in result.verdicts:
                if not isinstance(verdict, Quarantine):
                    continue
                if result.name not in softened:
                    return replace(decision, quarantine=verdict)  # this one says why
                reasons.append(verdict.reason)
        return replace(decision, quarantine=None, junk=decision.junk or Junk(reasons[0]))


async def release(context: Context, kept: Kept) -> None:
    """Deliver a message from quarantine into its owner's inbox, octet for octet as it would have come, and as of then.

    It is there when it has left the quarantine, once. No rule looks at it. Raises NotFoundError when somebody else has released
    or deleted it, and other StorageErrors.
    """
    if kept.inbox_id is None:
        raise MailboxNotFoundError(f"{kept.login} has no inbox")
    head = await context.blobs.head(kept.content_id)
    original = await context.blobs.read(kept.content_id)
    placement = Placement(kept.inbox_id, internaldate=kept.received_at)
    effects = [Released(kept.quarantine_id)]
    message = NewMessage(kept.tenant_id, head, original, await facts_of(original), [placement], effects=effects)
    (stored,) = await context.ingest.store([message])
    context.recorder.note(
        kept.tenant_id,
        kept.trace_id,
        "stored",
        forward_path=kept.forward_path,
        mailbox_id=kept.inbox_id,
        uidvalidity=stored.placed[0].uidvalidity,
        uid=stored.placed[0].uid,
    )
