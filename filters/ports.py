"""What the pipeline calls, and what filters need from outside. The daemons bring implementations; tests bring their own."""

import mmap
from collections.abc import Mapping, Sequence
from typing import Literal, Protocol

from filters.sender_lists import SenderList
from filters.subject import Account, Envelope, Subject
from filters.verdict import RemoveField, Verdict

OnFailure = Literal["defer", "pass"]


class Filter(Protocol):
    """What every filter says of itself."""

    @property
    def name(self) -> str:
        """For the configuration, the log and the metrics."""

    @property
    def on_failure(self) -> OnFailure:
        """What becomes of a message when the filter fails or takes too long. None may lose mail."""

    @property
    def limit_seconds(self) -> float:
        """How long one check may take."""


class EnvelopeFilter(Filter, Protocol):
    """Runs at CONNECT, MAIL and RCPT, before any octet of the message."""

    async def check(self, subject: Envelope, /) -> Sequence[Verdict]:
        """Judge the envelope."""


class ContentFilter(Filter, Protocol):
    """Runs once per message, at its end and before the reply."""

    @property
    def needs(self) -> Sequence[str]:
        """Names of filters before this one whose findings it wants: it waits for them. They may have failed."""

    async def check(self, subject: Subject, /) -> Sequence[Verdict]:
        """Judge the message."""


class FieldFilter(Protocol):
    """Finds fields that no message from outside may have, whatever filters there are."""

    def may_be_in(self, octets: bytes | mmap.mmap, /) -> bool:
        """Whether it would have to be asked about the message at all."""

    def __call__(self, subject: Subject, /) -> Sequence[RemoveField]:
        """The fields to remove."""


class Resolver(Protocol):
    """DNS. An absent name gives nothing; what cannot be known now is a TimeoutError. CNAMEs are followed."""

    async def texts(self, name: str) -> Sequence[bytes]:
        """The TXT records, each with its strings put together. Raises TimeoutError."""

    async def addresses(self, name: str) -> Sequence[str]:
        """The A and AAAA records. Raises TimeoutError."""

    async def family(self, name: str, kind: Literal["A", "AAAA"]) -> Sequence[str]:
        """The addresses of one family. Raises TimeoutError."""

    async def exchangers(self, name: str) -> Sequence[tuple[int, str]]:
        """The MX records: preference and host, which is "" in a null MX. Raises TimeoutError."""

    async def pointers(self, address: str) -> Sequence[str]:
        """The names that PTR records give an IP address. Nobody has checked them. Raises TimeoutError."""

    async def exists(self, name: str) -> bool:
        """Whether there is such a name at all, whatever it has (RFC 8020). Raises TimeoutError."""


class TooLargeError(Exception):
    """More octets than the engine takes at once."""


class Scanner(Protocol):
    """An antivirus engine."""

    async def scan(self, octets: bytes | mmap.mmap) -> str | None:
        """The name of what was found, or None. Raises TooLargeError, and OSError when the engine gives no answer."""


InfectedAction = Literal["reject", "strip", "quarantine", "discard"]


class InfectedActions(Protocol):
    """What tenants want to be done with infected mail for their people."""

    async def action_of(self, tenant_id: int) -> InfectedAction:
        """Of one tenant."""


class SenderLists(Protocol):
    """The senders that accounts and their tenants have listed."""

    async def of(self, accounts: Sequence[Account]) -> Mapping[int, SenderList]:
        """What each of them has listed, by account_id."""


class Allowances(Protocol):
    """How much of something somebody has left, in all processes together."""

    async def take(self, what: str, whose: str, amount: int, limit: int) -> bool:
        """Use up so much of it, if there is as much; 0: whether there is anything. It comes back steadily, limit in an hour."""


class Greylist(Protocol):
    """Who has tried before."""

    async def is_on(self, tenant_id: int) -> bool:
        """Whether the tenant wants strangers to be put off."""

    async def admits(self, tenant_id: int, source: str, sender: str, recipient: str) -> bool:
        """Whether this try is let in; it is remembered. source: a network, or a domain that is proven."""

    async def expects(self, accounts: Sequence[Account], sender: str) -> bool:
        """Whether one of them has written to that address."""
