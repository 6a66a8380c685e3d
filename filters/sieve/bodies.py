"""The body test: RFC 5173."""

import re
from collections.abc import Callable, Sequence

from filters.sieve.building import Builder
from filters.sieve.message import View, descendants, part_text
from filters.sieve.state import Check, Run
from protocol.message import words
from protocol.message.header import unfold
from protocol.message.text import decode_body
from protocol.sieve.validation import Node

_ENCODINGS = frozenset({b"7bit", b"8bit", b"binary", b"base64", b"quoted-printable"})
_MEDIA_TYPE = re.compile(rb"\s*(?:[^\s;/]+\s*/\s*[^\s;/]+\s*(?:[;(\s]|\Z)|\Z|[^/]*(?:;|\Z))")


def body(builder: Builder, node: Node) -> Check:
    """`body`: :raw, :content with a list of media types, :text. Sets no match variables, RFC 5173 §6."""
    matches = builder.matcher(node, node.positional[0])
    read = _reader(builder, node)

    def check(run: Run) -> bool:
        before = run.match
        values = read(run)
        found = matches(run, values)
        run.match = before
        return found

    return check


def _reader(builder: Builder, node: Node) -> Callable[[Run], Sequence[str]]:
    if "raw" in node.options:
        return lambda run: _remembered(run, ("raw",), _raw)
    if "content" in node.options:
        types = builder.texts(node.options["content"])
        return lambda run: _of_types(run, tuple(each.lower() for each in types(run)))
    return lambda run: _remembered(run, ("text",), _texts)


def _of_types(run: Run, types: tuple[str, ...]) -> Sequence[str]:
    return _remembered(run, ("content", *types), lambda run: _contents(run, types))


def _remembered(run: Run, key: tuple[str, ...], read: Callable[[Run], list[str]]) -> Sequence[str]:
    """What was read of this message before, or is now: as much as the limit allows."""
    known = run.shared.message.root().remembered
    found = known.get(key)
    if found is None:
        left, found = run.shared.limits.body_octets, []
        for text in read(run) if _has_body(run) else ():
            found.append(text[:left])
            left = max(left - len(text), 0)
        run.spend(run.shared.message.size // 4096)
        known[key] = found
    return found


def _has_body(run: Run) -> bool:
    part = run.shared.message.root().part
    return part is not None and part.body_start < run.shared.message.size


def _raw(run: Run) -> list[str]:
    view = run.shared.message.root()
    start = view.part.body_start if view.part is not None else 0
    return [_text(bytes(view.octets[start : start + run.shared.limits.body_octets]))]


def _texts(run: Run) -> list[str]:
    return [part_text(view) for view in descendants(run.shared.message.root()) if _is_text(view)]


def _is_text(view: View) -> bool:
    """Whether this is a part to read: text, of a type and an encoding that are known (RFC 2045 §6.4)."""
    part = view.part
    if part is None or part.children or not part.is_text:
        return False
    encodings = [unfold(body).strip().lower() for body in view.bodies("content-transfer-encoding")[:1]]
    return all(each in _ENCODINGS for each in encodings) and _has_type(view)


def _has_type(view: View) -> bool:
    """Whether the media type is well-formed, or absent; `text/plain/stupid` is of no type, RFC 5173 §5.2."""
    return all(_MEDIA_TYPE.match(body) for body in view.bodies("content-type")[:1])


def _around(view: View) -> list[str]:
    """What stands before and behind the parts of a multipart, without delimiter lines."""
    part = view.part
    if part is None:
        return []
    if not part.children:
        return [_text(view.body)]
    before = bytes(view.octets[part.body_start : part.children[0].header_start])
    at = b"\n".join([b"", before]).rfind(b"\n--")
    behind = bytes(view.octets[part.children[-1].end : part.end]).lstrip(b"\r\n")
    return [_text(before[: max(at, 0)]), _text(behind.partition(b"\n")[2] if behind.startswith(b"--") else behind)]


def _contents(run: Run, types: Sequence[str]) -> list[str]:
    """The texts of the parts of these types, RFC 5173 §5.2: "" is all, "text" all of text/*, "text/html" that one."""
    found: list[str] = []
    for view in descendants(run.shared.message.root()):
        part = view.part
        if part is None or not _has_type(view):
            continue
        kind, subtype = part.type.decode("latin-1").lower(), part.subtype.decode("latin-1").lower()
        if not any(_fits(wanted, kind, subtype) for wanted in types):
            continue
        if part.is_multipart:  # prologue and epilogue
            found.extend(_around(view))
        elif part.is_message:  # its header
            child = part.children[0]
            found.append(_text(bytes(view.octets[child.header_start : child.body_start]).removesuffix(b"\r\n")))
        elif part.is_text:
            found.append(words.decode_octets(decode_body(view.octets, part), _charset(part.parameters)))
        else:
            found.append(_text(decode_body(view.octets, part)))
    return found


def _charset(parameters: Sequence[tuple[bytes, bytes]]) -> bytes | None:
    return next((value for name, value in parameters if name.lower() == b"charset"), None)


def _text(octets: bytes) -> str:
    return octets.decode("utf-8", "surrogateescape")


def _fits(wanted: str, kind: str, subtype: str) -> bool:
    if not wanted:
        return True
    major, slash, minor = wanted.partition("/")
    if slash and (not major or not minor or "/" in minor):
        return False  # RFC 5173 §5.2: such a type matches nothing
    return major == kind and (not slash or minor == subtype)


TESTS = {"body": body}
