"""The section [transport]: how destinations are found, and what TLS they must show. Limits stand here with what they lead to."""

from collections.abc import Callable
from ipaddress import ip_address, ip_network
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from config.listen import split_address
from config.routes import Route
from config.units import DAY, HOUR, KIB, MINUTE, Octets, Seconds

Count = Annotated[int, Meta(ge=1)]


class Transport(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Ways to other hosts: names, addresses, routes, and TLS."""

    # Names

    resolvers: Annotated[
        list[str],
        Meta(
            description='Resolvers as "address:port" or "[IPv6 address]:port". Empty: those of /etc/resolv.conf.',
            examples=[["127.0.0.1:53"]],
        ),
    ] = []
    trusted_resolvers: Annotated[
        Literal["loopback", "all", "none"],
        Meta(
            description="Whose word is taken that an answer was authenticated by DNSSEC (its AD flag), which DANE needs: that of "
            "a resolver on this machine, of all that are named above (the way to them must be protected then), or nobody's."
        ),
    ] = "loopback"
    resolver_timeout: Annotated[
        Seconds, Meta(description="Longest wait for an answer, all tries included. Then delivery is deferred: 4.4.3.")
    ] = Seconds(15)
    answer_limit: Annotated[Count, Meta(description="Answers that one process remembers, each for its lifetime.")] = (
        20_000
    )
    answer_lifetime: Annotated[
        Seconds, Meta(description="How long an answer is remembered at most, whatever its own lifetime is.")
    ] = Seconds(HOUR)

    # Addresses

    port: Annotated[int, Meta(ge=1, le=65535, description="The port of mail exchangers.")] = 25
    host_limit: Annotated[
        Count, Meta(description="Mail exchangers of a domain that are tried, those of the best preference first.")
    ] = 8
    address_limit: Annotated[Count, Meta(description="Addresses of one host that are tried.")] = 6
    private_networks: Annotated[
        list[str],
        Meta(
            description="Networks (CIDR) that mail may be sent to though they are no part of the public internet: loopback, "
            "private, link-local and other special addresses. Whoever can publish a name could otherwise have us connect "
            "into our own network. Default: none (status 5.4.4). Hosts of a route need not be named here.",
            examples=[["10.0.0.0/8"]],
        ),
    ] = []
    own_names: Annotated[
        list[str],
        Meta(description="Names of this host besides hostname: mail for others is not sent in circles (status 5.4.6)."),
    ] = []
    own_addresses: Annotated[
        list[str],
        Meta(description="Addresses of this host that it does not see itself, as behind NAT; used like own_names."),
    ] = []
    routes: Annotated[
        list[Route],
        Meta(description="Ways that differ from what the DNS says. The first that fits is taken."),
    ] = []

    # TLS

    minimum: Annotated[
        Literal["TLSv1.2", "TLSv1.3"], Meta(description="The oldest version of TLS that is spoken to other hosts.")
    ] = "TLSv1.2"
    dane: Annotated[bool, Meta(description="Keep to TLSA records of destinations (RFC 7672).")] = True
    mta_sts: Annotated[bool, Meta(description="Keep to MTA-STS policies of destinations (RFC 8461).")] = True
    sts_timeout: Annotated[Seconds, Meta(description="Longest wait for a policy (RFC 8461 §3.3).")] = Seconds(MINUTE)
    sts_size_limit: Annotated[Octets, Meta(description="Longest policy that is read (RFC 8461 §3.3).")] = Octets(
        64 * KIB
    )
    sts_retry: Annotated[
        Seconds, Meta(description="After a policy could not be fetched: time until it is tried again (RFC 8461 §3.3).")
    ] = Seconds(5 * MINUTE)
    sts_refresh: Annotated[
        Seconds, Meta(description="Age at which a policy is fetched anew though nothing says that it has changed.")
    ] = Seconds(DAY)
    sts_authority: Annotated[
        str, Meta(description="PEM file with the authority of policy servers. Empty: those of the system.")
    ] = ""
    sts_port: Annotated[int, Meta(ge=1, le=65535, description="The port of policy servers.")] = 443
    authority: Annotated[
        str,
        Meta(description="PEM file with the authorities of mail exchangers under MTA-STS. Empty: those of the system."),
    ] = ""

    # Reports of TLS

    report_from: Annotated[
        str,
        Meta(
            description="Who sends reports of TLS (RFC 8460) to the domains that ask for them: an address of a local domain. "
            "Empty: none are sent.",
            examples=["tls-reports@example.org"],
        ),
    ] = ""
    report_organization: Annotated[str, Meta(description="What the reports call us. Empty: the hostname.")] = ""
    report_timeout: Annotated[Seconds, Meta(description="Longest wait for a server that takes reports over HTTPS.")] = (
        Seconds(MINUTE)
    )
    report_authority: Annotated[
        str, Meta(description="PEM file with the authority of such servers. Empty: those of the system.")
    ] = ""

    def __post_init__(self) -> None:
        """Check addresses and networks. Raises ValueError, which names the key."""
        for key, check in _CHECKS.items():
            for text in getattr(self, key):
                try:
                    check(text)
                except ValueError as error:
                    raise ValueError(f"{key}: {error}") from None
        if self.report_from and not all(self.report_from.partition("@")):
            raise ValueError("report_from: an address is needed")


def _resolver(text: str) -> None:
    host, _ = split_address(text)
    ip_address(host)


_CHECKS: dict[str, Callable[[str], object]] = {
    "resolvers": _resolver,
    "private_networks": lambda text: ip_network(text, strict=False),
    "own_addresses": ip_address,
}
