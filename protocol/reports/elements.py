"""XML as a tree of elements and their text, for documents of strangers.

expat itself, which the standard library has, with handlers of our own: a document type is refused before anything in it is read,
so there are no entities to expand or to fetch, and depth and number of elements are bounded while the document is read. A package
like defusedxml does the same, around a tree builder that we do not need. Attributes, comments and processing instructions are
passed over; prefixes of names are dropped.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from xml.parsers import expat

from protocol.reports import ReportError

DEPTH_LIMIT = 16  # ours; DMARC reports have 6
ELEMENT_LIMIT = 500_000  # ours; about 30 for each source of a report


@dataclass(slots=True)
class Element:
    """One element. text is what stands directly in it, without white space around."""

    name: str
    text: str = ""
    children: list["Element"] = field(default_factory=list)

    def find(self, *path: str) -> "Element | None":
        """The first child of that name, its first child of the next name, and so on."""
        found: Element | None = self
        for name in path:
            found = next(found.all(name), None) if found is not None else None
        return found

    def all(self, name: str) -> Iterator["Element"]:
        """The children of that name."""
        return (child for child in self.children if child.name == name)

    def value(self, *path: str) -> str:
        """The text of find(); "" without one."""
        found = self.find(*path)
        return "" if found is None else found.text


class _Builder:
    """What the handlers of one document work on."""

    def __init__(self) -> None:
        self.root: Element | None = None
        self._open: list[Element] = []
        self._texts: list[list[str]] = []
        self._count = 0

    def start(self, name: str, _attributes: object) -> None:
        self._count += 1
        if self._count > ELEMENT_LIMIT or len(self._open) >= DEPTH_LIMIT:
            raise ReportError("XML: too many elements, or too deep")
        element = Element(name.rpartition(":")[2])
        if self._open:
            self._open[-1].children.append(element)
        else:
            self.root = element
        self._open.append(element)
        self._texts.append([])

    def end(self, _name: str) -> None:
        self._open.pop().text = "".join(self._texts.pop()).strip()

    def characters(self, text: str) -> None:
        if self._texts:
            self._texts[-1].append(text)


def parse(octets: bytes) -> Element:
    """The root element. Raises ReportError."""
    builder = _Builder()
    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartElementHandler = builder.start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.characters
    parser.StartDoctypeDeclHandler = _refuse
    parser.EntityDeclHandler = _refuse
    try:
        parser.Parse(octets.removeprefix(b"\xef\xbb\xbf").lstrip(), True)
    except ReportError:
        raise
    except (expat.ExpatError, ValueError, LookupError, TypeError) as error:  # the latter three: odd encodings
        raise ReportError("XML: not well-formed") from error
    if builder.root is None:
        raise ReportError("XML: empty")
    return builder.root


def _refuse(*_declaration: object) -> None:
    raise ReportError("XML: with a document type")
