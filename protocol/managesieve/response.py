"""ManageSieve responses, RFC 5804 §1.2, §1.3 and §4: strings, status lines and what stands before them."""

import re
from collections.abc import Iterable
from enum import Enum

_QUOTED_OCTETS = 1024  # RFC 5804 §4: quoted strings are limited to 1024 octets
_SPECIALS = re.compile(rb'(["\\])')
_UNQUOTABLE = re.compile(rb"[\r\n\0]")


class Code(Enum):
    """Response codes without an argument, RFC 5804 §1.3."""

    ENCRYPT_NEEDED = "ENCRYPT-NEEDED"
    QUOTA = "QUOTA"
    MAXSCRIPTS = "QUOTA/MAXSCRIPTS"
    MAXSIZE = "QUOTA/MAXSIZE"
    TRYLATER = "TRYLATER"
    ACTIVE = "ACTIVE"
    NONEXISTENT = "NONEXISTENT"
    ALREADYEXISTS = "ALREADYEXISTS"
    WARNINGS = "WARNINGS"

    @property
    def octets(self) -> bytes:
        """As it stands in the parentheses."""
        return self.value.encode()


def string(octets: bytes) -> bytes:
    """The octets as a quoted string, or as a literal where they do not fit into one."""
    if len(octets) > _QUOTED_OCTETS or _UNQUOTABLE.search(octets):
        return literal(octets)
    quoted = b'"' + _SPECIALS.sub(rb"\\\1", octets) + b'"'
    return quoted if len(quoted) <= _QUOTED_OCTETS + 2 else literal(octets)


def literal(octets: bytes) -> bytes:
    """literal-s2c."""
    return b"{%d}\r\n" % len(octets) + octets


def tag(octets: bytes) -> bytes:
    """The response code that brings a NOOP's argument back, RFC 5804 §2.13."""
    return b"TAG " + string(octets)


def sasl(octets: bytes) -> bytes:
    """The response code with the mechanism's final message, which is in base64 already, RFC 5804 §2.1."""
    return b"SASL " + string(octets)


def status(kind: bytes, text: str = "", code: Code | bytes | None = None) -> bytes:
    """OK, NO or BYE. Lines of the text are ended by CRLF or LF."""
    line = kind
    if code is not None:
        line += b" (" + (code.octets if isinstance(code, Code) else code) + b")"
    if text:
        line += b" " + string("\r\n".join(text.splitlines()).encode())
    return line + b"\r\n"


def capability_lines(capabilities: Iterable[tuple[str, str | None]]) -> bytes:
    """Name and value of each, RFC 5804 §1.7."""
    return b"".join(
        string(name.encode()) + (b" " + string(value.encode()) if value is not None else b"") + b"\r\n"
        for name, value in capabilities
    )


def script_lines(scripts: Iterable[tuple[str, bool]]) -> bytes:
    """The listing of LISTSCRIPTS: names, and which of them is active, RFC 5804 §2.7."""
    return b"".join(string(name.encode()) + (b" ACTIVE" if is_active else b"") + b"\r\n" for name, is_active in scripts)
