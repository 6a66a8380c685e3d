"""A message put together again from what IMAP gives of its parts: BODYSTRUCTURE, HEADER, MIME, TEXT and bodies."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from tests.end_to_end.imap_client import Value


@dataclass(slots=True)
class Shape:
    """One node of BODYSTRUCTURE. path is "" for the message itself; boundary is None where a multipart tells none."""

    path: str
    is_multipart: bool = False
    boundary: bytes | None = None
    size_octets: int | None = None
    children: list["Shape"] = field(default_factory=list)
    embedded: "Shape | None" = None  # the message in a message/rfc822 part


def shape(structure: Value, path: str = "") -> Shape:
    """Read a BODYSTRUCTURE (RFC 3501 §7.4.2). path: the section number of the node, "" for the message itself."""
    assert isinstance(structure, list)
    if isinstance(structure[0], list):
        children = [value for value in structure if isinstance(value, list)]
        amount = next(number for number, value in enumerate(structure) if not isinstance(value, list))
        prefix = f"{path}." if path else ""
        parameters = structure[amount + 1] if len(structure) > amount + 1 else None
        found = Shape(path, is_multipart=True, boundary=_parameter(parameters, b"BOUNDARY"))
        found.children = [shape(child, f"{prefix}{n}") for n, child in enumerate(children[:amount], 1)]
        return found
    own = path or "1"
    size = structure[6]
    assert isinstance(size, bytes)
    found = Shape(own, size_octets=int(size))
    kind = [word.upper() for word in structure[:2] if isinstance(word, bytes)]
    if kind == [b"MESSAGE", b"RFC822"] and len(structure) > 8:
        embedded = structure[8]
        assert isinstance(embedded, list)
        found.embedded = shape(embedded, own) if isinstance(embedded[0], list) else shape(embedded, f"{own}.1")
    return found


def sections(root: Shape) -> Iterator[str]:
    """Every section that assemble() needs, as in BODY.PEEK[section]."""
    yield from ("", "HEADER", "TEXT")
    waiting = [root]
    while waiting:
        node = waiting.pop()
        for child in node.children:
            yield f"{child.path}.MIME"
            yield child.path
            waiting.append(child)
        if node is root and not node.is_multipart:
            yield node.path
        if node.embedded:
            yield from (f"{node.path}.HEADER", f"{node.path}.TEXT")
            if not node.embedded.is_multipart:
                yield node.embedded.path
            waiting.append(node.embedded)


def differences(root: Shape, section: Callable[[str], bytes]) -> list[str]:
    """What does not fit together, as sentences; an empty list: the parts make up the message octet for octet."""
    found = []
    if section("HEADER") + section("TEXT") != section(""):
        found.append("HEADER and TEXT are not the message")
    found += _node(root, section, section("TEXT"))
    return found


def _node(node: Shape, section: Callable[[str], bytes], text: bytes) -> list[str]:
    """Check the node against its body `text`."""
    if node.is_multipart:
        return _multipart(node, section, text)
    found = []
    if section(node.path) != text:
        found.append(f"{node.path}: not the body")
    if node.size_octets != len(text):
        found.append(f"{node.path}: {len(text)} octets, BODYSTRUCTURE says {node.size_octets}")
    if node.embedded:
        inner = section(f"{node.path}.TEXT")
        if section(f"{node.path}.HEADER") + inner != text:
            found.append(f"{node.path}: HEADER and TEXT are not the embedded message")
        found += _node(node.embedded, section, inner)
    return found


def _multipart(node: Shape, section: Callable[[str], bytes], text: bytes) -> list[str]:
    """Between the parts there may be nothing but delimiter lines, and those need only begin with it (RFC 2046 §5.1.1)."""
    boundary = node.boundary or b""
    line = rb"--%s[^\r\n]*(?:\r\n|\Z)" % re.escape(boundary)
    first, following = re.compile(rb"(?:\A|\r\n)" + line), re.compile(rb"(?:\r\n)?" + line)
    start = first.search(text)
    if node.boundary is None or start is None or start.group().lstrip().startswith(b"--%s--" % boundary):
        # No part can be told, but RFC 3501 §9 wants one all the same: empty, or all of it.
        body = b"".join(section(child.path) for child in node.children)
        is_told = len(node.children) == 1 and body in (b"", text)
        return [] if is_told else [f"{node.path or 'message'}: parts without a delimiter line"]
    found = []
    position = 0
    for child in node.children:
        body = section(child.path)
        delimiter = following.match(text, position) if position else start
        octets = section(f"{child.path}.MIME") + body
        if delimiter is None:
            found.append(f"{child.path}: no delimiter line before it")
        elif not text.startswith(octets, delimiter.end()):
            found.append(f"{child.path}: MIME and body are not what follows the delimiter line")
        else:
            position = delimiter.end() + len(octets)
        found += _node(child, section, body)
    rest = text[position:].removeprefix(b"\r\n")
    if not found and rest and not rest.startswith(b"--%s--" % boundary):
        found.append(f"{node.path or 'message'}: {len(rest)} octets after the last part that no close-delimiter begins")
    return found


def _parameter(parameters: Value, name: bytes) -> bytes | None:
    if not isinstance(parameters, list):
        return None
    for key, value in zip(parameters[::2], parameters[1::2], strict=False):
        if isinstance(key, bytes) and key.upper() == name and isinstance(value, bytes):
            return value
    return None
