"""From which spam score on what is done: an account's own thresholds, else its tenant's, else the configuration's."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from storage.pool import Connection, Pool, reported
from storage.spam import Whose

NEVER = math.inf


@dataclass(frozen=True, slots=True)
class Limits:
    """Scores. None: as one level higher."""

    tag: float | None = None
    junk: float | None = None
    reject: float | None = None

    def __bool__(self) -> bool:
        return (self.tag, self.junk, self.reject) != (None, None, None)

    def over(self, higher: "Limits") -> "Limits":
        """These, and where they say nothing those of the level above."""
        own = (self.tag, self.junk, self.reject)
        above = (higher.tag, higher.junk, higher.reject)
        return Limits(*[mine if mine is not None else other for mine, other in zip(own, above, strict=True)])


_OWN = "SELECT tag, junk, reject FROM spam_threshold WHERE tenant_id = $1 AND account_id IS NOT DISTINCT FROM $2"
_ALL = """
SELECT account_id, tenant_id, tag, junk, reject FROM spam_threshold
 WHERE tenant_id = ANY ($1::bigint[]) AND (account_id IS NULL OR account_id = ANY ($2::bigint[]))
"""
_SET = """
INSERT INTO spam_threshold (tenant_id, account_id, tag, junk, reject) VALUES ($1, $2, $3, $4, $5)
    ON CONFLICT (tenant_id, account_id) DO UPDATE SET tag = EXCLUDED.tag, junk = EXCLUDED.junk, reject = EXCLUDED.reject
"""
_UNSET = "DELETE FROM spam_threshold WHERE tenant_id = $1 AND account_id IS NOT DISTINCT FROM $2"


async def own(connection: Connection, whose: Whose) -> Limits:
    """What an account or a tenant has set itself."""
    row = await connection.fetchrow(_OWN, whose.tenant_id, whose.account_id)
    return Limits(*row) if row is not None else Limits()


async def effective(pool: "Pool | Connection", accounts: Sequence[Whose]) -> dict[int, Limits]:
    """What holds for accounts by themselves or by their tenants; who has neither is left out. Raises UnavailableError."""
    tenant_ids = list({each.tenant_id for each in accounts})
    async with reported():
        rows = await pool.fetch(_ALL, tenant_ids, [each.account_id for each in accounts])
    if not rows:
        return {}
    set_by = {(row["tenant_id"], row["account_id"]): Limits(row["tag"], row["junk"], row["reject"]) for row in rows}
    nothing = Limits()
    found: dict[int, Limits] = {}
    for each in accounts:
        assert each.account_id is not None
        limits = set_by.get((each.tenant_id, each.account_id), nothing).over(
            set_by.get((each.tenant_id, None), nothing)
        )
        if limits:
            found[each.account_id] = limits
    return found


async def set_own(connection: Connection, whose: Whose, limits: Limits) -> None:
    """Set them, or with nothing but None take them back."""
    if limits:
        await connection.execute(_SET, whose.tenant_id, whose.account_id, limits.tag, limits.junk, limits.reject)
    else:
        await connection.execute(_UNSET, whose.tenant_id, whose.account_id)
