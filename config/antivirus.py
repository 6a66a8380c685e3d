"""The section [antivirus]: where clamd is, how much it is given, and what becomes of mail in which it finds something."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from config.listen import split_address
from config.units import DAY, MIB, MINUTE, Octets, Seconds


class Antivirus(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The filter "antivirus" (smtp.filters): each message is scanned by clamd before it is acknowledged."""

    clamd: Annotated[
        str,
        Meta(
            description="Where clamd listens: the path of a Unix socket, or host:port. The octets go over TCP as they are: "
            "only through networks of your own."
        ),
    ] = "/run/clamav/clamd.ctl"
    infected: Annotated[
        Literal["reject", "strip", "quarantine", "discard"],
        Meta(
            description="What becomes of infected mail for tenants that have not chosen (`postwerk tenant antivirus`). reject: "
            "reply 550 5.7.1. strip: a notice stands in place of the infected part, the original is kept in the archive only. "
            "quarantine: kept from the mailboxes. discard: accepted, archived, delivered to nobody. What users send is rejected."
        ),
    ] = "reject"
    unavailable: Annotated[
        Literal["defer", "pass"],
        Meta(
            description="When clamd does not answer. defer: reply 451 4.7.1. pass: accepted with X-Virus-Status: unchecked."
        ),
    ] = "defer"
    too_large: Annotated[
        Literal["reject", "pass"],
        Meta(
            description="When a message has a part above stream_limit. reject: reply 552 5.3.4. pass: accepted with "
            "X-Virus-Status: unchecked."
        ),
    ] = "reject"
    stream_limit: Annotated[
        Octets,
        Meta(
            description="What clamd takes at once; not above its StreamMaxLength. A larger message is scanned part by part."
        ),
    ] = Octets(25 * MIB)
    time_limit: Annotated[
        Seconds,
        Meta(description="For one message, waiting for a free thread included. Then clamd counts as unavailable."),
    ] = Seconds(MINUTE)
    threads: Annotated[
        int,
        Meta(
            ge=1,
            le=64,
            description="Scans at the same time, for each listener and process; clamd has MaxThreads for all.",
        ),
    ] = 4
    check_interval: Annotated[Seconds, Meta(description="How often clamd is asked for the date of its signatures.")] = (
        Seconds(10 * MINUTE)
    )
    signatures_age: Annotated[
        Seconds,
        Meta(
            description="Signatures older than this are warned of in the log. The metric postwerk_antivirus_signatures_timestamp "
            "has their date."
        ),
    ] = Seconds(3 * DAY)

    def __post_init__(self) -> None:
        """Check the address. Raises ValueError, which names the key."""
        if not self.clamd.startswith("/"):
            try:
                split_address(self.clamd)
            except ValueError as error:
                raise ValueError(f"clamd: {error}") from None
        if self.time_limit <= 0 or self.check_interval <= 0:
            raise ValueError("time_limit and check_interval must be above 0")
