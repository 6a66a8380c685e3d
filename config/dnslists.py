"""The section [dnslists]: DNS-based lists of hosts and domains (RFC 5782), and what each of them counts."""

from ipaddress import IPv4Network
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from config.units import Seconds


class DnsList(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One list."""

    zone: Annotated[str, Meta(description="Where it is in the DNS.", examples=["dnsbl.example.net"])]
    points: Annotated[
        float,
        Meta(
            description="Added to the spam score of what it lists. Below 0: a list of good senders. If good ones outweigh bad "
            "ones, nothing is greylisted.",
            examples=[3.5],
        ),
    ]
    names: Annotated[
        Literal["peer", "sender"],
        Meta(description="What it has. peer: addresses of hosts. sender: domains, asked for that of MAIL FROM."),
    ] = "peer"
    answers: Annotated[
        list[str],
        Meta(
            description="Which of its answers count, as addresses or networks. Empty: all. 127.255.255.0/24 never does: so lists "
            "say that they do not answer us.",
            examples=[["127.0.0.2", "127.0.0.4/30"]],
        ),
    ] = []

    def __post_init__(self) -> None:
        """Check zone and answers. Raises ValueError, which names the key."""
        if not self.zone or not all(self.zone.split(".")):
            raise ValueError("zone: a domain is needed, without a dot at its end")
        for answer in self.answers:
            try:
                IPv4Network(answer, strict=False)
            except ValueError as error:
                raise ValueError(f"answers: {error}") from None


class DnsLists(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The envelope filter "dnslists". All lists are asked at the same time; one that gives no answer says nothing."""

    refuse_at: Annotated[
        float,
        Meta(
            ge=0,
            description="Sum of points of all lists from which mail is refused. Reply 550 5.7.1 at RCPT. 0: never.",
        ),
    ] = 0.0
    time_limit: Annotated[Seconds, Meta(description="How long a list may take to answer.")] = Seconds(5)
    lists: Annotated[list[DnsList], Meta(description="The lists. Default: none.")] = []

    def __post_init__(self) -> None:
        """Check what belongs together. Raises ValueError, which names the key."""
        if self.time_limit <= 0:
            raise ValueError("time_limit must be above 0")
        zones = [each.zone for each in self.lists]
        if len(set(zones)) < len(zones):
            raise ValueError("lists: a zone is there twice")
