"""The section [listen]."""

from ipaddress import ip_address
from typing import Annotated

import msgspec
from msgspec import Meta

Addresses = list[str] | None


def split_address(address: str) -> tuple[str, int]:
    """Split "host:port" or "[IPv6 address]:port". Raises ValueError, which tells the rule."""
    host, _, port = address.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    host = host[1:-1] if bracketed else host
    if not host or (":" in host) != bracketed or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise ValueError(f'expected "host:port" or "[IPv6 address]:port", not {address!r}')
    if bracketed:
        ip_address(host)
    return host, int(port)


def _port(what: str, *example: str) -> Meta:
    return Meta(description=what, examples=[list(example)])


class Listen(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Lists of "host:port" or "[IPv6 address]:port". What is not named does not listen; port 0 takes a free one."""

    smtp: Annotated[Addresses, _port("Mail from the internet.", "0.0.0.0:25", "[::]:25")] = None
    lmtp: Annotated[Addresses, _port("Local delivery by another mail server (RFC 2033).", "127.0.0.1:24")] = None
    submission: Annotated[Addresses, _port("Mail of users, STARTTLS (RFC 6409).", "0.0.0.0:587", "[::]:587")] = None
    submissions: Annotated[Addresses, _port("Mail of users, TLS (RFC 8314).", "0.0.0.0:465", "[::]:465")] = None
    imap: Annotated[Addresses, _port("IMAP, STARTTLS.", "0.0.0.0:143", "[::]:143")] = None
    imaps: Annotated[Addresses, _port("IMAP, TLS (RFC 8314).", "0.0.0.0:993", "[::]:993")] = None
    pop3: Annotated[Addresses, _port("POP3, STLS.", "0.0.0.0:110", "[::]:110")] = None
    pop3s: Annotated[Addresses, _port("POP3, TLS (RFC 8314).", "0.0.0.0:995", "[::]:995")] = None
    managesieve: Annotated[Addresses, _port("ManageSieve (RFC 5804).", "0.0.0.0:4190", "[::]:4190")] = None
    metrics: Annotated[Addresses, _port("Prometheus metrics over HTTP, for one's own eyes.", "127.0.0.1:2090")] = None

    def __post_init__(self) -> None:
        """Check every address. Raises ValueError, which names the key."""
        for key in self.__struct_fields__:
            for address in getattr(self, key) or ():
                try:
                    split_address(address)
                except ValueError as error:
                    raise ValueError(f"{key}: {error}") from None
