"""FETCH attributes, RFC 3501 §6.4.5: names, sections, partials, and the label each has in the response (§7.4.2)."""

from dataclasses import dataclass
from enum import Enum

from protocol.imap.cursor import Cursor, expect_astring, expect_list, expect_number


class Item(Enum):
    """What an attribute asks for. RFC822, RFC822.HEADER and RFC822.TEXT keep their own names, since the answer has them."""

    FLAGS = b"FLAGS"
    UID = b"UID"
    INTERNALDATE = b"INTERNALDATE"
    RFC822_SIZE = b"RFC822.SIZE"
    ENVELOPE = b"ENVELOPE"
    BODY = b"BODY"  # the structure without extension data
    BODYSTRUCTURE = b"BODYSTRUCTURE"
    RFC822 = b"RFC822"
    RFC822_HEADER = b"RFC822.HEADER"
    RFC822_TEXT = b"RFC822.TEXT"
    SECTION = b"BODY[]"
    MODSEQ = b"MODSEQ"  # RFC 7162 §3.1.4
    BINARY = b"BINARY[]"  # RFC 3516 §4.2
    BINARY_SIZE = b"BINARY.SIZE"
    EMAILID = b"EMAILID"  # RFC 8474 §5.3
    THREADID = b"THREADID"
    SAVEDATE = b"SAVEDATE"  # RFC 8514 §4.2
    PREVIEW = b"PREVIEW"  # RFC 8970 §3.1


@dataclass(frozen=True, slots=True)
class Section:
    """What stands between the brackets of BODY[…]."""

    path: tuple[int, ...] = ()  # part numbers, each from 1
    what: str = ""  # "", "HEADER", "HEADER.FIELDS", "HEADER.FIELDS.NOT", "TEXT", "MIME"
    fields: tuple[bytes, ...] = ()  # field names as the client wrote them

    def render(self) -> bytes:
        """The section as it is written, for the response to repeat."""
        words = ".".join([*map(str, self.path), *([self.what] if self.what else [])]).encode("ascii")
        return words + b" (" + b" ".join(map(_field_name, self.fields)) + b")" if self.fields else words


@dataclass(frozen=True, slots=True)
class FetchAttribute:
    """One thing to fetch."""

    item: Item
    section: Section | None = None  # with Item.SECTION, BINARY and BINARY_SIZE only
    partial: tuple[int, int] | None = None  # first octet from 0, and how many (1 or more)
    is_peek: bool = False
    is_lazy: bool = False  # PREVIEW (LAZY), RFC 8970 §4.1

    @property
    def label(self) -> bytes:
        """The name in the response: the section is repeated, the partial only with its first octet."""
        if self.section is None:
            return self.item.value
        label = _BRACKETED[self.item] + b"[" + self.section.render() + b"]"
        return label + b"<%d>" % self.partial[0] if self.partial else label

    @property
    def sets_seen(self) -> bool:
        r"""Whether fetching it sets \Seen (RFC 3501 §6.4.5)."""
        if self.item in (Item.SECTION, Item.BINARY):
            return not self.is_peek
        return self.item in (Item.RFC822, Item.RFC822_TEXT)


_BRACKETED = {Item.SECTION: b"BODY", Item.BINARY: b"BINARY", Item.BINARY_SIZE: b"BINARY.SIZE"}
_SIMPLE = {item.value: FetchAttribute(item) for item in Item if item not in _BRACKETED}
_FAST = (_SIMPLE[b"FLAGS"], _SIMPLE[b"INTERNALDATE"], _SIMPLE[b"RFC822.SIZE"])
_MACROS = {
    b"FAST": _FAST,
    b"ALL": (*_FAST, _SIMPLE[b"ENVELOPE"]),
    b"FULL": (*_FAST, _SIMPLE[b"ENVELOPE"], _SIMPLE[b"BODY"]),
}
_recent: dict[bytes, tuple[FetchAttribute, ...]] = {}
_RECENT_COUNT, _RECENT_OCTETS = 512, 512
_PART_TEXTS = {b"HEADER", b"HEADER.FIELDS", b"HEADER.FIELDS.NOT", b"TEXT", b"MIME"}


# fetch = "FETCH" SP sequence-set SP ("ALL" / "FULL" / "FAST" / fetch-att / "(" fetch-att *(SP fetch-att) ")")
def expect_fetch_attributes(cursor: Cursor) -> tuple[FetchAttribute, ...]:
    """All attributes, each once, macros expanded.

    A client asks for the same few lists again and again: what was parsed once is remembered under its octets.
    """
    if cursor.literals or cursor.is_strict or len(cursor.octets) - cursor.position > _RECENT_OCTETS:
        return _attributes(cursor)
    written = cursor.octets[cursor.position :]
    known = _recent.get(written)
    if known is not None:
        cursor.position = len(cursor.octets)
        return known
    attributes = _attributes(cursor)
    if cursor.position == len(cursor.octets):
        if len(_recent) >= _RECENT_COUNT:
            _recent.clear()
        _recent[written] = attributes
    return attributes


def _attributes(cursor: Cursor) -> tuple[FetchAttribute, ...]:
    if not cursor.is_next(b"("):
        return _macro(cursor) or (_fetch_att(cursor),)
    if cursor.is_strict:
        return tuple(dict.fromkeys(expect_list(cursor, _fetch_att)))
    groups = expect_list(cursor, lambda inner: _macro(inner) or (_fetch_att(inner),))
    return tuple(dict.fromkeys(attribute for group in groups for attribute in group))


def _macro(cursor: Cursor) -> tuple[FetchAttribute, ...] | None:
    """ALL, FAST or FULL. "A macro must be used by itself" (RFC 3501 §6.4.5), yet (ALL) is sent and has one meaning only."""
    start = cursor.position
    word = cursor.take_word()
    if word in _MACROS:
        return _MACROS[word]
    cursor.position = start
    return None


# fetch-att = "ENVELOPE" / "FLAGS" / "INTERNALDATE" / "RFC822" [".HEADER" / ".SIZE" / ".TEXT"] / "BODY" ["STRUCTURE"] /
#             "UID" / "BODY" section ["<" number "." nz-number ">"] / "BODY.PEEK" section ["<" number "." nz-number ">"]
def _fetch_att(cursor: Cursor) -> FetchAttribute:
    start = cursor.position
    word = cursor.take_word()
    if word is not None:
        if cursor.is_next(b"[") and word in (b"BODY", b"BODY.PEEK"):
            section = expect_section(cursor)
            return FetchAttribute(Item.SECTION, section, _partial(cursor), is_peek=word == b"BODY.PEEK")
        if cursor.is_next(b"[") and word.startswith(b"BINARY"):
            return _binary(cursor, word)
        simple = _SIMPLE.get(word)
        if simple is not None:
            return _preview(cursor) if simple.item is Item.PREVIEW else simple
    cursor.position = start
    return cursor.fail("a FETCH attribute")


# fetch-att =/ "BINARY" [".PEEK"] section-binary [partial] / "BINARY.SIZE" section-binary        (RFC 3516 §7)
# section-binary = "[" [section-part] "]"
def _binary(cursor: Cursor, word: bytes) -> FetchAttribute:
    start = cursor.position
    section = expect_section(cursor)
    if section.what or word not in (b"BINARY", b"BINARY.PEEK", b"BINARY.SIZE"):
        cursor.position = start
        cursor.fail("a FETCH attribute")
    if word == b"BINARY.SIZE":
        return FetchAttribute(Item.BINARY_SIZE, section)
    return FetchAttribute(Item.BINARY, section, _partial(cursor), is_peek=word == b"BINARY.PEEK")


# fetch-att =/ "PREVIEW" [SP "(" preview-mod *(SP preview-mod) ")"]        (RFC 8970 §6)
def _preview(cursor: Cursor) -> FetchAttribute:
    if not cursor.take(b" ("):
        return _SIMPLE[b"PREVIEW"]
    if not cursor.take_keyword(b"LAZY"):
        cursor.fail("LAZY")
    cursor.expect(b")")
    return _LAZY_PREVIEW


# section         = "[" [section-spec] "]"
# section-spec    = section-msgtext / (section-part ["." section-text])
# section-part    = nz-number *("." nz-number)
# section-msgtext = "HEADER" / "HEADER.FIELDS" [".NOT"] SP header-list / "TEXT"
# section-text    = section-msgtext / "MIME"
def expect_section(cursor: Cursor) -> Section:
    """A section in its brackets."""
    cursor.expect(b"[")
    if cursor.take(b"]"):
        return WHOLE
    path: list[int] = []
    while cursor.octets[cursor.position : cursor.position + 1].isdigit():
        path.append(expect_number(cursor, "a part number", least=1))
        if len(path) > cursor.limits.section_parts:
            cursor.refuse("nested too deeply")
        if cursor.take(b"]"):
            return Section(tuple(path))
        cursor.expect(b".")
    start = cursor.position
    word = cursor.take_word()
    if word not in _PART_TEXTS or (word == b"MIME" and not path):
        cursor.position = start
        cursor.fail("a section")
    fields: tuple[bytes, ...] = ()
    if word.startswith(b"HEADER.FIELDS"):
        cursor.expect_space()
        fields = expect_list(cursor, _header_fld_name)
    cursor.expect(b"]")
    return Section(tuple(path), word.decode("ascii"), fields)


# header-list     = "(" header-fld-name *(SP header-fld-name) ")"
# header-fld-name = astring
def _header_fld_name(cursor: Cursor) -> bytes:
    name = expect_astring(cursor, "a header field name")
    if not name or b"\r" in name or b"\n" in name:  # it is repeated in the response's label
        cursor.refuse("not a header field name")
    return name


def _field_name(name: bytes) -> bytes:
    if name.isalnum() or name.replace(b"-", b"").isalnum():
        return name
    return b'"' + name.replace(b"\\", b"\\\\").replace(b'"', b'\\"') + b'"'


# partial: "<" number "." nz-number ">"; 63 bits, RFC 9051 §9 number64
def _partial(cursor: Cursor) -> tuple[int, int] | None:
    if not cursor.take(b"<"):
        return None
    first = expect_number(cursor, "a partial range", most=_NUMBER64)
    cursor.expect(b".")
    count = expect_number(cursor, "a partial range", least=1, most=_NUMBER64)
    cursor.expect(b">")
    return first, count


_NUMBER64 = 2**63 - 1
WHOLE = Section()
_LAZY_PREVIEW = FetchAttribute(Item.PREVIEW, is_lazy=True)
