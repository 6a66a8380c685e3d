"""Who issues tokens for a tenant: an entry of [[authentication.issuers]]."""

from typing import Annotated, Literal, TypeAlias
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

from config.units import HOUR, MIB, Octets, Seconds

# Signatures only, each of a key pair: with a shared secret, whoever can check a token could make one.
Algorithm: TypeAlias = Literal[
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "Ed25519"
]
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


class Issuer(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An OpenID Connect issuer whose tokens log in to accounts of one tenant."""

    tenant: Annotated[
        str,
        Meta(min_length=1, description="The tenant to whose accounts its tokens may log in.", examples=["example"]),
    ]
    issuer: Annotated[
        str,
        Meta(
            description="The issuer's identifier, an https URL: what tokens have as iss, and where "
            "/.well-known/openid-configuration is looked for.",
            examples=["https://login.example.org/realms/staff"],
        ),
    ]
    audience: Annotated[
        list[str], Meta(min_length=1, description="A token's aud must name one of these.", examples=[["postwerk"]])
    ]
    algorithms: Annotated[
        list[Algorithm],
        Meta(min_length=1, description="Signatures that are taken; whatever else a token says is refused."),
    ] = msgspec.field(default_factory=lambda: ["RS256", "ES256"])
    login_claim: Annotated[
        str, Meta(min_length=1, description="The claim that holds the login. An email that is not verified is none.")
    ] = "email"
    scope: Annotated[str, Meta(description="A scope that a token must have; empty: none.")] = ""
    keys: Annotated[str, Meta(description="URL of the keys (JWKS). Empty: from the issuer's own description.")] = ""
    introspection: Annotated[
        str,
        Meta(
            description="URL where tokens that are no JWT are asked about (RFC 7662). Empty: such tokens are refused."
        ),
    ] = ""
    client_id: Annotated[str, Meta(description="What we are called there.")] = ""
    client_secret_file: Annotated[str, Meta(description="File with the secret that goes with client_id.")] = ""
    certificate_authority: Annotated[
        str, Meta(description="PEM file with the authority of the issuer's certificate. Empty: those of the system.")
    ] = ""
    timeout: Annotated[Seconds, Meta(description="Longest wait for an answer; then the login fails.")] = Seconds(5)
    response_limit: Annotated[Octets, Meta(description="Longest answer that is read.")] = Octets(MIB)
    keys_lifetime: Annotated[
        Seconds,
        Meta(description="How long keys are used without asking again. They go on being used when nobody answers."),
    ] = Seconds(HOUR)
    keys_interval: Annotated[
        Seconds, Meta(description="Shortest time between two such questions, whatever unknown keys tokens name.")
    ] = Seconds(30)
    introspection_lifetime: Annotated[
        Seconds, Meta(description="How long a token that was said to be good is taken for good without asking again.")
    ] = Seconds(60)
    leeway: Annotated[Seconds, Meta(description="How far the issuer's clock may be off.")] = Seconds(30)

    def __post_init__(self) -> None:
        """Check the URLs. Raises ValueError."""
        for name in ("issuer", "keys", "introspection"):
            url = getattr(self, name)
            if not (url or name != "issuer") or (url and not is_safe(url)):
                raise ValueError(f"{name}: an https URL is needed (http only on the loopback)")
        if self.introspection and not (self.client_id and self.client_secret_file):
            raise ValueError("introspection needs client_id and client_secret_file")


def is_safe(url: str) -> bool:
    """Whether what comes from there can be believed: by TLS, or from this machine."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    is_local = parts.scheme == "http" and parts.hostname in _LOOPBACK
    return bool(parts.hostname) and (parts.scheme == "https" or is_local)
