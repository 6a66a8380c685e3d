"""Tokens: what Bayes counts. Words and pairs of words of the text, words of some fields with the field's name, hosts of links.

A token is a number of 63 bits, so that what is stored says nothing of what was written; its text is kept only as long as a
message is being judged, to explain the verdict. Numbers are the same in every process and on every machine.

Whoever changes what the tokens of a message are gives TOKENS_VERSION the next number: then a message that was learned counts
anew when it is learned again, and the tokens of before stay until they are forgotten with their corpus.
"""

import re
from hashlib import blake2b
from typing import TypeAlias

from filters.spam.sight import Sight, site

Token: TypeAlias = str | tuple[str, str]  # a word, or two that follow each other

TOKENS_VERSION = 1
MAX_TOKENS = 1_500  # of one message; the first ones, header fields before text
_MAX_REMEMBERED = 50_000
_MAX_TEXT = 20_000  # characters
_MAX_TAGS = 100
_MASK = (1 << 63) - 1
_ODD = 0x9E3779B97F4A7C15

_WORD = re.compile(r"([$€£]?[^\W_][\w'$€£%-]{0,22}!?)[\w'$€£%-]*")  # longer ones are cut
_FIELD_WORD = re.compile(r"[\w$€£%!'.-]+")
_TAG = re.compile(r"<([a-zA-Z][a-zA-Z0-9]{0,9}(?: [a-zA-Z]{1,12}=)?)")
_HOST = re.compile(r"(?:from|helo[= ]|by|\() ?([a-z0-9_-]+(?:\.[a-z0-9_-]+)*\.[a-z]{2,})")
_NETWORK = re.compile(r"\b(\d{1,3}\.\d{1,3})\.\d{1,3}\.\d{1,3}\b")
_DIGITS = re.compile(r"\d+")
_TEXT_FIELDS = {
    "SUBJECT": "subject",
    "FROM": "from",
    "TO": "to",
    "REPLY-TO": "reply-to",
    "X-MAILER": "mailer",
    "USER-AGENT": "mailer",
}
_WHOLE_FIELDS = {
    "CONTENT-TYPE": "type",
    "CONTENT-TRANSFER-ENCODING": "encoding",
    "PRECEDENCE": "precedence",
    "X-PRIORITY": "priority",
    "LIST-ID": "list",
    "MIME-VERSION": "mime",
}
# Fields that sites add after the sender, or that differ by recipient: what they hold would be learned as if it were the mail's.
_PASSED_OVER = frozenset(
    [
        "RECEIVED",
        "RETURN-PATH",
        "DELIVERED-TO",
        "X-ORIGINAL-TO",
        "STATUS",
        "X-STATUS",
        "X-UID",
        "X-KEYWORDS",
        "X-MOZILLA-STATUS",
        "X-MOZILLA-STATUS2",
        "AUTHENTICATION-RESULTS",
        "X-VIRUS-STATUS",
        "DATE",
        "X-PYZOR",
    ]
)


class _Numbers(dict[str, int]):
    """The number of each word; those that were asked for lately are remembered."""

    def __missing__(self, word: str) -> int:
        number = int.from_bytes(blake2b(word.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big") & _MASK
        if len(self) >= _MAX_REMEMBERED:
            self.clear()
        self[word] = number
        return number


_numbers = _Numbers()


def tokens_of(sight: Sight) -> dict[int, Token]:
    """The tokens of a message with their texts. The numbers are never negative: they fit into PostgreSQL's bigint."""
    found: dict[int, Token] = {}
    _add(found, _field_words(sight))
    _add(found, _shape_words(sight))
    _add_pairs(found, [f"subject {word}" for word in _FIELD_WORD.findall(_digits_as_one(sight.subject.lower()[:500]))])
    _add_pairs(found, _WORD.findall(_digits_as_one(sight.text[:_MAX_TEXT].lower())))
    return found


def shown(token: Token) -> str:
    """A token for people."""
    return token if isinstance(token, str) else f"{token[0]} {token[1].removeprefix('subject ')}"


def _digits_as_one(text: str) -> str:
    """Numbers differ from mail to mail; that there is one does not."""
    return _DIGITS.sub("0", text)


def _add(found: dict[int, Token], words: list[str]) -> None:
    numbers = _numbers
    for word in words[:MAX_TOKENS]:
        found[numbers[word]] = word


def _add_pairs(found: dict[int, Token], words: list[str]) -> None:
    """Each word, and each with the one in front of it."""
    numbers = _numbers
    previous, last = "", 0
    for word in words[: (MAX_TOKENS - len(found)) // 2]:
        number = numbers[word]
        found[number] = word
        if previous:
            found[(last * _ODD + number) & _MASK] = (previous, word)
        previous, last = word, number


def _field_words(sight: Sight) -> list[str]:
    found: list[str] = []
    for name, body in sight.fields[:100]:
        if name in _PASSED_OVER or name.startswith(("X-SPAM", "ARC-", "DKIM-")):
            continue
        found.append(f"field {name.lower()[:40]}")
        short = _TEXT_FIELDS.get(name)
        if short is not None and short != "subject":
            found += [f"{short} {word[:60]}" for word in _FIELD_WORD.findall(sight.field(name).lower()[:500])[:20]]
        elif (short := _WHOLE_FIELDS.get(name)) is not None:
            text = body.decode("latin-1").lower().partition("boundary")[0]
            found += [f"{short} {word[:60]}" for word in _FIELD_WORD.findall(text[:200])[:8]]
    identity = sight.raw("MESSAGE-ID").decode("latin-1")
    found.append(
        "id " + _DIGITS.sub("0", re.sub(r"[a-z]+", "a", re.sub(r"[A-Z]+", "A", identity.partition("@")[0])))[:40]
    )
    return found


def _hops(sight: Sight) -> list[str]:
    """Hosts and networks that the message came through, as far as its Received fields are to be believed."""
    found: dict[str, None] = {}
    for name, body in sight.fields[:60]:
        if name == "RECEIVED":
            text = body[:400].decode("latin-1").lower()
            for host in _HOST.findall(text)[:4]:
                found[site(host)] = None
            for network in _NETWORK.findall(text)[:3]:
                found[network] = None
            if len(found) > 40:
                break
    return list(found)


def _shape_words(sight: Sight) -> list[str]:
    """Links, attachments, markup."""
    found = [
        f"charset {(part.encoding or b'').decode('latin-1').lower()[:20]} {part.subtype.decode('latin-1').lower()[:20]}"
        for part in sight.parts[:10]
    ]
    found += [f"host {host[:60]}" for host in sorted(sight.hosts)[:30]]
    found += [f"site {site(host)[:60]}" for host in sorted(sight.hosts)[:30]]
    found += [f"via {host[:60]}" for host in _hops(sight)]
    found += [f"file {name.rpartition('.')[2][:12]}" for _, name in sight.attachments[:10]]
    found += [f"tag {tag.lower()}" for tag in _TAG.findall(sight.html[:_MAX_TEXT])[:_MAX_TAGS]]
    return found
