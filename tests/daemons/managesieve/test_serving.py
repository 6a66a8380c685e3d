"""The access process serves ManageSieve where it is configured."""

import asyncio
from collections.abc import Mapping

from config.settings import Settings
from daemons.access.service import serve
from daemons.context import open_context
from tests.daemons.managesieve.conftest import Client, told, with_managesieve


async def test_the_listener_and_its_limit(settings: Settings) -> None:
    """A client is greeted with the capabilities; one connection too many is told to try later."""
    stopping = asyncio.Event()
    ready: asyncio.Future[Mapping[str, tuple[str, int]]] = asyncio.get_running_loop().create_future()
    async with open_context(with_managesieve(settings, connection_limit=1)) as context:
        serving = asyncio.create_task(serve(context, stopping, ready.set_result))
        try:
            host, port = (await asyncio.wait_for(ready, 20))["managesieve"]
            first = Client(*await asyncio.open_connection(host, port))
            greeting = await first.answer()
            assert told(greeting)["SASL"] == ""
            assert greeting[-1] == b'OK "mail.example.test ManageSieve ready"'
            second = Client(*await asyncio.open_connection(host, port))
            assert await second.line() == b'BYE (TRYLATER) "too many connections"'
            assert await second.at_end()
            await second.close()
            assert await first.status(b"LOGOUT") == b'OK "bye"'
            await first.close()
        finally:
            stopping.set()
            await serving
