"""The section [sending]: how much may be sent, by an account, from a domain, by a tenant; and when sending is stopped."""

from typing import Annotated

import msgspec
from msgspec import Meta

from config.units import DAY, Seconds

Cap = Annotated[int, Meta(ge=0)]


class Sending(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Caps of submission: 0 is none. `postwerk sending limit` sets others for one account, domain or tenant.

    Messages and their recipients count apart, those here and those elsewhere alike. Replies: 450 4.7.1 after the message and
    452 4.7.1 at RCPT until there is room again; 550 5.7.1 for a message with more recipients than can ever be sent at once.
    """

    account_messages_hour: Annotated[Cap, Meta(description="Messages of one account in an hour.")] = 300
    account_recipients_hour: Annotated[Cap, Meta(description="Recipients of one account in an hour.")] = 1000
    account_messages_day: Annotated[Cap, Meta(description="Messages of one account in a day.")] = 1500
    account_recipients_day: Annotated[Cap, Meta(description="Recipients of one account in a day.")] = 5000
    domain_messages_hour: Annotated[Cap, Meta(description="Messages of one sender domain in an hour.")] = 3000
    domain_recipients_hour: Annotated[Cap, Meta(description="Recipients of one sender domain in an hour.")] = 10_000
    domain_messages_day: Annotated[Cap, Meta(description="Messages of one sender domain in a day.")] = 15_000
    domain_recipients_day: Annotated[Cap, Meta(description="Recipients of one sender domain in a day.")] = 50_000
    tenant_messages_hour: Annotated[Cap, Meta(description="Messages of all accounts of a tenant in an hour.")] = 6000
    tenant_recipients_hour: Annotated[Cap, Meta(description="Recipients of a tenant's accounts in an hour.")] = 20_000
    tenant_messages_day: Annotated[Cap, Meta(description="Messages of all accounts of a tenant in a day.")] = 30_000
    tenant_recipients_day: Annotated[Cap, Meta(description="Recipients of a tenant's accounts in a day.")] = 100_000
    burst_recipients: Annotated[
        Cap,
        Meta(
            description="Recipients in an hour from which on an account's mail may be a burst: above this, and above its "
            "habit times burst_factor, it is held and its sending suspended. 0: never."
        ),
    ] = 200
    burst_factor: Annotated[
        float,
        Meta(
            ge=1,
            description="How far above an account's habit (its busiest hour on earlier days, forgotten by 3 % a day) a "
            "burst is.",
        ),
    ] = 4.0
    burst_leave: Annotated[
        Seconds,
        Meta(description="How long an account whose mail was released from a hold is not taken for a burst again."),
    ] = Seconds(DAY)
    held_messages: Annotated[
        int,
        Meta(
            ge=0,
            description="Messages taken and held at most of an account that a burst has suspended. Then, reply 450 4.7.1; "
            "of an account that was suspended by hand nothing is taken: reply 550 5.7.1.",
        ),
    ] = 1000
