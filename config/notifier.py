"""The section [notifier]: notifications that rules ask for, by mail, to web servers (webhooks), and by SMS gateways."""

from typing import Annotated

import msgspec
from msgspec import Meta


class Notifier(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Notifications by rule."""

    mail_limit: Annotated[
        int, Meta(ge=0, description="Notifications by mail that an account may cause in a day. 0: none.")
    ] = 200
