"""The section [authenticity]: SPF, DKIM, ARC and DMARC of mail from outside, and reports about it."""

from ipaddress import ip_network
from typing import Annotated, Literal

import msgspec
from msgspec import Meta


class Authenticity(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The filter "authentication" (smtp.filters). Results are told in Authentication-Results."""

    authserv_id: Annotated[
        str,
        Meta(description="Our name in Authentication-Results (RFC 8601 §2.5). Empty: the hostname."),
    ] = ""
    dmarc: Annotated[
        Literal["policy", "quarantine", "none"],
        Meta(
            description="What becomes of mail that fails DMARC. policy: what its domain asks for (reply 550 5.7.26, or "
            "quarantine). quarantine: the same, but nothing is refused. none: results are told only."
        ),
    ] = "policy"
    forwarders: Annotated[
        list[str],
        Meta(
            description="Networks (CIDR) that pass on mail of others, such as a relay in front of this host: what comes from "
            "there is not held to the policy of its author's domain.",
            examples=[["192.0.2.0/24"]],
        ),
    ] = []
    unchecked: Annotated[
        list[str],
        Meta(
            description="Networks (CIDR) whose mail is not checked, and gets no such field: this host, for what comes from its own "
            "programs has no sender that could be proven. A relay on this host that others send to belongs to the forwarders, "
            "and not here.",
        ),
    ] = msgspec.field(default_factory=lambda: ["127.0.0.0/8", "::1/128"])
    sealers: Annotated[
        list[str],
        Meta(
            description="Domains that are believed in ARC: what passed DMARC at the first of such hops passes here.",
            examples=[["example.net"]],
        ),
    ] = []
    mailing_lists: Annotated[
        list[str],
        Meta(
            description="Domains of mailing lists, those below included. Mail that names one of them in List-Id, and that it has "
            "sent or signed, is not held to the policy of its author's domain.",
            examples=[["lists.example.net"]],
        ),
    ] = []
    report_from: Annotated[
        str,
        Meta(
            description="Who sends aggregate reports of DMARC (RFC 9990), every day, to the domains that ask for them: an address "
            "of a local domain. Empty: none are sent, and nothing is counted.",
            examples=["dmarc-reports@example.org"],
        ),
    ] = ""
    report_organization: Annotated[str, Meta(description="What the reports call us. Empty: the hostname.")] = ""

    def __post_init__(self) -> None:
        """Check networks and the address. Raises ValueError, which names the key."""
        for key, networks in (("forwarders", self.forwarders), ("unchecked", self.unchecked)):
            for network in networks:
                try:
                    ip_network(network, strict=False)
                except ValueError as error:
                    raise ValueError(f"{key}: {error}") from None
        if self.report_from and not all(self.report_from.partition("@")):
            raise ValueError("report_from: an address is needed")
