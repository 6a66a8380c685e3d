"""What an issuer of tokens says over HTTP: its description, its keys (RFC 7517), and about a token (RFC 7662).

Nothing is believed that did not come by TLS (or from this machine), redirects are not followed, and every answer is
bounded in time and size.
"""

import asyncio
import json
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus, urlsplit

import aiohttp
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from config.issuers import Issuer, is_safe

_AGENT = "Postwerk"


class AnswerError(Exception):
    """The issuer cannot be asked, or does not answer as it should. The text is for the log."""


class Web:
    """HTTP to one issuer."""

    def __init__(self, issuer: Issuer) -> None:
        self._issuer = issuer
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """End the connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def get(self, url: str) -> dict[str, Any]:
        """A JSON object. Raises AnswerError."""
        return await self._ask("GET", url)

    async def introspect(self, token: str) -> dict[str, Any]:
        """RFC 7662 §2.1: what the issuer knows of a token. Raises AnswerError."""
        issuer = self._issuer
        try:
            secret = (await asyncio.to_thread(Path(issuer.client_secret_file).read_text, "utf-8")).strip()
        except (OSError, UnicodeDecodeError) as error:
            raise AnswerError(f"client_secret_file: {type(error).__name__}") from error
        given = aiohttp.encode_basic_auth(quote_plus(issuer.client_id), quote_plus(secret))  # RFC 6749 §2.3.1
        form = {"token": token, "token_type_hint": "access_token"}
        return await self._ask("POST", issuer.introspection, form, {"Authorization": given})

    async def _ask(
        self, method: str, url: str, form: dict[str, str] | None = None, headers: dict[str, str] | None = None
    ) -> dict[str, Any]:
        if not is_safe(url):
            raise AnswerError("an address that cannot be believed")
        limit = self._issuer.response_limit
        try:
            session = await self._opened()
            async with session.request(method, url, data=form, headers=headers, allow_redirects=False) as response:
                if response.status != 200:
                    raise AnswerError(f"status {response.status}")
                octets = bytearray()
                async for chunk in response.content.iter_any():
                    octets += chunk
                    if len(octets) > limit:
                        raise AnswerError("the answer is too long")
            found = json.loads(octets)
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError, RecursionError) as error:
            raise AnswerError(type(error).__name__) from error
        if not isinstance(found, dict):
            raise AnswerError("no JSON object")
        return found

    async def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            authority = self._issuer.certificate_authority
            tls = await asyncio.to_thread(ssl.create_default_context, cafile=authority or None)
            if self._session is None:  # while the file was read, another attempt may have opened it
                self._session = aiohttp.ClientSession(
                    connector=aiohttp.TCPConnector(ssl=tls, limit=8),
                    timeout=aiohttp.ClientTimeout(total=self._issuer.timeout),
                    headers={"Accept": "application/json", "User-Agent": _AGENT},
                    cookie_jar=aiohttp.DummyCookieJar(),
                )
        return self._session


class Keys:
    """One issuer's keys: fetched when first needed, again when they are old or a token names one that is new."""

    def __init__(self, issuer: Issuer, web: Web, clock: Callable[[], float]) -> None:
        self._issuer = issuer
        self._web = web
        self._clock = clock
        self._found: KeySet | None = None
        self._fetched_at = 0.0
        self._asked_at: float | None = None
        self._asking = asyncio.Lock()

    async def having(self, kid: object) -> KeySet:
        """The keys, with the one of that id in them if the issuer has it. Raises AnswerError when there are none."""
        if not self._suffices(kid):
            async with self._asking:  # those who wait for the answer take it too
                if not self._suffices(kid) and self._may_ask():
                    await self._refresh()
        if self._found is None:
            raise AnswerError("no keys")
        return self._found

    def _suffices(self, kid: object) -> bool:
        if self._found is None or self._clock() - self._fetched_at >= self._issuer.keys_lifetime:
            return False
        return kid is None or any(key.kid == kid for key in self._found)

    def _may_ask(self) -> bool:
        return self._asked_at is None or self._clock() - self._asked_at >= self._issuer.keys_interval

    async def _refresh(self) -> None:
        self._asked_at = self._clock()
        try:
            self._found = await self._fetched()
            self._fetched_at = self._clock()
        except AnswerError:
            if self._found is None:  # those of before are better than locking everybody out
                raise

    async def _fetched(self) -> KeySet:
        url = self._issuer.keys
        if not url:
            description = await self._web.get(f"{self._issuer.issuer.rstrip('/')}/.well-known/openid-configuration")
            if description.get("issuer") != self._issuer.issuer:  # OpenID Connect Discovery 1.0 §4.3
                raise AnswerError("it describes another issuer")
            url = str(description.get("jwks_uri", ""))
            if (
                urlsplit(url).scheme != urlsplit(self._issuer.issuer).scheme
            ):  # what listens on this machine is not its to name
                raise AnswerError("its keys are elsewhere")
        answer = await self._web.get(url)
        try:
            return KeySet.import_key_set({"keys": answer["keys"]})
        except (JoseError, ValueError, TypeError, KeyError) as error:
            raise AnswerError(f"no key set: {type(error).__name__}") from error
