"""The section [dkim]: how outgoing mail is signed, and how its keys come and go."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from config.units import DAY, KIB, Octets, Seconds

Algorithm = Literal["rsa-sha256", "ed25519-sha256"]


class Dkim(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """DKIM signatures (RFC 6376, RFC 8463) and the rotation of their keys."""

    algorithms: Annotated[
        list[Algorithm],
        Meta(
            min_length=1,
            description="What new keys are made for; a message gets one signature of each. Not every verifier knows "
            "Ed25519 yet, so that it does not do alone (RFC 8463 §5).",
        ),
    ] = msgspec.field(default_factory=lambda: ["rsa-sha256", "ed25519-sha256"])
    rsa_bits: Annotated[
        Literal[2048, 3072, 4096],
        Meta(description="Size of new RSA keys. Signing takes three times as long with 3072, five times with 4096."),
    ] = 2048
    selector_prefix: Annotated[
        str,
        Meta(
            pattern=r"^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$",
            description="What the selectors of new keys begin with; the date and the algorithm follow.",
        ),
    ] = "pw"
    delegation_zone: Annotated[
        str,
        Meta(
            description="The zone of yours that customers point to by CNAME when they keep their DNS themselves: the key "
            "records of delegated domains are names in it. Empty: no domain can be delegated.",
            examples=["dkim.example.net"],
        ),
    ] = ""
    rotation: Annotated[
        Seconds,
        Meta(description="Age at which an active key gets a successor. 0: only `postwerk dkim rotate` makes one."),
    ] = Seconds(180 * DAY)
    publication_wait: Annotated[
        Seconds,
        Meta(
            description="How long the record of a successor must have been seen in the DNS before it signs: longer than "
            "the time to live of your records, since a delegated name serves one key after the other."
        ),
    ] = Seconds(DAY)
    retirement: Annotated[
        Seconds,
        Meta(
            description="How long the record of a key that signs no more must stay in the DNS, for mail still under way. "
            "At least as long as signatures are valid. The private key is destroyed at once."
        ),
    ] = Seconds(14 * DAY)
    signature_lifetime: Annotated[
        Seconds, Meta(description="For how long a signature says that it is valid (x=). 0: it does not say.")
    ] = Seconds(14 * DAY)
    inline_limit: Annotated[
        Octets,
        Meta(
            description="Octets of a message that are hashed in the event loop; more than that in a thread, piece by piece."
        ),
    ] = Octets(64 * KIB)

    def __post_init__(self) -> None:
        """Check what depends on another key. Raises ValueError."""
        if self.retirement < self.signature_lifetime:
            raise ValueError(
                "retirement: shorter than signature_lifetime; records must outlive the signatures they verify"
            )
        if len(set(self.algorithms)) != len(self.algorithms):
            raise ValueError("algorithms: each once")
