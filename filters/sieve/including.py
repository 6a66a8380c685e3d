"""Scripts within scripts: RFC 6609; and what RFC 5463 adds, `ihave` and `error`."""

from filters.sieve.building import Builder, strings
from filters.sieve.state import Check, Op, Run, ScriptError, Signal
from protocol.sieve.validation import Node

NAME_LIMIT = 255  # octets of a script's name


def name_fault(name: str) -> str:
    """What is wrong with the name of a script, RFC 5804 §1.6, or ""."""
    if not name or len(name.encode("utf-8", "replace")) > NAME_LIMIT or "/" in name:
        return f"invalid script name '{name}'"
    for character in name:
        code = ord(character)
        if code < 32 or 0x7F <= code < 0xA0 or code in (0x2028, 0x2029) or 0xD800 <= code < 0xE000:
            return "invalid script name: control characters"
    return ""


def include(builder: Builder, node: Node) -> Op:
    """`include`, RFC 6609 §3.2. The script is looked for when the command runs."""
    argument = node.positional[0]
    name = builder.constant(argument)
    if name is None:
        raise builder.fault(node.place, "the name of the script to include must be constant")
    if fault := name_fault(name):
        raise builder.fault(node.place, fault)
    location = "global" if "global" in node.options else "personal"
    once, is_optional = "once" in node.options, "optional" in node.options
    builder.includes.append((name, location, node.place))
    key = (location, name)

    def execute(run: Run) -> Signal | None:
        shared = run.shared
        if once and key in shared.included:
            return None
        script = shared.ask(("script", *key), lambda ports: ports.script(name, location))
        if script is None:
            if is_optional:
                return None
            raise ScriptError(f"there is no {location} script '{name}' to include")
        if key in run.chain:
            raise ScriptError(f"circular include of script '{name}'")
        shared.include_count += 1
        if shared.include_count > shared.limits.includes:
            raise ScriptError("number of included scripts exceeds policy limit")
        if len(run.chain) >= shared.limits.include_depth:
            raise ScriptError("nested includes exceed policy limit")
        shared.included.add(key)
        run.note(node.place, f'include "{name}"')
        depth = len(shared.parts)
        signal = script.main(Run(shared, name, (*run.chain, key)))
        del shared.parts[depth:]
        return signal if signal is Signal.STOP else None

    return execute


def leave(builder: Builder, node: Node) -> Op:
    """`return`, RFC 6609 §3.3."""
    return lambda run: Signal.RETURN


def share(builder: Builder, node: Node) -> Op | None:
    """`global`, RFC 6609 §3.4.1: these variables are those of all scripts."""
    if not builder.has_variables:
        raise builder.fault(node.place, 'the global command needs require "variables"')
    names = []
    for string in strings(node.positional[0]):
        builder.target(string)
        if string.text.lower() in builder.assigned:  # RFC 6609 §3.4.1
            raise builder.fault(string.place, f"variable '{string.text}' is local already")
        names.append(string.text.lower())
    fixed = frozenset(names)

    def execute(run: Run) -> None:
        run.global_names |= fixed
        for name in fixed:
            run.shared.store_global(name, run.shared.globals.get(name, ""))

    return execute


def ihave(builder: Builder, node: Node) -> Check:
    """`ihave`, RFC 5463 §4: decided when the script is compiled."""
    holds = all(string.text in builder.allowed for string in strings(node.positional[0]))
    return lambda run: holds


def error(builder: Builder, node: Node) -> Op:
    """`error`, RFC 5463 §5."""
    message = builder.text(node.positional[0])

    def execute(run: Run) -> None:
        raise ScriptError(message(run))

    return execute


COMMANDS = {"include": include, "return": leave, "global": share, "error": error}
TESTS = {"ihave": ihave}
