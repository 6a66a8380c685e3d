"""FUZZY, RFC 6203: which words are looked for, and how well a message has them.

Stems of words, German and English, in the text and in attachments. A message matches when it has all of the words, and
is the more relevant the more prominently it has them: in the subject, with its people, in the text, in an attachment.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from daemons.access.imap.needles import Candidate
from protocol.imap import search
from protocol.message import unpack
from protocol.message.stems import SECTIONS, forms, word_sections, words
from protocol.message.text import searchable

MAX_WORDS = 16  # of one key; later ones are not looked for
_WEIGHTS = {"subject": 100, "from": 90, "to": 80, "body": 60, "attachments": 30}
_SECTIONS_OF = {b"SUBJECT": ("subject",), b"FROM": ("from",), b"TO": ("to",), b"CC": ("to",), b"BCC": ("to",)}


@dataclass(frozen=True, slots=True)
class Query:
    """The words of one key: the forms of each, and in which sections they may stand."""

    forms: Sequence[tuple[str, ...]]
    sections: tuple[str, ...]

    @classmethod
    def of(cls, key: search.Header | search.Body | search.Text) -> "Query | None":
        """None where there is nothing fuzzy: no words in the text, or a field whose words are not kept."""
        sections: tuple[str, ...]
        match key:
            case search.Header(name, text):
                sections = _SECTIONS_OF.get(name, ())
            case search.Body(text):
                sections = ("body", "attachments")
            case search.Text(text):
                sections = SECTIONS
        found = [stems for word in words(text) if (stems := forms(word))][:MAX_WORDS]
        return cls(found, sections) if found and sections else None

    def score(self, kept: str) -> int:
        """How relevant a message with these words is, 1 to 100; 0 when it does not match."""
        lines = dict(zip(SECTIONS, kept.split("\n"), strict=True))
        best = [max(self._weight(stems, lines[name], name) for name in self.sections) for stems in self.forms]
        return max(1, round(sum(best) / len(best))) if all(best) else 0

    @staticmethod
    def _weight(stems: tuple[str, ...], line: str, name: str) -> float:
        return _WEIGHTS[name] if any(f" {stem} " in line for stem in stems) else 0


def words_of(candidates: Sequence[Candidate]) -> dict[int, str]:
    """The words of messages that the index does not hold, without those of their attachments. Runs in a thread."""
    found = {}
    for place, _, original, structure in candidates:
        part = unpack(structure)
        _, body = searchable(original, part)
        found[place] = word_sections(original[part.header_start : part.body_start], body, "")
    return found
