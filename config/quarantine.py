"""The section [quarantine]: what is kept from recipients, for how long, and when they are told."""

from typing import Annotated

import msgspec
from msgspec import Meta

from config.units import DAY, Seconds

FILTERS = ("authentication", "antivirus", "mime")  # ours that know the verdict


class Quarantine(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The quarantine. Tenants may differ in each of these: `postwerk quarantine policy`."""

    junk: Annotated[
        list[str],
        Meta(
            description="Filters whose quarantine is the Junk mailbox: authentication (DMARC p=quarantine), mime, antivirus, "
            "or one that is loaded. Where another one wants the message in quarantine, too, it goes there.",
        ),
    ] = msgspec.field(default_factory=lambda: ["authentication"])
    retention: Annotated[
        Seconds, Meta(description="How long a message waits for a decision; then it is deleted. The archive keeps it.")
    ] = Seconds(30 * DAY)
    notice: Annotated[
        Seconds,
        Meta(
            description="Least time between two messages that tell an account what was put in quarantine for it. The first "
            "comes within keeper.interval. 0: nobody is told."
        ),
    ] = Seconds(DAY)
