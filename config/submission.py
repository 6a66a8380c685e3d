"""The section [submission]: mail of users, on port 587 and 465. Every limit stands here with the reply it leads to.

What is not named here is as in [smtp]: time limits, limits of commands and connections, hop limit, filters.
"""

from typing import Annotated

import msgspec
from msgspec import Meta

from config.units import DAY, KIB, MIB, Octets, Seconds

Count = Annotated[int, Meta(ge=1)]


class Submission(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Message submission (RFC 6409): limits, their replies, and what others learn of the sender."""

    size_limit: Annotated[
        Octets,
        Meta(
            description="Largest message accepted, advertised as SIZE. Reply 552 5.3.4, at MAIL and after the message."
        ),
    ] = Octets(50 * MIB)
    line_limit: Annotated[
        Octets,
        Meta(
            description="Longest line of a command or of an AUTH exchange with its CRLF; at least 12288 (RFC 4954 §4), "
            "which tokens need. Reply 500 5.5.2, within an exchange 500 5.5.6."
        ),
    ] = Octets(16 * KIB)
    recipient_limit: Annotated[
        Count,
        Meta(description="Recipients of one message, advertised as LIMITS RCPTMAX (RFC 9422). Reply 452 4.5.3."),
    ] = 1000
    author_limit: Annotated[
        Count, Meta(description="Addresses in From, Sender and their likes of one message. Reply 550 5.7.1.")
    ] = 50
    login_failure_limit: Annotated[
        Count,
        Meta(description="Failed logins of one connection. Reply to the last one: 421 4.7.0, then it is closed."),
    ] = 5
    shows_client: Annotated[
        bool,
        Meta(
            description="Tell everybody who reads the message, in its Received field, the sender's IP address and what "
            "the sender's program calls its host. The tenant's own records have them in any case."
        ),
    ] = False
    future_release_limit: Annotated[
        Seconds,
        Meta(
            description="How long a message may be held back at its sender's wish, advertised as FUTURERELEASE "
            "(RFC 4865). Reply 501 5.5.4. 0 s: the extension is not offered."
        ),
    ] = Seconds(30 * DAY)
    priority_limit: Annotated[
        int,
        Meta(
            ge=-9,
            le=9,
            description="The highest priority that users may ask for (MT-PRIORITY, RFC 6710). A higher one is lowered: "
            "250 2.3.6.",
        ),
    ] = 4
    sent_copy_time: Annotated[
        Seconds,
        Meta(
            description="For accounts whose sent mail is copied into the Sent mailbox: a message that a client stores there "
            "itself within this time takes the place of our copy; one that it stored before keeps ours away."
        ),
    ] = Seconds(DAY)
