"""POP3 command lines, RFC 1939 §3 and RFC 6856: the octets of one line in, one typed command out.

Never decides whether a command is allowed now: that is the session's transition table.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias

from protocol.pop3.texts import Text


@dataclass(frozen=True, slots=True)
class Capa:
    """CAPA, RFC 2449 §5."""


@dataclass(frozen=True, slots=True)
class User:
    """USER name, RFC 1939 §7."""

    name: str


@dataclass(frozen=True, slots=True)
class Pass:
    """PASS string, RFC 1939 §7."""

    password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Auth:
    """AUTH mechanism [initial-response], RFC 5034 §4."""

    mechanism: bytes
    initial: bytes | None = field(default=None, repr=False)  # base64 or "=", undecoded


@dataclass(frozen=True, slots=True)
class Stls:
    """STLS, RFC 2595 §4."""


@dataclass(frozen=True, slots=True)
class Utf8:
    """UTF8, RFC 6856 §2.1."""


@dataclass(frozen=True, slots=True)
class Lang:
    """LANG [lang-tag / "*"], RFC 6856 §3.2."""

    language: str | None  # None: which are there?


@dataclass(frozen=True, slots=True)
class Stat:
    """STAT, RFC 1939 §5."""


@dataclass(frozen=True, slots=True)
class List:
    """LIST [msg], RFC 1939 §5."""

    number: int | None


@dataclass(frozen=True, slots=True)
class Uidl:
    """UIDL [msg], RFC 1939 §7."""

    number: int | None


@dataclass(frozen=True, slots=True)
class Retr:
    """RETR msg, RFC 1939 §5."""

    number: int


@dataclass(frozen=True, slots=True)
class Top:
    """TOP msg n, RFC 1939 §7."""

    number: int
    lines: int


@dataclass(frozen=True, slots=True)
class Dele:
    """DELE msg, RFC 1939 §5."""

    number: int


@dataclass(frozen=True, slots=True)
class Rset:
    """RSET, RFC 1939 §5."""


@dataclass(frozen=True, slots=True)
class Noop:
    """NOOP, RFC 1939 §5."""


@dataclass(frozen=True, slots=True)
class Quit:
    """QUIT, RFC 1939 §4 and §6."""


Command: TypeAlias = (
    Capa | User | Pass | Auth | Stls | Utf8 | Lang | Stat | List | Uidl | Retr | Top | Dele | Rset | Noop | Quit
)


class CommandError(Exception):
    """The line is no command. Its text is the reply after "-ERR " and repeats nothing of the line."""

    def __init__(self, text: Text) -> None:
        super().__init__(text.name)
        self.text = text


def parse_command(line: bytes) -> Command:
    """Parse one line without its CRLF. Raises CommandError and nothing else.

    Trailing spaces are let pass, because clients put them where an optional argument would stand ("LIST "); in a
    password they belong to it.
    """
    keyword, _, argument = line.partition(b" ")
    production = _PRODUCTIONS.get(keyword.upper())
    if production is None:
        raise CommandError(Text.UNKNOWN_COMMAND)
    return production(argument)


def _bare(command: Command) -> Callable[[bytes], Command]:
    def production(argument: bytes) -> Command:
        if argument.strip(b" "):
            raise CommandError(Text.NO_ARGUMENT)
        return command

    return production


def _user(argument: bytes) -> User:
    name = _text(argument.rstrip(b" "))
    if not name:
        raise CommandError(Text.EXPECTED_NAME)
    return User(name)


def _pass(argument: bytes) -> Pass:
    # RFC 1939 §7: "a POP3 server may treat spaces in the argument as part of the password, instead of as argument
    # separators"
    if not argument:
        raise CommandError(Text.EXPECTED_PASSWORD)
    return Pass(_text(argument))


# auth-command = "AUTH" SP sasl-mech *1(SP initial-response) *(CRLF [base64]) [CRLF cancel-response]
def _auth(argument: bytes) -> Auth:
    match argument.rstrip(b" ").split(b" "):
        case [mechanism] if mechanism:
            return Auth(mechanism.upper())
        case [mechanism, initial] if mechanism and initial:
            return Auth(mechanism.upper(), initial)
    raise CommandError(Text.EXPECTED_MECHANISM)


def _list(argument: bytes) -> List:
    return List(_optional_number(argument))


def _uidl(argument: bytes) -> Uidl:
    return Uidl(_optional_number(argument))


def _retr(argument: bytes) -> Retr:
    return Retr(_number(argument.rstrip(b" ")))


def _dele(argument: bytes) -> Dele:
    return Dele(_number(argument.rstrip(b" ")))


def _top(argument: bytes) -> Top:
    number, separator, lines = argument.rstrip(b" ").partition(b" ")
    if not separator:
        raise CommandError(Text.EXPECTED_NUMBERS)
    return Top(_number(number), _number(lines))


# lang-command = "LANG" [SP (lang-range-list / "*")]; we take one range, as every client sends
def _lang(argument: bytes) -> Lang:
    match argument.rstrip(b" ").split(b" "):
        case [b""]:
            return Lang(None)
        case [language] if language.isascii():
            return Lang(_text(language))
    raise CommandError(Text.EXPECTED_LANGUAGE)


def _optional_number(argument: bytes) -> int | None:
    digits = argument.rstrip(b" ")
    return _number(digits) if digits else None


_DIGITS_LIMIT = 18  # ours: beyond any message number or line count, and cheap to convert


def _number(digits: bytes) -> int:
    if not digits.isdigit() or len(digits) > _DIGITS_LIMIT:
        raise CommandError(Text.EXPECTED_NUMBER)
    return int(digits)


def _text(octets: bytes) -> str:
    """UTF-8 as in RFC 6856 §2.2; RFC 1939's printable US-ASCII is a part of it."""
    if b"\0" in octets or b"\r" in octets:
        raise CommandError(Text.CONTROL_OCTETS)
    try:
        return octets.decode()
    except UnicodeDecodeError:
        raise CommandError(Text.EXPECTED_UTF8) from None


_PRODUCTIONS: dict[bytes, Callable[[bytes], Command]] = {
    b"CAPA": _bare(Capa()),
    b"USER": _user,
    b"PASS": _pass,
    b"AUTH": _auth,
    b"STLS": _bare(Stls()),
    b"UTF8": _bare(Utf8()),
    b"LANG": _lang,
    b"STAT": _bare(Stat()),
    b"LIST": _list,
    b"UIDL": _uidl,
    b"RETR": _retr,
    b"TOP": _top,
    b"DELE": _dele,
    b"RSET": _bare(Rset()),
    b"NOOP": _bare(Noop()),
    b"QUIT": _bare(Quit()),
}
