"""Octets of a script to tokens, RFC 5228 §8.1. Never raises: what is no token becomes one that says what is wrong with it.

Lines may end with LF alone; in strings every line end reads as CRLF, which is what RFC 5228 §2.4.2 says they hold.
"""

import re
from bisect import bisect_right
from dataclasses import dataclass
from enum import Enum

from protocol.sieve.syntax import Place

IDENTIFIER_LIMIT = 32  # characters; no name of any extension is longer
NUMBER_LIMIT = (1 << 64) - 1  # RFC 5228 §2.4.1 asks for 2^31 - 1
_FACTORS = {"k": 1 << 10, "m": 1 << 20, "g": 1 << 30}

_TOKEN = re.compile(
    r"""
    (?P<white>[ \t\r\n]++ | \#[^\n]*+ | /\*(?:[^*]|\*(?!/))*+\*/)
  | (?P<multiline>text:[ \t]*+(?:\#[^\n]*+)?\r?\n)
  | (?P<identifier>[a-z_][a-z0-9_]*+)
  | (?P<tag>:[a-z_][a-z0-9_]*+)
  | (?P<number>[0-9]++[kmg]?)(?![a-z0-9_])
  | (?P<string>"(?:[^"\\]|\\.)*+")
  | (?P<mark>[;,(){}\[\]])
    """,
    re.VERBOSE | re.IGNORECASE | re.DOTALL | re.ASCII,
)
_END_OF_MULTILINE = re.compile(r"^\.\r?(?:\n|\Z)", re.MULTILINE)
_GARBAGE = re.compile(r"[^ \t\r\n;,(){}\[\]\"]++|.", re.DOTALL)
_LINE_END = re.compile(r"\r?\n")
_STUFFED = re.compile(r"^\.(?=\.)", re.MULTILINE)
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)


class Kind(Enum):
    """What a token is."""

    IDENTIFIER = "identifier"
    TAG = "tag"
    NUMBER = "number"
    STRING = "string"
    MARK = "mark"
    BAD = "bad"
    END = "end"


@dataclass(frozen=True, slots=True)
class Token:
    """One token. The text is a name in lower case, the value of a string, a mark, or what is wrong."""

    kind: Kind
    text: str
    place: Place
    value: int = 0  # of a number
    fault: str = ""  # the token can be used to read on, but not the script

    def __str__(self) -> str:
        named = {Kind.MARK: f"'{self.text}'", Kind.TAG: f"':{self.text}'", Kind.END: "the end of the script"}
        return named.get(self.kind) or self.kind.value


class Lexer:
    """One script. Iterate for its tokens; the last one is END."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._lines = [0, *(found.end() for found in re.finditer("\n", source))]

    def place(self, at: int) -> Place:
        """Line and column of an offset."""
        line = bisect_right(self._lines, at)
        return Place(line, at - self._lines[line - 1] + 1)

    def tokens(self) -> list[Token]:
        """All tokens of the script."""
        source, at = self._source, 0
        found: list[Token] = []
        while at < len(source):
            match = _TOKEN.match(source, at)
            kind = match.lastgroup if match else None
            if match is None or kind is None:
                token, at = self._bad(at)
                found.append(token)
            elif kind == "multiline":
                token, at = self._multiline(at, match.end())
                found.append(token)
            else:
                if kind != "white":
                    found.append(self._token(kind, match[0], self.place(at)))
                at = match.end()
        found.append(Token(Kind.END, "", self.place(len(source))))
        return found

    def _token(self, kind: str, text: str, place: Place) -> Token:
        if kind == "mark":
            return Token(Kind.MARK, text, place)
        if kind == "string":
            inside = _ESCAPE.sub(r"\1", text[1:-1]) if "\\" in text else text[1:-1]
            fault = "NUL is not allowed in a string" if "\0" in inside else ""
            return Token(Kind.STRING, _LINE_END.sub("\r\n", inside) if "\n" in inside else inside, place, fault=fault)
        if kind == "number":
            return _number(text.lower(), place)
        name = text.lower().removeprefix(":")
        fault = f"name is longer than {IDENTIFIER_LIMIT} characters" if len(name) > IDENTIFIER_LIMIT else ""
        return Token(Kind.TAG if kind == "tag" else Kind.IDENTIFIER, name, place, fault=fault)

    def _multiline(self, start: int, at: int) -> tuple[Token, int]:
        end = _END_OF_MULTILINE.search(self._source, at)
        if end is None:
            return Token(Kind.BAD, "text: without its final line of one dot", self.place(start)), len(self._source)
        text = _LINE_END.sub("\r\n", _STUFFED.sub("", self._source[at : end.start()]))
        fault = "NUL is not allowed in a string" if "\0" in text else ""
        return Token(Kind.STRING, text, self.place(start), fault=fault), end.end()

    def _bad(self, at: int) -> tuple[Token, int]:
        source, place = self._source, self.place(at)
        if source[at] == '"':
            return Token(Kind.BAD, "string without its closing quote", place), len(source)
        if source.startswith("/*", at):
            return Token(Kind.BAD, "comment without its end", place), len(source)
        match = _GARBAGE.match(source, at)
        end = match.end() if match else at + 1
        return Token(Kind.BAD, f"unexpected {source[at : min(end, at + 20)]!r}", place), end


def _number(text: str, place: Place) -> Token:
    factor = _FACTORS.get(text[-1], 1)
    digits = text.rstrip("kmg").lstrip("0") or "0"
    value = int(digits) * factor if len(digits) <= 20 else NUMBER_LIMIT + 1
    if value > NUMBER_LIMIT:
        return Token(Kind.NUMBER, text, place, 0, f"number is larger than {NUMBER_LIMIT}")
    return Token(Kind.NUMBER, text, place, value)
