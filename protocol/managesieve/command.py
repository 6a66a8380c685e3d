"""ManageSieve commands, RFC 5804 §2: the tokens of one line in, one typed command out.

Never decides whether a command is allowed now: that is the session's transition table.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from protocol.managesieve.names import ScriptNameError, script_name
from protocol.managesieve.reader import Oversized, String, Token, Word
from protocol.managesieve.response import Code


@dataclass(frozen=True, slots=True)
class Authenticate:
    """AUTHENTICATE mechanism [initial-response], RFC 5804 §2.1."""

    mechanism: bytes
    initial: bytes | None = field(default=None, repr=False)  # base64


@dataclass(frozen=True, slots=True)
class StartTls:
    """STARTTLS, RFC 5804 §2.2."""


@dataclass(frozen=True, slots=True)
class Logout:
    """LOGOUT, RFC 5804 §2.3."""


@dataclass(frozen=True, slots=True)
class Capability:
    """CAPABILITY, RFC 5804 §2.4."""


@dataclass(frozen=True, slots=True)
class HaveSpace:
    """HAVESPACE name size, RFC 5804 §2.5."""

    name: str
    size_octets: int


@dataclass(frozen=True, slots=True)
class PutScript:
    """PUTSCRIPT name script, RFC 5804 §2.6."""

    name: str
    script: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class ListScripts:
    """LISTSCRIPTS, RFC 5804 §2.7."""


@dataclass(frozen=True, slots=True)
class SetActive:
    """SETACTIVE name, RFC 5804 §2.8."""

    name: str  # "": none is active any more


@dataclass(frozen=True, slots=True)
class GetScript:
    """GETSCRIPT name, RFC 5804 §2.9."""

    name: str


@dataclass(frozen=True, slots=True)
class DeleteScript:
    """DELETESCRIPT name, RFC 5804 §2.10."""

    name: str


@dataclass(frozen=True, slots=True)
class RenameScript:
    """RENAMESCRIPT old new, RFC 5804 §2.11."""

    old: str
    new: str


@dataclass(frozen=True, slots=True)
class CheckScript:
    """CHECKSCRIPT script, RFC 5804 §2.12."""

    script: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Noop:
    """NOOP [tag], RFC 5804 §2.13."""

    tag: bytes | None = None


@dataclass(frozen=True, slots=True)
class Unauthenticate:
    """UNAUTHENTICATE, RFC 5804 §2.14.1."""


Command: TypeAlias = (
    Authenticate
    | StartTls
    | Logout
    | Capability
    | HaveSpace
    | PutScript
    | ListScripts
    | SetActive
    | GetScript
    | DeleteScript
    | RenameScript
    | CheckScript
    | Noop
    | Unauthenticate
)


class CommandError(Exception):
    """The line is no command. Its text is that of the NO, and repeats nothing of the line."""

    def __init__(self, text: str, code: Code | None = None) -> None:
        super().__init__(text)
        self.text = text
        self.code = code


def parse_command(tokens: Sequence[Token]) -> Command:
    """Parse the tokens of one line, at least one. Raises CommandError and nothing else."""
    first, *arguments = tokens
    production = _PRODUCTIONS.get(first.octets.upper()) if isinstance(first, Word) else None
    if production is None:
        raise CommandError("unknown command")
    return production(arguments)


def _bare(command: Command) -> Callable[[list[Token]], Command]:
    def production(arguments: list[Token]) -> Command:
        _expect(arguments, 0, "no argument")
        return command

    return production


def _expect(arguments: list[Token], count: int, what: str) -> None:
    if len(arguments) != count:
        raise CommandError(f"expected {what}")


def _authenticate(arguments: list[Token]) -> Authenticate:
    if len(arguments) not in (1, 2):
        raise CommandError("expected a mechanism and at most one initial response")
    initial = _octets(arguments[1]) if len(arguments) == 2 else None
    return Authenticate(_octets(arguments[0]).upper(), initial)


def _have_space(arguments: list[Token]) -> HaveSpace:
    _expect(arguments, 2, "a script's name and its size")
    return HaveSpace(_name(arguments[0]), _number(arguments[1]))


def _put_script(arguments: list[Token]) -> PutScript:
    _expect(arguments, 2, "a script's name and the script")
    return PutScript(_name(arguments[0]), _script(arguments[1]))


def _check_script(arguments: list[Token]) -> CheckScript:
    _expect(arguments, 1, "a script")
    return CheckScript(_script(arguments[0]))


def _set_active(arguments: list[Token]) -> SetActive:
    _expect(arguments, 1, "a script's name")
    return SetActive("" if arguments[0] == String(b"") else _name(arguments[0]))


def _get_script(arguments: list[Token]) -> GetScript:
    _expect(arguments, 1, "a script's name")
    return GetScript(_name(arguments[0]))


def _delete_script(arguments: list[Token]) -> DeleteScript:
    _expect(arguments, 1, "a script's name")
    return DeleteScript(_name(arguments[0]))


def _rename_script(arguments: list[Token]) -> RenameScript:
    _expect(arguments, 2, "the old and the new name of a script")
    return RenameScript(_name(arguments[0]), _name(arguments[1]))


def _noop(arguments: list[Token]) -> Noop:
    if len(arguments) > 1:
        raise CommandError("expected at most one argument")
    return Noop(_octets(arguments[0])) if arguments else Noop()


def _octets(token: Token) -> bytes:
    """A string; an atom is taken for one where no script is meant, as people at a terminal send it."""
    if isinstance(token, Oversized):
        raise CommandError("argument too long")
    return token.octets


def _name(token: Token) -> str:
    try:
        return script_name(_octets(token).decode())
    except UnicodeDecodeError:
        raise CommandError("expected UTF-8 in a script's name") from None
    except ScriptNameError as error:
        raise CommandError(str(error)) from None


def _script(token: Token) -> bytes:
    if isinstance(token, Word):
        raise CommandError("expected the script as a string")
    if isinstance(token, Oversized):
        raise CommandError("script too large", Code.MAXSIZE)
    return token.octets


def _number(token: Token) -> int:
    # number = (NZDIGIT *DIGIT) / "0"                                                                       (RFC 5804 §4)
    if not isinstance(token, Word) or not token.octets.isdigit() or len(token.octets) > len("4294967295"):
        raise CommandError("expected a number")
    return int(token.octets)


_PRODUCTIONS: dict[bytes, Callable[[list[Token]], Command]] = {
    b"AUTHENTICATE": _authenticate,
    b"STARTTLS": _bare(StartTls()),
    b"LOGOUT": _bare(Logout()),
    b"CAPABILITY": _bare(Capability()),
    b"HAVESPACE": _have_space,
    b"PUTSCRIPT": _put_script,
    b"LISTSCRIPTS": _bare(ListScripts()),
    b"SETACTIVE": _set_active,
    b"GETSCRIPT": _get_script,
    b"DELETESCRIPT": _delete_script,
    b"RENAMESCRIPT": _rename_script,
    b"CHECKSCRIPT": _check_script,
    b"NOOP": _noop,
    b"UNAUTHENTICATE": _bare(Unauthenticate()),
}
