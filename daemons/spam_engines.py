"""rspamd and spamd behind the filter `spam`: asked about each message, within their time, and left alone while they are away."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

import aiohttp

from config.listen import split_address
from config.spam import Spam as Limits
from daemons.breakers import build_breaker
from daemons.context import Context
from filters.breaker import Breaker
from filters.spam import rspamd, spamd
from filters.spam.engines import EngineError, Judgement, Weighed
from filters.subject import Subject

_BESIDE_OTHERS = 0.5  # the weight of one that is not alone
_ANSWER_OCTETS = 1 << 20


class Rspamd:
    """rspamd over HTTP. Connections are kept for the next message."""

    name = "rspamd"

    def __init__(self, limits: Limits, hostname: str, breaker: Breaker) -> None:
        self._limits = limits
        self._hostname = hostname
        self._breaker = breaker
        self._url = limits.rspamd.rstrip("/") + rspamd.PATH
        self._session: aiohttp.ClientSession | None = None

    async def judge(self, subject: Subject) -> Judgement | None:
        """See filters.spam.engines.Engine."""
        return await _asked(self._limits, self._breaker, subject, lambda: self._ask(subject))

    async def close(self) -> None:
        """End the connections."""
        if self._session is not None:
            await self._session.close()

    async def _ask(self, subject: Subject) -> Judgement:
        if self._session is None:
            self._session = aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar())
        told = rspamd.headers(subject.envelope, self._hostname)
        try:
            async with self._session.post(self._url, data=bytes(subject.original), headers=told) as response:
                if response.status != 200:
                    raise EngineError(f"rspamd: status {response.status}")
                octets = await response.content.read(_ANSWER_OCTETS)
                while piece := await response.content.read(_ANSWER_OCTETS):
                    octets += piece
        except aiohttp.ClientError as error:
            raise EngineError(f"rspamd: {type(error).__name__}") from error
        return rspamd.read(octets, spam_at=self._limits.rspamd_spam)


class Spamd:
    """spamd over its Unix socket or TCP: a connection for each message, as its protocol wants it."""

    name = "spamd"

    def __init__(self, limits: Limits, breaker: Breaker) -> None:
        self._limits = limits
        self._breaker = breaker

    async def judge(self, subject: Subject) -> Judgement | None:
        """See filters.spam.engines.Engine."""
        return await _asked(self._limits, self._breaker, subject, lambda: self._ask(subject))

    async def _ask(self, subject: Subject) -> Judgement:
        place = self._limits.spamd
        if place.startswith("/"):
            reader, writer = await asyncio.open_unix_connection(place)
        else:
            host, port = split_address(place)
            reader, writer = await asyncio.open_connection(host, port)
        try:
            writer.write(spamd.request(len(subject.original)))
            writer.write(bytes(subject.original))
            with suppress(ConnectionError):  # it may have answered without reading on
                await writer.drain()
            octets = b""
            while len(octets) < spamd.RESPONSE_OCTETS and (piece := await reader.read(spamd.RESPONSE_OCTETS)):
                octets += piece
        finally:
            writer.close()
        return spamd.read(octets)


async def _asked(
    limits: Limits, breaker: Breaker, subject: Subject, ask: Callable[[], Awaitable[Judgement]]
) -> Judgement | None:
    if len(subject.original) > limits.engine_size_limit:
        return None

    async def work() -> Judgement:
        async with asyncio.timeout(limits.engine_limit):
            return await ask()

    return await breaker.call(work)


def build_engines(context: Context) -> list[Weighed]:
    """Those that are configured."""
    limits = context.settings.spam
    default = _BESIDE_OTHERS if limits.builtin + bool(limits.rspamd) + bool(limits.spamd) > 1 else 1.0
    engines = []
    if limits.rspamd:
        asked = Rspamd(limits, context.settings.hostname, build_breaker(context, "rspamd"))
        context.closing.push_async_callback(asked.close)
        engines.append(Weighed(asked, default if limits.rspamd_weight is None else limits.rspamd_weight))
    if limits.spamd:
        weight = default if limits.spamd_weight is None else limits.spamd_weight
        engines.append(Weighed(Spamd(limits, build_breaker(context, "spamd")), weight))
    return engines
