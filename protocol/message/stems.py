"""Words and their stems, for FUZZY (RFC 6203 §3): what a text is about, whatever its case, its marks and its endings.

A text becomes the set of the stems of its words, as German and as English: whoever searches does not say which it is.
Writing without spaces (Chinese, Japanese, Korean) becomes pairs of characters.
"""

import re
import unicodedata
from collections.abc import Iterable
from functools import lru_cache

import Stemmer

from protocol.message.header import fields
from protocol.message.words import decode

STEMS_VERSION = 1  # what was written by another one has other stems
LANGUAGES = ("german", "english")
SECTIONS = ("subject", "from", "to", "body", "attachments")  # the lines of word_sections()
MAX_WORD = 40  # characters; longer ones are keys, digests and other noise
MAX_WORDS = 20_000  # different ones of one text; later ones are not kept

_WORD = re.compile(r"[^\W_]+")
_UNSPACED = re.compile(r"[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\U00020000-\U0003ffff]")
_SECTION_OF = {
    b"SUBJECT": 0,
    **dict.fromkeys((b"FROM", b"SENDER", b"REPLY-TO"), 1),
    **dict.fromkeys((b"TO", b"CC", b"BCC"), 2),
}
_STEMMERS = [Stemmer.Stemmer(language, 0) for language in LANGUAGES]  # 0: our own memory below is for all of them


def word_sections(header: bytes, body: str, attached: str) -> str:
    """Give the stems of a message, a line for each of SECTIONS, each stem between spaces."""
    lines: list[list[str]] = [[], [], []]
    for field in fields(header):
        section = _SECTION_OF.get(field.name.upper())
        if section is not None:
            lines[section].append(decode(field.body))
    texts = ["\n".join(found) for found in lines] + [body, attached]
    return "\n".join([f" {' '.join(stems(text))} " for text in texts])


def stems(text: str) -> list[str]:
    """Give the different stems of a text's words, in the order in which they occur first."""
    found: dict[str, None] = {}
    for word in words(text):
        for form in forms(word):
            found[form] = None
        if len(found) >= MAX_WORDS:
            break
    return list(found)


def words(text: str) -> Iterable[str]:
    """Give the different words of a text in lower case, in the order in which they occur first."""
    found = dict.fromkeys(_WORD.findall(unicodedata.normalize("NFC", text).casefold()))
    if not text.isascii() and _UNSPACED.search(text):
        return dict.fromkeys(piece for word in found for piece in _pieces(word))
    return found


@lru_cache(maxsize=65536)
def forms(word: str) -> tuple[str, ...]:
    """Give the different stems of a word in lower case; none of one that is too long to be a word."""
    if len(word) > MAX_WORD:
        return ()
    return tuple(dict.fromkeys(_plain(stemmer.stemWord(word)) for stemmer in _STEMMERS))


def _plain(word: str) -> str:
    """The word without its marks."""
    if word.isascii():
        return word
    return "".join(
        [character for character in unicodedata.normalize("NFKD", word) if not unicodedata.combining(character)]
    )


def _pieces(word: str) -> Iterable[str]:
    """The pairs of characters of a word written without spaces; another word as it is."""
    if len(word) < 2 or not _UNSPACED.search(word):
        return (word,)
    return [word[at : at + 2] for at in range(len(word) - 1)]
