"""The sections [envelope], [rates], [greylisting] and [policy_service]: what is asked before a message from elsewhere may come."""

from ipaddress import ip_network
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from config.listen import split_address
from config.units import DAY, HOUR, MINUTE, Seconds

FilterName = Literal["rates", "helo", "dnslists", "spf", "policy", "greylisting"]
_Rate = Annotated[int, Meta(ge=0)]


class Envelope(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is asked on port 25 of hosts that are in no trusted network."""

    filters: Annotated[
        list[FilterName],
        Meta(
            description="Envelope filters by name, in their order. rates: [rates]. helo: hosts that give our name for theirs get "
            "550 5.7.1. dnslists: [dnslists]. spf: SPF at MAIL. policy: [policy_service]. greylisting: [greylisting]; last, so "
            "that nothing is remembered of what others refuse."
        ),
    ] = msgspec.field(default_factory=lambda: ["rates", "helo", "dnslists", "greylisting"])
    denied_networks: Annotated[
        list[str],
        Meta(
            description="Networks (CIDR) that may not connect. Reply 554 5.7.1 in place of the greeting.",
            examples=[["192.0.2.0/24"]],
        ),
    ] = []
    spf_fail: Annotated[
        Literal["pass", "reject"],
        Meta(
            description="What becomes of mail whose sender's domain does not let the host send for it, with the filter spf. pass: "
            "DMARC and the spam score decide. reject: reply 550 5.7.23, also for mail that somebody has forwarded."
        ),
    ] = "pass"

    def __post_init__(self) -> None:
        """Check filters and networks. Raises ValueError, which names the key."""
        if len(set(self.filters)) < len(self.filters):
            raise ValueError("filters: one is named twice")
        for network in self.denied_networks:
            try:
                ip_network(network, strict=False)
            except ValueError as error:
                raise ValueError(f"denied_networks: {error}") from None


class Rates(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How much one network (IPv4 /24, IPv6 /64) may bring, to all processes together. What is used up comes back steadily, the
    whole limit within an hour. 0: no limit. Trusted networks have none.
    """

    connections: Annotated[_Rate, Meta(description="Connections. Reply 421 4.7.0 in place of the greeting.")] = 0
    messages: Annotated[_Rate, Meta(description="Transactions with a recipient. Reply 450 4.7.1 at RCPT.")] = 0
    recipients: Annotated[_Rate, Meta(description="Recipients. Reply 450 4.7.1 at RCPT.")] = 0
    unknown_recipients: Annotated[
        _Rate,
        Meta(
            description="Recipients that do not exist: who looks for addresses finds many of them. Reply 421 4.7.0, then the "
            "connection is closed, and there is no other until some are left again."
        ),
    ] = 1000
    sender_messages: Annotated[
        _Rate, Meta(description="Transactions of one sender from one network. Reply 450 4.7.1 at RCPT.")
    ] = 0
    sender_recipients: Annotated[
        _Rate, Meta(description="Recipients of one sender from one network. Reply 450 4.7.1 at RCPT.")
    ] = 0


class Greylisting(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The envelope filter "greylisting" (RFC 6647). Tenants choose for themselves: `postwerk tenant greylisting`."""

    enabled: Annotated[
        bool, Meta(description="Whether it is on for tenants that have not chosen. Reply 450 4.7.1 at RCPT.")
    ] = False
    delay: Annotated[
        Seconds, Meta(description="A try that comes sooner than this after the first one does not count.")
    ] = Seconds(3 * MINUTE)
    window: Annotated[
        Seconds, Meta(description="A try that comes later than this after the first one is a first one.")
    ] = Seconds(2 * DAY)
    learned_after: Annotated[
        int,
        Meta(
            ge=1,
            description="A network, or a domain that SPF has proven, that has tried again in time for so many pairs of sender and "
            "recipient is not put off any more.",
        ),
    ] = 2
    memory: Annotated[
        Seconds, Meta(description="For how long it is remembered who was let in, since the last mail.")
    ] = Seconds(36 * DAY)

    def __post_init__(self) -> None:
        """Check what belongs together. Raises ValueError, which names the key."""
        if not 0 <= self.delay < self.window:
            raise ValueError("delay must be below window")
        if self.memory < HOUR:
            raise ValueError("memory must be an hour at least")


class PolicyService(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The envelope filter "policy": a program that speaks Postfix's policy protocol, such as policyd-spf, is asked at each RCPT."""

    address: Annotated[
        str,
        Meta(
            description="Where it listens: the path of a Unix socket, or host:port.",
            examples=["127.0.0.1:10031"],
        ),
    ] = ""
    command: Annotated[
        list[str],
        Meta(
            description="In place of an address: the program to start, which then reads questions from its standard input.",
            examples=[["/usr/bin/policyd-spf"]],
        ),
    ] = []
    processes: Annotated[
        int, Meta(ge=1, le=64, description="How many of it there may be at once: connections, or processes.")
    ] = 4
    time_limit: Annotated[Seconds, Meta(description="For one answer. Then it counts as away.")] = Seconds(20)

    def __post_init__(self) -> None:
        """Check the address. Raises ValueError, which names the key."""
        if self.address and self.command:
            raise ValueError("address or command, not both")
        if self.address and not self.address.startswith("/"):
            try:
                split_address(self.address)
            except ValueError as error:
                raise ValueError(f"address: {error}") from None
        if self.time_limit <= 0:
            raise ValueError("time_limit must be above 0")
