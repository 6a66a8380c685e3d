"""Where messages go that a filter wants in quarantine: there, or into Junk, as the recipient's tenant has it."""

from dataclasses import replace

from daemons.context import Context
from filters.pipeline import Decision
from filters.verdict import Junk, Quarantine
from storage import quarantine as storage


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
