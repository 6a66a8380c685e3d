"""Tokens to a syntax tree, RFC 5228 §8.2. After an error it reads on behind the command, so that one look shows all of them."""

from protocol.sieve.errors import Fault, SieveError
from protocol.sieve.lexer import Kind, Lexer, Token
from protocol.sieve.syntax import Argument, Command, Number, Place, String, StringList, Tag, Test

SCRIPT_LIMIT = 1 << 20  # octets, ours
NESTING_LIMIT = 32  # blocks, and tests, within each other; RFC 5228 §2.10.5 asks for 15
ARGUMENT_LIMIT = 32  # of one command or test, ours
FAULT_LIMIT = 50  # the rest of a script is not looked at after as many


def parse(
    octets: bytes | str, *, script_limit: int = SCRIPT_LIMIT, nesting_limit: int = NESTING_LIMIT
) -> list[Command]:
    """Parse a script. Raises SieveError, and nothing else."""
    size = len(octets) if isinstance(octets, bytes) else len(octets.encode("utf-8", "replace"))
    if size > script_limit:
        raise SieveError(Fault(1, 1, f"script is longer than {script_limit} octets"))
    parser = Parser(Lexer(_text(octets)).tokens(), nesting_limit)
    commands = parser.commands(0)
    if parser.faults:
        raise SieveError(*parser.faults[:FAULT_LIMIT])
    return commands


def _text(octets: bytes | str) -> str:
    if isinstance(octets, str):
        return octets
    try:
        return octets.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = octets[: error.start]
        line = before.count(b"\n") + 1
        column = len(before[before.rfind(b"\n") + 1 :].decode("utf-8", "replace")) + 1
        raise SieveError(Fault(line, column, "script is not UTF-8")) from error


class _SyntaxError(Exception):
    """The command cannot be read on."""


class Parser:
    """One parse: the productions of the grammar, named as there."""

    def __init__(self, tokens: list[Token], nesting_limit: int) -> None:
        self.faults: list[Fault] = []
        self._tokens = tokens
        self._at = 0
        self._limit = nesting_limit

    @property
    def _next(self) -> Token:
        return self._tokens[self._at]

    def _take(self) -> Token:
        token = self._tokens[self._at]
        if token.kind is not Kind.END:
            self._at += 1
        if token.fault:
            self._note(token.place, token.fault)
        return token

    def _take_mark(self, mark: str) -> bool:
        if self._next.kind is Kind.MARK and self._next.text == mark:
            self._at += 1
            return True
        return False

    def _note(self, place: Place, text: str) -> None:
        if len(self.faults) <= FAULT_LIMIT:
            self.faults.append(Fault(place.line, place.column, text))

    def _fail(self, place: Place, text: str) -> _SyntaxError:
        bad = self._next if self._next.kind is Kind.BAD else None
        self._note(place, bad.text if bad is not None and bad.place == place else text)
        return _SyntaxError()

    def commands(self, depth: int) -> list[Command]:
        """Commands = *command: up to the end of the block, or of the script when depth is 0."""
        found: list[Command] = []
        while self._next.kind is not Kind.END and len(self.faults) <= FAULT_LIMIT:
            if self._next.kind is Kind.MARK and self._next.text == "}":
                if depth:
                    break
                self._note(self._next.place, "unexpected '}'")
                self._at += 1
                continue
            try:
                found.append(self.command(depth))
            except _SyntaxError:
                self._recover()
        return found

    def command(self, depth: int) -> Command:
        """Command = identifier arguments (";" / block)."""
        if self._next.kind is not Kind.IDENTIFIER:
            raise self._fail(self._next.place, f"expected a command, found {self._next}")
        name = self._take()
        arguments, tests, has_list = self.arguments(depth)
        if self._take_mark(";"):
            return Command(name.place, name.text, arguments, tests, has_list)
        if not self._take_mark("{"):
            if self._next.kind is Kind.IDENTIFIER or self._next.kind is Kind.END or self._next.text == "}":
                # What follows reads as a command: this one lacks its end, and nothing more is wrong.
                self._note(self._next.place, f"missing semicolon after {name.text} command")
                return Command(name.place, name.text, arguments, tests, has_list)
            raise self._fail(self._next.place, f"expected ';' or '{{' after {name.text}, found {self._next}")
        if depth >= self._limit:
            raise self._fail(self._next.place, f"blocks are nested deeper than {self._limit}")
        block = self.commands(depth + 1)
        if not self._take_mark("}"):
            self._note(self._next.place, f"missing '}}' of the block of line {name.place.line}")
        return Command(name.place, name.text, arguments, tests, has_list, tuple(block))

    def arguments(self, depth: int) -> tuple[tuple[Argument, ...], tuple[Test, ...], bool]:
        """Arguments = *argument [ test / test-list ]."""
        found: list[Argument] = []
        while (argument := self.take_argument()) is not None:
            found.append(argument)
            if len(found) > ARGUMENT_LIMIT:
                raise self._fail(argument.place, f"more than {ARGUMENT_LIMIT} arguments")
        if self._next.kind is Kind.IDENTIFIER:
            return tuple(found), (self.test(depth + 1),), False
        if self._next.kind is Kind.MARK and self._next.text == "(":
            return tuple(found), self.test_list(depth + 1), True
        return tuple(found), (), False

    def take_argument(self) -> Argument | None:
        """Argument = string-list / number / tag, or None when something else stands there."""
        token = self._next
        match token.kind:
            case Kind.STRING:
                return String(token.place, self._take().text)
            case Kind.NUMBER:
                return Number(token.place, self._take().value)
            case Kind.TAG:
                return Tag(token.place, self._take().text)
            case Kind.MARK if token.text == "[":
                return self.string_list()
        return None

    def string_list(self) -> StringList:
        """String-list = "[" string *("," string) "]"."""
        place = self._take().place
        strings: list[String] = []
        while True:
            if self._next.kind is not Kind.STRING:
                raise self._fail(self._next.place, f"expected a string in the list, found {self._next}")
            token = self._take()
            strings.append(String(token.place, token.text))
            if self._take_mark("]"):
                return StringList(place, tuple(strings))
            if not self._take_mark(","):
                raise self._fail(self._next.place, f"expected ',' or ']' in the list, found {self._next}")

    def test(self, depth: int) -> Test:
        """Test = identifier arguments."""
        if self._next.kind is not Kind.IDENTIFIER:
            raise self._fail(self._next.place, f"expected a test, found {self._next}")
        name = self._take()
        if depth > self._limit:
            raise self._fail(name.place, f"tests are nested deeper than {self._limit}")
        arguments, tests, has_list = self.arguments(depth)
        return Test(name.place, name.text, arguments, tests, has_list)

    def test_list(self, depth: int) -> tuple[Test, ...]:
        """Test-list = "(" test *("," test) ")"."""
        self._take()
        found: list[Test] = []
        while True:
            found.append(self.test(depth))
            if self._take_mark(")"):
                return tuple(found)
            if not self._take_mark(","):
                raise self._fail(self._next.place, f"expected ',' or ')' in the list of tests, found {self._next}")

    def _recover(self) -> None:
        """Pass over the rest of a command: up to its semicolon, or over its block."""
        depth = 0
        while self._next.kind is not Kind.END:
            token = self._next
            if token.kind is Kind.MARK:
                if token.text == "}" and depth == 0:
                    return
                depth += (token.text == "{") - (token.text == "}")
                if depth == 0 and token.text in (";", "}"):
                    self._at += 1
                    return
            self._at += 1
