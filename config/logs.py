"""The section [logs]."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta


class Logs(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is logged, as one JSON object a line on standard error."""

    level: Annotated[
        Literal["debug", "info", "warning", "error"], Meta(description="Events below this level are not written.")
    ] = "info"
    anonymise: Annotated[
        bool, Meta(description="Replace mail addresses by x@x and IP addresses by 0 in every event. Turn off to debug.")
    ] = True
