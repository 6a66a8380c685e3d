"""The section [tls]."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta


class Tls(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The server certificate, for STARTTLS and for the ports that begin with TLS."""

    certificate: Annotated[
        str,
        Meta(
            description="PEM file: the server's certificate first, then the intermediate ones. Empty: no TLS.",
            examples=["/etc/postwerk/tls/server.pem"],
        ),
    ] = ""
    key: Annotated[
        str, Meta(description="PEM file with the certificate's private key.", examples=["/etc/postwerk/tls/server.key"])
    ] = ""
    minimum: Annotated[
        Literal["TLSv1.2", "TLSv1.3"],
        Meta(description="The oldest version of TLS that is spoken (RFC 8996, RFC 9325)."),
    ] = "TLSv1.2"

    def __post_init__(self) -> None:
        """Check that both or none are given. Raises ValueError."""
        if bool(self.certificate) != bool(self.key):
            raise ValueError("certificate and key must both be given")
