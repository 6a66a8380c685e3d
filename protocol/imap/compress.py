"""COMPRESS, RFC 4978 §3: the command and its grammar (§5). The streams themselves are the daemon's matter."""

from dataclasses import dataclass

from protocol.imap.command import Command
from protocol.imap.cursor import Cursor, expect_atom


@dataclass(frozen=True, slots=True)
class Compress(Command):
    """COMPRESS, RFC 4978 §3."""

    algorithm: bytes  # in upper case


# compress = "COMPRESS" SP algorithm
def expect_compress(cursor: Cursor, tag: bytes) -> Compress:
    """What follows the command's name."""
    cursor.expect_space()
    return Compress(tag, expect_atom(cursor).upper())
