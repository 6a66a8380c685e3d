"""What tests of simple settings share: from settings to what becomes of a message."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from filters.sieve.actions import Result
from filters.sieve.interpreter import run
from filters.sieve.ports import Surroundings
from filters.sieve.script import compile_script
from filters.simple.compiling import FaxSign, compiled
from filters.simple.conditions import parse
from filters.simple.settings import Rule, Settings
from tests.filters.sieve.running import AROUND, MAIL, Outside

BERLIN = ZoneInfo("Europe/Berlin")
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def result(
    settings: Settings,
    mail: bytes = MAIL,
    *,
    now: datetime = NOW,
    around: Surroundings = AROUND,
    outside: Outside | None = None,
    zone: ZoneInfo = BERLIN,
    fax_senders: Sequence[str] = (),
) -> Result:
    """What the settings come to."""
    source = compiled(settings, zone, FaxSign(senders=fax_senders))
    assert source is not None
    script = compile_script(source)
    assert not script.warnings
    found = asyncio.run(run(script, mail, around, outside or Outside(), now=now))
    assert found.error is None, found.error
    return found


def acts(words: str, mail: bytes = MAIL, **more: object) -> bool:
    """Whether a rule with this condition files the message."""
    rule = Rule(name="rule", conditions=(parse(words),), file_into="yes")
    actions = result(Settings(rules=(rule,)), mail, **more).actions  # type: ignore[arg-type]
    return any(getattr(action, "mailbox", "") == "yes" for action in actions)
