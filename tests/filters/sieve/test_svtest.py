"""Pigeonhole's conformance tests. They are LGPL and stay outside of this repository: without them this is skipped.

Their place is named by PIGEONHOLE_SVTEST, or they lie beside the repository in shared/corpora.
"""

import os
from pathlib import Path

import pytest

from tests.filters.sieve.svtest import run_file

BESIDE = Path(__file__).parents[4] / "shared" / "corpora" / "pigeonhole-svtest"
CORPUS = Path(os.environ.get("PIGEONHOLE_SVTEST", BESIDE))
FILES = sorted(CORPUS.rglob("*.svtest")) if CORPUS.is_dir() else []

NOT_OURS = "Pigeonhole's own extension, which runs programs or reports to it"
FORGIVING = "counts what Pigeonhole tells of one broken command; ours is refused too, with another count"
EXCEPTIONS: dict[str, dict[str, str]] = {
    # A whole file
    "extensions/vnd.dovecot/debug/execute.svtest": {"*": NOT_OURS},
    "extensions/vnd.dovecot/environment/variables.svtest": {"*": NOT_OURS},
    "extensions/vnd.dovecot/report/execute.svtest": {"*": NOT_OURS},
    "plugins/extprograms/execute/errors.svtest": {"*": NOT_OURS},
    "plugins/extprograms/execute/execute.svtest": {"*": NOT_OURS},
    "plugins/extprograms/filter/command.svtest": {"*": NOT_OURS},
    "plugins/extprograms/filter/errors.svtest": {"*": NOT_OURS},
    "plugins/extprograms/pipe/command.svtest": {"*": NOT_OURS},
    "plugins/extprograms/pipe/errors.svtest": {"*": NOT_OURS},
    "execute/examples.svtest": {"*": "the example scripts are not part of the corpus"},
    "failures/fuzz1.svtest": {"*": "must fail, without harm: it looks for mail that is not there"},
    "failures/fuzz2.svtest": {"*": "must fail, without harm: it looks for mail that is not there"},
    "failures/fuzz3.svtest": {"*": "must fail, without harm: it looks for mail that is not there"},
    "failures/mailbox-bad-utf8.svtest": {"*": "must fail, without harm: it looks for mail that is not there"},
    # Single tests
    "compile/errors.svtest": {
        "Parser errors (FIXME: count only)": FORGIVING,
        "Outgoing address errors (FIXME: count only)": "has one address with UTF-8, which we send to (RFC 6531)",
    },
    "extensions/imap4flags/errors.svtest": {"Invalid Syntax": FORGIVING},
    "extensions/relational/errors.svtest": {"Syntax errors": FORGIVING},
    "extensions/include/errors.svtest": {"Generic": "a missing script is an error when it is included (RFC 6609 §3.2)"},
    "extensions/mime/errors.svtest": {
        "Extracttext - without foreverypart": "a capability that is required and not used does no harm"
    },
    "multiscript/conflicts.svtest": {
        "Duplicates": "how results of scripts run one by one are put together by its runner"
    },
}


@pytest.mark.skipif(not FILES, reason="the tests of Pigeonhole are not there")
@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(CORPUS)))
def test_conformance(path: Path) -> None:
    """Every test of an extension that we have passes; the exceptions are exactly those listed, each with its reason."""
    known = EXCEPTIONS.get(str(path.relative_to(CORPUS)), {})
    if known.get("*") == NOT_OURS:
        pytest.skip(NOT_OURS)
    outcome = run_file(path)
    if "*" in known:
        assert any(outcome.tests.values())
        return
    assert not outcome.broken
    assert {name: reason for name, reason in outcome.tests.items() if reason and name not in known} == {}
    assert {name for name in known if not outcome.tests.get(name)} == set()  # the list is not longer than it must be


def test_exceptions_exist() -> None:
    """The list names files that are there."""
    assert not FILES or set(EXCEPTIONS) <= {str(path.relative_to(CORPUS)) for path in FILES}
