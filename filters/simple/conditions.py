"""Conditions in words, as people write them on the command line and read them again.

from is boss@example.org or chief@example.org
not subject contains "this or that" or Newsletter
recipient matches *@team.example.org, header List-Id exists, body contains invoice, size over 5M
attachment, contact, fax
"""

import re
from collections import deque
from collections.abc import Sequence
from typing import Literal, NamedTuple, cast

from filters.simple.settings import Attachment, Body, Condition, Contact, Fax, Header, Size

Match = Literal["contains", "is", "matches", "exists"]

_FIELDS = ("from", "to", "cc", "recipient", "subject", "sender", "reply-to")
_FACTS: dict[str, type[Attachment | Contact | Fax]] = {"attachment": Attachment, "contact": Contact, "fax": Fax}
_MATCHES = ("contains", "is", "matches", "exists")
_WORD = re.compile(r'"((?:[^"\\]|\\.)*)"(?!\S)|(\S+)')
_PLAIN = re.compile(r'(?!or\Z)[^\s"]+', re.IGNORECASE)
_SIZE = re.compile(r"([0-9]{1,10})([KMG]?)", re.IGNORECASE)
_UNITS = {"G": 1 << 30, "M": 1 << 20, "K": 1 << 10, "": 1}  # RFC 5228 §2.4.1


class WordsError(ValueError):
    """The words are no condition. The message says what was expected."""


class _Word(NamedTuple):
    text: str
    keyword: str  # in lower case; "" in quotation marks


def parse(text: str) -> Condition:
    """Read one condition. Raises WordsError."""
    words = deque(_word(found) for found in _WORD.finditer(text))
    is_not = bool(words) and words[0].keyword == "not"
    if is_not:
        words.popleft()
    condition = _condition(words, is_not=is_not)
    if words:
        raise WordsError(f"unexpected at the end: {words[0].text}")
    return condition


def _word(found: re.Match[str]) -> _Word:
    quoted, plain = found.groups()
    if plain is None:
        return _Word(re.sub(r"\\(.)", r"\1", quoted, flags=re.DOTALL), "")
    if plain.startswith('"'):
        raise WordsError("a quotation mark is not closed, or something stands right behind it")
    return _Word(plain, plain.lower())


def _condition(words: deque[_Word], *, is_not: bool) -> Condition:
    subject = _next(words, "a condition").keyword
    if subject in _FACTS:
        return _FACTS[subject](is_not=is_not)
    if subject == "size":
        direction = _next(words, "over or under").keyword
        if direction not in ("over", "under"):
            raise WordsError("expected over or under behind size")
        return Size(over=direction == "over", octets=size_octets(_next(words, "a size").text), is_not=is_not)
    if subject == "body":
        if _next(words, "contains").keyword != "contains":
            raise WordsError("expected contains behind body")
        return Body(values=_values(words), is_not=is_not)
    if subject == "header":
        return _header(words, _next(words, "the name of a header field").text, is_not=is_not)
    if subject in _FIELDS:
        return _header(words, subject, is_not=is_not)
    known = ", ".join((*_FIELDS, "header NAME", "body", "size", *_FACTS))
    raise WordsError(f"a condition begins with one of {known}, or with not")


def _header(words: deque[_Word], field: str, *, is_not: bool) -> Header:
    match = _next(words, " or ".join(_MATCHES)).keyword
    if match not in _MATCHES:
        raise WordsError(f"expected one of {', '.join(_MATCHES)} behind {field}")
    values = () if match == "exists" else _values(words)
    return Header(field=field, match=cast("Match", match), values=values, is_not=is_not)


def _next(words: deque[_Word], expected: str) -> _Word:
    if not words:
        raise WordsError(f"expected {expected} at the end")
    return words.popleft()


def _values(words: deque[_Word]) -> tuple[str, ...]:
    """Any of several: words joined by blanks, up to the next `or`."""
    values = [_next(words, "a text").text]
    while words:
        word = words.popleft()
        if word.keyword == "or":
            values.append(_next(words, "a text behind or").text)
        else:
            values[-1] += f" {word.text}"
    return tuple(values)


def size_octets(text: str) -> int:
    """The octets of `500K`. Raises WordsError."""
    found = _SIZE.fullmatch(text)
    if found is None:
        raise WordsError(f"expected a size as 500K or 5M, not {text}")
    return int(found[1]) * _UNITS[found[2].upper()]


def spell(condition: Condition) -> str:
    """The words of a condition, which parse() reads as the same one."""
    match condition:
        case Header(field=field, match=match, values=values):
            name = field if field in _FIELDS else f"header {_spelled((field,))}"
            said = f"{name} {match} {_spelled(values)}".rstrip()
        case Body(values=values):
            said = f"body contains {_spelled(values)}"
        case Size(over=over, octets=octets):
            said = f"size {'over' if over else 'under'} {spell_size(octets)}"
        case _:
            said = next(word for word, kind in _FACTS.items() if isinstance(condition, kind))
    return f"not {said}" if condition.is_not else said


def spell_size(octets: int) -> str:
    """With the largest unit that leaves no rest, as Sieve writes numbers, too."""
    return next(f"{octets // unit}{name}" for name, unit in _UNITS.items() if not octets % unit)


def _spelled(values: Sequence[str]) -> str:
    return " or ".join(each if _PLAIN.fullmatch(each) else _quoted(each) for each in values)


def _quoted(text: str) -> str:
    return '"' + re.sub(r'(["\\])', r"\\\1", text) + '"'
