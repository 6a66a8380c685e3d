"""Searchable text."""

from protocol.message.mime import Buffer, Part


def header_text(header: bytes, name: bytes | None) -> str:
    """Give the decoded (RFC 2047) text of all fields called name, or of the whole header section for None."""
    raise NotImplementedError


def searchable(octets: Buffer, part: Part) -> tuple[str, str]:
    """Give (header text, body text) of a message, decoded, for substring search."""
    raise NotImplementedError
