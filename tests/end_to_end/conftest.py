"""One running suite for all tests here, and accounts of their own for those that want them."""

import itertools
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bench.suite import Suite, state_directory
from bench.system import Account
from tests.end_to_end.suite import started
from tests.end_to_end.tools import Tool, must_have

_TOOL_SECONDS = 120
_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def suite() -> Iterator[Suite]:
    """`postwerk up --demo` in a temporary state; after the tests SIGINT must end all of it with exit code 0."""
    with state_directory() as state, started(Suite(state)) as running:
        yield running


@pytest.fixture
def new_account(suite: Suite) -> Callable[[], Account]:
    """A function that makes an account with an empty INBOX."""

    def make() -> Account:
        number = next(_numbers)
        account = Account(f"user{number}@example.test", f"secret of user {number}")
        suite.command("account", "add", account.login, "--password-stdin", text=account.password + "\n")
        return account

    return make


@pytest.fixture
def account(new_account: Callable[[], Account]) -> Account:
    """An account with an empty INBOX."""
    return new_account()


@pytest.fixture
def tool() -> Tool:
    """A function that runs a tool in a home directory of its own, and gives what it wrote."""

    def run(*command: str, home: Path | None = None, accepted: tuple[int, ...] = (0,)) -> str:
        must_have(command[0])
        environment = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "HOME": str(home or "/nonexistent")}
        done = subprocess.run(command, capture_output=True, timeout=_TOOL_SECONDS, env=environment, check=False)
        said = f"{done.stdout.decode('utf-8', 'replace')}\n{done.stderr.decode('utf-8', 'replace')}"
        assert done.returncode in accepted, f"{command[0]}: exit {done.returncode}\n{said}"
        return said

    return run
