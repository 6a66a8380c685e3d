"""Flags: RFC 5232. The internal variable is shared by included scripts; named ones are variables of RFC 5229."""

import re
from collections.abc import Callable, Iterable

from filters.sieve.building import Builder, strings
from filters.sieve.state import Check, Op, Run
from protocol.sieve.syntax import Argument, String, StringList
from protocol.sieve.validation import Node

_SYSTEM = {name.lower(): name for name in ("\\Answered", "\\Flagged", "\\Deleted", "\\Seen", "\\Draft")}
_KEYWORD = re.compile(r'[^\x00-\x20(){%*"\\\]\x7f-\U0010ffff]+', re.ASCII)  # RFC 9051 §9, atom
MAX_FLAGS = 64  # of one message

Flags = Callable[[Run], tuple[str, ...]]


def split_flags(texts: Iterable[str]) -> list[str]:
    """The flags in strings of them, each once whatever its case; what can be none is ignored, RFC 5232 §2."""
    found: dict[str, str] = {}
    for text in texts:
        for flag in text.split():
            name = _SYSTEM.get(flag.lower()) or (flag if _KEYWORD.fullmatch(flag) else None)
            if name is not None and len(found) < MAX_FLAGS:
                found.setdefault(name.lower(), name)
    return list(found.values())


def flags_of(builder: Builder, node: Node) -> Flags:
    """The flags to store with: those of :flags, or else of the internal variable, RFC 5232 §5."""
    argument = node.options.get("flags")
    if argument is None:
        return lambda run: tuple(run.shared.flags)
    texts = builder.texts(argument)
    return lambda run: tuple(split_flags(texts(run)))


def _variable(
    builder: Builder, node: Node, argument: Argument | None
) -> tuple[Flags, Callable[[Run, list[str]], None]]:
    """How to read and to set the variable of flags, or the internal one."""
    if argument is None:
        return (lambda run: tuple(run.shared.flags)), _set_internal
    if not builder.has_variables:
        raise builder.fault(argument.place, 'naming a variable of flags needs require "variables"')
    store = builder.target(argument)
    name = builder.constant(argument) or ""
    read = builder.reference(name.lower(), argument.place)
    return (lambda run: tuple(split_flags([read(run)]))), (lambda run, flags: store(run, " ".join(flags)))


def _set_internal(run: Run, flags: list[str]) -> None:
    run.shared.flags = flags


def change(builder: Builder, node: Node) -> Op:
    """`setflag`, `addflag` and `removeflag`, RFC 5232 §3."""
    current, store = _variable(builder, node, node.positional[0])
    texts, name = builder.texts(node.positional[1]), node.name

    def execute(run: Run) -> None:
        named = split_flags(texts(run))
        if name == "addflag":
            named = split_flags([*current(run), *named])
        elif name == "removeflag":
            removed = {flag.lower() for flag in named}
            named = [flag for flag in current(run) if flag.lower() not in removed]
        run.note(node.place, f"{name}: {' '.join(named)}")
        store(run, named)

    return execute


def hasflag(builder: Builder, node: Node) -> Check:
    """`hasflag`, RFC 5232 §4: keys are lists of flags too, except for patterns."""
    argument = node.positional[0]
    if argument is not None and not builder.has_variables:
        raise builder.fault(argument.place, 'naming a variable of flags needs require "variables"')
    variables = None if argument is None else builder.texts(argument)
    matches = builder.matcher(node, _each_flag(node.positional[1]))

    def check(run: Run) -> bool:
        if variables is None:
            return matches(run, run.shared.flags)
        return matches(run, [flag for name in variables(run) for flag in split_flags([run.value(name.lower())])])

    return check


def _each_flag(keys: Argument | None) -> Argument | None:
    """Keys are lists of flags, RFC 5232 §4: those written out are taken apart."""
    each = [
        String(string.place, flag)
        for string in strings(keys)
        for flag in ([string.text] if "${" in string.text else string.text.split())
    ]
    return StringList(keys.place, tuple(each)) if keys is not None else None


COMMANDS = {"setflag": change, "addflag": change, "removeflag": change}
TESTS = {"hasflag": hasflag}
