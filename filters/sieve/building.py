"""What compiling needs: texts with their variables, keys with their match type and comparator, blocks of closures."""

import re
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

from filters.sieve.comparators import ASCII_CASEMAP, COMPARATORS, OCTET, RELATIONS, Comparator
from filters.sieve.limits import Limits
from filters.sieve.patterns import Glob, Regex, RegexError, glob, regex
from filters.sieve.state import Check, Op, Run, ScriptError, Signal, Text, Texts, cut
from protocol.sieve.errors import Fault
from protocol.sieve.syntax import Argument, Number, Place, String, StringList
from protocol.sieve.validation import Node

# RFC 5229 §3: variable-ref = "${" *namespace variable-name "}"
_REFERENCE = re.compile(
    r"\$\{((?:[a-z_][a-z0-9_]*\.(?:[a-z0-9_]+\.)*)?(?:[a-z_][a-z0-9_]*|[0-9]+))\}", re.IGNORECASE | re.ASCII
)
_VARIABLE = re.compile(r"[a-z_][a-z0-9_]*", re.ASCII)
VARIABLE_NAME_LIMIT = 64  # characters; RFC 5229 §6 asks for 32
MATCH_LIMIT = 32  # the last ${n}; RFC 5229 §6 asks for 9

Matcher = Callable[[Run, Sequence[str]], bool]
_BRANCHES = ("if", "elsif", "else")  # a branch whose if was refused is compiled for its own faults


@dataclass(frozen=True, slots=True)
class Meaning:
    """How commands and tests are compiled, by name."""

    commands: Mapping[str, "Callable[[Builder, Node], Op | None]"]
    tests: Mapping[str, "Callable[[Builder, Node], Check]"]
    namespaces: Mapping[str, Callable[[Run, str], str]] = field(default_factory=dict)  # further ones of variables


class CompileError(Exception):
    """This command or test cannot be compiled; the fault is noted."""


class Builder:
    """One compilation."""

    def __init__(self, meaning: Meaning, limits: Limits, name: str, allowed: AbstractSet[str] = frozenset()) -> None:
        self.faults: list[Fault] = []
        self.warnings: list[Fault] = []
        self.limits = limits
        self.allowed = allowed
        self.name = name
        self.loops: list[str] = []  # names of the foreverypart around
        self.assigned: set[str] = set()  # variables that a command before this one sets
        self.includes: list[tuple[str, str, Place]] = []
        self._meaning = meaning
        self._variables: set[str] = set()

    def fault(self, place: Place, text: str) -> CompileError:
        """Note a fault; raise what it gives to leave the command."""
        self.faults.append(Fault(place.line, place.column, text))
        return CompileError(text)

    # Blocks

    def block(self, nodes: Sequence[Node]) -> Op:
        """The commands of a block, one after the other."""
        steps: list[tuple[Op, Place]] = []
        at = 0
        while at < len(nodes):
            node = nodes[at]
            at += 1
            chain = [node]
            while node.name in _BRANCHES and at < len(nodes) and nodes[at].name in ("elsif", "else"):
                chain.append(nodes[at])
                at += 1
            try:
                op = (
                    self._conditional(chain)
                    if node.name in _BRANCHES
                    else self._meaning.commands[node.name](self, node)
                )
            except CompileError:
                continue
            if op is not None:
                steps.append((op, node.place))
        return _block(tuple(steps))

    def _conditional(self, chain: Sequence[Node]) -> Op:
        branches: list[tuple[Check, Op, Place, str]] = []
        for node in chain:
            try:
                check = self.test(node.tests[0]) if node.tests else _always
            except CompileError:
                check = _always
            label = f"{node.name} {node.tests[0].name}" if node.tests else node.name
            branches.append((check, _dropped if node.is_dropped else self.block(node.block), node.place, label))
        return _conditional(tuple(branches))

    def test(self, node: Node) -> Check:
        """A test. Raises CompileError."""
        return self._meaning.tests[node.name](self, node)

    # Texts

    def constant(self, argument: Argument | None) -> str | None:
        """The text when it is the same in each run."""
        if not isinstance(argument, String):
            return None
        return argument.text if not self._pieces_vary(argument) else None

    def _pieces_vary(self, string: String) -> bool:
        return self.has_variables and "${" in string.text and _REFERENCE.search(string.text) is not None

    has_variables = False  # set when the script requires "variables"

    def constants(self, argument: Argument | None) -> list[str] | None:
        """The texts of a list when none varies."""
        found = [self.constant(string) for string in strings(argument)]
        return [text for text in found if text is not None] if None not in found else None

    def text(self, argument: Argument | None) -> Text:
        """A text, its variables replaced when it is used."""
        if not isinstance(argument, String):
            raise TypeError("not a string")
        constant = self.constant(argument)
        if constant is not None:
            return lambda run: constant
        pieces: list[Text | str] = []
        at = 0
        for found in _REFERENCE.finditer(argument.text):
            if found.start() > at:
                pieces.append(argument.text[at : found.start()])
            pieces.append(self.reference(found[1].lower(), argument.place))
            at = found.end()
        if at < len(argument.text):
            pieces.append(argument.text[at:])
        if len(pieces) == 1 and not isinstance(pieces[0], str):
            return pieces[0]
        fixed = tuple(pieces)

        def joined(run: Run) -> str:
            texts = [piece if isinstance(piece, str) else piece(run) for piece in fixed]
            run.spend(sum(map(len, texts)) // 256)
            return "".join(texts)

        return joined

    def optional_text(self, argument: Argument | None) -> "Callable[[Run], str | None]":
        """A text that may be missing."""
        if argument is None:
            return lambda run: None
        return self.text(argument)

    def texts(self, argument: Argument | None) -> Texts:
        """The texts of a list."""
        constants = self.constants(argument)
        if constants is not None:
            fixed = tuple(constants)
            return lambda run: fixed
        each = [self.text(string) for string in strings(argument)]
        return lambda run: [text(run) for text in each]

    def reference(self, name: str, place: Place) -> Text:
        """The value of a variable."""
        if name.isdigit():
            number = int(name) if len(name.lstrip("0")) < 6 else MATCH_LIMIT + 1
            if number > MATCH_LIMIT:
                raise self.fault(place, f"there are match values up to ${{{MATCH_LIMIT}}} only")
            return lambda run: run.match[number] if number < len(run.match) else ""
        space, _, rest = name.partition(".")
        if rest:
            return self._in_namespace(space, rest, place)
        self.declare(name, place)
        return lambda run: run.value(name)

    def _in_namespace(self, space: str, name: str, place: Place) -> Text:
        if space == "global" and self.has_include:
            if not _VARIABLE.fullmatch(name):
                raise self.fault(place, f"invalid variable name 'global.{name}'")
            return lambda run: run.shared.globals.get(name, "")
        further = self._meaning.namespaces.get(space)
        if further is None:
            raise self.fault(place, f"unknown namespace '{space}' of a variable")
        return lambda run: further(run, name)

    has_include = False

    def declare(self, name: str, place: Place) -> None:
        """Count a variable. Raises CompileError when there are too many."""
        if len(name) > VARIABLE_NAME_LIMIT:
            raise self.fault(place, f"name of the variable is longer than {VARIABLE_NAME_LIMIT} characters")
        if len(self._variables) == self.limits.variables and name not in self._variables:
            self.fault(place, f"there are more than {self.limits.variables} variables")  # told once
        self._variables.add(name)

    def target(self, argument: Argument | None) -> "Callable[[Run, str], None]":
        """A variable to set. Its name is fixed, RFC 5229 §4. Raises CompileError."""
        place = argument.place if argument else Place(1, 1)
        name = argument.text.lower() if isinstance(argument, String) else ""
        if name.startswith("global.") and self.has_include and _VARIABLE.fullmatch(name[7:]):
            name = name[7:]
            limit = self.limits.variable_octets
            return lambda run, value: run.shared.store_global(name, cut(value, limit))
        if not _VARIABLE.fullmatch(name):
            raise self.fault(place, f"invalid variable name '{name}'")
        self.declare(name, place)
        return lambda run, value: run.store(name, value)

    # Matching

    def comparator(self, node: Node) -> Comparator:
        """The comparator of a test. Raises CompileError."""
        argument = node.options.get("comparator")
        if argument is None:
            return ASCII_CASEMAP
        name = argument.text if isinstance(argument, String) else ""
        found = COMPARATORS.get(name)
        if found is None:
            raise self.fault(argument.place, f"unknown comparator '{name}'")
        if found not in (OCTET, ASCII_CASEMAP) and f"comparator-{name}" not in node.required:
            raise self.fault(argument.place, f"comparator '{name}' needs require \"comparator-{name}\"")
        return found

    def matcher(self, node: Node, keys: Argument | None) -> Matcher:
        """How the test compares its values with its keys. Raises CompileError."""
        comparator, kind = self.comparator(node), match_type(node)
        if kind in ("contains", "matches", "regex") and not comparator.has_substrings:
            raise self.fault(node.place, f"comparator '{comparator.name}' does not work with match type ':{kind}'")
        fixed, varying = self.constants(keys), self.texts(keys)
        match kind:
            case "count" | "value":
                return self._relational(node, kind, comparator, varying)
            case "list":
                return _in_list(varying)
            case "contains":
                return _contains(comparator, fixed, varying)
            case "matches":
                return _patterns(self._glob_of(comparator, fixed), fixed, varying, self.has_variables)
            case "regex":
                return _patterns(self._regex_of(comparator, keys), fixed, varying, self.has_variables)
        return _is(comparator, fixed, varying)

    def _relational(self, node: Node, kind: str, comparator: Comparator, keys: Texts) -> Matcher:
        relation = self.text(node.options[kind])

        def matches(run: Run, values: Sequence[str]) -> bool:
            name = relation(run)
            compare = RELATIONS.get(name)
            if compare is None:
                raise ScriptError(f"unknown relation '{name}'")
            found = [str(len(values))] if kind == "count" else values
            wanted = keys(run)
            run.spend(len(found) * len(wanted))
            return any(compare(comparator.key(value), comparator.key(key)) for value in found for key in wanted)

        return matches

    def _glob_of(self, comparator: Comparator, keys: Sequence[str] | None) -> Callable[[str], Glob]:
        for key in keys or ():
            glob(key, comparator.name)
        return lambda pattern: glob(pattern, comparator.name)

    def _regex_of(self, comparator: Comparator, keys: Argument | None) -> Callable[[str], Regex]:
        def compiled(pattern: str) -> Regex:
            if len(pattern) > self.limits.regex_octets:
                raise ScriptError(f"regular expression is longer than {self.limits.regex_octets} characters")
            try:
                return regex(pattern, comparator.name, self.limits.regex_memory)
            except RegexError as error:
                raise ScriptError(f"invalid regular expression: {error}") from None

        for string in strings(keys):
            if (text := self.constant(string)) is not None:
                try:
                    compiled(text)
                except ScriptError as error:
                    raise self.fault(string.place, error.text) from None
        return compiled


def strings(argument: Argument | None) -> tuple[String, ...]:
    """The strings of a list; a string is a list of one."""
    if isinstance(argument, String):
        return (argument,)
    return argument.strings if isinstance(argument, StringList) else ()


def number(argument: Argument | None) -> int | None:
    """The value of a number."""
    return argument.value if isinstance(argument, Number) else None


def match_type(node: Node) -> str:
    """The match type of a test, RFC 5228 §2.7.1."""
    for name in ("contains", "matches", "count", "value", "regex", "list"):
        if name in node.options:
            return name
    return "is"


def _always(run: Run) -> bool:
    return True


def _dropped(run: Run) -> Signal | None:
    raise ScriptError("the block needs an extension that is not there")


def _block(steps: tuple[tuple[Op, Place], ...]) -> Op:
    def execute(run: Run) -> Signal | None:
        run.spend(len(steps))
        for op, place in steps:
            try:
                signal = op(run)
            except ScriptError as error:
                if error.place is None:
                    error.place, error.script = place, run.name
                raise
            if signal is not None:
                return signal
        return None

    return execute


def _conditional(branches: tuple[tuple[Check, Op, Place, str], ...]) -> Op:
    def execute(run: Run) -> Signal | None:
        for check, op, place, label in branches:
            try:
                holds = check(run)
            except ScriptError as error:
                if error.place is None:
                    error.place, error.script = place, run.name
                raise
            if run.shared.steps is not None:
                run.note(place, f"{label}: {'yes' if holds else 'no'}")
            if holds:
                return op(run)
        return None

    return execute


def _is(comparator: Comparator, keys: Sequence[str] | None, varying: Texts) -> Matcher:
    fold = comparator.key
    fixed = frozenset(fold(key) for key in keys) if keys is not None else None

    def matches(run: Run, values: Sequence[str]) -> bool:
        wanted = fixed if fixed is not None else frozenset(fold(key) for key in varying(run))
        run.spend(len(values) + sum(map(len, values)) // 1024)
        return any(fold(value) in wanted for value in values)

    return matches


def _contains(comparator: Comparator, keys: Sequence[str] | None, varying: Texts) -> Matcher:
    fold = comparator.fold
    fixed = [fold(key) for key in keys] if keys is not None else None

    def matches(run: Run, values: Sequence[str]) -> bool:
        wanted = fixed if fixed is not None else [fold(key) for key in varying(run)]
        run.spend(len(wanted) * (len(values) + sum(map(len, values)) // 1024))
        for value in values:
            folded = fold(value)
            for key in wanted:
                if key in folded:
                    return True
        return False

    return matches


def _patterns(
    compiled: Callable[[str], Glob | Regex], keys: Sequence[str] | None, varying: Texts, captures: bool
) -> Matcher:
    def matches(run: Run, values: Sequence[str]) -> bool:
        if keys is None:
            run.spend(100)  # patterns that are made while the script runs are compiled then
        wanted = [compiled(key) for key in (keys if keys is not None else varying(run))]
        length = sum(map(len, values))
        run.spend(sum(len(values) + pattern.weight * length // 1024 for pattern in wanted))
        for value in values:
            for pattern in wanted:
                found = pattern.match(value)
                if found is not None:
                    if captures:
                        run.match = found[: MATCH_LIMIT + 1]
                    return True
        return False

    return matches


def _in_list(names: Texts) -> Matcher:
    def matches(run: Run, values: Sequence[str]) -> bool:
        wanted = names(run)
        run.spend(len(values) * len(wanted))
        if not values:
            return False
        for name in wanted:
            found = first_in_list(run, name, tuple(values))
            if found is not None:
                run.match = [found]  # RFC 6134 §2.2
                return True
        return False

    return matches


def first_in_list(run: Run, name: str, values: tuple[str, ...]) -> str | None:
    """The first of the values that is in the owner's list of that name, RFC 6134 §2.1."""
    return run.shared.ask(("list", name, values), lambda ports: ports.first_in_list(name, values))
