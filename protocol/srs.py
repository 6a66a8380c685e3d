"""Rewritten envelope senders (SRS0 and SRS1, the Sender Rewriting Scheme): addresses in, addresses out.

A host that forwards a message answers for its envelope sender (SPF, RFC 7208 §D.3), so it takes one of its own domain that
holds the old one: SRS0=<hash>=<day>=<domain>=<local part>. A host that forwards such a message again keeps only the way to the
first one: SRS1=<hash>=<first host>=<rest of the SRS0 address>. The hash is what keeps us from carrying mail for everybody.

Local parts may come back in another case, so nothing here depends on it but what the original address says.
"""

import base64
import hashlib
import hmac
import re
from collections.abc import Iterable
from dataclasses import dataclass

from protocol.address import LOCAL_PART_LIMIT, AddrSpec, is_address_literal, is_domain

_HASH_CHARACTERS = 6  # 30 bits: refused attempts cost the sender its connection long before
_TOKEN_CHARACTERS = 20  # 100 bits
_DAYS = 1024  # after which a day's two characters come again
_DAY_CHARACTERS = "abcdefghijklmnopqrstuvwxyz234567"
_SRS0 = re.compile(r"srs0[=+-]([a-z2-7]+)=([a-z2-7]{2})=([^=]*)=(.+)", re.IGNORECASE | re.DOTALL)
_SRS1 = re.compile(r"srs1[=+-]([^=]*)=([^=]+)=([=+-].+)", re.IGNORECASE | re.DOTALL)
_FOREIGN_SRS0 = re.compile(r"srs0([=+-].+)", re.IGNORECASE | re.DOTALL)


class SrsError(ValueError):
    """The address is none that was rewritten here, or it has ended. The message says which, without the address."""


class SrsLengthError(ValueError):
    """The rewritten local part would be longer than RFC 5321 §4.5.3.1.1 allows: the sender has to be stored."""


@dataclass(frozen=True, slots=True)
class Stored:
    """The address holds a token; what it stands for has to be looked up."""

    token: str


def is_rewritten(local_part: str) -> bool:
    """Whether it looks like one of ours or anybody's. reversed_path() tells which."""
    return local_part[:4].lower() in ("srs0", "srs1") and local_part[4:5] in ("=", "+", "-")


def rewritten(reverse_path: AddrSpec, domain: str, key: bytes, day: int) -> AddrSpec:
    """The sender under which our `domain` forwards. `day`: days since 1970. Raises SrsLengthError.

    reverse_path has its domain in A-labels, so that an ASCII address stays one.
    """
    first = _SRS1.fullmatch(reverse_path.local_part)
    again = first or _FOREIGN_SRS0.fullmatch(reverse_path.local_part)
    if again is not None:
        host, rest = (first[2], first[3]) if first else (reverse_path.domain, again[1])
        return _fitting(f"SRS1={_hash(key, domain, host, rest)}={host}={rest}", domain)
    return _srs0(reverse_path.domain, reverse_path.local_part, domain, key, day)


def rewritten_stored(token: str, domain: str, key: bytes, day: int) -> AddrSpec:
    """The sender for a reverse-path that is stored under a token."""
    return _srs0("", token, domain, key, day)


def token_of(reverse_path: AddrSpec, key: bytes) -> str:
    """Under what a reverse-path is stored: nobody can tell it without the key, and one path has one token per key."""
    digest = hmac.digest(key, f"path\0{reverse_path}".encode(), hashlib.sha256)
    return base64.b32encode(digest).decode()[:_TOKEN_CHARACTERS].lower()


def reversed_path(address: AddrSpec, keys: Iterable[bytes], day: int, lifetime_days: int) -> AddrSpec | Stored:
    """The sender that was rewritten, if one of our keys did it in the last `lifetime_days`. Raises SrsError."""
    found = _SRS0.fullmatch(address.local_part)
    if found is not None:
        told, stamp, host, local_part = found.groups()
        _verify(told, keys, address.domain, stamp, host, local_part)
        if not _is_current(stamp, day, lifetime_days):
            raise SrsError("expired")
        if not host:
            return Stored(local_part.lower())
    else:
        found = _SRS1.fullmatch(address.local_part)
        if found is None:
            raise SrsError("not a rewritten sender")
        told, host, rest = found.groups()
        _verify(told, keys, address.domain, host, rest)
        local_part = f"SRS0{rest}"
    if not is_domain(host) and not is_address_literal(host):
        raise SrsError("not a domain")
    return AddrSpec(local_part, host)


def _srs0(host: str, local_part: str, domain: str, key: bytes, day: int) -> AddrSpec:
    high, low = divmod(day % _DAYS, 32)
    stamp = _DAY_CHARACTERS[high] + _DAY_CHARACTERS[low]
    return _fitting(f"SRS0={_hash(key, domain, stamp, host, local_part)}={stamp}={host}={local_part}", domain)


def _fitting(local_part: str, domain: str) -> AddrSpec:
    if len(local_part.encode()) > LOCAL_PART_LIMIT:
        raise SrsLengthError(len(local_part))
    return AddrSpec(local_part, domain)


def _hash(key: bytes, *parts: str) -> str:
    """Over our domain too: an address of one domain is none of another's."""
    digest = hmac.digest(key, "\0".join(parts).lower().encode("utf-8", "surrogateescape"), hashlib.sha256)
    return base64.b32encode(digest[:5]).decode()[:_HASH_CHARACTERS].lower()


def _verify(told: str, keys: Iterable[bytes], *parts: str) -> None:
    given = told.lower().encode("utf-8", "surrogateescape")
    if not any(hmac.compare_digest(given, _hash(key, *parts).encode()) for key in keys):
        raise SrsError("forged, or its key is gone")


def _is_current(stamp: str, day: int, lifetime_days: int) -> bool:
    high, low = (_DAY_CHARACTERS.index(character) for character in stamp.lower())
    age = (day - (high * 32 + low)) % _DAYS
    return age <= lifetime_days or age == _DAYS - 1  # tomorrow's: another host's clock is ahead
