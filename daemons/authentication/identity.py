"""Who has logged in, with what, and where an attempt comes from."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Literal, TypeAlias

Scope: TypeAlias = Literal["imap", "pop3", "smtp", "sieve"]


class Credential(Enum):
    """What a login was proven with."""

    PASSWORD = auto()
    APP_PASSWORD = auto()
    TOKEN = auto()


@dataclass(frozen=True, slots=True)
class Identity:
    """Who has logged in. It stays so for the session: a changed password ends nothing but new logins."""

    account_id: int
    tenant_id: int
    login: str
    scope: Scope = "imap"  # the service it may use
    credential: Credential = Credential.PASSWORD
    app_password_id: int | None = None


@dataclass(frozen=True, slots=True)
class Origin:
    """Where an attempt comes from. Sessions get it from Authenticator.origin."""

    peer: str  # IP address
    scope: Scope
    is_trusted: bool = False
    is_protected: bool = True  # in TLS, or the configuration takes passwords without
    bindings: Mapping[str, bytes] = field(default_factory=dict, repr=False)  # of the TLS channel, for SCRAM-*-PLUS
    client: str = ""  # what the client says of itself: goes into attack events and nowhere else


class DeniedError(Exception):
    """The login failed. Which part of it was wrong is not told."""


class ActingError(DeniedError):
    """The client wants to act for another, which nobody may."""
