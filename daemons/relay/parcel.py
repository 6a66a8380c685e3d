"""What goes over a connection in one mail transaction: one message, and its recipients at one destination."""

from dataclasses import dataclass

from daemons.relay.route import Route
from storage.outbound import Leased


@dataclass(slots=True)
class Parcel:
    """Recipients of one message that go the same way. What was sent on a connection that had just been closed goes again."""

    leased: list[Leased]
    route: Route
    is_second: bool = False  # it was begun on a connection in use before, which ended: the next one is a fresh one
    ignores_tls: bool = False  # its route was found anew for its field TLS-Required: No

    @property
    def sender(self) -> int:
        """Whom fairness is kept between."""
        return self.leased[0].sender
