"""One running suite for all tests here, and accounts of their own for those that want them."""

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from bench.processor import tree
from bench.suite import Suite, state_directory
from bench.system import Account

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def suite() -> Iterator[Suite]:
    """`postwerk up --demo` in a temporary state; after the tests SIGINT must end all of it with exit code 0."""
    with state_directory() as state, started(Suite(state)) as running:
        yield running


@contextmanager
def started(suite: Suite) -> Iterator[Suite]:
    """Start a suite, and end it as Ctrl-C does: with exit code 0 and no process left behind."""
    suite.start()
    try:
        yield suite
    finally:
        assert suite.process is not None
        members = tree([suite.process.pid])
        code = suite.interrupt()
    assert code == 0, f"exit code {code}\n{suite.tail()}"
    left = [pid for pid in members if _is_alive(pid)]
    assert not left, f"processes left: {left}\n{suite.tail()}"


def _is_alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


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
