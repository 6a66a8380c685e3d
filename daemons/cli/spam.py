"""`postwerk spam`: teach the filter with files, ask it about files, see what was learned; thresholds and senders of accounts."""

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from config.settings import Settings
from daemons.cli.common import as_owner, fail, json_option, settings_option, show
from daemons.spam import thresholds_of
from filters.sender_lists import spelled
from filters.spam.bayes import Level as CountedLevel
from filters.spam.score import Scorer, SpamVerdict, Thresholds
from filters.spam.sight import Sight
from filters.spam.tokens import TOKENS_VERSION, tokens_of
from protocol.address import AddressError, parse_addr_spec
from storage import spam as corpora
from storage import spam_standing, spam_thresholds
from storage.spam import Level, Whose
from storage.spam_standing import Standing
from storage.spam_thresholds import NEVER, Limits

if TYPE_CHECKING:
    from storage.pool import Connection

_WHOSE_OPTIONS = (
    click.option("--account", "login", help="The login of the account that it concerns."),
    click.option("--tenant", help="The tenant that it concerns. With neither: everybody."),
)


class LearnedCounts:
    """filters.spam.bayes.Counts: what was learned for one account, its tenant, and everybody."""

    def __init__(self, connection: "Connection", whose: Whose) -> None:
        self._connection = connection
        self._whose = whose

    async def levels(self, tokens: Sequence[int]) -> Sequence[CountedLevel]:
        """filters.spam.bayes.Counts."""
        found = await corpora.counts(self._connection, self._whose, tokens)
        return [CountedLevel(each.spam, each.ham, each.counts) for each in found]


@click.group()
def spam() -> None:
    """The spam filter: teach it, and ask it why."""


@spam.command("learn")
@click.option("--spam", "kind", flag_value="spam", help="These are spam.")
@click.option("--ham", "kind", flag_value="ham", help="These are wanted.")
@click.option("--forget", "kind", flag_value="forget", help="Take back what these taught.")
@_WHOSE_OPTIONS[0]
@_WHOSE_OPTIONS[1]
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@settings_option
def learn_command(
    settings: Settings, files: tuple[Path, ...], kind: str | None, login: str | None, tenant: str | None
) -> None:
    """Learn from messages: one a file, or directories of such files. The same message teaches once."""
    if kind is None:
        fail("say --spam, --ham or --forget", os.EX_USAGE)
    widest = Level[settings.spam.learning_reaches.upper()]

    async def run(connection: "Connection") -> tuple[int, int]:
        changed = count = 0
        whose = await corpora.whose(connection, login=login, tenant=tenant)
        for path in _messages(files):
            octets = path.read_bytes()
            tokens, digest = list(tokens_of(Sight(octets))), hashlib.sha256(octets).digest()
            count += 1
            if kind == "forget":
                changed += await corpora.unlearn(connection, whose, digest, tokens)
            else:
                changed += await corpora.learn(
                    connection, whose, digest, tokens, is_spam=kind == "spam", version=TOKENS_VERSION, widest=widest
                )
        return changed, count

    changed, count = as_owner(settings, run)
    word = "forgotten" if kind == "forget" else "learned"
    click.echo(f"{changed} of {count} messages {word}")


@spam.command("score")
@_WHOSE_OPTIONS[0]
@_WHOSE_OPTIONS[1]
@click.option("--language", type=click.Choice(["en", "de"]), default="en", show_default=True, help="Of the reasons.")
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@json_option
@settings_option
def score_command(
    settings: Settings,
    files: tuple[Path, ...],
    login: str | None,
    tenant: str | None,
    language: Any,
    as_json: bool,
) -> None:
    """Score messages as they would be scored now, with every reason. What only the connection tells is left out."""

    async def run(connection: "Connection") -> tuple[Thresholds, list[tuple[Path, SpamVerdict]]]:
        scorer = Scorer(least_learned=settings.spam.least_learned)
        whose = await corpora.whose(connection, login=login, tenant=tenant)
        thresholds, counts = await _effective(connection, settings, whose), LearnedCounts(connection, whose)
        return thresholds, [(path, await scorer.score(Sight(path.read_bytes()), counts)) for path in _messages(files)]

    rows: list[dict[str, Any]] = []
    thresholds, scored = as_owner(settings, run)
    for path, verdict in scored:
        head = {"file": str(path), "score": verdict.score, "action": verdict.action(thresholds)}
        if as_json:
            reasons = [
                {"name": each.name, "points": each.points, "reason": each.text(language)} for each in verdict.reasons
            ]
            rows.append(head | {"reasons": reasons})
            continue
        click.echo(f"{path}: {verdict.score:.1f} ({head['action']})")
        for each in verdict.reasons:
            click.echo(f"  {each.points:+7.1f}  {each.name:26}  {each.text(language)}")
    if as_json:
        show(rows, as_json=True)


@spam.command("learned")
@json_option
@settings_option
def learned_command(settings: Settings, as_json: bool) -> None:
    """Show how much was learned, for whom."""
    rows = as_owner(settings, corpora.list_corpora)
    show([asdict(row) for row in rows], as_json=as_json, empty="nothing was learned yet")


@dataclass(frozen=True, slots=True)
class _Given:
    """A threshold as it was asked for; None: as one level higher."""

    score: float | None


class _Score(click.ParamType[_Given]):
    """A number above 0, "never", or "default"."""

    name = "score|never|default"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> _Given:
        """Read what was given."""
        if isinstance(value, _Given):
            return value
        if value == "default":
            return _Given(None)
        try:
            score = NEVER if value == "never" else float(value)
        except ValueError:
            score = 0.0
        if not score > 0.0:
            self.fail('expected a number above 0, "never" or "default"', param, ctx)
        return _Given(score)


@spam.command("threshold")
@_WHOSE_OPTIONS[0]
@_WHOSE_OPTIONS[1]
@click.option("--tag", type=_Score(), help="From this score on a message has X-Spam-Flag: YES.")
@click.option("--junk", type=_Score(), help="From this score on it counts as spam.")
@click.option("--reject", type=_Score(), help="From this score on it is refused.")
@json_option
@settings_option
def threshold_command(
    settings: Settings, login: str | None, tenant: str | None, as_json: bool, **asked: _Given | None
) -> None:
    """Show, or set, from which score on what is done with mail for an account, or for all accounts of a tenant.

    What is not set for an account is as its tenant has it, then as configured ([spam]).
    """
    changed = {name: given.score for name, given in asked.items() if given is not None}
    if login is None and tenant is None and changed:
        fail("say --account or --tenant; for everybody set tag, junk and reject in [spam]", os.EX_USAGE)

    async def run(connection: "Connection") -> tuple[Limits, Thresholds]:
        async with connection.transaction():
            whose = await corpora.whose(connection, login=login, tenant=tenant)
            own = await spam_thresholds.own(connection, whose) if whose.tenant_id is not None else Limits()
            if changed:
                own = _checked(replace(own, **changed))
                await spam_thresholds.set_own(connection, whose, own)
            return own, await _effective(connection, settings, whose)

    own, effective = as_owner(settings, run)
    names = ("tag", "junk", "reject")
    rows = [
        {
            "threshold": name,
            "score": _spelled(getattr(effective, name)),
            "set_here": getattr(own, name) is not None,
        }
        for name in names
    ]
    show(rows, as_json=as_json)


@spam.command("sender")
@click.option("--account", "login", required=True, help="The login of the account whose memory is asked.")
@click.option("--forget", is_flag=True, help="Forget what the account has done with mail of this sender.")
@click.argument("address")
@json_option
@settings_option
def sender_command(settings: Settings, login: str, address: str, forget: bool, as_json: bool) -> None:
    """Show what an account has done with mail of a sender: messages written to it, kept, and thrown into Junk."""
    try:
        sender = spelled(parse_addr_spec(address))
    except AddressError as error:
        fail(f"{address}: {error}", os.EX_USAGE)

    async def run(connection: "Connection") -> Standing:
        account_id = (await corpora.whose(connection, login=login)).account_id
        assert account_id is not None
        if forget:
            await spam_standing.forget_sender(connection, account_id, sender)
        return (await spam_standing.standings(connection, [account_id], sender)).get(account_id, Standing())

    show([{"address": sender, **asdict(as_owner(settings, run))}], as_json=as_json)


def _checked(limits: Limits) -> Limits:
    scores = [score for score in (limits.tag, limits.junk, limits.reject) if score is not None]
    if scores != sorted(scores):
        fail("tag, junk and reject must ascend", os.EX_USAGE)
    return limits


async def _effective(connection: "Connection", settings: Settings, whose: Whose) -> Thresholds:
    """What holds for an account, for a tenant's accounts, or for everybody."""
    limits = Limits()
    for each in reversed(whose.levels(Level.TENANT)):
        if each.tenant_id is not None:
            limits = limits.over(await spam_thresholds.own(connection, each))
    return thresholds_of(settings.spam, limits)


def _spelled(score: float) -> float | str:
    return "never" if score == NEVER else score


def _messages(files: Sequence[Path]) -> Iterator[Path]:
    for path in files:
        if path.is_dir():
            yield from sorted(each for each in path.rglob("*") if each.is_file())
        else:
            yield path
