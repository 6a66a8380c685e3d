"""A position in one complete IMAP command, and the productions every command is made of (RFC 3501 §9, RFC 9051 §9).

`take_x` may decline and moves nothing then; `expect_x` raises CommandError, which carries the reply. The octets are all
lines of the command joined, without CRLFs; a literal's octets are kept beside them, under the position where its "{" stands.
"""

import re
from collections.abc import Callable, Mapping
from typing import Literal, NoReturn, TypeVar

from protocol.imap.limits import Limits

Element = TypeVar("Element")


class CommandError(Exception):
    """A command that cannot be parsed or used. Carries the reply: status, response code, ASCII text without peer's octets."""

    def __init__(self, status: Literal["BAD", "NO"], code: bytes | None, text: str) -> None:
        super().__init__(text)
        self.status: Literal["BAD", "NO"] = status
        self.code = code
        self.text = text


# atom-specials = "(" / ")" / "{" / SP / CTL / list-wildcards / quoted-specials / resp-specials
# Octets above 0x7f are no ATOM-CHAR in RFC 3501 §9. We take them anywhere but in strict mode: clients write UTF-8 mailbox
# names and user names without quotes, and RFC 9051 §5.1 has UTF-8 names in quoted strings anyway.
_ATOM = re.compile(rb'[^\x00-\x20\x7f(){%*"\\\]]+')
_ATOM_STRICT = re.compile(rb"[!#$&\'+,\-./0-9:;<=>?@A-Z\[^_`a-z|}~]+")
# ASTRING-CHAR = ATOM-CHAR / resp-specials
_ASTRING = re.compile(rb'[^\x00-\x20\x7f(){%*"\\]+')
_ASTRING_STRICT = re.compile(rb"[!#$&\'+,\-./0-9:;<=>?@A-Z\[\]^_`a-z|}~]+")
# list-char = ATOM-CHAR / list-wildcards / resp-specials
_LIST_CHARS = re.compile(rb'[^\x00-\x20\x7f(){"\\]+')
_LIST_CHARS_STRICT = re.compile(rb"[!#$%*&\'+,\-./0-9:;<=>?@A-Z\[\]^_`a-z|}~]+")
# quoted = DQUOTE *QUOTED-CHAR DQUOTE
_QUOTED = re.compile(rb'"([^"\\\r\n\x00]*(?:\\["\\][^"\\\r\n\x00]*)*)"')
_QUOTED_STRICT = re.compile(rb'"([^"\\\r\n\x00\x80-\xff]*(?:\\["\\][^"\\\r\n\x00\x80-\xff]*)*)"')
_ESCAPED = re.compile(rb'\\(["\\])')
_SPACES = re.compile(rb" +")
_SPACES_TO_END = re.compile(rb" *\Z")
_NUMBER = re.compile(rb"[0-9]{1,20}")
_SET = re.compile(rb"[0-9*][0-9*:,]*|\$")
# words of commands, fetch items, search keys, options: no RFC has other characters in them
_WORD = re.compile(rb"[A-Za-z0-9][A-Za-z0-9.=_-]*")


class Cursor:
    """One pass over one command, from left to right."""

    __slots__ = ("_depth", "_items", "is_strict", "is_utf8", "limits", "literals", "octets", "position")

    def __init__(
        self,
        octets: bytes,
        literals: Mapping[int, bytes],
        limits: Limits,
        *,
        position: int = 0,
        is_strict: bool = False,
        is_utf8: bool = False,
    ) -> None:
        self.octets = octets
        self.literals = literals
        self.limits = limits
        self.position = position
        self.is_strict = is_strict  # the one switch of all leniency: nothing but the grammar
        self.is_utf8 = (
            is_utf8  # after ENABLE UTF8=ACCEPT or IMAP4rev2, mailbox names are UTF-8 (RFC 6855 §3, RFC 9051 §5.1)
        )
        self._depth = 0
        self._items = 0

    def __repr__(self) -> str:
        return f"<Cursor at {self.position} of {len(self.octets)} octets, {len(self.literals)} literals>"

    def fail(self, expected: str) -> NoReturn:
        """Refuse the command, with what was expected and at which octet (counted from 1, literals left out)."""
        raise CommandError("BAD", None, f"expected {expected} at octet {self.position + 1}")

    def refuse(self, text: str) -> NoReturn:
        """Refuse the command for a reason other than its next octet."""
        raise CommandError("BAD", None, text)

    def take(self, token: bytes) -> bool:
        """Pass over exactly these octets if they are next."""
        if self.octets.startswith(token, self.position):
            self.position += len(token)
            return True
        return False

    def expect(self, token: bytes) -> None:
        """Pass over exactly these octets."""
        if not self.octets.startswith(token, self.position):
            self.fail(f"'{token.decode()}'")
        self.position += len(token)

    def expect_space(self) -> None:
        """Pass over a space.

        Several are taken as one but in strict mode: nothing begins with a space, and the scripts by which servers are tested
        (those of Apache James) double them.
        """
        if not self.octets.startswith(b" ", self.position):
            self.fail("a space")
        self.position += 1
        self.skip_spaces()

    def skip_spaces(self) -> None:
        """Pass over spaces that should not be there; strict mode leaves them to be refused."""
        if not self.is_strict and self.octets.startswith(b" ", self.position):
            found = _SPACES.match(self.octets, self.position)
            self.position = found.end() if found else self.position

    def is_next(self, token: bytes) -> bool:
        """Whether these octets are next."""
        return self.octets.startswith(token, self.position)

    def expect_end(self) -> None:
        """The command ends here.

        Trailing spaces are ignored but in strict mode, as the servers do that clients were tested against.
        """
        if not self.is_at_end():
            self.fail("the end of the command")

    def is_at_end(self) -> bool:
        """Whether nothing but (ignored) spaces is left."""
        if self.position == len(self.octets):
            return True
        return not self.is_strict and _SPACES_TO_END.match(self.octets, self.position) is not None

    def take_word(self) -> bytes | None:
        """A word such as FLAGS or RFC822.SIZE, in upper case."""
        found = _WORD.match(self.octets, self.position)
        if found is None:
            return None
        self.position = found.end()
        return found[0].upper()

    def take_keyword(self, word: bytes) -> bool:
        """Pass over this word (in upper case), written in any case, if it is next and is not part of a longer one."""
        found = _WORD.match(self.octets, self.position)
        if found is None or found[0].upper() != word:
            return False
        self.position = found.end()
        return True

    def take_while_set(self) -> bytes | None:
        """The characters of a sequence set, not yet checked."""
        return self._matched(_SET)

    def count_item(self) -> None:
        """One more element of a list, or one more search key."""
        self._items += 1
        if self._items > self.limits.list_items:
            self.refuse("too many arguments")

    def enter(self) -> None:
        """One level of nesting deeper; leave() it again."""
        self._depth += 1
        if self._depth > self.limits.nesting:
            self.refuse("nested too deeply")

    def leave(self) -> None:
        """One level of nesting less."""
        self._depth -= 1

    def matched(self, lenient: re.Pattern[bytes], strict: re.Pattern[bytes]) -> bytes | None:
        """What the pattern of the mode in force matches here."""
        return self._matched(strict if self.is_strict else lenient)

    def _matched(self, pattern: re.Pattern[bytes]) -> bytes | None:
        found = pattern.match(self.octets, self.position)
        if found is None:
            return None
        self.position = found.end()
        return found[0]


# atom = 1*ATOM-CHAR
def take_atom(cursor: Cursor) -> bytes | None:
    """An atom."""
    return cursor.matched(_ATOM, _ATOM_STRICT)


def expect_atom(cursor: Cursor, expected: str = "an atom") -> bytes:
    """An atom; `expected` names what it stands for."""
    return take_atom(cursor) or cursor.fail(expected)


# quoted = DQUOTE *QUOTED-CHAR DQUOTE
def take_quoted(cursor: Cursor) -> bytes | None:
    """A quoted string, unescaped."""
    found = (_QUOTED_STRICT if cursor.is_strict else _QUOTED).match(cursor.octets, cursor.position)
    if found is None:
        return None
    cursor.position = found.end()
    return _ESCAPED.sub(rb"\1", found[1]) if b"\\" in found[1] else found[1]


# literal  = "{" number ["+"] "}" CRLF *CHAR8     (RFC 7888 §8)
# literal8 = "~{" number ["+"] "}" CRLF *OCTET    (RFC 3516 §4.4)
def take_literal(cursor: Cursor, *, is_binary: bool = False) -> bytes | None:
    """A literal's octets. A literal8 is taken only where is_binary allows it; NUL stands in no other (RFC 3501 §9 CHAR8)."""
    literal = cursor.literals.get(cursor.position)
    if literal is None:
        return None
    if cursor.is_next(b"~"):
        if not is_binary:
            cursor.fail("a string that is no literal8")
    elif b"\x00" in literal:
        cursor.refuse("NUL in a literal")
    cursor.position = cursor.octets.index(b"}", cursor.position) + 1
    return literal


# string = quoted / literal
def take_string(cursor: Cursor) -> bytes | None:
    """A quoted string or a literal."""
    found = take_quoted(cursor)
    return take_literal(cursor) if found is None else found


def expect_string(cursor: Cursor, expected: str = "a string") -> bytes:
    """A quoted string or a literal; `expected` names what it stands for."""
    found = take_string(cursor)
    return cursor.fail(expected) if found is None else found


# nstring = string / nil
def expect_nstring(cursor: Cursor) -> bytes | None:
    """A string, or None for NIL."""
    found = take_string(cursor)
    if found is None and not cursor.take_keyword(b"NIL"):
        cursor.fail("a string or NIL")
    return found


# astring = 1*ASTRING-CHAR / string
def expect_astring(cursor: Cursor, expected: str = "a string") -> bytes:
    """An atom or string; `expected` names what it stands for."""
    if cursor.position in cursor.literals:  # before "~" of a literal8 looks like an atom
        return expect_string(cursor, expected)
    found = cursor.matched(_ASTRING, _ASTRING_STRICT)
    return expect_string(cursor, expected) if found is None else found


# list-mailbox = 1*list-char / string
def expect_list_mailbox(cursor: Cursor) -> bytes:
    """A mailbox name or pattern with wildcards."""
    found = cursor.matched(_LIST_CHARS, _LIST_CHARS_STRICT)
    return expect_string(cursor, "a mailbox pattern") if found is None else found


# number = 1*DIGIT          ; 0 <= n < 4,294,967,296
def expect_number(cursor: Cursor, expected: str = "a number", *, least: int = 0, most: int = 0xFFFFFFFF) -> int:
    """A number within its bounds: 32 bits, or up to 63 for number64 (RFC 9051 §9) and mod-sequences (RFC 7162 §7)."""
    found = _NUMBER.match(cursor.octets, cursor.position)
    if found is None or not least <= int(found[0]) <= most:
        cursor.fail(expected)
    cursor.position = found.end()
    return int(found[0])


def expect_list(
    cursor: Cursor, production: Callable[[Cursor], Element], *, may_be_empty: bool = False
) -> tuple[Element, ...]:
    """`"(" production *(SP production) ")"`, and but in strict mode spaces inside the parentheses, as expect_space() argues."""
    cursor.expect(b"(")
    if may_be_empty and cursor.take(b")"):
        return ()
    cursor.enter()
    elements = []
    cursor.skip_spaces()
    while True:
        cursor.count_item()
        elements.append(production(cursor))
        if cursor.take(b")"):
            break
        cursor.expect_space()
        if not cursor.is_strict and cursor.take(b")"):
            break
    cursor.leave()
    return tuple(elements)
