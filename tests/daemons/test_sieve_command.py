"""`postwerk sieve`: what an operator does with people's scripts."""

import json
import os
from pathlib import Path

import pytest

from tests.daemons.test_cli import Ended, Postwerk, configuration, populated, postwerk

__all__ = ["configuration", "populated", "postwerk"]  # fixtures

ALICE = "alice@example.test"


@pytest.fixture
def script(state: Path) -> Path:
    """A good script."""
    path = state / "good.sieve"
    path.write_text('require "fileinto";\nfileinto "Grüße";\n')
    return path


def listed(postwerk: Postwerk) -> list[tuple[str, bool]]:
    return [(row["name"], row["is_active"]) for row in json.loads(postwerk("sieve", "list", ALICE, "--json"))]


def test_scripts(populated: Postwerk, script: Path) -> None:
    """A script is put, listed, printed octet for octet, activated, and deleted when it is not active any more."""
    populated("sieve", "put", ALICE, "main", str(script))
    populated("sieve", "put", ALICE, "other", str(script), "--activate")
    assert listed(populated) == [("main", False), ("other", True)]
    assert populated("sieve", "get", ALICE, "main") == script.read_text()
    populated("sieve", "activate", ALICE, "main")
    assert listed(populated) == [("main", True), ("other", False)]
    with pytest.raises(Ended, match="main is active"):
        populated("sieve", "delete", ALICE, "main")
    populated("sieve", "activate", ALICE, "--none")
    populated("sieve", "delete", ALICE, "main")
    assert listed(populated) == [("other", False)]
    assert "other" in populated("sieve", "list", ALICE)


def test_errors_and_warnings(populated: Postwerk, state: Path) -> None:
    """Check and put tell all errors by line and column, and store nothing that has one; warnings alone are no failure."""
    wrong, odd, empty = state / "wrong.sieve", state / "odd.sieve", state / "empty.sieve"
    wrong.write_text("keep;\n  one;\ntwo;\n")
    odd.write_text('if header :is "sub ject" "x" { keep; }\n')
    empty.write_text("")
    for command in (("check",), ("put", ALICE, "wrong")):
        with pytest.raises(Ended, match="2 errors") as ended:
            populated("sieve", *command, str(wrong))
        assert ended.value.code == os.EX_DATAERR
        told = ended.value.said.splitlines()[:2]
        assert told == ["line 2, column 3: unknown command 'one'", "line 3, column 1: unknown command 'two'"]
        with pytest.raises(Ended, match="the script is empty"):
            populated("sieve", *command, str(empty))
    populated("sieve", "check", str(odd))
    assert listed(populated) == []


def test_what_is_not_there(populated: Postwerk, script: Path) -> None:
    """Unknown accounts and scripts and impossible names are told as such."""
    for command in (("get",), ("delete",), ("activate",)):
        with pytest.raises(Ended, match=f"{ALICE} has no script nothing") as missing:
            populated("sieve", *command, ALICE, "nothing")
        assert missing.value.code == os.EX_NOUSER
    with pytest.raises(Ended, match="no account bob@example"):
        populated("sieve", "put", "bob@example.test", "a", str(script))
    with pytest.raises(Ended, match="no control characters"):
        populated("sieve", "put", ALICE, "a\nb", str(script))
    for arguments in ((ALICE,), (ALICE, "a", "--none")):
        with pytest.raises(Ended, match="either a script's name or --none"):
            populated("sieve", "activate", *arguments)


def test_simple_settings_are_no_script_to_change(populated: Postwerk, script: Path) -> None:
    """What they were made into is listed and printed like any other script."""
    populated("rules", "forward", ALICE, "bob@example.org")
    assert listed(populated) == [("Simple settings", False)]
    assert "bob@example.org" in populated("sieve", "get", ALICE, "Simple settings")
    for arguments in (
        ("put", ALICE, "Simple settings", str(script)),
        ("activate", ALICE, "Simple settings"),
        ("delete", ALICE, "Simple settings"),
    ):
        with pytest.raises(Ended, match="changes with them") as ended:
            populated("sieve", *arguments)
        assert ended.value.code == os.EX_USAGE


def test_global_scripts(populated: Postwerk, script: Path, state: Path) -> None:
    """A script for many accounts is checked, stored for host or tenant, listed in its place, printed and deleted."""
    wrong = state / "wrong.sieve"
    wrong.write_text("one;\n")
    populated("sieve", "global", "put", "first", str(script), "--before")
    populated("sieve", "global", "put", "common", str(script), "--library", "--tenant", "example")
    populated("sieve", "global", "put", "common", str(script), "--after", "--tenant", "example")
    rows = json.loads(populated("sieve", "global", "list", "--json"))
    assert [(row["tenant"], row["name"], row["place"]) for row in rows] == [
        (None, "first", "before"),
        ("example", "common", "after"),
    ]
    assert len(json.loads(populated("sieve", "global", "list", "--tenant", "example", "--json"))) == 1
    assert populated("sieve", "global", "get", "first") == script.read_text()
    with pytest.raises(Ended, match="there is no global script first"):
        populated("sieve", "global", "get", "first", "--tenant", "example")
    with pytest.raises(Ended, match="1 error"):
        populated("sieve", "global", "put", "first", str(wrong), "--before")
    with pytest.raises(Ended, match="--before, --after or --library"):
        populated("sieve", "global", "put", "first", str(script))
    with pytest.raises(Ended, match="no tenant nobody") as missing:
        populated("sieve", "global", "put", "first", str(script), "--before", "--tenant", "nobody")
    assert missing.value.code == os.EX_NOUSER
    populated("sieve", "global", "delete", "first")
    with pytest.raises(Ended, match="no script first"):
        populated("sieve", "global", "delete", "first")
