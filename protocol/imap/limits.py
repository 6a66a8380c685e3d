"""The limits of one IMAP conversation. They are parameters of the reading, not later checks; the daemon fills them from config."""

from dataclasses import dataclass

KIB = 1024
MIB = 1024 * KIB


@dataclass(frozen=True, slots=True)
class Limits:
    """What one command may cost. Each field says what is answered when it is exceeded; "ours" is a limit no RFC names."""

    line_octets: int = 64 * KIB
    """One line without its CRLF; RFC 7162 §4 asks for 8192 at least. BAD "command line too long"."""
    literal_octets: int = 64 * KIB
    """One literal that is not a message (ours). BAD "literal too large"."""
    command_octets: int = 256 * KIB
    """All lines and literals of one command, messages not counted (ours). BAD "command too large"."""
    append_octets: int = 28 * MIB
    """A message given to APPEND. NO [TOOBIG] (RFC 4469)."""
    discard_octets: int = 64 * MIB
    """What a refused command may still send before the connection ends with BYE (RFC 7888 §4 leaves the choice)."""
    nesting: int = 64
    """Parentheses, NOT and OR within each other (ours). BAD "nested too deeply"."""
    section_parts: int = 128
    """Part numbers of one section (ours; protocol.message shows messages down to level 100). BAD "nested too deeply"."""
    list_items: int = 1024
    """Elements of all parenthesised lists, and search keys, of one command (ours). BAD "too many arguments"."""
    pending_events: int = 1024
    """Commands read ahead of the one being answered (ours). What comes behind them waits to be read."""
    set_ranges: int = 16384
    """Comma-separated parts of one sequence set (ours). BAD "too many ranges in the sequence set"."""
