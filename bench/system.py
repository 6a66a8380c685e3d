"""What a load runs against: a mail system's endpoints, accounts and process roots, whoever made it."""

import ssl
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

DOMAIN = "bench.test"


@dataclass(frozen=True, slots=True)
class Account:
    """A mailbox owner; the login is also the address."""

    login: str
    password: str


@dataclass(frozen=True, slots=True)
class System:
    """A running mail system. roots: its process trees. endpoints: smtp, lmtp, imaps, pop3s, and metrics where it has them."""

    name: str
    endpoints: Mapping[str, tuple[str, int] | str]
    accounts: Sequence[Account]
    reader: Account
    tls: ssl.SSLContext
    roots: Sequence[int]
    settling_seconds: float = 0.0  # until idle sessions have become what they stay
    holds_by_parameter: bool = False  # mail is held for later by HOLDFOR (RFC 4865), not by its recipients' names
    let_go: Callable[[], None] = lambda: None  # have all held mail delivered now
    discard: Callable[[], None] = lambda: None  # throw all of it away
    look: Callable[[], Awaitable[tuple[float, float]]] | None = None  # a look for what is due: milliseconds, pages


def accounts(count: int) -> list[Account]:
    """The accounts every system under load has, with the same passwords on each."""
    return [Account(f"user{number:03}@{DOMAIN}", f"bench-secret-{number:03}") for number in range(count)]


READER = Account(f"reader@{DOMAIN}", "bench-secret-reader")
