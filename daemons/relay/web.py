"""HTTPS to servers that strangers name: policies of MTA-STS (RFC 8461), receivers of reports (RFC 8460), of notifications.

Bounded in time and size, without redirects, and never into our own network.
"""

import asyncio
import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Literal

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from daemons.relay.reach import Reach, in_turn
from daemons.relay.resolver import LookupFailedError, Resolver

_AGENT = "Postwerk"


class WebError(Exception):
    """Nothing usable came. `is_certificate`: because the server is not authentic. The text is for the log."""

    def __init__(self, text: str, *, is_certificate: bool = False) -> None:
        super().__init__(text)
        self.is_certificate = is_certificate


@dataclass(frozen=True, slots=True)
class Answered:
    """What a server said."""

    status: int
    body: bytes  # the beginning of it
    retry_after: str  # the field Retry-After; "": not there


class _Names(AbstractResolver):
    """aiohttp's resolver, with ours below it: only addresses that may be connected to."""

    def __init__(self, resolver: Resolver, reach: Reach) -> None:
        self._resolver = resolver
        self._reach = reach

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """The addresses of a name. Raises OSError, as aiohttp expects."""
        six, four = await asyncio.gather(self._addresses(host, "AAAA"), self._addresses(host, "A"))
        found = [address for address in in_turn(six, four) if self._reach.allows(address)]
        if not found:
            raise OSError("no address that may be connected to")
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=0,
                flags=socket.AI_NUMERICHOST,
            )
            for address in found
        ]

    async def _addresses(self, host: str, kind: Literal["A", "AAAA"]) -> list[str]:
        try:
            return (await self._resolver.addresses(host, kind))[1]
        except LookupFailedError:
            return []  # the other family may do

    async def close(self) -> None:
        """Nothing of its own is open."""


class Web:
    """HTTPS under one authority. is_plain: HTTP is good enough, too."""

    def __init__(
        self, resolver: Resolver, reach: Reach, *, timeout: float, authority: str, is_plain: bool = False
    ) -> None:
        self._names = _Names(resolver, reach)
        self._reach = reach
        self._timeout = timeout
        self._authority = authority
        self._schemes = ("https", "http") if is_plain else ("https",)
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """End the connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def get(self, url: str, *, media_type: str, limit: int) -> bytes:
        """The body of a 200 answer. Raises WebError."""
        async with await self._request("GET", url) as response:
            if response.status != 200:
                raise WebError(f"status {response.status}")
            if response.content_type != media_type:
                raise WebError("another media type")
            octets = bytearray()
            try:
                async for chunk in response.content.iter_any():
                    octets += chunk
                    if len(octets) > limit:
                        raise WebError("too long")
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                raise WebError(type(error).__name__) from error
            return bytes(octets)

    async def post(self, url: str, octets: bytes, *, media_type: str) -> None:
        """Hand in a body; any answer 2xx is success. Raises WebError."""
        async with await self._request("POST", url, octets, {"Content-Type": media_type}) as response:
            if not 200 <= response.status < 300:
                raise WebError(f"status {response.status}")

    async def ask(
        self, method: str, url: str, octets: bytes | None, headers: Mapping[str, str], *, limit: int
    ) -> Answered:
        """Whatever the server answers, with the first `limit` octets of its body. Raises WebError when it does not."""
        async with await self._request(method, url, octets, headers) as response:
            body = bytearray()
            try:
                async for chunk in response.content.iter_any():
                    body += chunk
                    if len(body) >= limit:
                        break
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                raise WebError(type(error).__name__) from error
            return Answered(response.status, bytes(body[:limit]), response.headers.get("Retry-After", ""))

    async def _request(
        self, method: str, url: str, octets: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> aiohttp.ClientResponse:
        try:
            place = URL(url)
        except ValueError as error:
            raise WebError("not a URL") from error
        if place.scheme not in self._schemes or _is_forbidden(place.raw_host or "", self._reach):
            raise WebError("an address that may not be connected to")
        try:
            session = await self._opened()
            return await session.request(method, place, data=octets, headers=headers, allow_redirects=False)
        except aiohttp.ClientConnectorCertificateError as error:
            raise WebError(str(error.certificate_error), is_certificate=True) from error
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise WebError(type(error).__name__) from error

    async def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            tls = await asyncio.to_thread(ssl.create_default_context, cafile=self._authority or None)
            if self._session is None:  # while the file was read, another request may have opened it
                self._session = aiohttp.ClientSession(
                    connector=aiohttp.TCPConnector(ssl=tls, limit=20, resolver=self._names, use_dns_cache=False),
                    timeout=aiohttp.ClientTimeout(total=self._timeout),
                    headers={"User-Agent": _AGENT},
                    cookie_jar=aiohttp.DummyCookieJar(),
                )
        return self._session


def _is_forbidden(host: str, reach: Reach) -> bool:
    """Whether the URL has an address in place of a name, and one that names could not stand for either.

    What only looks like one ("127.1") is not asked of our resolver: the system would understand it.
    """
    if ":" not in host and not host.replace(".", "").isdigit():
        return not host
    try:
        ip_address(host)
    except ValueError:
        return True
    return not reach.allows(host)
