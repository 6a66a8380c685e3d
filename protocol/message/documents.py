"""The text of attachments, for FUZZY: Office and OpenDocument files, PDF, RTF, HTML. For search: nothing is laid out.

To be called where hostile octets may do no harm: in a process of its own, with limits to its time and memory
(daemons/archiver/extraction.py). What cannot be read gives no text, or what was read until then.
"""

import re
import zipfile
from collections.abc import Callable, Iterator
from io import BytesIO
from xml.parsers import expat

from protocol.message.mime import Buffer, Part
from protocol.message.text import decode_body, strip_html
from protocol.message.words import decode_octets, decode_parameter, storable

MAX_PAGES = 500  # of a PDF
MAX_MEMBERS = 1000  # of an archive that are read, and most that are looked at in its directory times ten
_PIECE = 64 << 10  # octets unpacked at once
_RATIO = 200  # of unpacked to packed octets of one member; a zip bomb has a thousand

# Elements behind which a word ends, by local name: paragraphs, cells, line breaks, rows. Not t: a word may be cut into several.
_BREAKS = frozenset(
    {"p", "br", "tab", "cr", "tc", "tr", "si", "row", "c", "h", "table-cell", "line-break", "list-item"}
)
_SILENT = frozenset({"instrText", "delText"})  # field codes, and what was deleted with changes tracked
_RTF_CONTROL = re.compile(
    r"\\'([0-9a-fA-F]{2})|\\u(-?\d{1,6}) ?\??|\\(par|line|tab|cell|row)\b ?|\\[a-zA-Z]+-?\d* ?|\\\*|[{}\r\n]"
)

Reader = Callable[[bytes, int], Iterator[str]]


def document_name(part: Part) -> str:
    """The file name of an attachment as its sender gave it; "" without one."""
    if part.disposition is not None and (name := decode_parameter(part.disposition[1], b"filename")):
        return name
    return decode_parameter(part.parameters, b"name") or ""


def documents(part: Part) -> Iterator[Part]:
    """The leaves of a message that document_text() may read."""
    for child in part.children:
        yield from documents(child)
    if not part.children and not part.is_text and _reader(part) is not None:
        yield part


def document_text(octets: Buffer, part: Part, most: int) -> str:
    """The text of one leaf that documents() gave, at most `most` characters. Raises nothing."""
    reader = _reader(part)
    assert reader is not None
    pieces: list[str] = []
    length = 0
    try:
        for piece in reader(decode_body(octets, part), most):
            pieces.append(piece)
            length += len(piece)
            if length >= most:
                break
    except Exception:  # noqa: S110  # bad octets make other people's parsers raise anything; what was read until then counts
        pass
    return storable(" ".join(pieces))[:most]


def _zipped_xml(octets: bytes, most: int, wanted: re.Pattern[str]) -> Iterator[str]:
    with zipfile.ZipFile(BytesIO(octets)) as archive:
        members = [member for member in archive.infolist()[: 10 * MAX_MEMBERS] if wanted.fullmatch(member.filename)]
        for member in members[:MAX_MEMBERS]:
            bound = min(member.compress_size * _RATIO + _PIECE, 16 * most)
            with archive.open(member) as file:
                yield from _xml_text(iter(lambda: file.read(_PIECE), b""), bound)  # used up before the next


def _xml_text(pieces: Iterator[bytes], bound: int) -> Iterator[str]:
    """The character data of XML. A document type is refused: no entity that expands is read."""
    found: list[str] = []
    silent: list[str] = []  # elements that are open and not to be read, by local name

    def start(name: str, attributes: dict[str, str]) -> None:
        local = name.rpartition(":")[2]
        if local in _SILENT or (
            local == "c" and attributes.get("t") == "s"
        ):  # a cell that holds the number of a string
            silent.append(local)

    def end(name: str) -> None:
        local = name.rpartition(":")[2]
        if silent and silent[-1] == local:
            silent.pop()
        if local in _BREAKS:
            found.append("\n")

    def characters(text: str) -> None:
        if not silent:
            found.append(text)

    def refuse(*_: object) -> None:
        raise ValueError("a document type")

    parser = expat.ParserCreate()
    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.CharacterDataHandler, parser.StartDoctypeDeclHandler = characters, refuse
    read = 0
    try:
        for piece in pieces:
            parser.Parse(piece, False)
            if found:
                yield "".join(found)
                found.clear()
            read += len(piece)
            if read > bound:
                return
    except expat.ExpatError:
        yield "".join(found)


def _office(octets: bytes, most: int) -> Iterator[str]:
    return _zipped_xml(octets, most, _OFFICE_MEMBERS)


def _open_document(octets: bytes, most: int) -> Iterator[str]:
    return _zipped_xml(octets, most, _OPEN_MEMBERS)


def _pdf(octets: bytes, most: int) -> Iterator[str]:
    if b"%PDF-" not in octets[:1024]:  # ISO 32000-1, implementation note 13; pypdf would look long for the end first
        return
    from pypdf import PdfReader  # a tenth of a second, which only who meets a PDF pays

    reader = PdfReader(BytesIO(octets))
    if reader.is_encrypted and not reader.decrypt(""):
        return
    for page in reader.pages[:MAX_PAGES]:
        yield page.extract_text()


def _rtf(octets: bytes, most: int) -> Iterator[str]:
    yield _RTF_CONTROL.sub(_rtf_character, octets[: 4 * most].decode("cp1252", "replace"))


def _rtf_character(found: re.Match[str]) -> str:
    if found[1]:
        return bytes.fromhex(found[1]).decode("cp1252", "replace")
    if found[2]:
        return chr(int(found[2]) % 65536)
    return "\n" if found[3] else ""


def _html(octets: bytes, most: int) -> Iterator[str]:
    yield strip_html(decode_octets(octets[: 4 * most], None))


def _plain(octets: bytes, most: int) -> Iterator[str]:
    yield decode_octets(octets[: 4 * most], None)


_OFFICE_MEMBERS = re.compile(
    r"word/(?:document|footnotes|endnotes|comments|header\d*|footer\d*)\.xml|xl/sharedStrings\.xml"
    r"|xl/worksheets/sheet\d+\.xml|ppt/(?:slides|notesSlides)/[a-zA-Z]+\d+\.xml"
)
_OPEN_MEMBERS = re.compile(r"content\.xml")
_READERS: dict[str, Reader] = {
    **dict.fromkeys(("docx", "docm", "dotx", "xlsx", "xlsm", "pptx", "pptm", "ppsx"), _office),
    **dict.fromkeys(("odt", "ods", "odp", "odg", "ott", "ots"), _open_document),
    **dict.fromkeys(("pdf",), _pdf),
    **dict.fromkeys(("rtf",), _rtf),
    **dict.fromkeys(("html", "htm", "xhtml"), _html),
    **dict.fromkeys(("txt", "csv", "tsv", "md", "log", "json", "ics", "vcf"), _plain),
}
_TYPES: tuple[tuple[bytes, Reader], ...] = (
    (b"application/vnd.openxmlformats-officedocument.", _office),
    (b"application/vnd.oasis.opendocument.", _open_document),
    (b"application/pdf", _pdf),
    (b"application/x-pdf", _pdf),
    (b"application/rtf", _rtf),
    (b"application/xhtml+xml", _html),
    (b"application/json", _plain),
)


def _reader(part: Part) -> Reader | None:
    """By type, else by the end of the name: application/octet-stream says nothing, and is what many senders write."""
    media_type = (part.type + b"/" + part.subtype).lower()
    for start, reader in _TYPES:
        if media_type.startswith(start):
            return reader
    return _READERS.get(document_name(part).rpartition(".")[2].lower())
