"""An OpenID Connect issuer on the loopback, in TLS: describes itself, shows its keys, answers introspection, makes tokens."""

import contextlib
import ssl
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web
from joserfc import jwt
from joserfc.jwk import ECKey, Key

from config.issuers import Issuer
from config.settings import Settings
from daemons.certificates import Issued
from tests.sections import with_changes

SECRET = "s3cret:&"


class StubIssuer:
    """Made by issuing(). What it is asked is counted in `asked`, by path."""

    def __init__(self, certificate: Issued, state: Path) -> None:
        self._certificate = certificate
        self._secret_file = state / "client.secret"
        self._secret_file.write_text(f"{SECRET}\n")
        self.url = ""
        self.asked: dict[str, int] = {}
        self.keys: list[Key] = [self.new_key("first")]
        self.opaque: dict[str, dict[str, Any]] = {}  # token -> what introspection says
        self.is_down = False
        self.described_as: str | None = None
        self.keys_at: str | None = None
        self.padding = ""

    @staticmethod
    def new_key(kid: str) -> ECKey:
        return ECKey.generate_key("P-256", {"kid": kid, "use": "sig"})

    def settings(self, **changes: Any) -> Issuer:
        """The entry of the configuration that trusts it."""
        known: dict[str, Any] = {
            "tenant": "example",
            "issuer": self.url,
            "audience": ["postwerk"],
            "introspection": f"{self.url}/introspect",
            "client_id": "mail server",
            "client_secret_file": str(self._secret_file),
            "certificate_authority": str(self._certificate.authority),
        }
        return Issuer(**known | changes)

    def claims(self, **changes: Any) -> dict[str, Any]:
        """What a good token says; a claim that is changed to None is left out."""
        now = int(time.time())
        known = {
            "iss": self.url,
            "aud": "postwerk",
            "sub": "248289761001",
            "email": "alice@example.test",
            "iat": now,
            "exp": now + 300,
        }
        return {name: value for name, value in (known | changes).items() if value is not None}

    def token(self, key: Key | None = None, header: dict[str, Any] | None = None, **changes: Any) -> str:
        """A signed token."""
        signer = key or self.keys[0]
        return jwt.encode({"alg": "ES256", "kid": signer.kid} | (header or {}), self.claims(**changes), signer)

    async def answer(self, request: web.Request) -> web.Response:
        self.asked[request.path] = self.asked.get(request.path, 0) + 1
        if self.is_down:
            return web.Response(status=503)
        if request.path == "/keys":
            keys = [key.as_dict(private=False) for key in self.keys]
            return web.json_response({"keys": keys, "padding": self.padding})
        if request.path == "/introspect":
            assert request.headers["Authorization"] == aiohttp.encode_basic_auth("mail+server", "s3cret%3A%26")
            token = str((await request.post())["token"])
            return web.json_response(self.opaque.get(token, {"active": False}))
        keys_at = self.keys_at or f"{self.url}/keys"
        return web.json_response({"issuer": self.described_as or self.url, "jwks_uri": keys_at})


@contextlib.asynccontextmanager
async def issuing(certificate: Issued, state: Path) -> AsyncIterator[StubIssuer]:
    """A running issuer."""
    stub = StubIssuer(certificate, state)
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", stub.answer)
    runner = web.AppRunner(application, shutdown_timeout=1)
    await runner.setup()
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate.certificate, certificate.key)
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
    await site.start()
    stub.url = f"https://localhost:{runner.addresses[0][1]}"
    try:
        yield stub
    finally:
        await runner.cleanup()


def with_issuer(settings: Settings, issuer: Issuer) -> Settings:
    """The settings, in which this issuer is trusted and no other."""
    return with_changes(settings, authentication={"issuers": [issuer]})
