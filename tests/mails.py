"""The mails of tests/corpora, and what a client puts on the wire for each of them.

Never changes what is stored: most files have bare LF line ends on disk, as their origins keep them.
"""

import re
from pathlib import Path

CORPORA = Path(__file__).parent / "corpora"
_NOT_MAILS = {"LICENSES", "README.md", "MANIFEST.tsv", ".gitattributes"}
_BARE_LF = re.compile(rb"(?<!\r)\n")
_BARE = re.compile(rb"\r(?!\n)|(?<!\r)\n")

MAILS: list[Path] = sorted(
    path for path in CORPORA.rglob("*") if path.is_file() and path.relative_to(CORPORA).parts[0] not in _NOT_MAILS
)


def name_of(path: Path) -> str:
    """The mail's name in the tests and in MANIFEST.tsv: its path below tests/corpora."""
    return path.relative_to(CORPORA).as_posix()


def as_sent(path: Path) -> bytes:
    """The octets a client sends: each line end made CRLF and the last line ended; *.raw exactly as stored."""
    octets = path.read_bytes()
    if path.suffix == ".raw":
        return octets
    octets = _BARE_LF.sub(b"\r\n", octets)
    return octets if not octets or octets.endswith(b"\r\n") else octets + b"\r\n"


def has_bare_line_ends(octets: bytes) -> bool:
    """True where a CR or LF stands alone, which RFC 5321 §2.3.8 forbids and we refuse with 550 5.6.0."""
    return _BARE.search(octets) is not None
