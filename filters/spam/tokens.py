"""Tokens: what Bayes counts. Words of the text, hosts of links, words of some fields with the field's name, and traits.

What a message opens with, its subject and first words, counts by pairs of words as well, with up to two others between them:
these say what it wants, and are few enough to be learned.

A token is a number of 63 bits, so that what is stored says nothing of what was written; its text is kept only as long as a
message is being judged, to explain the verdict. Numbers are the same in every process and on every machine. Its highest bit
says of which kind it is: set where it tells of how the message was sent, clear where it tells of what is in it. Bayes weighs
the two apart, so that a long text does not drown a short header.

Whoever changes what the tokens of a message are gives TOKENS_VERSION the next number: then a message that was learned counts
anew when it is learned again, and the tokens of before stay until they are forgotten with their corpus.
"""

import re
from collections.abc import Sequence
from hashlib import blake2b
from operator import add, xor
from typing import TypeAlias

from filters.spam.sight import ADDED_ON_THE_WAY, Sight, site
from filters.spam.traits import link_words, sending_words

Token: TypeAlias = str  # its text

TOKENS_VERSION = 3
MAX_TOKENS = 1_500  # of one message: at most a third of them of its header
SENT = 1 << 62  # set in the number of a token that tells of how the message was sent
_MAX_REMEMBERED = 50_000
_MAX_TEXT = 2_000  # characters: what a reader sees first says what it is
_OPENING = 50  # words of the subject and of the text that are taken by pairs
_REACHES = ((1, " "), (2, " … "), (3, " … "))  # of a pair, in words
_MASK = SENT - 1

_WORD = re.compile(r"([$€£]?[^\W_][\w'$€£%-]{0,22}!?)[\w'$€£%-]*")  # longer ones are cut
_SHORT = 2  # characters: of, to, in
_WORD_CHARACTERS = 23  # of one that is not
# By octets of UTF-8: what is no ASCII character is seen to later.
_SPACED = bytes([each if each > 127 or chr(each).isalnum() or each in b"_'$%-!" else 32 for each in range(256)])
_FIELD_WORD = re.compile(r"[\w$€£%!'.-]+")
_DIGITS = re.compile(r"\d+")
_PLAIN = ("subject ", "from ", "host ", "mailer ")
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


class _Numbers(dict[str, int]):
    """The number of each word; those that were asked for lately are remembered."""

    def __init__(self, kind: int) -> None:
        super().__init__()
        self._kind = kind

    def __missing__(self, word: str) -> int:
        digest = blake2b(word.encode("utf-8", "surrogatepass"), digest_size=8).digest()
        number = int.from_bytes(digest, "big") & _MASK | self._kind
        if len(self) >= _MAX_REMEMBERED:
            self.clear()
        self[word] = number
        return number


_sent, _written = _Numbers(SENT), _Numbers(0)


def tokens_of(sight: Sight) -> dict[int, Token]:
    """The tokens of a message with their texts. The numbers are never negative: they fit into PostgreSQL's bigint.

    What is learned must be what was judged: the octets as they came in, without the fields that we put on top of them.
    """
    text = _split(sight.text[:_MAX_TEXT])
    words = [*_field_words(sight), *sending_words(sight)][: MAX_TOKENS // 3]
    found: dict[int, Token] = dict(zip(map(_sent.__getitem__, words), words, strict=True))
    _add_pairs(found, _split(sight.subject[:200]), text)
    words = [*_shape_words(sight), *link_words(sight), *_words(text)][: MAX_TOKENS - len(found)]
    found.update(zip(map(_written.__getitem__, words), words, strict=True))
    return found


def is_word(token: Token) -> bool:
    """Whether people know it for what it is: a word, or that of a field or link."""
    return " " not in token or token.startswith(_PLAIN)


def _split(text: str) -> list[str]:
    """Words, in small letters; some are none yet, or several."""
    octets = text.lower().encode("utf-8", "replace")
    return octets.replace(b"!", b"! ").translate(_SPACED).decode().split()


def _words(split: Sequence[str]) -> list[str]:
    """Each once, without those that are in every text. That there is a number counts, not which one."""
    known = dict.fromkeys(split)
    found = [each for each in known if each.isalpha() and _SHORT < len(each) < _WORD_CHARACTERS]
    odd = [each for each in known if not each.isalpha() or len(each) >= _WORD_CHARACTERS]
    return found + _WORD.findall(_DIGITS.sub("0", " ".join(odd))) if odd else found


def _add_pairs(found: dict[int, Token], subject: Sequence[str], text: Sequence[str]) -> None:
    """Of those words that a message opens with."""
    split = ["^", *subject[:_OPENING], "|", *text[:_OPENING]]
    words = [each if each.isalpha() else _DIGITS.sub("0", each) for each in split[:_OPENING]]
    numbers = list(map(_written.__getitem__, words))
    for reach, between in _REACHES:
        seconds = [number >> reach for number in numbers[reach:]]
        found.update(
            zip(map(xor, numbers, seconds), map(add, words, [between + word for word in words[reach:]]), strict=False)
        )


def _field_words(sight: Sight) -> list[str]:
    found: list[str] = []
    for name, body in sight.fields[:100]:
        if name in ADDED_ON_THE_WAY or name == "DATE":
            continue
        found.append(f"field {name.lower()[:40]}")
        short = _TEXT_FIELDS.get(name)
        if short is not None:
            text = _DIGITS.sub("0", sight.field(name).lower()[:500])
            found += [f"{short} {word[:60]}" for word in _FIELD_WORD.findall(text)[:40]]
        elif (short := _WHOLE_FIELDS.get(name)) is not None:
            text = body[:200].decode("latin-1").lower().partition("boundary")[0]
            found += [f"{short} {word[:60]}" for word in _FIELD_WORD.findall(text)[:8]]
    return found


def _shape_words(sight: Sight) -> list[str]:
    """Links and attachments."""
    found = [
        f"charset {(part.encoding or b'').decode('latin-1').lower()[:20]} {part.subtype.decode('latin-1').lower()[:20]}"
        for part in sight.parts[:10]
    ]
    hosts = sorted(sight.hosts)[:30]
    found += [f"host {host[:60]}" for host in hosts]
    found += [f"site {each[:60]}" for each in dict.fromkeys(map(site, hosts))]
    found += [f"file {name.rpartition('.')[2][:12]}" for _, name in sight.attachments[:10]]
    return found
