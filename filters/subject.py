"""What a filter looks at: the envelope, and at the content stage the message itself. Nothing here can be changed by one."""

import mmap
from dataclasses import dataclass, field
from typing import TypeVar

from protocol.address import AddrSpec
from protocol.message.mime import Scanner

HEADER_LIMIT = 1024 * 1024  # octets; a header section without an end is cut here


_Noted = TypeVar("_Noted")


@dataclass(frozen=True, slots=True)
class Account:
    """One account that is to get the message."""

    tenant_id: int
    account_id: int
    address: AddrSpec  # by which the message names it


@dataclass(frozen=True, slots=True)
class Envelope:
    """The SMTP side of one transaction as far as it is known when the filter runs."""

    transaction_id: str
    peer: str  # IP address in presentation form
    helo: str
    is_secure: bool
    is_authenticated: bool
    reverse_path: AddrSpec | None
    forward_paths: tuple[AddrSpec, ...]
    tenant_ids: tuple[int, ...] = ()  # the tenants of all recipients; empty when some recipient belongs to none
    accounts: tuple[Account, ...] = ()  # those of this host that get it, each once
    login: str = ""  # who submits it; "": mail from elsewhere
    notes: tuple[object, ...] = ()  # what envelope filters have found out so far

    def noted(self, kind: type[_Noted]) -> _Noted | None:
        """What an envelope filter has found out, by its type; None when none has."""
        return next((note for note in self.notes if isinstance(note, kind)), None)


@dataclass(frozen=True, slots=True)
class Subject:
    """One accepted-so-far message, seen once, for all of its recipients."""

    envelope: Envelope
    original: bytes | mmap.mmap
    notes: tuple[object, ...] = ()  # what the filters that this one needs have found out
    _scans: list[Scanner] = field(default_factory=list, repr=False, compare=False)  # one at most, for all filters

    @property
    def scanned(self) -> Scanner:
        """The tree of parts and the header fields, read once for all filters.

        Of a message that takes long the pipeline has read them in a thread before it asks the filters.
        """
        if not self._scans:
            self._scans.append(Scanner(self.original))
        return self._scans[0]

    @property
    def known_scan(self) -> Scanner | None:
        """The same, if somebody has asked for it."""
        return self._scans[0] if self._scans else None

    def noted(self, kind: type[_Noted]) -> _Noted | None:
        """What another filter found out, by its type; None when it failed, is not configured, or is not needed.

        What envelope filters found out needs no asking for.
        """
        notes = (*self.notes, *self.envelope.notes)
        return next((note for note in notes if isinstance(note, kind)), None)

    @property
    def header(self) -> bytes:
        """The header section with the CRLF of its last field, without the empty line (RFC 5322 §2.1)."""
        if self.original[:2] == b"\r\n":
            return b""
        end = self.original.find(b"\r\n\r\n", 0, HEADER_LIMIT)
        return bytes(self.original[: end + 2 if end >= 0 else HEADER_LIMIT])
