"""What tests of sessions with other servers share: hosts, sessions, messages, settings."""

from collections.abc import AsyncIterator
from typing import Any

from config.relay import Relay
from config.units import Seconds
from daemons.relay.connection import Connection, open_connection
from daemons.relay.routes import Host
from daemons.relay.tls_policy import TlsPolicy
from protocol.smtp.client import Recipient, Transaction
from tests.internet.mx import Mx, mx_server

SETTINGS = Relay()
MESSAGE = b"Subject: x\r\n\r\n.\r\n..dots\r\n"
PLAIN = TlsPolicy(mode="none")


def host_of(*servers: Mx, policy: TlsPolicy = PLAIN) -> Host:
    """One host with the addresses of these servers."""
    return Host("mx.example.net", tuple(mx.host for mx in servers), port=servers[0].port, policy=policy)


async def opened(*hosts: Host | Mx, settings: Relay = SETTINGS, **options: Any) -> Connection:
    made = [host if isinstance(host, Host) else host_of(host) for host in hosts]
    return await open_connection(made, settings, hostname="us.example.test", **options)


def to(*forward_paths: str, content: bytes | None = MESSAGE, **options: Any) -> Transaction:
    size = len(content) if content is not None else None
    return Transaction("a@example.test", tuple(Recipient(path) for path in forward_paths), size, **options)


async def in_pieces(content: bytes, size: int) -> AsyncIterator[bytes]:
    for start in range(0, len(content), size):
        yield content[start : start + size]


def limited(**seconds: float) -> Relay:
    """Settings with these time limits."""
    values: dict[str, Any] = {key: Seconds(value) for key, value in seconds.items()}
    return Relay(**values)


def beside(mx: Mx, number: int = 2, **options: Any) -> Any:
    """Another server at the same port of another address of the loopback."""
    return mx_server(host=f"127.0.0.{number}", port=mx.port, **options)
