"""A message as tests and editing commands see it: header fields decoded once each, parts found when asked for."""

import mmap
from collections.abc import Callable, Hashable, Iterator, Sequence

from protocol.message import address_list, header, mime, text, words
from protocol.message.address_list import Address

_WHITE = " \t\r\n"

Path = tuple[int, ...]


class View:
    """A part, or the message: its header fields and where it lies."""

    __slots__ = ("_addresses", "_bodies", "_fields", "_texts", "octets", "part", "remembered")

    def __init__(self, octets: bytes | mmap.mmap, part: mime.Part | None, fields: list[header.RawField]) -> None:
        self.octets = octets
        self.part = part
        self._fields = fields
        self._bodies: dict[bytes, list[bytes]] | None = None
        self._texts: dict[str, list[str]] = {}
        self.remembered: dict[Hashable, list[str]] = {}  # what others work out of it
        self._addresses: dict[str, list[list[Address]]] = {}

    def texts(self, name: str) -> list[str]:
        """The values of all fields of that name, decoded, without white space around them, RFC 5228 §5.7."""
        found = self._texts.get(name)
        if found is None:
            bodies = self.bodies(name)
            found = self._texts[name] = [field_value(body) for body in bodies] if bodies else []
        return found

    def bodies(self, name: str) -> list[bytes]:
        """The same as octets, not decoded."""
        if self._bodies is None:
            self._bodies = {}
            for field, body, _ in self._fields:
                self._bodies.setdefault(field, []).append(body)
        return self._bodies.get(name.upper().encode("utf-8", "surrogateescape"), [])

    def addresses(self, name: str) -> list[Address]:
        """The addresses in all fields of that name. Groups are gone, what is no address has no host."""
        return [address for field in self.addresses_by_field(name) for address in field]

    def addresses_by_field(self, name: str) -> list[list[Address]]:
        """The same, those of each field apart."""
        found = self._addresses.get(name)
        if found is None:
            fields = [address_list.parse(body) for body in self.bodies(name)]
            found = self._addresses[name] = [[each for each in field if each.host is not None] for field in fields]
        return found

    def has(self, name: str) -> bool:
        """Whether there is such a field."""
        return bool(self.bodies(name))

    @property
    def fields(self) -> Sequence[header.RawField]:
        """All fields, as protocol.message.header reads them."""
        return self._fields

    @property
    def body(self) -> bytes:
        """The body, encoded as it is."""
        if self.part is None:
            return b""
        return bytes(self.octets[self.part.body_start : self.part.end])


def field_value(body: bytes) -> str:
    """The text of a field body, without white space around it, RFC 5228 §5.7."""
    return words.decode(body).strip(_WHITE)


def view_of(octets: bytes | mmap.mmap, part: mime.Part) -> View:
    """The view of a part."""
    section = bytes(octets[part.header_start : part.body_start])
    return View(octets, part, header.read(section.rstrip(b"\r\n") + b"\r\n" if section.strip() else b""))


class Message:
    """The message of a run. Editing makes another one of it, in the same object."""

    def __init__(self, octets: bytes | mmap.mmap) -> None:
        self._octets: bytes | mmap.mmap = octets
        self._fields: list[header.RawField] | None = None  # when they are newer than the octets
        self._root: mime.Part | None = None
        self._view: View | None = None
        self._views: dict[Path, View] = {}
        self.is_edited = False
        self._copied = 0
        end = _end_of_header(octets)
        self._section = bytes(octets[:end])
        self._body_start = end

    @property
    def view(self) -> View:
        """Header fields of the message. Its part is there when `scan` was called."""
        if self._view is None:
            section = self._section
            self._view = View(self._octets, None, header.read(section))
        return self._view

    @property
    def size(self) -> int:
        """Octets, RFC 5228 §5.9."""
        return len(self.octets)

    @property
    def octets(self) -> bytes | mmap.mmap:
        """The whole message, edits included."""
        if self._fields is not None:
            rest = self._octets[self._body_start :]
            self._section = b"".join(lines for _, _, lines in self._fields)
            self._octets = self._section + rest
            self._body_start = len(self._section)
            self._fields = None
            self._copied += len(self._octets)
        return self._octets

    def take_copied(self) -> int:
        """Octets that edits have copied since this was asked last."""
        copied, self._copied = self._copied, 0
        return copied

    @property
    def edited(self) -> bytes | None:
        """The octets when they are not those that came in."""
        return bytes(self.octets) if self.is_edited else None

    def root(self) -> View:
        """The message as the root of its parts."""
        octets = self.octets
        if self._root is None:
            self._root = mime.scan(octets)
            self._view = View(octets, self._root, list(self.view.fields))
        return self.view

    def at(self, path: Path) -> View | None:
        """The part at that path: () is the message, (1, 0) the first part of its second one."""
        view = self._views.get(path)
        if view is not None:
            return view
        root = self.root()
        part = root.part
        for index in path:
            if part is None or index >= len(part.children):
                return None
            part = part.children[index]
        if part is None:
            return None
        view = self._views[path] = root if not path else view_of(root.octets, part)
        return view

    def replace(self, octets: bytes) -> None:
        """Become another message."""
        copied = self._copied
        self.__init__(octets)  # type: ignore[misc]
        self.is_edited = True
        self._copied = copied + len(octets)

    def edit(self, change: Callable[[list[header.RawField]], list[header.RawField]]) -> None:
        """Change the header fields."""
        fields = change(list(self.view.fields))
        self._fields = fields
        self._root = None
        self._views = {}
        self._view = View(self._octets, None, fields)
        self.is_edited = True


def descendants(view: View, limit: int = 1000) -> Iterator[View]:
    """The part itself and all within it, in order, the first `limit` of them."""
    waiting = [view.part] if view.part is not None else []
    while waiting and limit > 0:
        limit -= 1
        part = waiting.pop()
        yield view if part is view.part else view_of(view.octets, part)
        waiting.extend(reversed(part.children))


def paths_below(part: mime.Part, path: Path, limit: int = 1000) -> list[Path]:
    """The paths of all parts within this one, in order."""
    found: list[Path] = []
    waiting = [(child, (*path, at)) for at, child in reversed(list(enumerate(part.children)))]
    while waiting and len(found) < limit:
        each, where = waiting.pop()
        found.append(where)
        waiting.extend((child, (*where, at)) for at, child in reversed(list(enumerate(each.children))))
    return found


def part_text(view: View) -> str:
    """The text of a text part, its markup gone."""
    return "" if view.part is None else text.part_text(view.octets, view.part)


def _end_of_header(octets: bytes | mmap.mmap) -> int:
    """Where the blank line behind the header section begins."""
    if octets[:2] == b"\r\n" or octets[:1] == b"\n":
        return 0
    at = octets.find(b"\r\n\r\n", 0, header.MAX_HEADER_OCTETS)
    bare = octets.find(b"\n\n", 0, at + 2 if at >= 0 else header.MAX_HEADER_OCTETS)
    if bare >= 0:
        return bare + 1
    return at + 2 if at >= 0 else len(octets)
