"""What the clients of the POP3 and ManageSieve tests share."""

import asyncio

from daemons.authentication.channel_binding import exporter
from protocol import sasl
from tests.conftest import Person


class LineClient:
    """A client on octets, and the end of its connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def at_end(self) -> bool:
        """Whether the server closes, and says nothing more before."""
        return await self.reader.read() == b""

    async def close(self) -> None:
        self.writer.close()
        await asyncio.wait([asyncio.ensure_future(self.writer.wait_closed())])

    def mechanism(self, name: str, person: Person) -> sasl.ClientMechanism:
        """The client's side of an exchange, bound to the connection where the name says so."""
        match name:
            case "PLAIN":
                return sasl.PlainClient(person.login, person.password)
            case "LOGIN":
                return sasl.LoginClient(person.login, person.password)
        binding = exporter(self.writer.get_extra_info("ssl_object"))
        assert binding is not None
        bound = ("tls-exporter", binding) if name.endswith("-PLUS") else None
        return sasl.ScramClient(person.login, person.password, nonce="rOprNGfwEbeRWgbNEkqO", binding=bound)
