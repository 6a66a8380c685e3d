"""Key records in the DNS, RFC 6376 §3.6.1 and RFC 8463 §4: their text, their form in a zone file, and what is wrong with one."""

import base64
import binascii
import re
from collections.abc import Sequence
from enum import Enum

from dkim.util import InvalidTagValueList, parse_tag_value

STRING_LIMIT = 255  # octets of one character-string, RFC 1035 §3.3
_KEY_TYPES = {"rsa-sha256": "rsa", "ed25519-sha256": "ed25519"}
_SPACE = re.compile(rb"\s+")


class Finding(Enum):
    """What a look into the DNS shows of a key record."""

    RIGHT = "right"
    MISSING = "missing"
    SEVERAL = "several records"  # RFC 6376 §3.6.2.2: the result is undefined
    MALFORMED = "malformed"
    REVOKED = "revoked"  # an empty p=
    ANOTHER_KEY = "another key"
    ANOTHER_TYPE = "another key type"
    RESTRICTED = "not for mail"  # s= or h= rules our signatures out


def record_name(selector: str, domain: str) -> str:
    """Where verifiers look, RFC 6376 §3.6.2.1. The domain in A-labels."""
    return f"{selector}._domainkey.{domain}"


def record_text(algorithm: str, public_key: bytes) -> str:
    """The value of the TXT record, in one piece."""
    return f"v=DKIM1; k={_KEY_TYPES[algorithm]}; p={base64.b64encode(public_key).decode()}"


def character_strings(text: str) -> list[str]:
    """The value in pieces that fit one character-string each; verifiers join them without anything between (RFC 6376 §3.6.2.2)."""
    return [text[at : at + STRING_LIMIT] for at in range(0, len(text), STRING_LIMIT)]


def zone_line(name: str, kind: str, value: str, ttl: int) -> str:
    """One record as a zone file has it (RFC 1035 §5.1), absolute. A TXT value is quoted and split."""
    if kind == "TXT":
        value = " ".join(f'"{piece}"' for piece in character_strings(value))
    else:
        value += "."
    return f"{name}. {ttl} IN {kind} {value}"


def examine(answers: Sequence[bytes], algorithm: str, public_key: bytes) -> Finding:
    """Compare the TXT records of a name, each with its character-strings joined, with the key that they should hold."""
    if len(answers) != 1:
        return Finding.SEVERAL if answers else Finding.MISSING
    try:
        tags = parse_tag_value(answers[0])
        found = base64.b64decode(_SPACE.sub(b"", tags[b"p"]), validate=True)
    except (InvalidTagValueList, KeyError, binascii.Error):
        return Finding.MALFORMED
    if tags.get(b"v", b"DKIM1") != b"DKIM1":
        return Finding.MALFORMED
    if not found:
        return Finding.REVOKED
    if tags.get(b"k", b"rsa") != _KEY_TYPES[algorithm].encode():
        return Finding.ANOTHER_TYPE
    if not _lists(tags.get(b"s"), b"email") or not _lists(tags.get(b"h"), b"sha256"):
        return Finding.RESTRICTED
    return Finding.RIGHT if found == public_key else Finding.ANOTHER_KEY


def _lists(value: bytes | None, wanted: bytes) -> bool:
    return value is None or bool({wanted, b"*"} & set(_SPACE.sub(b"", value).split(b":")))
