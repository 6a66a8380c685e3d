"""ENVELOPE and BODYSTRUCTURE."""

from protocol.message.mime import Buffer, Part


def render_envelope(octets: Buffer, part: Part) -> bytes:
    """Render the ENVELOPE of the message whose root is part, with its outer parentheses."""
    raise NotImplementedError


def render_bodystructure(part: Part) -> bytes:
    """Render BODYSTRUCTURE with its outer parentheses."""
    raise NotImplementedError


def body_of(bodystructure: bytes) -> bytes:
    """Derive BODY (no extension data) from a rendered BODYSTRUCTURE."""
    raise NotImplementedError


def pack(part: Part) -> bytes:
    """Serialise a tree of parts."""
    raise NotImplementedError


def unpack(packed: bytes) -> Part:
    """Give back the tree that pack() serialised."""
    raise NotImplementedError
