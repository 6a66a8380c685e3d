"""Fuzz targets of messages: the MIME tree and what is rendered of it, texts, fields, threading, attached documents."""

from contextlib import suppress

from protocol.message import (
    address_list,
    body_of,
    content,
    dates,
    downgrade,
    extent,
    pack,
    parse,
    preview,
    scan,
    sorting,
    stems,
    transfer,
    unpack,
    words,
)
from protocol.message import documents as attached
from protocol.message import header as fields
from protocol.message import text as texts
from protocol.message import threads as threading
from protocol.message.mime import Part
from protocol.message.structure import render_bodystructure
from tests.feeding import cut
from tests.protocol.message.imap_lists import one
from tests.protocol.message.nesting import all_parts, assert_nested
from tests.protocol.message.test_threads import nested
from tests.protocol.message.threading_by_steps import by_steps

_TYPES = (
    (b"application", b"vnd.openxmlformats-officedocument.wordprocessingml.document"),
    (b"application", b"vnd.oasis.opendocument.text"),
    (b"application", b"rtf"),
    (b"application", b"xhtml+xml"),
    (b"application", b"json"),
    (b"application", b"pdf"),
)
_MOST = 5000


def message(octets: bytes) -> None:
    """Every message has a tree whose parts are nested, an ENVELOPE of ten items and a BODYSTRUCTURE, and all read back."""
    parsed, root = parse(octets), scan(octets)
    assert_nested(root, len(octets))
    assert len(one(parsed.envelope)) == 10
    assert one(parsed.bodystructure) == one(render_bodystructure(root))
    assert len(one(body_of(parsed.bodystructure))) < len(one(parsed.bodystructure))
    assert unpack(pack(root)) == root == unpack(parsed.structure)
    keys = sorting.unpack(parsed.sorting)
    assert keys is not None
    assert sorting.keys_of_header(octets[: root.body_start]).message_id == keys.message_id
    assert extent(root, (), "") == (0, len(octets))
    assert extent(root, (), "HEADER") == (0, root.body_start)
    for piece in (parsed.envelope, parsed.bodystructure):
        assert b"\0" not in piece
    assert "\0" not in parsed.subject
    parsed.subject.encode()


def text(octets: bytes) -> None:
    """What is shown, searched, previewed and downgraded of any message can be stored and sent."""
    root = scan(octets)
    for found in texts.searchable(octets, root):
        assert "\0" not in found
        assert len(texts.canonical(found).encode()) <= 40 * len(found) + 40
    shown = preview.preview(octets, root)
    stems.word_sections(octets[: root.body_start], shown, shown)
    assert len(shown) <= 200
    assert not set(shown) & {"\r", "\n", "\0"}
    shown.encode()
    ranges = downgrade.header_ranges(root)
    whole = downgrade.Surrogate(ranges)
    sent = whole.feed(octets) + whole.end()
    pieces = downgrade.Surrogate(ranges)
    assert b"".join([pieces.feed(piece) for piece in cut(octets, 5)]) + pieces.end() == sent
    with suppress(transfer.UnknownEncodingError):
        assert b"\0" not in b"".join(transfer.without_nul(octets, root))
    for part in all_parts(root):
        _decode(octets[part.body_start : part.end], part.encoding)


def _decode(body: bytes, encoding: bytes | None) -> None:
    try:
        whole, decoder = transfer.decode(body, encoding), transfer.decoder_of(encoding)
    except transfer.UnknownEncodingError:
        return
    if decoder is not None:
        assert b"".join([decoder.feed(piece) for piece in cut(body, 3)]) + decoder.finish() == whole


def header(octets: bytes) -> None:
    """Each parser of a field's body takes any octets, and what it gives can be stored."""
    for found in fields.read(octets):
        fields.unfold(found[1])
    for name in (b"SUBJECT", b"X"):
        fields.select_fields(octets, frozenset((name,)))
        assert "\0" not in texts.header_text(octets, None)
    decoded = words.decode(octets)
    decoded.encode()
    for address in address_list.parse(octets):
        repr(address)
    dates.parse(octets)
    kind = content.content_type(octets)
    words.decode_parameter(kind.parameters, b"name")
    content.disposition(octets)
    content.transfer_encoding(octets)
    content.languages(octets)
    base, _ = sorting.base_subject(decoded)
    assert len(base) <= len(decoded)
    assert sorting.base_subject(base)[0] == base
    keys = sorting.keys_of_header(octets)
    assert sorting.unpack(sorting.pack(keys)) == keys
    assert downgrade.downgrade(octets).isascii() or not _is_utf8(octets)


def _is_utf8(octets: bytes) -> bool:
    try:
        octets.decode()
    except UnicodeDecodeError:
        return False
    return True


def threads(octets: bytes) -> None:
    """Any references, in loops or not, give every message once, and what the algorithm by steps gives."""
    lines = [line[:12] for line in octets.split(b"\n")[:24]]
    mailbox = threading.Messages(
        [line[0] if line else 0 for line in lines],
        [line[1] if len(line) > 1 else 0 for line in lines],
        [line[2:3] for line in lines],
        [bool(line[:1] > b"\x80") for line in lines],
        [line[3] % 16 if len(line) > 3 else 0 for line in lines],
        [tuple(octet % 16 or 1 for octet in line[4:]) for line in lines],
    )
    for algorithm in threading.ALGORITHMS.values():
        forest = algorithm(mailbox)
        told = threading.render(forest, range(1, len(lines) + 1))
        numbers = told.replace(b"(", b" ").replace(b")", b" ").split()
        assert sorted(map(int, numbers)) == list(range(1, len(lines) + 1))
    assert nested(threading.references(mailbox)) == by_steps(mailbox)


def documents(octets: bytes) -> None:
    """No attachment breaks the reading of its text, and it gives no more than was asked for."""
    if not octets:
        return
    kind, subtype = _TYPES[octets[0] % len(_TYPES)]
    found = attached.document_text(octets, Part(0, 1, len(octets), type=kind, subtype=subtype), _MOST)
    assert len(found) <= _MOST
    assert "\0" not in found
    found.encode()
