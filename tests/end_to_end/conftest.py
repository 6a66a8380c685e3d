"""One running suite for all tests here, and accounts of their own for those that want them."""

import itertools
from collections.abc import Callable, Iterator

import pytest

from bench.suite import Suite, state_directory
from bench.system import Account
from tests.end_to_end.suite import started

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
