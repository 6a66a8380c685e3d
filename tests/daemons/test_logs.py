"""Logs: one JSON object a line, and no address in it."""

import json
import subprocess
import sys

import asyncpg
import pytest

from daemons.logs import anonymise


@pytest.mark.parametrize(
    ("text", "anonymous"),
    [
        ("mail from <Jane.Doe+x@example.org> refused", "mail from <x@x> refused"),
        ('"jane doe"@example.org,bob@[192.0.2.1]', "x@x,x@x"),
        ("jörg@exämple.test", "x@x"),
        ("from 192.0.2.77:2525 to [2001:db8::1]:25", "from 0:2525 to [0]:25"),
        ("peer ::ffff:192.0.2.1 and ::1.", "peer 0 and 0."),
        ("at 12:30:45 on 2026-11-22, version 18.6.3", "at 12:30:45 on 2026-11-22, version 18.6.3"),
        ("nothing here: all is well", "nothing here: all is well"),
        ("=?utf-8?q?x?=jane@example.org", "x@x"),
        ("a" * 200_000 + "@", "a" * 200_000 + "@"),
        ('"\\' * 100_000 + "@", '"\\' * 100_000 + "@"),
    ],
)
def test_addresses_are_removed(text: str, anonymous: str) -> None:
    """Mail addresses become x@x and IP addresses 0; times, dates and versions stay."""
    assert anonymise(None, "info", {"event": text})["event"] == anonymous


def test_addresses_are_removed_at_any_depth() -> None:
    """Values inside of lists and dictionaries are looked at, keys and octets too."""
    event = {
        "a": [{"x@example.org": b"y@example.org"}, ("192.0.2.1",)],
        "b": 3,
        "c": None,
        "d": ValueError("z@example.org"),
    }
    assert anonymise(None, "info", event) == {"a": [{"x@x": "x@x"}, ["0"]], "b": 3, "c": None, "d": "x@x"}


@pytest.mark.parametrize("end", ["", "\nHINT:  try again", "\n\nThe above exception was the direct cause"])
def test_rows_of_the_database_are_removed(end: str) -> None:
    """What PostgreSQL tells of the row that it refused is no more than the refusal."""
    error = asyncpg.CheckViolationError("new row violates a constraint")
    error.detail = "Failing row contains (7, Dear Jane,\nit is over)."
    told = anonymise(None, "error", {"exception": f"Traceback:\n  {error}{end}"})["exception"]
    assert told == f"Traceback:\n  new row violates a constraint{end}"


_PROGRAM = """
import logging
from config.logs import Logs
from daemons.logs import configure, logger
configure(Logs({arguments}), "test")
logger("here").info("hello", peer="192.0.2.1")
logger("here").debug("whisper")
logging.getLogger("library").warning("from %s", "jane@example.org")
try:
    raise ValueError("jane@example.org")
except ValueError:
    logger("here").exception("failed")
"""


def _events(arguments: str) -> list[dict[str, str]]:
    program = _PROGRAM.format(arguments=arguments)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == ""
    return [json.loads(line) for line in done.stderr.splitlines()]


def test_events_are_json_lines() -> None:
    """Each event is one JSON object on standard error with process, component, level and time; libraries' events too."""
    hello, library, failed = _events("")
    assert (hello["process"], hello["component"], hello["level"]) == ("test", "here", "info")
    assert (hello["event"], hello["peer"]) == ("hello", "0")
    assert hello["timestamp"].endswith("Z")
    assert (library["event"], library["component"]) == ("from x@x", "library")
    assert "ValueError: x@x" in failed["exception"]


def test_addresses_can_be_kept() -> None:
    """anonymise = false and level = "debug" show everything."""
    hello, whisper, _, _ = _events("anonymise=False, level='debug'")
    assert (hello["peer"], whisper["event"]) == ("192.0.2.1", "whisper")
