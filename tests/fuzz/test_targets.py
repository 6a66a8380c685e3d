"""The fuzz targets with what they begin with, and with every input that has ever broken one."""

from pathlib import Path

import pytest

from protocol.imap import grammar as imap_grammar
from tests.fuzz import grammar
from tests.fuzz.targets import MAX_OCTETS, TARGETS

CRASHES = Path(__file__).parent / "crashes"
FOUND = sorted(path for path in CRASHES.rglob("*") if path.is_file() and path.name != "README.md")


@pytest.mark.parametrize("name", TARGETS)
def test_seeds(name: str) -> None:
    """Every target holds for all that its fuzzing begins with."""
    target, count = TARGETS[name], 0
    for octets in target.seeds():
        target.run(octets[:MAX_OCTETS])
        count += 1
    assert count
    target.run(b"")


@pytest.mark.parametrize("path", FOUND, ids=lambda path: f"{path.parent.name}-{path.name[:20]}")
def test_regression(path: Path) -> None:
    """What once broke a target does so no more."""
    assert path.parent.name in TARGETS
    TARGETS[path.parent.name].run(path.read_bytes())


def test_all_verbs_are_fuzzed() -> None:
    """Each command of the grammar belongs to a target."""
    groups = (grammar.ACCESS, grammar.MAILBOXES, grammar.MESSAGES, grammar.SEARCH, grammar.NOTIFY, grammar.SHARING)
    fuzzed = {verb for group in groups for verb in group}
    after_uid = {b"UID " + verb for verb in imap_grammar._UID_PRODUCTIONS}
    assert fuzzed == (imap_grammar._PRODUCTIONS.keys() - {b"UID"}) | after_uid
