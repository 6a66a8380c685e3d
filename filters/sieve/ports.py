"""What a run is told, and what it may ask.

The interpreter itself is pure. When a test needs an answer from outside, the run ends, the answer is fetched, and the
run begins again with it (interpreter.run): nothing has happened in between, so this is safe, and it costs less than
making every instruction a coroutine.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from filters.sieve.script import Script


@dataclass(frozen=True, slots=True)
class Envelope:
    """The SMTP envelope of one recipient."""

    reverse_path: str = ""  # "" is the null reverse-path
    forward_path: str = ""
    original_recipient: str = ""  # the address before aliases, when it differs
    login: str = ""  # RFC 5228 §5.4 with "auth": who sent it after AUTH


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose script it is."""

    addresses: Sequence[str] = ()  # all addresses that reach the account; the first one is the main one
    name: str = ""  # display name
    delimiter: str = "+"  # of subaddresses, RFC 5233; each character is one


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What is known when the run begins."""

    envelope: Envelope
    owner: Owner
    environment: Mapping[str, str] = field(default_factory=dict)  # RFC 5183 §4; imap.* of RFC 6785 §4 too
    spam_score: float | None = None  # 0 to 1, where 1 is spam; None: not checked. RFC 5235 §2.1
    virus: int = 0  # RFC 5235 §3: 0 not checked, 1 clean, 2 cured, 3 perhaps infected, 4 suspect, 5 infected
    flags: Sequence[str] = ()  # of a message that lies in a mailbox already: the internal variable begins with them
    is_event: bool = False  # an IMAP event, RFC 6785: no reject, no vacation


class Ports(Protocol):
    """Questions to the outside. Exceptions pass through run()."""

    async def mailbox_exists(self, name: str) -> bool:
        """Whether the owner has the mailbox and may write to it, RFC 5490 §3.1."""

    async def mailbox_id_exists(self, mailbox_id: str) -> bool:
        """Whether a mailbox of the owner has this id, RFC 9042 §3."""

    async def special_use_exists(self, mailbox: str | None, attribute: str) -> bool:
        r"""Whether that mailbox, or any, has the attribute (`\Junk`), RFC 8579 §3."""

    async def metadata(self, mailbox: str | None, annotation: str) -> str | None:
        """The value of an annotation, of a mailbox or (None) of the server, RFC 5490 §3.3 and §4.1."""

    async def is_duplicate(self, handle: str, unique_id: str) -> bool:
        """Whether the id is remembered, RFC 7352 §3. Remembers nothing: Result.tracked says what to remember."""

    async def first_in_list(self, name: str, values: Sequence[str]) -> str | None:
        """The first of the values that is in the owner's list, RFC 6134 §2.1; `:addrbook:default` is one."""

    async def list_exists(self, name: str) -> bool:
        """Whether there is such a list, RFC 6134 §2.7."""

    async def script(self, name: str, location: str) -> "Script | None":
        """The script to include, compiled; the location is `personal` or `global`, RFC 6609 §3.2."""

    async def can_notify(self, uri: str) -> bool:
        """Whether notifications to this URI are possible, RFC 5435 §4."""
