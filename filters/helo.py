"""The envelope filter `helo`: hosts that say in HELO or EHLO that they are us.

Whether a HELO name belongs to the host that says it is no reason to refuse its mail (RFC 5321 §4.1.4); the spam score has its own
rules for names that are odd. But nobody else has our name.
"""

from collections.abc import Collection, Sequence

from filters.ports import OnFailure
from filters.subject import Envelope
from filters.verdict import Refuse, Verdict
from protocol.domain import a_labels
from protocol.smtp.reply import reply

IMPOSTOR = reply(550, "5.7.1", "your host calls itself by the name of this one")


class Helo:
    """The filter."""

    name = "helo"
    on_failure: OnFailure = "pass"
    limit_seconds = 1.0

    def __init__(self, own_names: Collection[str]) -> None:
        self._own_names = frozenset(a_labels(name) for name in own_names)

    async def check(self, subject: Envelope) -> Sequence[Verdict]:
        """Refuse those who give our name for theirs."""
        if a_labels(subject.helo) in self._own_names:
            return [Refuse(IMPOSTOR, "HELO with our name")]
        return ()
