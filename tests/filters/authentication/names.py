"""A resolver for tests of filters: it knows what it is given, at once, and counts what it is asked."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Literal

_CHAIN = 12


class Names:
    """The DNS as a table: name and type to values; CNAMEs are followed. A value of None: no answer."""

    def __init__(self, records: Mapping[tuple[str, str], Sequence[object] | None] | None = None) -> None:
        self.records: dict[tuple[str, str], Sequence[object] | None] = {}
        self.asked: Counter[tuple[str, str]] = Counter()
        self.is_silent = False
        for (name, kind), values in (records or {}).items():
            self.add(name, kind, values)

    def add(self, name: str, kind: str, values: Sequence[object] | None) -> None:
        """Give a name records of one type, in place of those it had."""
        self.records[name.lower().rstrip("."), kind] = values

    def text(self, name: str, *texts: str) -> None:
        """Give a name TXT records."""
        self.add(name, "TXT", [text.encode() for text in texts])

    async def texts(self, name: str) -> list[bytes]:
        """TXT records."""
        return [value for value in self._find(name, "TXT") if isinstance(value, bytes)]

    async def addresses(self, name: str) -> list[str]:
        """Addresses of both families."""
        return [*await self.family(name, "A"), *await self.family(name, "AAAA")]

    async def family(self, name: str, kind: Literal["A", "AAAA"]) -> list[str]:
        """Addresses of one family."""
        return [value for value in self._find(name, kind) if isinstance(value, str)]

    async def exchangers(self, name: str) -> list[tuple[int, str]]:
        """MX records."""
        return [value for value in self._find(name, "MX") if isinstance(value, tuple)]

    async def pointers(self, address: str) -> list[str]:
        """PTR records, under the address itself."""
        return [value for value in self._find(address, "PTR") if isinstance(value, str)]

    async def exists(self, name: str) -> bool:
        """Whether anything is there or below."""
        self._find(name, "A")
        name = name.lower().rstrip(".")
        return any(known == name or known.endswith(f".{name}") for known, _ in self.records)

    def _find(self, name: str, kind: str) -> Sequence[object]:
        name = name.lower().rstrip(".")
        self.asked[name, kind] += 1
        if self.is_silent:
            raise TimeoutError
        for _ in range(_CHAIN):
            if (name, kind) in self.records:
                found = self.records[name, kind]
                if found is None:
                    raise TimeoutError
                return found
            alias = self.records.get((name, "CNAME"))
            if not alias:
                return []
            name = str(alias[0]).lower().rstrip(".")
        return []
