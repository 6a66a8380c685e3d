"""A way that differs from what the DNS says: an entry of [[transport.routes]]."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta


class Route(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A smarthost, or another way, for domains or senders. A route that names neither fits all mail."""

    domains: Annotated[
        list[str],
        Meta(
            description='Recipient domains it is for: "example.net", ".example.net" for all below it, "*" for all. Empty: all.',
            examples=[["example.net", ".example.net"]],
        ),
    ] = []
    senders: Annotated[
        list[str],
        Meta(
            description='Senders it is for: an address, "@example.org" for a domain, "<>" for the null sender. Empty: all.',
            examples=[["@example.org"]],
        ),
    ] = []
    host: Annotated[
        str,
        Meta(
            description="The smarthost: a name or an address. Empty: the mail exchangers of the domain, as without a route.",
            examples=["smtp.example.com"],
        ),
    ] = ""
    is_domain: Annotated[bool, Meta(description="The host is a domain, whose mail exchangers are used.")] = False
    port: Annotated[
        int, Meta(ge=0, le=65535, description="0: 465 with TLS from the start, else as without a route.")
    ] = 0
    tls: Annotated[
        Literal["none", "may", "encrypt", "verify"],
        Meta(
            description="What the host must show. none: TLS is not used, whatever the destination publishes. may: it is used "
            "where it is offered. encrypt: there must be TLS. verify: and its certificate must be right. Where no host is "
            "given DANE and MTA-STS of the destination can ask for more."
        ),
    ] = "may"
    starts_with_tls: Annotated[bool, Meta(description="The port begins with TLS (RFC 8314), in place of STARTTLS.")] = (
        False
    )
    names: Annotated[
        list[str], Meta(description="Names of which one must be in the certificate (verify). Empty: the host's.")
    ] = []
    authority: Annotated[
        str, Meta(description="PEM file with the authority of its certificate. Empty: those of the system.")
    ] = ""
    login: Annotated[str, Meta(description="The login there. Empty: none. It is told in TLS only.")] = ""
    password_file: Annotated[str, Meta(description="File with the password that goes with it.")] = ""

    def __post_init__(self) -> None:
        """Check what belongs together. Raises ValueError."""
        if bool(self.login) != bool(self.password_file):
            raise ValueError("login and password_file must both be given")
        if self.login and (not self.host or self.is_domain):
            raise ValueError("a login needs a host of its own: strangers choose those of a domain")
        if self.login and self.tls not in ("encrypt", "verify"):
            raise ValueError("a login needs tls = encrypt or verify")
        if self.starts_with_tls and self.tls not in ("encrypt", "verify"):
            raise ValueError("starts_with_tls needs tls = encrypt or verify")
        if self.is_domain and not self.host:
            raise ValueError("is_domain needs a host")
