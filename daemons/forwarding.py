"""Envelope senders of forwarded mail (SRS), and the way back for what is returned to them."""

from dataclasses import dataclass

from daemons.context import Context
from protocol.address import AddrSpec


@dataclass(frozen=True, slots=True)
class Returned:
    """Where a bounce to a rewritten sender goes on to."""

    forward_path: AddrSpec
    tenant_id: int  # whose forwarding it was: the bounce is queued for that tenant


class Forwarding:
    """One per process."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def forwarded(self, reverse_path: AddrSpec | None, domain: str) -> AddrSpec | None:
        """The envelope sender under which an address of our `domain` passes mail on to another host.

        The null reverse-path stays null, and one of a local domain stays as it is: its SPF record names us already.
        Raises NotFoundError when the domain is not local.
        """
        raise NotImplementedError

    async def reverse_of(self, address: AddrSpec) -> Returned | None:
        """Where mail to one of our rewritten senders goes; None for every other address: forged, expired, or none of ours.

        Only for the null reverse-path: anything else sent there is no bounce. Costs no query while keys are known.
        """
        raise NotImplementedError

    def close(self) -> None:
        """Stop listening for changes."""
