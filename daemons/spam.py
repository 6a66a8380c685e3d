"""The filter `spam` as configured, with what accounts have set and taught in the database."""

import collections
from collections.abc import Sequence

from prometheus_client import Counter

from config.spam import Spam as Limits
from daemons.context import Context
from daemons.logs import logger
from daemons.names import Names
from daemons.relay.resolver import Resolver
from daemons.spam_engines import build_engines
from daemons.tally import Tally
from filters.sender_lists import spelled
from filters.spam.bayes import Level
from filters.spam.filter import Spam
from filters.spam.findings import SpamFindings
from filters.spam.judging import Knowledge, Known
from filters.spam.score import Scorer, Thresholds
from filters.spam.sight import Standing
from filters.subject import Account
from protocol.address import AddrSpec
from storage import spam, spam_standing, spam_thresholds
from storage.pool import Pool
from storage.spam import EVERYBODY, Whose
from storage.spam_thresholds import Limits as OwnLimits

_log = logger("spam")
_FLUSH_SECONDS = 2.0  # an answer to what somebody writes now may come soon
_PENDING_LIMIT = 20_000  # while the database is away
_MANY = 50  # who writes to more at once knows them less
_GRACE_SECONDS = 5.0  # beside the engines' own limit
_CORPORA = 21  # that are asked for one message: mail to more is judged by what their tenants, or everybody, were taught
_SCORED = Counter(
    "postwerk_spam_messages", "Messages scored, by what thresholds make of them; once for each way.", ["action"]
)


class AccountMemory:
    """The Memory of filters/spam/filter.py."""

    def __init__(self, pool: Pool, limits: Limits) -> None:
        self._pool = pool
        self._limits = limits
        self._thresholds = thresholds_of(limits)

    async def recall(self, accounts: Sequence[Account], author: str, tokens: Sequence[int]) -> Knowledge:
        """All that matters for a message of this author with these tokens. Raises UnavailableError."""
        everyone = {each.account_id: Whose(each.tenant_id, each.account_id) for each in accounts}
        taught = await spam.corpora_of(self._pool, list(everyone.values()), self._limits.least_learned)
        for level in (spam.Level.ACCOUNT, spam.Level.TENANT):
            if len(taught) > _CORPORA:
                taught = [corpus for corpus in taught if corpus.whose.level < level]
        counts = await spam.counts_in(self._pool, taught, tokens) if tokens else {}
        levels = {whose: Level(each.spam, each.ham, each.counts) for whose, each in counts.items()}
        limits: dict[int, OwnLimits] = {}
        standings: dict[int, Standing] = {}
        if everyone:
            limits = await spam_thresholds.effective(self._pool, list(everyone.values()))
            if author:
                found = await spam_standing.standings(self._pool, list(everyone), author)
                standings = {key: Standing(each.answered, each.kept, each.junked) for key, each in found.items()}
        known = {
            account_id: Known(
                thresholds_of(self._limits, limits[account_id]) if account_id in limits else self._thresholds,
                _levels_of(whose, levels),
                standings.get(account_id, Standing()),
            )
            for account_id, whose in everyone.items()
        }
        return Knowledge(Known(self._thresholds, _levels_of(EVERYBODY, levels)), known)


def _levels_of(whose: Whose, levels: "dict[Whose, Level]") -> list[Level]:
    return [levels[each] for each in whose.levels() if each in levels]


def thresholds_of(limits: Limits, own: OwnLimits | None = None) -> Thresholds:
    """What holds: what was set, and of the configuration's what does not contradict it."""
    if own is None:
        return Thresholds(limits.tag, limits.junk, limits.reject)
    junk = own.junk
    if junk is None:
        junk = max(limits.junk, own.tag or 0.0)
        junk = junk if own.reject is None else min(junk, own.reject)
    return Thresholds(
        tag=own.tag if own.tag is not None else min(limits.tag, junk),
        junk=junk,
        reject=own.reject if own.reject is not None else max(limits.reject, junk),
    )


class Correspondents:
    """To whom users write, brought to the database soon after. A process that is killed loses the last seconds of it."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._written: Tally[tuple[str, str]] = Tally(  # login, address
            "spam-correspondents", self._keep, limit=_PENDING_LIMIT, seconds=_FLUSH_SECONDS
        )
        self.flush, self.close = self._written.flush, self._written.close

    def note(self, login: str, addresses: Sequence[AddrSpec]) -> None:
        """A user writes to these."""
        if not login or len(addresses) > _MANY:
            return
        for address in addresses:
            self._written.add((login, spelled(address)))

    async def _keep(self, written: collections.Counter[tuple[str, str]]) -> None:
        accounts = await spam_standing.accounts_of(self._pool, list({login for login, _ in written}))
        changes = [
            (accounts[login], address, spam_standing.Standing(answered=number))
            for (login, address), number in written.items()
            if login in accounts
        ]
        await spam_standing.count(self._pool, changes)


def _observe(findings: SpamFindings) -> None:
    for action in {finding.action for _, finding in findings.own} or {findings.common.action}:
        _SCORED.labels(action).inc()


def build_spam(context: Context) -> Spam:
    """The filter as configured."""
    limits = context.settings.spam
    resolver = Resolver(context.settings.transport)
    context.closing.push_async_callback(resolver.close)
    correspondents = None
    if not context.is_rehearsal:
        correspondents = Correspondents(context.pool)
        context.closing.push_async_callback(correspondents.close)
    return Spam(
        AccountMemory(context.pool, limits),
        Scorer(least_learned=limits.least_learned) if limits.builtin else None,
        engines=build_engines(context),
        resolver=Names(resolver),
        correspondence=correspondents,
        filing=limits.filing,
        least_learned=limits.least_learned,
        limit_seconds=limits.engine_limit + _GRACE_SECONDS,
        observe=None if context.is_rehearsal else _observe,
    )
