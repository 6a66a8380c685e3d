"""The section [rules]: simple settings of accounts, which need no Sieve (`postwerk rules`, `postwerk vacation`)."""

from typing import Annotated
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec
from msgspec import Meta


class Rules(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Simple settings. Those that are set already follow a change here after `postwerk rules recompile`."""

    time_zone: Annotated[
        str,
        Meta(
            description="Time zone in which the days of autoresponders begin and end, for accounts that name none. A name of the "
            "IANA database.",
            examples=["Europe/Berlin"],
        ),
    ] = "Europe/Berlin"
    rule_limit: Annotated[int, Meta(ge=0, le=1000, description="Rules of an account. One more is not stored.")] = 100
    junk_days: Annotated[
        int,
        Meta(
            ge=1, le=36_500, description="Days that mail stays in Junk when an account lets it expire and names none."
        ),
    ] = 30
    fax_subject: Annotated[
        str, Meta(min_length=1, description="Subject by which a fax is recognised, with the wildcards * and ?.")
    ] = "Fax*"
    fax_senders: Annotated[
        list[str],
        Meta(
            description="Envelope senders of fax gateways; mail of others is no fax, whatever its subject. Default: of anybody.",
            examples=[["fax@gateway.example.org"]],
        ),
    ] = []

    def __post_init__(self) -> None:
        """Check the time zone. Raises ValueError."""
        zone_of(self.time_zone)


def zone_of(name: str) -> ZoneInfo:
    """The time zone of that name. Raises ValueError."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:  # OSError: a directory, a name too long
        raise ValueError(f"{name} is no time zone that this host knows") from error
