"""The scripted tests of imaptest (Timo Sirainen, MIT): their format read, and run against a server of ours.

A script is a header of `key: value` lines, an empty line, and groups of commands with the untagged replies that must come
(`*`), may come (`?`) or must not (`!`), and the tagged ones (`ok`, `no`, `bad`, `""` for any). `$name` binds a word of a
reply and must be equal later, `$3` is what was message 3 when the command was sent, `$` is anything. Lists match by the
rules of the format's own documentation: in order, unless `$!unordered` and the defaults for FETCH, LIST, LSUB and STATUS
say otherwise.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

_VARIABLE = re.compile(r"\$\$|\$\{(\w+)\}|\$(\w+)")
_ATOM = re.compile(rb'(?:[^\x00-\x20()"{]|(?<=\$)\{\w+\})+(?:\[[^\]]*\][^\x00-\x20()"{]*)?')
_LITERAL = re.compile(rb"~?\{(\d+)\+?\}\r\n")
_QUOTED = re.compile(rb'"((?:[^"\\]|\\.)*)"')
_SECTION = re.compile(rb"[A-Za-z0-9.]+\[[^\]]*\](?:<\d+(?:\.\d+)?>)?")
_STATUSES = ("ok", "no", "bad", '""')


class ScriptError(Exception):
    """The script cannot be understood."""


@dataclass(frozen=True, slots=True)
class String:
    """A quoted string or a literal; atoms are plain str."""

    text: str


Value: TypeAlias = "str | String | list[Value]"


@dataclass
class Command:
    """One command of a group and the tagged reply it must get."""

    tag: str
    octets: bytes
    reply: list[Value] | None = None  # status, then a prefix of what follows


@dataclass
class Group:
    """Commands sent at once on one connection, and what must and must not come before their tagged replies."""

    line: int
    connection: int
    commands: list[Command] = field(default_factory=list)
    wanted: list[list[Value]] = field(default_factory=list)
    banned: list[list[Value]] = field(default_factory=list)

    @property
    def is_waiting(self) -> bool:
        """Whether a tagged reply has not been read yet."""
        return any(command.reply is None for command in self.commands)


@dataclass
class Script:
    """One file."""

    header: dict[str, str]
    groups: list[Group]

    @property
    def connections(self) -> int:
        """How many connections it uses."""
        return int(self.header.get("connections", "1"))

    @property
    def state(self) -> str:
        """nonauth, auth, created, appended or selected."""
        return self.header.get("state", "selected")

    @property
    def capabilities(self) -> set[str]:
        """What the server must offer."""
        return set(self.header.get("capabilities", "").upper().split())


def tokens(octets: bytes) -> list[Value]:
    """The values of one response or expected response, lists nested. A response code's brackets are atoms of their own."""
    values, position = _values(octets, 0)
    if position != len(octets):
        raise ScriptError(f"cannot read on at {octets[position : position + 40]!r}")
    return values


def _values(octets: bytes, position: int) -> tuple[list[Value], int]:
    values: list[Value] = []
    while position < len(octets):
        character = octets[position : position + 1]
        if character == b" ":
            position += 1
        elif character == b")":
            break
        elif character == b"(":
            inner, position = _values(octets, position + 1)
            if octets[position : position + 1] != b")":
                raise ScriptError("a list does not end")
            values.append(inner)
            position += 1
        elif found := _LITERAL.match(octets, position):
            end = found.end() + int(found[1])
            values.append(String(octets[found.end() : end].decode("latin-1")))
            position = end
        elif found := _QUOTED.match(octets, position):
            values.append(String(re.sub(rb"\\(.)", rb"\1", found[1]).decode("latin-1")))
            position = found.end()
        elif found := _SECTION.match(octets, position) or _ATOM.match(octets, position):
            values.append(found[0].decode("latin-1"))
            position = found.end()
        else:
            values.append(character.decode("latin-1"))
            position += 1
    return values, position


def read(path: Path) -> Script:
    """Read a script. Raises ScriptError."""
    header: dict[str, str] = {}
    groups: list[Group] = []
    is_header = True
    connections = 1
    for number, line in _logical_lines(path.read_bytes()):
        if is_header:
            if not line:
                is_header = False
            elif not line.startswith(b"#"):
                key, _, value = line.decode().partition(":")
                header[key.strip()] = value.strip()
            connections = int(header.get("connections", "1"))
        elif line and not line.startswith(b"#"):
            _command_line(groups, number, line, has_number=connections > 1)
    if not groups:
        raise ScriptError("no commands")
    return Script(header, groups)


def _logical_lines(octets: bytes) -> Iterator[tuple[int, bytes]]:
    """Lines, with the text between {{{ and }}} made a literal: its lines ended by CRLF unless ~{{{, the last end left out."""
    lines = enumerate(octets.split(b"\n"), start=1)
    for number, line in lines:
        whole = b""
        while line.endswith(b"{{{"):
            is_binary = line.endswith(b"~{{{")
            whole += line[: -4 if is_binary else -3]
            inner = []
            for _, text in lines:
                if text.startswith(b"}}}"):
                    line = text[3:]
                    break
                inner.append(text)
            literal = (b"\n" if is_binary else b"\r\n").join(inner)
            whole += b"%b{%d}\r\n%b" % (b"~" if is_binary else b"", len(literal), literal)
        yield number, whole + line


def _command_line(groups: list[Group], number: int, line: bytes, *, has_number: bool) -> None:
    group = groups[-1] if groups else None
    if line[:2] in (b"* ", b"! ", b"? "):
        if group is None:
            raise ScriptError("a reply before the first command")
        if line[:1] == b"?":  # may come
            return
        (group.wanted if line[:1] == b"*" else group.banned).append(with_directives(tokens(line[2:])))
        return
    connection = 1
    if has_number:
        first, _, line = line.partition(b" ")
        connection = int(first)
    tag, rest = "", line
    first, _, after = line.partition(b" ")
    if re.fullmatch(rb"tag[1-9]\d*", first, re.IGNORECASE):
        tag, rest = first.decode(), after
    status = rest.partition(b" ")[0].decode("latin-1").lower()
    if status in _STATUSES:
        if group is not None and group.is_waiting:
            command = next(command for command in group.commands if command.tag == tag)
            command.reply = _reply(rest)
            return
        reply: list[Value] | None = [status]
        rest = rest.partition(b" ")[2]
    else:
        reply = None
    if group is None or not group.is_waiting:
        group = Group(number, connection)
        groups.append(group)
    group.commands.append(Command(tag, rest, reply))


def _reply(octets: bytes) -> list[Value]:
    status, _, rest = octets.decode("latin-1").partition(" ")
    return [status.lower(), *tokens(rest.encode("latin-1"))]


def with_directives(values: list[Value]) -> list[Value]:
    """The format's defaults for lists without directives."""
    words = [value.lower() if isinstance(value, str) else "" for value in values]
    name = next((word for word in words[:2] if word in ("fetch", "list", "lsub", "status", "uidfetch")), "")
    for index, value in enumerate(values):
        if not isinstance(value, list) or _directives(value):
            continue
        if name in ("fetch", "uidfetch"):
            for at in range(1, len(value), 2):
                flags = value[at]
                if str(value[at - 1]).lower() == "flags" and isinstance(flags, list) and not _directives(flags):
                    value[at] = ["$!unordered", "$!noextra", "$!ignore=\\recent", *flags]
            values[index] = ["$!unordered=2", *value]
        elif name in ("list", "lsub"):
            values[index] = ["$!unordered", *value]
            name = ""  # of LIST only the attributes
        elif name == "status":
            values[index] = ["$!unordered=2", *value]
    return values


def _directives(values: Sequence[Value]) -> list[str]:
    found = []
    for value in values:
        if not isinstance(value, str) or not value.startswith("$!"):
            break
        found.append(value)
    return found


class Variables:
    """Names that are bound, and what $n means now."""

    def __init__(self, bound: Mapping[str, str], numbers: Callable[[int], int | None]) -> None:
        self.bound = dict(bound)
        self._numbers = numbers

    def expand(self, text: str) -> str | None:
        """The text with its variables filled in; None when one has no value."""
        is_bound = True

        def value(found: re.Match[str]) -> str:
            nonlocal is_bound
            if found[0] == "$$":
                return "$"
            name = found[1] or found[2]
            number = self._numbers(int(name)) if name.isdigit() else None
            text = str(number) if number is not None else self.bound.get(name)
            is_bound &= text is not None
            return text or ""

        expanded = _VARIABLE.sub(value, text)
        return expanded if is_bound else None

    def matches(self, wanted: Sequence[Value], got: Sequence[Value], *, is_prefix: bool = False) -> bool:
        """Whether the values match; binds new names only if they all do."""
        before = dict(self.bound)
        if self._lists(wanted, got, is_prefix=is_prefix):
            return True
        self.bound = before
        return False

    def _lists(self, wanted: Sequence[Value], got: Sequence[Value], *, is_prefix: bool = False) -> bool:
        directives = _directives(wanted)
        wanted = wanted[len(directives) :]
        chain = 0
        for directive in directives:
            if directive.startswith("$!unordered"):
                chain = int(directive.partition("=")[2] or 1)
        if chain:
            return self._unordered(wanted, got, chain, directives)
        if len(wanted) > len(got) or (len(wanted) < len(got) and not is_prefix):
            return False
        return all(self._value(one, other) for one, other in zip(wanted, got, strict=False))

    def _unordered(self, wanted: Sequence[Value], got: Sequence[Value], chain: int, directives: list[str]) -> bool:
        remaining = [got[at : at + chain] for at in range(0, len(got), chain)]
        for at in range(0, len(wanted), chain):
            item = wanted[at : at + chain]
            found = next((other for other in remaining if self._chain(item, other)), None)
            if found is None:
                return False
            remaining.remove(found)
        extras = [str(other[0]).lower() for other in remaining]
        banned = [directive.partition("=")[2].lower() for directive in directives if directive.startswith("$!ban=")]
        ignored = [directive.partition("=")[2].lower() for directive in directives if directive.startswith("$!ignore=")]
        if "$!noextra" in directives and any(extra not in ignored for extra in extras):
            return False
        return not any(extra in banned for extra in extras)

    def _chain(self, wanted: Sequence[Value], got: Sequence[Value]) -> bool:
        before = dict(self.bound)
        if len(wanted) == len(got) and all(self._value(one, other) for one, other in zip(wanted, got, strict=True)):
            return True
        self.bound = before
        return False

    def _value(self, wanted: Value, got: Value) -> bool:
        if wanted == "$" or (wanted == "$]" and isinstance(got, str) and got.endswith("]")):
            return True
        if isinstance(wanted, list) or isinstance(got, list):
            return isinstance(wanted, list) and isinstance(got, list) and self._lists(wanted, got)
        is_nil = isinstance(wanted, str) and wanted.lower() == "nil"
        if is_nil:
            return isinstance(got, str) and got.lower() == "nil"
        pattern = wanted if isinstance(wanted, str) else wanted.text
        text = got if isinstance(got, str) else got.text
        whole = _VARIABLE.fullmatch(pattern.removesuffix("]") if isinstance(wanted, str) else pattern)
        if (
            whole is not None
            and pattern != "$$"
            and self.expand(whole[0]) is None
            and not (whole[1] or whole[2]).isdigit()
        ):
            closing = "]" if pattern.endswith("]") and isinstance(wanted, str) else ""
            if not text.endswith(closing):
                return False
            self.bound[whole[1] or whole[2]] = text.removesuffix(closing)
            return True
        expanded = self.expand(pattern)
        return expanded is not None and expanded.lower() == text.lower()
