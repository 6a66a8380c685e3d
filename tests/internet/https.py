"""The web server of the tests: policies of MTA-STS and a place that takes reports of TLS, over HTTPS on the loopback."""

import asyncio
import contextlib
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field

from aiohttp import web


@dataclass
class Page:
    """What is answered for one path."""

    body: bytes = b""
    status: int = 200
    media_type: str = "text/plain"
    location: str = ""  # for redirects
    retry_after: str = ""
    gate: asyncio.Event | None = None  # the answer waits for it


@dataclass(frozen=True)
class Asked:
    """One request as it came."""

    method: str
    target: str  # path and query, as written
    headers: Mapping[str, str]
    body: bytes


@dataclass
class WebServer:
    """Made by web_server(). Paths without a page are 404."""

    port: int = 0
    pages: dict[tuple[str, str], Page] = field(default_factory=dict)  # (host, path)
    asked: Counter[tuple[str, str]] = field(default_factory=Counter)
    posted: list[tuple[str, str, bytes]] = field(default_factory=list)  # (path, content type, body)
    requests: list[Asked] = field(default_factory=list)

    def policy(self, domain: str, *lines: str) -> Page:
        """Publish a policy of MTA-STS; without lines one that enforces mx.<domain>."""
        told = lines or ("version: STSv1", "mode: enforce", f"mx: mx.{domain}", "max_age: 604800")
        page = Page("\r\n".join([*told, ""]).encode())
        self.pages[f"mta-sts.{domain}", "/.well-known/mta-sts.txt"] = page
        return page

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """One request."""
        place = request.host.partition(":")[0], request.path
        self.asked[place] += 1
        self.requests.append(Asked(request.method, request.raw_path, request.headers, await request.read()))
        if request.method == "POST":
            self.posted.append((request.path, request.content_type, await request.read()))
        page = self.pages.get(place, Page(status=404))
        if page.gate is not None:
            await page.gate.wait()
        told = {"Location": page.location, "Retry-After": page.retry_after}
        headers = {name: value for name, value in told.items() if value}
        return web.Response(body=page.body, status=page.status, content_type=page.media_type, headers=headers)


@contextlib.asynccontextmanager
async def web_server(tls: ssl.SSLContext | None) -> AsyncIterator[WebServer]:
    """A running server that has no pages yet; without TLS it speaks plain HTTP."""
    server = WebServer()
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", server.answer)
    runner = web.AppRunner(application, shutdown_timeout=1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
    await site.start()
    server.port = runner.addresses[0][1]
    try:
        yield server
    finally:
        await runner.cleanup()
