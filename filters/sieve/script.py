"""Compiles a script: parse, validate, and one closure per command. Done once per script; a Script may run any number of times."""

from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

from filters.sieve import (
    answering,
    bodies,
    conditions,
    control,
    dates,
    editing,
    flags,
    including,
    parts,
    surroundings,
    variables,
)
from filters.sieve.building import Builder, Meaning
from filters.sieve.limits import DEFAULT_LIMITS, Limits
from filters.sieve.state import Op, Run, ScriptError
from protocol.sieve.errors import Fault, SieveError
from protocol.sieve.language import CAPABILITIES, LANGUAGE
from protocol.sieve.parser import parse
from protocol.sieve.signatures import Language
from protocol.sieve.syntax import Place
from protocol.sieve.validation import Validator

ALL = frozenset(CAPABILITIES)

MEANING = Meaning(
    commands={
        **control.COMMANDS,
        **flags.COMMANDS,
        **variables.COMMANDS,
        **including.COMMANDS,
        **editing.COMMANDS,
        **parts.COMMANDS,
        **answering.COMMANDS,
    },
    tests={
        **conditions.TESTS,
        **flags.TESTS,
        **variables.TESTS,
        **dates.TESTS,
        **surroundings.TESTS,
        **including.TESTS,
        **bodies.TESTS,
        **answering.TESTS,
    },
)


@dataclass(frozen=True, slots=True)
class Script:
    """A compiled script."""

    name: str
    main: Op = field(repr=False)
    capabilities: frozenset[str]  # what it requires
    includes: tuple[tuple[str, str, Place], ...] = ()  # name, location and place of each include
    warnings: tuple[Fault, ...] = ()


def broken_script(name: str, fault: Fault) -> Script:
    """In place of one that does not compile any more: its mistake comes when its turn does."""

    def main(run: Run) -> None:
        raise ScriptError(fault.text, Place(fault.line, fault.column))

    return Script(name, main, frozenset())


@dataclass(frozen=True, slots=True)
class Dialect:
    """The language and what it means; the conformance runner brings one with commands of its own."""

    language: Language = LANGUAGE
    meaning: Meaning = MEANING


_DIALECT = Dialect()


def compile_script(
    source: bytes | str,
    *,
    name: str = "",
    capabilities: AbstractSet[str] = ALL,
    limits: Limits = DEFAULT_LIMITS,
    dialect: Dialect = _DIALECT,
) -> Script:
    """Compile. `capabilities` are those that scripts may require. Raises SieveError, and nothing else."""
    commands = parse(source, script_limit=limits.script_octets, nesting_limit=limits.nesting)
    validator = Validator(dialect.language, capabilities)
    nodes = validator.nodes(commands)
    builder = Builder(dialect.meaning, limits, name, capabilities)
    builder.has_variables = "variables" in validator.required
    builder.has_include = "include" in validator.required
    main = builder.block(nodes)
    faults = sorted([*validator.faults, *builder.faults], key=lambda fault: (fault.line, fault.column))
    if faults:
        raise SieveError(*faults)
    return Script(
        name, main, frozenset(validator.required), tuple(builder.includes), (*validator.warnings, *builder.warnings)
    )
