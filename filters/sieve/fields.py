"""Header fields that we write: folded, and encoded words where a value is not ASCII (RFC 2047 §2)."""

import base64
import re

_WIDTH = 76
_SAFE = re.compile(r"[\t -~]*")
_LINE = re.compile(r"[ \t]*[\r\n]+[ \t]*")
_WORD = re.compile(r"[ \t]*[^ \t]+")
_CHUNK = 39  # octets in one encoded word, so that with its frame it stays below 75 characters


def field(name: str, value: str) -> bytes:
    """One header field. Line ends in the value become folds, or vanish; nothing can begin another field."""
    text = _LINE.sub(" ", value).strip()
    if not _SAFE.fullmatch(text):
        text = " ".join(encoded_words(text))
    lines, line = [], f"{name}:"
    for word in _WORD.findall(text):
        word = word if word[0] in " \t" else f" {word}"
        if len(line) + len(word) > _WIDTH and line.strip() and line != f"{name}:":
            lines.append(line)
            line = word
        else:
            line += word
    return "\r\n".join([*lines, line]).encode("utf-8", "surrogateescape") + b"\r\n"


def encoded_words(text: str) -> list[str]:
    """The text as encoded words, no character cut."""
    chunks, chunk = [], b""
    for character in text:
        octets = character.encode("utf-8", "replace")
        if len(chunk) + len(octets) > _CHUNK:
            chunks.append(chunk)
            chunk = b""
        chunk += octets
    return [f"=?utf-8?b?{base64.b64encode(each).decode()}?=" for each in [*chunks, chunk] if each]


def text_part(text: str) -> tuple[bytes, bytes]:
    """Content-* fields and body of a text/plain part, RFC 2045 §6."""
    octets = re.sub(r"\r\n|\r|\n", "\r\n", text).encode("utf-8", "replace")
    if octets and not octets.endswith(b"\r\n"):
        octets += b"\r\n"
    is_plain = octets.isascii() and b"\0" not in octets and all(len(line) <= 998 for line in octets.split(b"\r\n"))
    encoding, charset = ("7bit", "us-ascii") if is_plain else ("base64", "utf-8")
    head = f"Content-Type: text/plain; charset={charset}\r\nContent-Transfer-Encoding: {encoding}\r\n".encode()
    return head, octets if is_plain else base64.encodebytes(octets).replace(b"\n", b"\r\n")
