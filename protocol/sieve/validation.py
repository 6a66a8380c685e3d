"""Checks a syntax tree against the language, RFC 5228 §2.10.5: commands exist, are required, and have their arguments.

Every fault is told, one per command or test. What only a meaning can tell (addresses, flags, patterns) is checked where
meaning is given: filters/sieve.
"""

import re
from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

from protocol.sieve.errors import Fault
from protocol.sieve.signatures import Kind, Language, Option, Signature
from protocol.sieve.syntax import Argument, Command, Number, Place, String, StringList, Tag, Test

_ENCODED = re.compile(r"\$\{(hex|unicode):([ \t\r\n]*[0-9a-f]+(?:[ \t\r\n]+[0-9a-f]+)*[ \t\r\n]*)\}", re.IGNORECASE)
_FOUND = {String: "string", StringList: "string list", Number: "number", Tag: "tag"}


@dataclass(frozen=True, slots=True)
class Node:
    """A command or test with its arguments sorted out. An option without a value has its Tag."""

    place: Place
    name: str
    options: dict[str, Argument] = field(default_factory=dict)
    positional: tuple[Argument | None, ...] = ()
    tests: tuple["Node", ...] = ()
    block: tuple["Node", ...] = ()
    required: frozenset[str] = frozenset()  # the capabilities in force here
    is_dropped: bool = False  # never runs: behind an ihave for something unknown, RFC 5463 §4


class Validator:
    """One script. `faults` and `warnings` grow while nodes() works; `required` ends as what the script requires."""

    def __init__(self, language: Language, allowed: AbstractSet[str]) -> None:
        self.faults: list[Fault] = []
        self.warnings: list[Fault] = []
        self.required: set[str] = set()
        self._language = language
        self._allowed = allowed
        self._may_require = True

    def nodes(self, commands: Sequence[Command], *, is_top: bool = True) -> tuple[Node, ...]:
        """The commands of a block."""
        found: list[Node] = []
        before = ""
        chain_is_true = False  # an earlier branch of this if is always taken
        for command in commands:
            if command.name in ("elsif", "else") and before not in ("if", "elsif"):
                self._note(command.place, f"{command.name} command must follow an if or elsif command")
                before = "if" if command.name == "elsif" else ""  # one fault for the chain
                continue
            if command.name not in ("elsif", "else"):
                chain_is_true = False
            if command.name != "require" or not is_top:
                self._may_require = False
            node = self._command(command, is_skipped=chain_is_true)
            if command.name in ("if", "elsif") and node is not None and node.tests:
                chain_is_true = chain_is_true or self._known(command.tests[0]) is True
            if node is not None:
                found.append(node)
            before = command.name
        return tuple(found)

    def _note(self, place: Place, text: str) -> None:
        self.faults.append(Fault(place.line, place.column, text))

    def _command(self, command: Command, *, is_skipped: bool) -> Node | None:
        signature = self._language.commands.get(command.name)
        if signature is None:
            if command.name in self._language.tests:
                self._note(command.place, f"attempted to use test '{command.name}' as command")
            else:
                self._note(command.place, f"unknown command '{command.name}'")
            return None
        node = self._node(command, signature)
        if node is None:
            if command.block is not None and not signature.has_block:
                self._note(command.place, f"the {signature.noun} accepts no block")
            elif command.block is not None:
                self.nodes(command.block, is_top=False)  # for its own faults
            return None
        if command.name == "require":
            return self._require(command, node)
        if signature.has_block != (command.block is not None):
            wanted = "requires a block" if signature.has_block else "accepts no block"
            self._note(command.place, f"the {signature.noun} {wanted}")
            return None
        if command.block is None:
            return node
        dropped = is_skipped or (command.name in ("if", "elsif") and self._known(command.tests[0]) is False)
        block = () if dropped else self.nodes(command.block, is_top=False)
        return Node(
            node.place, node.name, node.options, node.positional, node.tests, block, node.required, is_dropped=dropped
        )

    def _node(self, source: Command | Test, signature: Signature) -> Node | None:
        if signature.needs and not self.required.intersection(signature.needs):
            self._note(source.place, f'unknown {signature.noun} (it needs require "{signature.needs[0]}")')
            return None
        arguments = self._arguments(source, signature)
        if arguments is None:
            if source.tests and any(option.name == source.tests[0].name for option in signature.options):
                name = source.tests[0].name
                self._note(source.tests[0].place, f"missing colon before '{name}' tag for the {signature.noun}")
            return None
        if source.tests and not signature.subtests:
            self._superfluous(source, signature)
            return None
        if signature.subtests and not source.tests:
            self._note(source.place, f"the {signature.noun} requires a sub-test, but none is specified")
            return None
        if signature.subtests and source.has_list != (signature.subtests == "list"):
            wanted = "a list of tests in parentheses" if signature.subtests == "list" else "a single test"
            self._note(source.place, f"the {signature.noun} requires {wanted}")
            return None
        tests: list[Node] = []
        for test in source.tests:
            node = self._test(test)
            if node is None:
                return None
            tests.append(node)
        options, positional = arguments
        return Node(source.place, source.name, options, positional, tuple(tests), (), frozenset(self.required))

    def _superfluous(self, source: Command | Test, signature: Signature) -> None:
        """A test where none belongs. One that is a command tells of a forgotten semicolon."""
        first = source.tests[0]
        if not source.has_list and not signature.is_test and first.name not in self._language.tests:
            self._note(source.place, f"missing semicolon after {signature.noun} or superfluous '{first.name}'")
            return
        self._note(source.place, f"the {signature.noun} accepts no sub-tests, but tests are specified")

    def _test(self, test: Test) -> Node | None:
        signature = self._language.tests.get(test.name)
        if signature is None:
            if test.name in self._language.commands:
                self._note(test.place, f"attempted to use command '{test.name}' as test")
            else:
                self._note(test.place, f"unknown test '{test.name}'")
            return None
        node = self._node(test, signature)
        if node is not None and test.name == "ihave" and self._known(test):
            self._bring(argument.text for argument in _strings(node.positional[0]))
        return node

    def _known(self, test: Test) -> bool | None:
        """What a test always gives, when that is certain here; RFC 5463 §4 wants ihave to be decided when compiling."""
        match test.name:
            case "true" | "false":
                return test.name == "true"
            case "ihave" if test.arguments:
                return all(text.text in self._allowed for text in _strings(test.arguments[0]))
            case "not" if test.tests:
                known = self._known(test.tests[0])
                return None if known is None else not known
            case "allof" | "anyof":
                decisive = test.name == "anyof"
                each = [self._known(inner) for inner in test.tests]
                return decisive if decisive in each else (None if None in each else not decisive)
        return None

    def _require(self, command: Command, node: Node) -> Node | None:
        if command.block is not None:
            self._note(command.place, "the require command accepts no block")
            return None
        if not self._may_require:
            self._note(command.place, "require commands must stand at the top of the script")
            return None
        for string in _strings(node.positional[0]):
            if string.text not in self._allowed:
                self._note(string.place, f'unknown capability "{string.text}"')
        self._bring(string.text for string in _strings(node.positional[0]) if string.text in self._allowed)
        return None

    def _bring(self, names: Iterable[str]) -> None:
        for name in names:
            self.required.add(name)
            self.required.update(self._language.capabilities.get(name, ()))

    def _arguments(
        self, source: Command | Test, signature: Signature
    ) -> tuple[dict[str, Argument], tuple[Argument | None, ...]] | None:
        known = {
            option.name: option for option in signature.options if not option.needs or option.needs in self.required
        }
        options: dict[str, Argument] = {}
        positional: list[Argument] = []
        waiting = list(source.arguments)
        while waiting:
            argument = waiting.pop(0)
            if not isinstance(argument, Tag):
                positional.append(self._decoded(argument))
                continue
            fault = self._option(argument, waiting, known, options, signature)
            if fault:
                self._note(argument.place, fault)
                return None
            if positional and not fault:
                self._note(
                    argument.place,
                    f"unexpected tagged argument ':{argument.name}' behind positional ones for the {signature.noun}",
                )
                return None
        if signature.required_group and not any(known[name].group == signature.required_group for name in options):
            names = " or ".join(f":{option.name}" for option in signature.options if option.group)
            self._note(source.place, f"the {signature.noun} requires {names}")
            return None
        ordered = self._positional(source, positional, signature)
        return None if ordered is None else (options, ordered)

    def _option(
        self,
        tag: Tag,
        waiting: list[Argument],
        known: dict[str, Option],
        options: dict[str, Argument],
        signature: Signature,
    ) -> str:
        option = known.get(tag.name)
        if option is None:
            names = ", ".join(f":{name}" for name in known) or "none"
            return f"unknown tagged argument ':{tag.name}' for the {signature.noun} (known: {names})"
        if option.name in options:
            return f"duplicate tagged argument ':{tag.name}' for the {signature.noun}"
        for other in options:
            if option.group and known[other].group == option.group:
                return f"unexpected tagged argument ':{tag.name}' for the {signature.noun}: ':{other}' is there already"
        if option.takes is None:
            options[option.name] = tag
            return ""
        value = waiting.pop(0) if waiting else None
        if value is None or not _fits(value, option.takes):
            found = f"a {_FOUND[type(value)]} was" if value is not None else "nothing was"
            return f"the :{tag.name} tag for the {signature.noun} expects a {option.takes.value}, but {found} found"
        if option.only and isinstance(value, String) and value.text not in option.only and "${" not in value.text:
            return f"the :{tag.name} tag for the {signature.noun} takes one of {', '.join(option.only)}"
        options[option.name] = self._decoded(value)
        return ""

    def _positional(
        self, source: Command | Test, found: list[Argument], signature: Signature
    ) -> tuple[Argument | None, ...] | None:
        wanted = signature.positional
        least = len(wanted) if signature.least is None else signature.least
        if not least <= len(found) <= len(wanted):
            count = (
                f"{least} positional argument(s)"
                if least == len(wanted)
                else f"{least} to {len(wanted)} positional arguments"
            )
            verb = "accepts no" if not wanted else f"requires {count}" if len(found) < least else f"accepts {count}"
            tail = " positional arguments" if not wanted else ""
            self._note(source.place, f"the {signature.noun} {verb}{tail}, but {len(found)} is specified")
            return None
        missing: list[Argument | None] = [None] * (len(wanted) - len(found))
        ordered = [*found, *missing] if signature.drops_last else [*missing, *found]
        for number, ((label, kind), argument) in enumerate(zip(wanted, ordered, strict=True), 1):
            if argument is not None and not _fits(argument, kind):
                self._note(
                    argument.place,
                    f"the {signature.noun} expects a {kind.value} as argument {number} ({label}), "
                    f"but a {_FOUND[type(argument)]} was found",
                )
                return None
        return tuple(ordered)

    def _decoded(self, argument: Argument) -> Argument:
        """With ${hex:…} and ${unicode:…} replaced when encoded-character is required, RFC 5228 §2.4.2.4."""
        if "encoded-character" not in self.required:
            return argument
        if isinstance(argument, String):
            return String(argument.place, self._decoded_text(argument))
        if isinstance(argument, StringList):
            return StringList(
                argument.place, tuple(String(string.place, self._decoded_text(string)) for string in argument.strings)
            )
        return argument

    def _decoded_text(self, string: String) -> str:
        if "${" not in string.text:
            return string.text

        def decoded(found: re.Match[str]) -> str:
            numbers = [int(digits, 16) if len(digits.lstrip("0")) <= 8 else 1 << 32 for digits in found[2].split()]
            if found[1].lower() == "hex":
                return found[0] if max(numbers) > 255 else bytes(numbers).decode("utf-8", "surrogateescape")
            if any(number > 0x10FFFF or 0xD800 <= number <= 0xDFFF for number in numbers):
                self._note(string.place, "invalid Unicode character in ${unicode:…}")
                return ""
            return "".join(map(chr, numbers))

        # Octets of neighbours may make up one character.
        return _ENCODED.sub(decoded, string.text).encode("utf-8", "surrogateescape").decode("utf-8", "surrogateescape")


def _fits(argument: Argument, kind: Kind) -> bool:
    match kind:
        case Kind.STRING:
            return isinstance(argument, String)
        case Kind.STRINGS:
            return isinstance(argument, String | StringList)
        case Kind.NUMBER:
            return isinstance(argument, Number)


def _strings(argument: Argument | None) -> tuple[String, ...]:
    if isinstance(argument, String):
        return (argument,)
    return argument.strings if isinstance(argument, StringList) else ()
