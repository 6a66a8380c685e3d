"""What a server offers: its reply to EHLO (RFC 5321 §4.1.1.1) as values that a client can ask.

A keyword or value that breaks its grammar counts as not offered: a client can do without any of them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from protocol.smtp.reply import Reply

_NUMBER_DIGITS = 20  # size-value, RFC 1870 §4


@dataclass(frozen=True, slots=True)
class Capabilities:
    """One server's offer. keywords holds all of it, in upper case, each with its words as they came."""

    domain: str = ""  # what the server calls itself
    keywords: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    is_extended: bool = False  # False after HELO
    has_pipelining: bool = False
    has_8bitmime: bool = False
    has_smtputf8: bool = False
    has_chunking: bool = False
    has_binarymime: bool = False
    has_dsn: bool = False
    has_starttls: bool = False
    has_requiretls: bool = False
    has_deliverby: bool = False
    has_mt_priority: bool = False
    has_size: bool = False
    size_limit: int | None = None  # octets of one message; None: none told
    deliverby_seconds: int = 0  # the shortest by-time that is taken in mode R, RFC 2852 §3
    recipient_limit: int | None = None  # RCPTMAX, RFC 9422 §4.2: recipients of one transaction
    message_limit: int | None = None  # MAILMAX: transactions of one session
    domain_limit: int | None = None  # RCPTDOMAINMAX: different recipient domains of one session
    mechanisms: frozenset[bytes] = frozenset()  # of AUTH, in upper case


NO_CAPABILITIES = Capabilities()


def capabilities_of(reply: Reply, *, is_extended: bool = True) -> Capabilities:
    """Read a positive reply to EHLO or LHLO; is_extended False: to HELO, which offers nothing."""
    domain = reply.lines[0].partition(" ")[0]
    if not is_extended:
        return Capabilities(domain)
    keywords: dict[str, tuple[str, ...]] = {}
    for line in reply.lines[1:]:
        # AUTH=LOGIN is how servers offered AUTH before it was a standard; some still do so beside the line of today.
        words = (line.replace("=", " ", 1) if line[:5].upper() == "AUTH=" else line).split()
        if words:
            keyword = words[0].upper()
            keywords[keyword] = (*keywords.get(keyword, ()), *words[1:])
    limits = dict(word.upper().split("=", 1) for word in keywords.get("LIMITS", ()) if "=" in word)
    sizes, seconds = keywords.get("SIZE", ()), keywords.get("DELIVERBY", ())
    return Capabilities(
        domain,
        keywords,
        is_extended=True,
        has_pipelining="PIPELINING" in keywords,
        has_8bitmime="8BITMIME" in keywords,
        has_smtputf8="SMTPUTF8" in keywords,
        has_chunking="CHUNKING" in keywords,
        has_binarymime="BINARYMIME" in keywords and "CHUNKING" in keywords,
        has_dsn="DSN" in keywords,
        has_starttls="STARTTLS" in keywords,
        has_requiretls="REQUIRETLS" in keywords,
        has_deliverby="DELIVERBY" in keywords,
        has_mt_priority="MT-PRIORITY" in keywords,
        has_size="SIZE" in keywords,
        size_limit=(_number(sizes[0]) if sizes else None) or None,  # SIZE 0: no fixed limit, RFC 1870 §3
        deliverby_seconds=(_number(seconds[0].split(",")[0]) if seconds else None) or 0,
        recipient_limit=_number(limits.get("RCPTMAX", "")) or None,
        message_limit=_number(limits.get("MAILMAX", "")) or None,
        domain_limit=_number(limits.get("RCPTDOMAINMAX", "")) or None,
        mechanisms=frozenset(word.upper().encode() for word in keywords.get("AUTH", ())),
    )


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) <= _NUMBER_DIGITS else None
