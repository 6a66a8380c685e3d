"""The section [reports]: reports of other servers about our domains, read out of the mailboxes that are named for it."""

from typing import Annotated

import msgspec
from msgspec import Meta

from config.units import DAY, MIB, MINUTE, Octets, Seconds


class Reports(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Received DMARC and TLS reports, and bounces. Mailboxes are named with `postwerk reports watch`."""

    poll: Annotated[
        Seconds, Meta(description="How often those mailboxes are looked at. Without any it costs one small query.")
    ] = Seconds(MINUTE)
    batch_limit: Annotated[
        int,
        Meta(ge=1, le=1000, description="Most messages of a mailbox that are read before what they hold is stored."),
    ] = 50
    message_limit: Annotated[
        Octets, Meta(description="Largest message that is looked at. A larger one counts as unreadable.")
    ] = Octets(25 * MIB)
    lease: Annotated[
        Seconds,
        Meta(description="How long a process has for one batch; then another one may try. A crash costs this much."),
    ] = Seconds(10 * MINUTE)
    retention: Annotated[Seconds, Meta(description="How long DMARC and TLS reports are kept.")] = Seconds(400 * DAY)
    bounce_retention: Annotated[
        Seconds, Meta(description="How long bounces and complaints are kept: they name people.")
    ] = Seconds(30 * DAY)
