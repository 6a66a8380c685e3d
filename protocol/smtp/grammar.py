"""SMTP command arguments: paths (RFC 5321 §4.1.2, RFC 6531 §3.3), ESMTP parameters (RFC 5321 §4.1.1.11), xtext (RFC 3461 §4).

Text in, values out. Every function raises GrammarError with what was expected and at which octet, and nothing else.
The domain of a command is what it was sent as: nothing here knows hosts or accounts.
"""

import re
from collections.abc import Mapping

from protocol.address import ADDR_SPEC, DOMAIN, LOCAL_PART_LIMIT, PATH_LIMIT, AddressError, AddrSpec, addr_spec_of

# In the wild, VERP and rewritten bounce addresses are longer than RFC 5321 §4.5.3.1.1 lets them be.
REVERSE_LOCAL_PART_LIMIT = 128

_SOURCE_ROUTE = rf"(?:@{DOMAIN}(?:,@{DOMAIN})*+:)?"  # A-d-l, accepted and ignored (RFC 5321 §4.1.1.3, appendix F.2)
_PATH = re.compile(rf"<{_SOURCE_ROUTE}{ADDR_SPEC}>")
_POSTMASTER = re.compile(r"<postmaster>", re.IGNORECASE)
# esmtp-param = esmtp-keyword ["=" esmtp-value]; the value in UTF-8 where RFC 6531 §3.3 allows it (ORCPT).
_PARAMETER = re.compile("([A-Za-z0-9][A-Za-z0-9-]*+)(?:=([!-<>-~\u00a0-\U0010ffff]++))?")
_XTEXT = re.compile(r"(?:[!-*,-<>-~]|\+[0-9A-F]{2})*")
_HEXCHAR = re.compile(r"\+([0-9A-F]{2})")
# Neither QCHAR nor, where UTF-8 may stand as it is, QUCHAR of RFC 6533 §3.
_NOT_QCHAR = re.compile(r"[^!-*,-<>-\[\]-~]")
_NOT_QUCHAR = re.compile("[^!-*,-<>-\\[\\]-~\u00a0-\U0010ffff]")


class GrammarError(ValueError):
    """The text breaks the grammar. The message names what was expected and where; it never repeats the text."""


def expect_reverse_path(text: str) -> tuple[AddrSpec | None, str]:
    """Reverse-path = Path / "<>". Gives None for the null path, and what follows the path."""
    if text.startswith("<>"):
        return None, text[2:]
    return _expect_path(text, REVERSE_LOCAL_PART_LIMIT)


def expect_forward_path(text: str) -> tuple[AddrSpec, str]:
    """Forward-path = Path, or "<Postmaster>" in any case, whose domain is empty. Gives also what follows the path."""
    postmaster = _POSTMASTER.match(text)
    if postmaster is not None:
        return AddrSpec("postmaster", ""), text[postmaster.end() :]
    return _expect_path(text, LOCAL_PART_LIMIT)


def _expect_path(text: str, local_part_limit: int) -> tuple[AddrSpec, str]:
    found = _PATH.match(text)
    if found is None:
        raise GrammarError("expected <local-part@domain>")
    if found.end() > PATH_LIMIT // 4 and len(found[0].encode()) > PATH_LIMIT:
        raise GrammarError(f"path is longer than {PATH_LIMIT} octets")
    try:
        addr_spec = addr_spec_of(found["local"], found["domain"], local_part_limit=local_part_limit)
    except AddressError as error:
        raise GrammarError(str(error)) from error
    return addr_spec, text[found.end() :]


def expect_parameters(text: str) -> Mapping[str, str | None]:
    """*(SP esmtp-param) to the end of the text, keywords in upper case; None for one without a value.

    More than one space, and spaces at the end, are let pass: clients that send them are common and the meaning is clear.
    """
    parameters: dict[str, str | None] = {}
    if text and text[0] != " ":
        raise GrammarError("expected a space after the path")
    for word in text.split(" "):
        if not word:
            continue
        found = _PARAMETER.fullmatch(word)
        if found is None:
            raise GrammarError("expected a parameter KEYWORD or KEYWORD=value")
        keyword = found[1].upper()
        if keyword in parameters:
            raise GrammarError(f"parameter {keyword} is given twice")
        parameters[keyword] = found[2]
    return parameters


def decode_xtext(text: str) -> str:
    """The text behind xtext = *(xchar / hexchar). What it encodes must be printable US-ASCII (RFC 3461 §4.2, §4.4)."""
    if _XTEXT.fullmatch(text) is None:
        raise GrammarError("expected xtext")
    decoded = _HEXCHAR.sub(lambda found: chr(int(found[1], 16)), text) if "+" in text else text
    if not (decoded.isascii() and decoded.isprintable()):
        raise GrammarError("xtext encodes other than printable US-ASCII")
    return decoded


def encode_xtext(text: str) -> str:
    """xtext of a printable US-ASCII text: the inverse of decode_xtext."""
    return "".join(char if "!" <= char <= "~" and char not in "+=" else f"+{ord(char):02X}" for char in text)


def encode_orcpt(orcpt: str, *, is_smtputf8: bool) -> str:
    """original-recipient-address of "addr-type;address" with the address decoded (RFC 3461 §4.2, RFC 6533 §3)."""
    address_type, _, address = orcpt.partition(";")
    if address_type.lower() != "utf-8":
        return f"{address_type};{encode_xtext(address)}"
    unsafe = _NOT_QUCHAR if is_smtputf8 else _NOT_QCHAR
    return f"{address_type};{unsafe.sub(_embedded, address)}"


def _embedded(found: re.Match[str]) -> str:
    """EmbeddedUnicodeChar."""
    return f"\\x{{{ord(found[0]):02X}}}"
