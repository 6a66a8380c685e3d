"""Short messages: sms URIs (RFC 5724), and how many messages a text needs by the alphabets of 3GPP TS 23.038."""

import re
from dataclasses import dataclass
from urllib.parse import unquote

RECIPIENT_LIMIT = 4  # of one URI, ours: each of them costs
_PLAIN, _JOINED = (
    160,
    153,
)  # septets of a message, and of one of several that belong together (3GPP TS 23.040 §9.2.3.24.1)
_PLAIN_UCS2, _JOINED_UCS2 = 70, 67  # units of 16 bits
_ELLIPSIS = "..."
# 3GPP TS 23.038 §6.2.1, the default alphabet, and its extension: an escape and one more septet.
_BASIC = frozenset(
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?"
    "¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
_EXTENDED = frozenset("^{}\\[~]|€\f")
_SEPARATORS = str.maketrans("", "", "-.()")  # RFC 3966 §3, visual-separator
_NUMBER = re.compile(r"\+[0-9]{4,15}")  # a global number; ITU-T E.164 has 15 digits at most


class SmsError(ValueError):
    """The URI is not one to send a short message by."""


@dataclass(frozen=True, slots=True)
class Sms:
    """Whom a URI names, and what it says."""

    numbers: tuple[str, ...]  # a plus and digits
    body: str | None = None


def parse_sms(uri: str) -> Sms:
    """Parse a whole sms URI: `sms:+49…,+49…?body=text`. Numbers must be global ones. Raises SmsError."""
    scheme, colon, rest = uri.partition(":")
    if not colon or scheme.lower() != "sms":
        raise SmsError("not an sms URI")
    path, _, query = rest.partition("#")[0].partition("?")
    numbers = [unquote(number).strip().translate(_SEPARATORS) for number in path.split(",")]
    for number in numbers:
        if not _NUMBER.fullmatch(number):
            raise SmsError("a number must begin with + and its country's code")
    if len(numbers) > RECIPIENT_LIMIT:
        raise SmsError(f"more than {RECIPIENT_LIMIT} numbers")
    body = None
    for field in query.split("&") if query else ():
        name, equals, value = field.partition("=")
        if not equals:
            raise SmsError("a field without a value")
        if name.lower() == "body" and body is None:
            body = unquote(value)
    return Sms(tuple(dict.fromkeys(numbers)), body)


def parts_of(text: str) -> int:
    """How many messages the text needs; at least one."""
    if all(character in _BASIC or character in _EXTENDED for character in text):
        return _messages([2 if character in _EXTENDED else 1 for character in text], _PLAIN, _JOINED)
    return _messages([1 if character <= "\uffff" else 2 for character in text], _PLAIN_UCS2, _JOINED_UCS2)


def fitted(text: str, parts: int) -> str:
    """The text, cut to what so many messages hold; where it was cut it ends with three dots."""
    if parts_of(text) <= parts:
        return text
    least, most = 0, min(len(text), parts * _PLAIN)
    while least < most:
        middle = (least + most + 1) // 2
        if parts_of(text[:middle] + _ELLIPSIS) <= parts:
            least = middle
        else:
            most = middle - 1
    return text[:least].rstrip() + _ELLIPSIS


def _messages(widths: list[int], plain: int, joined: int) -> int:
    """In how many messages characters of these widths go: none is cut in two."""
    if sum(widths) <= plain:
        return 1
    count, room = 1, joined
    for width in widths:
        if width > room:
            count, room = count + 1, joined
        room -= width
    return count
