"""Filters by name: those of other packages among them, what the configuration wants of them, and what is counted."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from prometheus_client import REGISTRY

from config.filtering import Filtering, Policy
from config.units import Seconds
from daemons.breakers import build_breaker
from daemons.context import Context
from daemons.filtering import build_pipeline, observe
from filters.pipeline import Result
from filters.subject import Envelope, Subject
from filters.verdict import Refuse, Score
from protocol.smtp.reply import reply
from storage.errors import StorageError

PACKAGE = Path(__file__).parent.parent / "packages" / "shouting"
ENVELOPE = Envelope("id", "192.0.2.1", "client.example", False, False, None, ())
LOUD = Subject(ENVELOPE, b"Subject: BUY THIS\r\n\r\nx\r\n")


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory in which pip has installed the package."""
    target = tmp_path_factory.mktemp("site")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--no-build-isolation"]
    built = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "shouting.py"):  # building leaves files behind
        (built / name).write_bytes((PACKAGE / name).read_bytes())
    subprocess.run([*pip, "--disable-pip-version-check", "--target", target, built], check=True)
    return target


@pytest.fixture
def shouting(installed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The package is installed, for as long as the test runs."""
    monkeypatch.syspath_prepend(installed)
    monkeypatch.delitem(sys.modules, "shouting", raising=False)


def wanted(context: Context, **policy: Any) -> Context:
    """With a policy for the filter `shouting`."""
    filtering = Filtering(policies=[Policy(filter="shouting", **policy)])
    return replace(context, settings=msgspec.structs.replace(context.settings, filtering=filtering))


@pytest.mark.usefixtures("shouting")
async def test_a_filter_of_another_package(context: Context) -> None:
    """Once its package is installed, smtp.filters may name it, with settings of its own."""
    pipeline = build_pipeline(wanted(context, options={"points": 2.5}), ["mime", "shouting"])
    decision = await pipeline.check_content(LOUD)
    assert [(each.name, each.verdicts) for each in decision.results] == [
        ("mime", ()),
        ("shouting", (Score(2.5, "the subject shouts"),)),
    ]
    assert (await pipeline.check_content(Subject(ENVELOPE, b"Subject: Hello\r\n\r\n"))).score == 0


@pytest.mark.usefixtures("shouting")
def test_a_filter_that_cannot_be_made_stops_the_process(context: Context) -> None:
    """Mail must not come in unchecked because of a setting: the error names the filter, and what is wrong."""
    with pytest.raises(StorageError, match=r"smtp\.filters: shouting, of shouting:build: .*points: a number is needed"):
        build_pipeline(wanted(context, options={"points": "many"}), ["shouting"])
    with pytest.raises(StorageError, match=r"smtp\.filters: there is no filter 'whispering'"):
        build_pipeline(context, ["whispering"])
    with pytest.raises(StorageError, match=r"smtp\.filters: mime is named twice"):
        build_pipeline(context, ["mime", "mime"])
    filtering = Filtering(policies=[Policy(filter="mine", on_failure="pass")])
    misspelt = replace(context, settings=msgspec.structs.replace(context.settings, filtering=filtering))
    with pytest.raises(StorageError, match=r"filtering\.policies: there is no filter 'mine'"):
        build_pipeline(misspelt, ["mime"])


@pytest.mark.usefixtures("shouting")
def test_a_filter_stands_behind_those_it_needs(context: Context) -> None:
    """In the wrong order it would never see what the other finds out."""
    with pytest.raises(StorageError, match=r"shouting must stand behind authentication"):
        build_pipeline(context, ["shouting", "authentication"])


@pytest.mark.usefixtures("shouting")
async def test_the_operator_says_what_a_failure_means(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    """A filter that would let mail pass when it fails defers it where the configuration says so."""
    pipeline = build_pipeline(wanted(context, on_failure="defer", time_limit=Seconds(1)), ["shouting"])
    broken = Subject(replace(ENVELOPE, forward_paths=()), b"Subject: X\r\n\r\n", notes=(object(),))
    monkeypatch.setattr(Subject, "noted", property(lambda _: 1 / 0))
    decision = await pipeline.check_content(broken)
    assert decision.refusal is not None
    assert str(decision.refusal.reply.code) == "451"
    assert decision.results[0].failure == "ZeroDivisionError"


def value(name: str, **labels: str) -> float:
    """Of a metric now."""
    return REGISTRY.get_sample_value(name, labels) or 0.0


def test_results_are_counted() -> None:
    """Each filter has its time, and how often it came to what."""
    before = value("postwerk_filter_verdicts_total", filter="counted", verdict="refuse")
    observe(Result("counted", (Score(1, "a"), Refuse(reply(550, "5.7.1", "no"), "b")), 0.004))
    observe(Result("counted", (), 0.2, "TimeoutError", TimeoutError()))
    assert value("postwerk_filter_verdicts_total", filter="counted", verdict="refuse") == before + 1
    assert value("postwerk_filter_verdicts_total", filter="counted", verdict="score") == 1
    assert value("postwerk_filter_verdicts_total", filter="counted", verdict="failed") == 1
    assert value("postwerk_filter_seconds_count", filter="counted") == 2
    assert value("postwerk_filter_seconds_bucket", filter="counted", le="0.005") == 1


async def test_a_service_that_is_left_alone_is_shown(context: Context) -> None:
    """The metric falls to 0 when a service is not asked any more, and rises when it answers again."""
    filtering = Filtering(breaker_failures=2, breaker_pause=Seconds(0))
    breaker = build_breaker(
        replace(context, settings=msgspec.structs.replace(context.settings, filtering=filtering)), "test"
    )
    assert value("postwerk_service_available", service="test") == 1

    async def fails() -> None:
        raise ConnectionRefusedError

    async def answers() -> None:
        assert value("postwerk_service_available", service="test") == 0

    for _ in range(2):
        with pytest.raises(ConnectionRefusedError):
            await breaker.call(fails)
    assert value("postwerk_service_available", service="test") == 0
    await breaker.call(answers)
    assert value("postwerk_service_available", service="test") == 1


async def test_without_filters_forged_fields_go_all_the_same(context: Context) -> None:
    """No configuration lets through what pretends to be ours."""
    pipeline = build_pipeline(context, [])
    decision = await pipeline.check_content(Subject(ENVELOPE, b"X-Spam-Flag: NO\r\nSubject: x\r\n\r\n"))
    assert [verdict.octets for verdict in decision.removed] == [b"X-Spam-Flag: NO\r\n"]
