"""Internet mail addresses, RFC 5321 §4.1.2 with the UTF-8 extension of RFC 6531 §3.3: text in, AddrSpec out.

AddrSpec is what RFC 5321 calls Mailbox; the word mailbox means only the IMAP folder in this code. The grammar is the
strict one of the envelope: no comments, no folding white space, no obsolete forms. Case is kept as written, and
nothing here knows which domains exist.
"""

import ipaddress
import re
from dataclasses import dataclass

LOCAL_PART_LIMIT = 64  # octets, RFC 5321 §4.5.3.1.1
DOMAIN_LIMIT = 255  # octets, RFC 5321 §4.5.3.1.2
PATH_LIMIT = 256  # octets with the angle brackets, RFC 5321 §4.5.3.1.3

# UTF8-non-ascii, RFC 6531 §3.3, without the C1 controls, which no address needs and terminals obey.
_NON_ASCII = "\u00a0-\U0010ffff"
_ATEXT = rf"[A-Za-z0-9!#$%&'*+\-/=?^_`{{|}}~{_NON_ASCII}]"
DOT_STRING = rf"{_ATEXT}++(?:\.{_ATEXT}++)*+"  # Dot-string = Atom *("." Atom)
QUOTED_STRING = rf'"(?:[ !#-\[\]-~{_NON_ASCII}]|\\[ -~])*+"'  # Quoted-string = DQUOTE *QcontentSMTP DQUOTE
LOCAL_PART = rf"(?:{DOT_STRING}|{QUOTED_STRING})"
_LET_DIG = rf"[A-Za-z0-9{_NON_ASCII}]"
_SUB_DOMAIN = rf"{_LET_DIG}++(?:-++{_LET_DIG}++)*+"  # sub-domain = Let-dig [Ldh-str] / U-label
DOMAIN = rf"{_SUB_DOMAIN}(?:\.{_SUB_DOMAIN})*+"
ADDRESS_LITERAL = r"\[[!-Z^-~]++\]"  # its inside is checked by is_address_literal
ADDR_SPEC = rf"(?P<local>{LOCAL_PART})@(?P<domain>{DOMAIN}|{ADDRESS_LITERAL})"

_ADDR_SPEC = re.compile(ADDR_SPEC)
_DOT_STRING = re.compile(DOT_STRING)
_DOMAIN = re.compile(DOMAIN)
_QUOTED_PAIR = re.compile(r"\\(.)")
_SPECIAL = re.compile(r'(["\\])')


class AddressError(ValueError):
    """The text is not an address. The message says what rule it broke, never the address itself."""


@dataclass(frozen=True, slots=True)
class AddrSpec:
    """local-part@domain. The local part is unquoted; the domain is as written, an address literal keeps its brackets.

    An empty domain is only made for <Postmaster>, RFC 5321 §4.1.1.3.
    """

    local_part: str
    domain: str

    @property
    def is_ascii(self) -> bool:
        """Whether it can be sent without SMTPUTF8."""
        return self.local_part.isascii() and self.domain.isascii()

    def __str__(self) -> str:
        """The form for the wire: the local part is quoted where it must be, and only there (RFC 5321 §4.1.2)."""
        local = self.local_part
        if _DOT_STRING.fullmatch(local) is None:
            local = '"' + _SPECIAL.sub(r"\\\1", local) + '"'
        return f"{local}@{self.domain}" if self.domain else local


def parse_addr_spec(text: str) -> AddrSpec:
    """Parse one address that fills the text, `alice@example.test`. Raises AddressError."""
    found = _ADDR_SPEC.fullmatch(text)
    if found is None:
        raise AddressError("expected local-part@domain")
    return addr_spec_of(found["local"], found["domain"], local_part_limit=LOCAL_PART_LIMIT)


def addr_spec_of(local: str, domain: str, *, local_part_limit: int) -> AddrSpec:
    """An AddrSpec of the two texts that matched ADDR_SPEC. Raises AddressError for what a pattern cannot say."""
    if local[0] == '"':
        local = _QUOTED_PAIR.sub(r"\1", local[1:-1])
    if len(local) > local_part_limit // 4 and len(local.encode()) > local_part_limit:
        raise AddressError(f"local part is longer than {local_part_limit} octets")
    if len(domain) > DOMAIN_LIMIT // 4 and len(domain.encode()) > DOMAIN_LIMIT:
        raise AddressError(f"domain is longer than {DOMAIN_LIMIT} octets")
    if domain[0] == "[" and not is_address_literal(domain):
        raise AddressError("address literal is malformed")
    return AddrSpec(local, domain)


def is_domain(text: str) -> bool:
    """Whether the text is a Domain of RFC 5321 §4.1.2, U-labels included."""
    return _DOMAIN.fullmatch(text) is not None and len(text.encode()) <= DOMAIN_LIMIT


def is_address_literal(text: str) -> bool:
    """Whether the text is an address-literal, `[192.0.2.1]` or `[IPv6:2001:db8::1]`, RFC 5321 §4.1.3.

    A General-address-literal needs a standardised tag, and none but IPv6 was ever registered.
    """
    if len(text) < 3 or text[0] != "[" or text[-1] != "]" or not text.isascii():
        return False
    inside = text[1:-1]
    try:
        if inside[:5].upper() == "IPV6:":
            ipaddress.IPv6Address(inside[5:])
            return "%" not in inside
        ipaddress.IPv4Address(inside)
    except ValueError:
        return False
    return True


def address_literal(address: str) -> str:
    """The address-literal of an IP address in presentation form; a scope id is dropped, mapped IPv4 shown as IPv4."""
    parsed = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(parsed, ipaddress.IPv6Address):
        return f"[{parsed.ipv4_mapped}]" if parsed.ipv4_mapped else f"[IPv6:{parsed}]"
    return f"[{parsed}]"
