"""What rules and tokens look at: a message read once, its fields and texts decoded, its links and attachments listed.

Bounded: of a long message only the first so many characters of text are looked at, which is what a reader sees first.
Never raises, whatever the octets.
"""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property

from protocol.message import dates, words
from protocol.message.content import parameter
from protocol.message.documents import document_name
from protocol.message.header import unfold
from protocol.message.mime import Buffer, Part, Scanner
from protocol.message.text import decode_body, strip_html

MAX_TEXT_OCTETS = 64 << 10  # of the bodies of all text parts together, as they are encoded
MAX_PARTS = 200  # that are listed
MAX_LINKS = 200
MAX_FIELDS = 60  # whose order and hops are looked at
_MAX_HEADER_CHARACTERS = 32 << 10
_MAX_ADDRESSES = 200
_LETTERS_LOOKED_AT = 4_000

_ADDRESS = re.compile(
    r"(?<![A-Za-z0-9!#$%&'*+/=?^_`{|}~.-])([A-Za-z0-9!#$%&'*+/=?^_`{|}~.-]{1,128})@([A-Za-z0-9\[\].:_\u0080-\uffff-]{1,255})"
)
_LINK = re.compile(r"""https?:/{1,3}[^\s"'<>\\)\]]{1,2000}""")
_LINK_WITHOUT_SCHEME = re.compile(r"""www\.\w[^\s"'<>\\)\]]{1,2000}""")
_WITHIN = re.compile(r"[\w.@/-]")  # in front of what is no link without scheme
_HOST = re.compile(r"(?:https?:/{1,3})?(?:([^/?#@]*)@)?(\[[^\]/]*\]|[^/?#:@]*)(?::(\d{1,5}))?(.*)", re.DOTALL)
_HOP = re.compile(r"(?:from|helo[= ]|by|\() ?([a-z0-9_-]+(?:\.[a-z0-9_-]+)*\.[a-z]{2,})")
_MAX_HOPS = 30
_HOP_OCTETS = 250  # of a Received field: from and by stand in front
# RFC 5322 §3.6.7 and what sites add on the way in: none of it is the sender's own word.
_NOT_THE_SENDERS = frozenset({"X-SPAM-STATUS", "X-SPAM-LEVEL", "X-SPAM-FLAG", "X-SPAM-SCORE", "X-SPAM-REASONS"})

# Fields that sites add after the sender: what they hold would be learned as if it were the mail's.
ADDED_ON_THE_WAY = frozenset(
    [
        "RECEIVED",
        "RETURN-PATH",
        "DELIVERED-TO",
        "DELIVERY-DATE",
        "X-ORIGINAL-TO",
        "STATUS",
        "X-STATUS",
        "X-UID",
        "X-KEYWORDS",
        "X-MOZILLA-STATUS",
        "X-MOZILLA-STATUS2",
        "AUTHENTICATION-RESULTS",
        "X-VIRUS-STATUS",
        "X-PYZOR",
        *_NOT_THE_SENDERS,
    ]
)

_TAG = re.compile(r"<(?:html|head|body|table|font|br|p|a[ \t\n]+href)\b[^<>]{0,300}>", re.IGNORECASE)
_TAGS = 5  # of one text, for it to be HTML
_MARKUP_LOOKED_AT = 20_000  # characters
_ASCII = bytes(range(128))
_VOWELS = bytes.maketrans(b"eiouEIOU", b"aaaaAAAA")
_PUNCTUATION = ".,;:!?"  # behind a web address: of the sentence around it
_PROGRAMS = ("X-MAILER", "X-MAILGEN", "X-EM-VERSION", "X-BULKMAIL")
_TWO_LABELS = frozenset(["co", "com", "org", "net", "ac", "gov", "edu"])


@dataclass(frozen=True, slots=True)
class Link:
    """One URI of a text: https://user_info@host:port/rest."""

    text: str
    host: str  # lower case; "" where there is none
    user_info: str = ""
    port: str = ""
    rest: str = ""


@dataclass(frozen=True, slots=True)
class Standing:
    """What this recipient's account knows of the sender's address. All zero: nothing."""

    answered: int = 0  # messages that the account sent to it
    kept: int = 0  # messages of it that were read and not thrown away
    junked: int = 0


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What is known from outside of the message. Words are those of RFC 8601 §2.7; "" means nobody looked."""

    received_at: datetime | None = None
    helo: str = ""
    reverse_path: str | None = None  # "" is the null reverse-path; None: nobody knows
    has_pointer: bool | None = None  # whether the peer's address has a name that leads back to it
    spf: str = ""
    dkim: str = ""
    dmarc: str = ""
    arc: str = ""
    standing: Standing | None = None  # None: nobody looked
    details: tuple[str, ...] = ()  # what stands behind the + in each recipient's address; () unless all have something


NOTHING_KNOWN = Circumstances()


class Sight:
    """One message, looked at. What is costly is found out when somebody asks, and once."""

    def __init__(
        self, octets: Buffer, circumstances: Circumstances = NOTHING_KNOWN, scanner: Scanner | None = None
    ) -> None:
        """With a scanner of these octets where they have been scanned already."""
        scanner = scanner or Scanner(octets)
        self.octets = octets
        self.root = scanner.root
        self.circumstances = circumstances
        self.fields: list[tuple[str, bytes]] = []
        self._first: dict[str, bytes] = {}
        self._unfolded: dict[str, bytes] = {}
        self._addresses: dict[tuple[str, ...], list[tuple[str, str]]] = {}
        for name, body, _ in scanner.fields:
            upper = name.decode("latin-1")
            if upper not in _NOT_THE_SENDERS:
                self.fields.append((upper, body))
                self._first.setdefault(upper, body)
        self._counts = Counter(name for name, _ in self.fields)
        self.parts: list[Part] = []
        self._list(self.root)
        self._decoded: list[tuple[Part, str]] | None = None

    def __repr__(self) -> str:
        return f"<Sight {len(self.octets)} octets, {len(self.fields)} fields, {len(self.parts)} parts>"

    def has(self, name: str) -> bool:
        """Whether there is a field of that name (upper case)."""
        return name in self._first

    def count(self, name: str) -> int:
        """How many fields of that name there are."""
        return self._counts[name]

    def raw(self, name: str) -> bytes:
        """The first field of that name, unfolded but not decoded; b"" without one."""
        known = self._unfolded.get(name)
        if known is None:
            known = self._unfolded[name] = unfold(self._first[name]) if name in self._first else b""
        return known

    def field(self, name: str) -> str:
        """The same decoded, without white space at its ends."""
        body = self._first.get(name)
        return "" if body is None else words.decode(body).strip()

    def all(self, name: str) -> list[str]:
        """All fields of that name, decoded."""
        return [words.decode(body).strip() for each, body in self.fields if each == name]

    @cached_property
    def subject(self) -> str:
        """Decoded."""
        return self.field("SUBJECT")

    @cached_property
    def date(self) -> datetime | None:
        """None where there is none, or none that can be read."""
        return dates.parse(self.raw("DATE"))

    @cached_property
    def sender(self) -> tuple[str, str, str]:
        """Of the From field: what stands beside the address, its local part, and its domain in lower case."""
        text = self.field("FROM")[:2000]
        found = list(_ADDRESS.finditer(text))
        if not found:
            return text, "", ""
        match = found[-1]
        name = (text[: match.start()] + text[match.end() :]).strip(" <>\"'()\t")
        return name, match[1], match[2].lower().rstrip(".")

    def addresses(self, *names: str) -> list[tuple[str, str]]:
        """Local parts and lower-case domains in all fields of these names."""
        known = self._addresses.get(names)
        if known is None:
            known = []
            for name, body in self.fields:
                if name in names and len(known) < _MAX_ADDRESSES:
                    text = words.decode(body)[:_MAX_HEADER_CHARACTERS]
                    known += [(match[1], match[2].lower().rstrip(".")) for match in _ADDRESS.finditer(text)]
            self._addresses[names] = known
        return known

    @cached_property
    def programs(self) -> str:
        """What programs say of themselves, one a line. Not decoded."""
        found = [unfold(body).decode("latin-1").strip() for name, body in self.fields if name.startswith(_PROGRAMS)]
        return "\n".join(found)[:_MAX_HEADER_CHARACTERS]

    @property
    def decoded(self) -> list[tuple[Part, str]]:
        """The text parts with their decoded bodies, markup included."""
        if self._decoded is None:
            self._decoded = []
            left = MAX_TEXT_OCTETS
            for part in self.parts:
                if part.is_text and left > 0 and not self._is_attached(part):
                    cut = part if part.end - part.body_start <= left else _cut(part, left)
                    left -= cut.end - cut.body_start
                    octets = decode_body(self.octets, cut)
                    text = words.decode_octets(octets, parameter(part.parameters, b"charset"))
                    self._decoded.append((part, text.replace("\r\n", "\n") if "\r" in text else text))
        return self._decoded

    @cached_property
    def html(self) -> str:
        """The markup of all HTML parts, and of those that are HTML and say otherwise."""
        return "\n".join([text for part, text in self.decoded if _is_markup(part, text)])

    @cached_property
    def plain(self) -> str:
        """The text of all other text parts."""
        return "\n".join([text for part, text in self.decoded if not _is_markup(part, text)])

    @cached_property
    def shown_html(self) -> str:
        """What a reader sees of the markup."""
        return strip_html(self.html) if self.html else ""

    @cached_property
    def text(self) -> str:
        """What a reader sees of all text parts."""
        return f"{self.plain}\n{self.shown_html}" if self.html else self.plain

    @cached_property
    def received(self) -> list[str]:
        """The Received fields in lower case, the latest first."""
        bodies = [body for name, body in self.fields[:MAX_FIELDS] if name == "RECEIVED"][:_MAX_HOPS]
        return [body[:_HOP_OCTETS].decode("latin-1").lower() for body in bodies]

    @cached_property
    def hop_sites(self) -> dict[str, None]:
        """Sites of the hosts that it came through, as far as Received fields are to be believed."""
        return {site(host): None for text in self.received for host in _HOP.findall(text)[:4]}

    @cached_property
    def uncommon(self) -> str:
        """The characters beyond ASCII of the subject and text."""
        if self.text.isascii() and self.subject.isascii():
            return ""
        return f"{self.subject}{self.text}".encode("utf-8", "replace").translate(None, _ASCII).decode()

    @cached_property
    def vowels(self) -> tuple[int, int]:
        """How many small and capital ones: every language that has capitals has enough of these to stand for all letters."""
        octets = self.text[:_LETTERS_LOOKED_AT].encode("utf-8", "replace").translate(_VOWELS)
        return octets.count(b"a"), octets.count(b"A")

    @cached_property
    def links(self) -> list[Link]:
        """The web addresses in text and markup, each once, in lower case."""
        found: dict[str, Link] = {}
        for text in (self.plain.lower(), self.html.lower()):
            found_here = _LINK.findall(text) if "http" in text else []
            if "www." in text:
                found_here += [
                    match[0]
                    for match in _LINK_WITHOUT_SCHEME.finditer(text)
                    if not (match.start() and _WITHIN.match(text, match.start() - 1))
                ]
            for each in dict.fromkeys([each.rstrip(_PUNCTUATION) for each in found_here]):
                if each not in found and len(found) < MAX_LINKS:
                    found[each] = link(each)
        return list(found.values())

    @cached_property
    def hosts(self) -> set[str]:
        """Of the links."""
        return {each.host for each in self.links if each.host}

    @cached_property
    def attachments(self) -> list[tuple[Part, str]]:
        """The leaves that are no text to be shown, with their file names in lower case."""
        return [
            (part, document_name(part).lower())
            for part in self.parts
            if not part.children and not part.is_multipart and (not part.is_text or self._is_attached(part))
        ]

    def _is_attached(self, part: Part) -> bool:
        return part.disposition is not None and part.disposition[0].lower() == b"attachment"

    def _list(self, root: Part) -> None:
        for part in _walk(root):
            if len(self.parts) >= MAX_PARTS:
                return
            self.parts.append(part)


def link(text: str) -> Link:
    """Take a web address apart."""
    match = _HOST.fullmatch(text)
    if match is None:
        return Link(text, "")
    return Link(text, match[2].lower().rstrip("."), match[1] or "", match[3] or "", match[4])


def site(host: str) -> str:
    """The last labels of a host name, as far as one owner is likely to have them. Good enough to compare two."""
    labels = host.split(".")
    size = 3 if len(labels) > 2 and labels[-2] in _TWO_LABELS and len(labels[-1]) == 2 else 2
    return ".".join(labels[-size:])


def _is_markup(part: Part, text: str) -> bool:
    """Whether a reader would not want to see the text itself. A letter that quotes a tag or two is no page."""
    if part.subtype.lower() == b"html":
        return True
    return text.count("<", 0, _MARKUP_LOOKED_AT) >= _TAGS and len(_TAG.findall(text, 0, _MARKUP_LOOKED_AT)) >= _TAGS


def _walk(part: Part) -> Iterator[Part]:
    yield part
    for child in part.children:
        yield from _walk(child)


def _cut(part: Part, octets: int) -> Part:
    return Part(
        part.header_start,
        part.body_start,
        part.body_start + octets,
        type=part.type,
        subtype=part.subtype,
        parameters=part.parameters,
        encoding=part.encoding,
    )
