"""Caps of submission, bursts, suspended accounts: may this account send this now, and does it go out or is it held?

Use: check() at RCPT, which asks nobody; admit() when the message is complete, before it is stored; withdraw() when it could not
be stored after all.
"""

from dataclasses import dataclass
from typing import Protocol

from config.sending import Sending as Settings
from protocol.address import AddrSpec
from protocol.smtp.reply import Reply
from storage.notifications import ChangeHub
from storage.pool import Pool


class Sender(Protocol):
    """Whose message it is: daemons.authentication.Identity."""

    @property
    def account_id(self) -> int: ...

    @property
    def tenant_id(self) -> int: ...

    @property
    def login(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Held:
    """The message is accepted and stored, but all its recipients wait in the queue until somebody releases them."""

    reason: str  # what Outbound.held_reason takes


class Sending:
    """One per process."""

    def __init__(self, settings: Settings, pool: Pool, hub: ChangeHub) -> None:
        self._settings = settings
        self._pool = pool
        self._hub = hub

    def check(self, account: Sender, recipients: int) -> Reply | None:
        """At MAIL (0) and RCPT (those before this one): a refusal that is known without asking, or None."""
        return None

    async def admit(self, account: Sender, reverse_path: AddrSpec | None, recipients: int) -> Reply | Held | None:
        """Count the message and its recipients. None: it may go out. Raises UnavailableError."""
        return None

    def withdraw(self, account: Sender, reverse_path: AddrSpec | None, recipients: int) -> None:
        """What was admitted was not stored: do not count it."""

    async def close(self) -> None:
        """Give back what was reserved and not used."""
