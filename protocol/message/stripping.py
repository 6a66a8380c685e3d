"""Parts taken out of a message, a notice left in their place: all other octets stay as they are, and where they are.

The part keeps its header but for the fields that spoke of its body, so that what refers to it by Content-ID still finds it; a
message that is no multipart keeps the whole of its own header that way.
"""

import binascii
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from protocol.message.documents import document_name
from protocol.message.header import select_fields
from protocol.message.mime import Buffer, Part
from protocol.message.transfer import UnknownEncodingError, decode, decoder_of

PartPath = tuple[int, ...]  # as an IMAP section names a part, RFC 3501 §6.4.5
Cause = Literal["virus", "attachment", "encrypted"]
Language = Literal["en", "de"]

_OF_BODY = frozenset(
    {
        b"CONTENT-TYPE",
        b"CONTENT-TRANSFER-ENCODING",
        b"CONTENT-DISPOSITION",
        b"CONTENT-DESCRIPTION",
        b"CONTENT-MD5",
        b"CONTENT-LANGUAGE",
        b"CONTENT-LOCATION",
        b"CONTENT-DURATION",
        b"CONTENT-FEATURES",
    }
)
_MIME_VERSION = b"MIME-VERSION"
_PIECE_OCTETS = 1 << 20
_NAME_CHARACTERS = 100

_WORDS: Mapping[Language, tuple[str, str, Mapping[Cause, str], str]] = {
    "en": (
        "The attachment “{name}” was removed from this message",
        "A part of this message was removed",
        {
            "virus": "because it holds a virus:\n\n  {found}",
            "attachment": "because files of its kind are not allowed here:\n\n  {found}",
            "encrypted": "because it is encrypted and cannot be checked for viruses:\n\n  {found}",
        },
        "The rest of the message is unchanged. The original is kept in the encrypted archive only, where your\n"
        "administrator can find it as {reference}. Ask the sender if you need the file.",
    ),
    "de": (
        "Die Anlage „{name}“ wurde aus dieser Nachricht entfernt,",
        "Ein Teil dieser Nachricht wurde entfernt,",
        {
            "virus": "weil sie einen Virus enthält:\n\n  {found}",
            "attachment": "weil Dateien dieser Art hier nicht erlaubt sind:\n\n  {found}",
            "encrypted": "weil sie verschlüsselt ist und nicht auf Viren geprüft werden kann:\n\n  {found}",
        },
        "Der Rest der Nachricht ist unverändert. Das Original liegt nur noch im verschlüsselten Archiv, wo Ihr\n"
        "Administrator es als {reference} findet. Fragen Sie den Absender, wenn Sie die Datei brauchen.",
    ),
}


@dataclass(frozen=True, slots=True)
class Notice:
    """What stands in place of a part."""

    cause: Cause
    found: str  # the name of the virus, or the kind of file
    language: Language
    reference: str  # under which the original can be found


def leaves(root: Part) -> Iterator[tuple[PartPath, Part]]:
    """The parts of a message that can be taken out, in the order of their octets.

    A message within message/rfc822 is gone into, unless it is encoded (which RFC 2045 §6.4 forbids): its octets are not its parts'.
    """
    yield from _of_message(root, ())


def body(octets: Buffer, part: Part) -> bytes:
    """The content of a leaf, its encoding undone; as it stands when the encoding is unknown."""
    encoded = octets[part.body_start : part.end]
    try:
        return decode(encoded, part.encoding)
    except UnknownEncodingError:
        return encoded


def strip(octets: Buffer, root: Part, notices: Mapping[PartPath, Notice]) -> Iterator[bytes]:
    """The message in pieces, with notices in place of the leaves that they are for. A path without octets does nothing."""
    at = 0
    for path, part in leaves(root):
        notice = notices.get(path)
        if notice is None or part.header_start == part.end:
            continue
        yield from _pieces(octets, at, part.header_start)
        yield _header(octets, part, notice.language, is_root=part is root)
        # A part without a blank line reaches up to the delimiter's first octet: there its line end is the notice's to bring.
        is_line = part.end == len(octets) or octets[part.end - 1 : part.end] == b"\n"
        text = _text(notice, document_name(part))
        yield text if is_line else text.removesuffix(b"\r\n")
        at = part.end
    yield from _pieces(octets, at, len(octets))


def _of_message(root: Part, path: PartPath) -> Iterator[tuple[PartPath, Part]]:
    if root.is_multipart and root.children:
        for number, child in enumerate(root.children, 1):
            yield from _of_part(child, (*path, number))
    else:
        yield from _of_part(root, (*path, 1))


def _of_part(part: Part, path: PartPath) -> Iterator[tuple[PartPath, Part]]:
    if part.is_multipart and part.children:
        for number, child in enumerate(part.children, 1):
            yield from _of_part(child, (*path, number))
    elif part.is_message and not _is_encoded(part):
        yield from _of_message(part.children[0], path)
    else:
        yield path, part


def _is_encoded(part: Part) -> bool:
    try:
        return decoder_of(part.encoding) is not None
    except UnknownEncodingError:
        return True


def _header(octets: Buffer, part: Part, language: Language, *, is_root: bool) -> bytes:
    before = octets[part.header_start : part.body_start]
    kept = select_fields(before, _OF_BODY, negate=True).removesuffix(b"\r\n")
    if is_root and select_fields(before, frozenset({_MIME_VERSION})) == b"\r\n":
        kept += b"MIME-Version: 1.0\r\n"
    return kept + (
        b"Content-Type: text/plain; charset=utf-8\r\n"
        b"Content-Transfer-Encoding: quoted-printable\r\n"
        b"Content-Language: %b\r\n\r\n" % language.encode()
    )


def _text(notice: Notice, name: str) -> bytes:
    named, unnamed, causes, closing = _WORDS[notice.language]
    opening = named.format(name=_shown(name)) if _shown(name) else unnamed
    cause = causes[notice.cause].format(found=_shown(notice.found))
    text = f"{opening}\n{cause}\n\n{closing.format(reference=notice.reference)}\n"
    return binascii.b2a_qp(text.replace("\n", "\r\n").encode("utf-8", "replace"))


def _shown(text: str) -> str:
    """What others named, on one line."""
    return "".join(character for character in text if character.isprintable())[:_NAME_CHARACTERS].strip()


def _pieces(octets: Buffer, start: int, end: int) -> Iterator[bytes]:
    for at in range(start, end, _PIECE_OCTETS):
        yield octets[at : min(end, at + _PIECE_OCTETS)]
