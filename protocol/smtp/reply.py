"""SMTP replies, RFC 5321 §4.2, with enhanced status codes, RFC 2034 and RFC 3463: a value in, its octets out."""

from dataclasses import dataclass, field

from protocol.status import Enhanced, enhanced


@dataclass(frozen=True, slots=True)
class Reply:
    """One reply. The text is what the peer reads: generic, one line or several, printable ASCII or UTF-8.

    octets is the reply as sent, CRLF included, rendered once: most replies are constants.
    """

    code: int
    enhanced: Enhanced | None  # none for the greeting, 354 and the replies to HELO and EHLO (RFC 2034 §4)
    lines: tuple[str, ...]
    octets: bytes = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not 200 <= self.code <= 599:
            raise ValueError(f"{self.code} is no reply code")
        if self.enhanced is not None and self.enhanced.status_class != self.code // 100:
            raise ValueError(f"reply {self.code} contradicts its status code {self.enhanced}")
        prefix = f"{self.enhanced} " if self.enhanced is not None else ""
        *before, last = self.lines
        rendered = "".join(f"{self.code}-{prefix}{line}\r\n" for line in before)
        object.__setattr__(self, "octets", f"{rendered}{self.code} {prefix}{last}\r\n".encode())

    @property
    def is_positive(self) -> bool:
        """Whether the command was done, or the client may go on (2yz, 3yz)."""
        return self.code < 400

    @property
    def is_temporary(self) -> bool:
        """Whether the client should try again later (4yz)."""
        return 400 <= self.code < 500


def reply(code: int, status: str, *lines: str) -> Reply:
    """Make a reply: reply(550, "5.1.1", "no such mailbox here"); status "" for one without enhanced code."""
    return Reply(code, enhanced(status) if status else None, lines)
