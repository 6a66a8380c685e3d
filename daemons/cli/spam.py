"""`postwerk spam`: teach the filter with files, ask it about files, see what was learned."""

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from config.settings import Settings
from config.spam import Spam
from daemons.cli.common import fail, json_option, listed, owner_connection, run_async, settings_option, show
from filters.spam.bayes import Level as CountedLevel
from filters.spam.score import Scorer, SpamVerdict, Thresholds
from filters.spam.sight import Sight
from filters.spam.tokens import TOKENS_VERSION, tokens_of
from storage import spam as corpora
from storage.spam import Level, Whose

if TYPE_CHECKING:
    from storage.pool import Connection

_WIDEST = {"account": Level.ACCOUNT, "tenant": Level.TENANT, "everybody": Level.EVERYBODY}
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
    widest = _WIDEST[_of(settings).learning_reaches]

    async def run() -> tuple[int, int]:
        changed = count = 0
        async with owner_connection(settings) as connection:
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

    changed, count = run_async(run())
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
    section = _of(settings)
    thresholds = Thresholds(section.tag, section.junk, section.reject)

    async def run() -> list[tuple[Path, SpamVerdict]]:
        scorer = Scorer(least_learned=section.least_learned)
        async with owner_connection(settings) as connection:
            counts = LearnedCounts(connection, await corpora.whose(connection, login=login, tenant=tenant))
            return [(path, await scorer.score(Sight(path.read_bytes()), counts)) for path in _messages(files)]

    rows: list[dict[str, Any]] = []
    for path, verdict in run_async(run()):
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
    rows = run_async(listed(settings, corpora.list_corpora))
    show([asdict(row) for row in rows], as_json=as_json, empty="nothing was learned yet")


def _messages(files: Sequence[Path]) -> Iterator[Path]:
    for path in files:
        if path.is_dir():
            yield from sorted(each for each in path.rglob("*") if each.is_file())
        else:
            yield path


def _of(settings: Settings) -> Spam:
    return settings.spam
