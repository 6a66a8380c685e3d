"""Bearer tokens: whose they are, by the issuer's keys (JWT, RFC 7519) or by asking the issuer (RFC 7662).

A token is good when a configured issuer signed it with an allowed algorithm, for our audience, and it is of now. Which
tenant's accounts it is good for, the configuration says, never the token.
"""

import binascii
import hashlib
import json
import time
import warnings
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from joserfc import jwt
from joserfc.errors import JoseError, SecurityWarning

from config.issuers import Issuer
from daemons.authentication.authenticator import Claimed
from daemons.authentication.keys import AnswerError, Keys, Web
from daemons.logs import logger

_log = logger("authentication")
_TOKEN_LIMIT = 8192  # octets: longer ones are not looked at


class Issuers:
    """All configured issuers. One per process: keys, connections and what was asked lately are kept here."""

    def __init__(
        self,
        issuers: Sequence[Issuer],
        *,
        cache_entries: int,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._issuers = [(issuer, Web(issuer)) for issuer in issuers]
        self._keys = [Keys(issuer, web, clock) for issuer, web in self._issuers]
        self._cache_entries = cache_entries
        self._clock = clock
        self._now = now
        self._asked: OrderedDict[bytes, tuple[float, dict[str, Any]]] = OrderedDict()  # until when, what was said

    async def close(self) -> None:
        """End the connections."""
        for _, web in self._issuers:
            await web.close()

    def hint(self) -> tuple[str, str]:
        """The scope that a token needs and where its issuer describes itself, when there is only one to name."""
        if len(self._issuers) != 1:
            return "", ""
        issuer = self._issuers[0][0]
        return issuer.scope, description_url(issuer)

    async def claims(self, token: str, tenant: str | None) -> list[Claimed]:
        """Whose the token is, by each issuer that stands for it; none for a bad one.

        tenant is the one of the domain that the client named: only its issuers are asked about a token that cannot be
        read, since whoever is asked gets to know it.
        """
        if len(token) > _TOKEN_LIMIT:
            return []
        said = _unverified(token)
        found = []
        for (issuer, web), keys in zip(self._issuers, self._keys, strict=True):
            claims: Mapping[str, Any] | None = None
            try:
                if said is not None:
                    if said.get("iss") == issuer.issuer:
                        claims = await self._verified(issuer, keys, token)
                elif issuer.introspection and issuer.tenant == tenant:
                    claims = await self._introspected(issuer, web, token)
            except AnswerError as error:
                _log.warning("issuer does not answer", tenant=issuer.tenant, reason=str(error))
            login = None if claims is None else _login(issuer, claims)
            if login is not None:
                found.append(Claimed(issuer.tenant, login))
        return found

    async def _verified(self, issuer: Issuer, keys: Keys, token: str) -> Mapping[str, Any] | None:
        """The claims of a token that is signed, ours, and of now. Raises AnswerError when keys cannot be had."""
        try:
            header = _part(token, 0) or {}
            key_set = await keys.having(header.get("kid"))
            with warnings.catch_warnings():  # "EdDSA" is an old name that issuers still use: who allows it knows
                warnings.simplefilter("ignore", SecurityWarning)
                decoded = jwt.decode(token, key_set, algorithms=list(issuer.algorithms))
            self._check(issuer, decoded.claims)
        except (JoseError, ValueError, TypeError, RecursionError) as error:
            _log.info("token refused", tenant=issuer.tenant, reason=type(error).__name__)
            return None
        return decoded.claims

    def _check(self, issuer: Issuer, claims: dict[str, Any]) -> None:
        """Raises JoseError."""
        registry = jwt.JWTClaimsRegistry(
            now=int(self._now()),
            leeway=int(issuer.leeway),
            iss={"essential": True, "value": issuer.issuer},
            aud={"essential": True, "values": list(issuer.audience)},
            exp={"essential": True},
        )
        registry.validate(claims)

    async def _introspected(self, issuer: Issuer, web: Web, token: str) -> Mapping[str, Any] | None:
        """What the issuer says of the token (RFC 7662 §2.2). Raises AnswerError."""
        name = hashlib.sha256(f"{issuer.tenant}\0{issuer.introspection}\0{token}".encode()).digest()
        until, claims = self._asked.get(name, (0.0, {}))
        if until <= self._clock():
            claims = await web.introspect(token)
            if claims.get("active") is not True:
                return None
            self._asked[name] = (self._clock() + issuer.introspection_lifetime, claims)
            self._asked.move_to_end(name)
            while len(self._asked) > self._cache_entries:
                self._asked.popitem(last=False)
        try:
            self._check(issuer, {"iss": issuer.issuer} | claims)  # RFC 7662 §2.2: iss need not be there, we asked it
        except (JoseError, ValueError, TypeError) as error:
            _log.info("token refused", tenant=issuer.tenant, reason=type(error).__name__)
            return None
        return claims


def description_url(issuer: Issuer) -> str:
    """OpenID Connect Discovery 1.0 §4."""
    return f"{issuer.issuer.rstrip('/')}/.well-known/openid-configuration"


def _login(issuer: Issuer, claims: Mapping[str, Any]) -> str | None:
    """The login that the claims name, if they give the scope for it."""
    granted = claims.get("scope", claims.get("scp", ""))
    scopes = granted.split() if isinstance(granted, str) else granted
    if issuer.scope and (not isinstance(scopes, list) or issuer.scope not in scopes):
        return None
    login = claims.get(issuer.login_claim)
    if not isinstance(login, str) or not login:
        return None
    if issuer.login_claim == "email" and claims.get("email_verified") in (False, "false"):
        return None  # anybody may have typed it in
    return login


def _unverified(token: str) -> Mapping[str, Any] | None:
    """The claims of a JWT before anything is checked: only to know whose keys to check it with. None: it is no JWT."""
    return _part(token, 1) if token.count(".") == 2 else None


def _part(token: str, number: int) -> Mapping[str, Any] | None:
    part = token.split(".")[number]
    try:
        found = json.loads(binascii.a2b_base64(part.replace("-", "+").replace("_", "/") + "=" * (-len(part) % 4)))
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None
