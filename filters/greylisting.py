"""The envelope filter `greylisting`, RFC 6647: a stranger's first try is put off; who tries again later is let in, and remembered.

It costs senders of bulk by the million their queue, and everybody else a few minutes, once. Networks are what is remembered, for
large senders try again from a neighbouring host; where SPF has proven the sender's domain, that is remembered in its place.
"""

import re
from collections.abc import Sequence

from filters.authentication.results import SpfResult
from filters.dnslists import DnsListings
from filters.networks import network_of
from filters.ports import Greylist, OnFailure
from filters.sender_lists import spelled
from filters.subject import Envelope
from filters.verdict import Refuse, Verdict
from protocol.smtp.reply import reply

PUT_OFF = reply(450, "4.7.1", "greylisted: try again in a few minutes")
_VARYING = re.compile(r"\+.*|[0-9]+")  # in a sender that has the recipient or the message in it (VERP)


class Greylisting:
    """The filter. Runs last: what others refuse leaves no trace in the memory."""

    name = "greylisting"
    on_failure: OnFailure = "pass"
    limit_seconds = 10.0

    def __init__(self, greylist: Greylist) -> None:
        self._greylist = greylist

    async def check(self, subject: Envelope) -> Sequence[Verdict]:
        """Put the recipient off for whose tenant it is the first try."""
        tenants = [tenant_id for tenant_id in subject.tenant_ids if await self._greylist.is_on(tenant_id)]
        listings = subject.noted(DnsListings)
        if not tenants or (listings is not None and listings.is_welcome):
            return ()
        source, sender = source_of(subject), _sender(subject)
        for tenant_id in tenants:
            if not await self._greylist.admits(tenant_id, source, sender, spelled(subject.forward_paths[-1])):
                return () if await self._is_answer(subject) else [Refuse(PUT_OFF, "first try of an unknown source")]
        return ()

    async def _is_answer(self, subject: Envelope) -> bool:
        """Whether a recipient has written to the sender: nobody should wait for the answer."""
        path = subject.reverse_path
        return path is not None and await self._greylist.expects(subject.accounts, spelled(path))


def source_of(subject: Envelope) -> str:
    """Who is remembered."""
    proven = subject.noted(SpfResult)
    if proven is not None and proven.result == "pass" and proven.scope == "mfrom":
        return f"domain {proven.domain}"
    return f"network {network_of(subject.peer)}"


def _sender(subject: Envelope) -> str:
    if subject.reverse_path is None:
        return ""
    local_part, _, domain = spelled(subject.reverse_path).rpartition("@")
    return f"{_VARYING.sub('#', local_part)}@{domain}"
