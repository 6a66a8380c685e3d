"""Logging in, for IMAP, POP3, submission and ManageSieve alike: who may, with what, and how guessing is slowed.

origin = authenticator.origin(connection, "imap", allows_cleartext=…)      # once per command
authenticator.mechanisms(origin)                                           # what may be advertised here: names
authenticator.may_log_in(origin)                                           # False: clear text, which is refused
await authenticator.verify(login, password, origin)                        # Identity | None: LOGIN, USER and PASS
exchange = authenticator.exchange(mechanism, origin)                       # Exchange | None: AUTH, AUTHENTICATE
await exchange.step(response)                                              # Challenge | Identity, see exchange.py
"""

from daemons.authentication.authenticator import Authenticator
from daemons.authentication.exchange import Exchange
from daemons.authentication.failures import network_of
from daemons.authentication.identity import ActingError, Credential, DeniedError, Identity, Origin, Scope
from daemons.authentication.opening import build_authenticator
from daemons.authentication.passwords import hash_password

__all__ = [
    "ActingError",
    "Authenticator",
    "Credential",
    "DeniedError",
    "Exchange",
    "Identity",
    "Origin",
    "Scope",
    "build_authenticator",
    "hash_password",
    "network_of",
]
