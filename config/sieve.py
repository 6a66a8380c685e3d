"""The section [sieve]: what scripts may do, and what they may cost."""

from typing import Annotated

import msgspec
from msgspec import Meta

from config.units import DAY, KIB, MIB, MINUTE, Octets, Seconds


class Sieve(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Sieve: the rules of users. A script that runs into a limit ends; its message stays in the inbox, its owner is told once."""

    without: Annotated[
        list[str],
        Meta(
            description="Capabilities that scripts may not require. Scripts with them are refused when they are stored.",
            examples=[["editheader", "enotify"]],
        ),
    ] = []
    script_octets: Annotated[Octets, Meta(description="Largest script. Refused when it is stored.")] = Octets(256 * KIB)
    nesting: Annotated[int, Meta(ge=15, le=64, description="Blocks, and tests, within each other.")] = 32
    actions: Annotated[int, Meta(ge=1, le=1000, description="Actions of one run.")] = 32
    redirects: Annotated[
        int,
        Meta(
            ge=0, le=100, description="Addresses that one run may send a message on to. RFC 5228 §10 asks for a limit."
        ),
    ] = 4
    notifications: Annotated[int, Meta(ge=0, le=100, description="Notifications of one run; 0: none at all.")] = 10
    work: Annotated[
        int,
        Meta(
            ge=1000,
            description="Commands, tests and keys of one run, texts by their length: about a microsecond each. 50 rules: 200.",
        ),
    ] = 100_000
    variables: Annotated[
        int, Meta(ge=128, le=10_000, description="Variables of one script, and global ones of a run.")
    ] = 255
    variable_octets: Annotated[
        Octets, Meta(description="Longest value of a variable, at least 4,000 octets; a longer one loses its end.")
    ] = Octets(4_000)
    include_depth: Annotated[int, Meta(ge=3, le=20, description="Scripts that include each other.")] = 10
    includes: Annotated[int, Meta(ge=0, le=1000, description="Scripts included in one run.")] = 255
    body: Annotated[Octets, Meta(description="How much of a body the body test looks at.")] = Octets(MIB)
    edited: Annotated[
        Octets,
        Meta(
            description="Room for a message as one run edits it, and for all such messages together that go to mailboxes and "
            "other hosts. The first is always possible."
        ),
    ] = Octets(64 * MIB)
    vacation_least: Annotated[
        Seconds, Meta(description="Shortest period of vacation's :days within which nobody is answered twice.")
    ] = Seconds(DAY)
    vacation_most: Annotated[Seconds, Meta(description="Longest such period; a longer one is this one.")] = Seconds(
        60 * DAY
    )
    vacation_usual: Annotated[Seconds, Meta(description="The period of a vacation without :days and :seconds.")] = (
        Seconds(7 * DAY)
    )
    duplicate_usual: Annotated[Seconds, Meta(description="How long the duplicate test remembers without :seconds.")] = (
        Seconds(7 * DAY)
    )
    duplicate_most: Annotated[Seconds, Meta(description="Longest such time; a longer one is this one.")] = Seconds(
        30 * DAY
    )
    event_limit: Annotated[
        int,
        Meta(
            ge=0,
            description="Events over IMAP of an account that wait for their scripts. The script of one more runs as well, "
            "but not if its process is killed before that.",
        ),
    ] = 10_000
    event_lease: Annotated[
        Seconds,
        Meta(
            description="How long a script that an IMAP command starts is left to the process of the command; after that the "
            "keeper runs it. Doubled each time when it could not."
        ),
    ] = Seconds(2 * MINUTE)
    event_memory: Annotated[
        Seconds, Meta(description="After so long the script of an event that nobody could run is not run any more.")
    ] = Seconds(DAY)

    def __post_init__(self) -> None:
        """Check what belongs together. Raises ValueError."""
        if self.variable_octets < 4_000:
            raise ValueError("variable_octets: 4000 at least (RFC 5229 §6)")
        if not self.vacation_least <= self.vacation_usual <= self.vacation_most:
            raise ValueError("vacation_usual: between vacation_least and vacation_most")
        if self.event_lease <= 0:
            raise ValueError("event_lease: more than nothing")
        if self.duplicate_usual > self.duplicate_most:
            raise ValueError("duplicate_usual: at most duplicate_most")
