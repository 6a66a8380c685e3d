"""The DNS as filters see it (filters.ports.Resolver), through the resolver of the process: its memory is theirs, too."""

from ipaddress import ip_address
from typing import Literal

from daemons.relay.resolver import LookupFailedError, Resolver


class Names:
    """Answers without their circumstances. What cannot be known now is a TimeoutError."""

    def __init__(self, resolver: Resolver) -> None:
        self._resolver = resolver

    async def texts(self, name: str) -> list[bytes]:
        """The TXT records, each with its strings put together. Raises TimeoutError."""
        return [b"".join(record.strings) for record in await self._records(name, "TXT")]  # type: ignore[attr-defined]

    async def addresses(self, name: str) -> list[str]:
        """The A and AAAA records. Raises TimeoutError."""
        return [*await self.family(name, "A"), *await self.family(name, "AAAA")]

    async def family(self, name: str, kind: Literal["A", "AAAA"]) -> list[str]:
        """The addresses of one family. Raises TimeoutError."""
        return [record.address for record in await self._records(name, kind)]  # type: ignore[attr-defined]

    async def exchangers(self, name: str) -> list[tuple[int, str]]:
        """The MX records: preference and host, which is "" in a null MX. Raises TimeoutError."""
        records = await self._records(name, "MX")
        return [(record.preference, _text(record.exchange)) for record in records]  # type: ignore[attr-defined]

    async def pointers(self, address: str) -> list[str]:
        """The names that PTR records give an IP address. Nobody has checked them. Raises TimeoutError."""
        records = await self._records(ip_address(address.partition("%")[0]).reverse_pointer, "PTR")
        return [_text(record.target) for record in records]  # type: ignore[attr-defined]

    async def exists(self, name: str) -> bool:
        """Whether there is such a name at all, whatever it has (RFC 8020). Raises TimeoutError."""
        try:
            return (await self._resolver.ask(name, "A")).exists
        except LookupFailedError as error:
            raise TimeoutError(*error.args) from error

    async def _records(self, name: str, kind: Literal["A", "AAAA", "MX", "PTR", "TXT"]) -> tuple[object, ...]:
        try:
            return (await self._resolver.ask(name, kind)).records
        except LookupFailedError as error:
            raise TimeoutError(*error.args) from error


def _text(name: object) -> str:
    """A name of dnspython's without its last dot."""
    return str(name).lower().removesuffix(".")
