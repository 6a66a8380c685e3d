"""The section [spam]: from which score on mail is marked, filed into Junk or refused, and how far what people sort teaches."""

from typing import Annotated, Literal
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

from config.listen import split_address
from config.units import DAY, KIB, Octets, Seconds


class Spam(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The spam score of rules and Bayes. Accounts may have thresholds of their own."""

    tag: Annotated[
        float,
        Meta(gt=0, le=1000, description="From this score on a message has X-Spam-Flag: YES."),
    ] = 3.5
    junk: Annotated[
        float,
        Meta(
            gt=0,
            le=1000,
            description="From this score on a message counts as spam: X-Spam-Status says Yes, and it goes into Junk where the "
            "recipient wants that.",
        ),
    ] = 5.0
    reject: Annotated[
        float,
        Meta(
            gt=0, le=1000, description="From this score on it is refused with 550 5.7.1. GTUBE alone has 1000 points."
        ),
    ] = 15.0
    least_learned: Annotated[
        int,
        Meta(
            ge=1,
            le=100_000,
            description="Messages of each kind that a level must have learned before Bayes has a say there.",
        ),
    ] = 100
    learning_reaches: Annotated[
        Literal["account", "tenant", "everybody"],
        Meta(
            description="Whom it teaches when somebody sorts mail: the account alone, its tenant too, or everybody. What "
            "`postwerk spam learn` is given without an account teaches whom it names."
        ),
    ] = "tenant"

    filing: Annotated[
        Literal["wanted", "always"],
        Meta(
            description="wanted: spam that is not refused goes into Junk, or is deleted, only for accounts that have turned that "
            "on (`postwerk rules spam`). always: it goes into Junk for all accounts whose own rules do not file it elsewhere."
        ),
    ] = "wanted"
    kept_after: Annotated[
        Seconds,
        Meta(
            description="A message that was read and lies neither in Junk nor in Trash so long after it came speaks for its "
            "sender."
        ),
    ] = Seconds(3 * DAY)
    sender_memory: Annotated[
        Seconds,
        Meta(description="What an account did with a sender's mail is forgotten when nothing new came for so long."),
    ] = Seconds(730 * DAY)
    builtin: Annotated[
        bool, Meta(description="Whether the rules and Bayes of this software score. Off: only rspamd or spamd do.")
    ] = True
    rspamd: Annotated[
        str,
        Meta(
            description="Where rspamd's normal worker listens: it is asked about each message (/checkv2). Empty: it is not.",
            examples=["http://127.0.0.1:11333"],
        ),
    ] = ""
    rspamd_spam: Annotated[
        float,
        Meta(gt=0, le=1000, description='rspamd\'s own threshold for spam ("add header"). It counts as 5 points here.'),
    ] = 6.0
    rspamd_weight: Annotated[
        Annotated[float, Meta(ge=0, le=10)] | None,
        Meta(
            description="How much its score counts. Default: 0.5, and 1 where nothing else scores.",
            examples=[0.5],
        ),
    ] = None
    spamd: Annotated[
        str,
        Meta(
            description="Where SpamAssassin's spamd listens: the path of a Unix socket, or host:port; each message is also given "
            "to it. Its own threshold counts as 5 points here. Empty: it is not asked.",
            examples=["/run/spamd.sock"],
        ),
    ] = ""
    spamd_weight: Annotated[
        Annotated[float, Meta(ge=0, le=10)] | None,
        Meta(
            description="How much its score counts. Default: 0.5, and 1 where nothing else scores.",
            examples=[0.5],
        ),
    ] = None
    engine_limit: Annotated[
        Seconds, Meta(description="How long rspamd or spamd may take for a message. Then it is scored without them.")
    ] = Seconds(10)
    engine_size_limit: Annotated[
        Octets, Meta(description="Larger messages are not given to rspamd and spamd: hardly any spam is so large.")
    ] = Octets(512 * KIB)

    def __post_init__(self) -> None:
        """Check that thresholds ascend, and the addresses. Raises ValueError, which names the keys."""
        if not self.tag <= self.junk <= self.reject:
            raise ValueError("tag, junk and reject must ascend")
        if self.rspamd and (
            urlsplit(self.rspamd).scheme not in ("http", "https") or not urlsplit(self.rspamd).hostname
        ):
            raise ValueError("rspamd: expected a URL such as http://127.0.0.1:11333")
        if self.spamd and not self.spamd.startswith("/"):
            try:
                split_address(self.spamd)
            except ValueError as error:
                raise ValueError(f"spamd: {error}") from None
        if not self.engine_limit > 0:
            raise ValueError("engine_limit must be above 0")
        if not (self.builtin or self.rspamd or self.spamd):
            raise ValueError("builtin: without it rspamd or spamd must be set")
