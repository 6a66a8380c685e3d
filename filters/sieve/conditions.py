"""The tests of RFC 5228 §5, with :mime and :anychild of RFC 5703 §4 and :index of RFC 5260 §6."""

import re
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Protocol, TypeVar

from filters.sieve.addresses import ADDRESS_FIELDS, address_part, address_values, flat_values, split
from filters.sieve.building import Builder, strings
from filters.sieve.building import number as number_of
from filters.sieve.message import View, field_value, paths_below
from filters.sieve.state import Check, Run, ScriptError, Texts
from protocol.message import words
from protocol.message.content import content_type, disposition
from protocol.sieve.errors import Fault
from protocol.sieve.validation import Node

FIELD_NAME = re.compile(r"[!-9;-~]+")  # RFC 5322 §3.6.8, ftext
_ENVELOPE_PARTS = ("from", "to", "auth", "orig_to")

Views = Callable[[Run], Iterable[View]]


def true(builder: Builder, node: Node) -> Check:
    """Always."""
    return lambda run: True


def false(builder: Builder, node: Node) -> Check:
    """Never."""
    return lambda run: False


def negation(builder: Builder, node: Node) -> Check:
    """`not`."""
    test = builder.test(node.tests[0])
    return lambda run: not test(run)


def allof(builder: Builder, node: Node) -> Check:
    """All of the tests, the later ones only when the earlier ones hold."""
    tests = tuple(builder.test(test) for test in node.tests)
    return lambda run: all(test(run) for test in tests)


def anyof(builder: Builder, node: Node) -> Check:
    """Any of the tests."""
    tests = tuple(builder.test(test) for test in node.tests)
    return lambda run: any(test(run) for test in tests)


def size(builder: Builder, node: Node) -> Check:
    """`size`, RFC 5228 §5.9."""
    limit = number_of(node.positional[0]) or 0
    if "over" in node.options:
        return lambda run: run.shared.message.size > limit
    return lambda run: run.shared.message.size < limit


def views(builder: Builder, node: Node) -> Views:
    """The header sections that a test looks at. Raises CompileError."""
    if "mime" not in node.options:
        for name in ("anychild", "type", "subtype", "contenttype", "param"):
            if name in node.options:
                raise builder.fault(node.place, f"the :{name} tag for the {node.name} test requires the :mime tag")
        return lambda run: (run.shared.message.view,)
    if "anychild" in node.options:
        return _all_parts
    return lambda run: (part_of(run),)


def _all_parts(run: Run) -> list[View]:
    """The current part and all within it."""
    message = run.shared.message
    around = run.shared.parts[-1] if run.shared.parts else ()
    part = part_of(run).part
    paths = [around, *paths_below(part, around)] if part is not None else []
    run.spend(2 * len(paths))
    return [view for path in paths if (view := message.at(path)) is not None]


def part_of(run: Run) -> View:
    """The part of the innermost foreverypart, or the message."""
    message = run.shared.message
    found = message.at(run.shared.parts[-1]) if run.shared.parts else None
    return found if found is not None else message.root()


_T = TypeVar("_T")


class Pick(Protocol):
    """Takes one of several fields."""

    def __call__(self, fields: Sequence[_T], /) -> Sequence[_T]:
        """That one, or none."""


def indexed(builder: Builder, node: Node) -> Pick | None:
    """Which of the fields that are named :index picks, RFC 5260 §6. Raises CompileError."""
    argument = node.options.get("index")
    if argument is None:
        if "last" in node.options:
            raise builder.fault(node.place, f"the :last tag for the {node.name} test requires the :index tag")
        return None
    number = number_of(argument) or 0
    if number < 1:
        raise builder.fault(argument.place, "the :index tag counts from 1")
    if "last" in node.options:
        return lambda values: values[-number : len(values) - number + 1] if number <= len(values) else ()
    return lambda values: values[number - 1 : number]


def header_names(builder: Builder, node: Node, position: int = 0) -> Texts:
    """Names of header fields. What cannot be one is told as a warning: the test is just never true."""
    for string in strings(node.positional[position]):
        text = builder.constant(string)
        if text is not None and not FIELD_NAME.fullmatch(text):
            builder.warnings.append(Fault(string.place.line, string.place.column, f"'{text}' is no header field name"))
    return builder.texts(node.positional[position])


def exists(builder: Builder, node: Node) -> Check:
    """`exists`, RFC 5228 §5.5."""
    names, where = header_names(builder, node), views(builder, node)

    def check(run: Run) -> bool:
        sections = list(where(run))
        return all(any(view.has(name) for view in sections) for name in names(run))

    return check


def header(builder: Builder, node: Node) -> Check:
    """`header`, RFC 5228 §5.7."""
    names, where, pick = header_names(builder, node), views(builder, node), indexed(builder, node)
    matches, read = builder.matcher(node, node.positional[1]), _mime_reader(builder, node)
    if "mime" not in node.options and pick is None:

        def plain(run: Run) -> bool:
            view = run.shared.message.view
            wanted = names(run)
            if len(wanted) == 1:
                return matches(run, view.texts(wanted[0]))
            return matches(run, [value for name in wanted for value in view.texts(name)])

        return plain

    def check(run: Run) -> bool:
        found: list[str] = []
        for view in where(run):
            values = [(name, body) for name in names(run) for body in view.bodies(name)]
            for name, body in values if pick is None else pick(values):
                found.extend([field_value(body)] if read is None else read(run, name, body))
        return matches(run, found)

    return check


def _mime_reader(builder: Builder, node: Node) -> Callable[[Run, str, bytes], list[str]] | None:
    """What :type, :subtype, :contenttype and :param read of a field, RFC 5703 §4.1."""
    if "param" in node.options:
        names = builder.texts(node.options["param"])
        return lambda run, field, body: [
            value for name in names(run) if (value := _parameter(field, body, name.lower().encode())) is not None
        ]
    for option, index in (("type", 0), ("subtype", 1), ("contenttype", 2)):
        if option in node.options:
            return partial(_media_reader, index)
    return None


def _media_reader(index: int, run: Run, field: str, body: bytes) -> list[str]:
    return [_media(field, body)[index]]


def _media(field: str, body: bytes) -> tuple[str, str, str]:
    """Type, subtype, and both. Of a Content-Disposition the type is the disposition and the subtype empty."""
    if field.lower() == "content-type":
        found = content_type(body)
        kind, subtype = found.type.decode("latin-1").lower(), found.subtype.decode("latin-1").lower()
        return kind, subtype, f"{kind}/{subtype}"
    kind = disposition(body)[0].decode("latin-1").lower()
    return kind, "", kind


def _parameter(field: str, body: bytes, name: bytes) -> str | None:
    parameters = content_type(body).parameters if field.lower() == "content-type" else disposition(body)[1]
    return words.decode_parameter(parameters, name)


def address(builder: Builder, node: Node) -> Check:
    """`address`, RFC 5228 §5.1."""
    for string in strings(node.positional[0]):
        text = builder.constant(string)
        if text is not None and text.lower() not in ADDRESS_FIELDS:
            raise builder.fault(string.place, f"header '{text}' is not allowed for the address test")
    names, where, pick = builder.texts(node.positional[0]), views(builder, node), indexed(builder, node)
    matches, part = builder.matcher(node, node.positional[1]), address_part(node)
    if "mime" not in node.options and pick is None and (fixed := builder.constants(node.positional[0])) is not None:

        def plain(run: Run) -> bool:
            view, delimiters = run.shared.message.view, run.shared.surroundings.owner.delimiter
            if len(fixed) == 1:
                return matches(run, flat_values(view, fixed[0], part, delimiters))
            return matches(run, [text for name in fixed for text in flat_values(view, name, part, delimiters)])

        return plain

    def check(run: Run) -> bool:
        delimiters = run.shared.surroundings.owner.delimiter
        found: list[str] = []
        for view in where(run):
            values: list[list[str]] = []
            for name in names(run):
                if name.lower() not in ADDRESS_FIELDS:
                    raise ScriptError(f"header '{name}' is not allowed for the address test")
                values.extend(address_values(view, name, part, delimiters))
            found.extend(text for field in (values if pick is None else pick(values)) for text in field)
        return matches(run, found)

    return check


def envelope(builder: Builder, node: Node) -> Check:
    """`envelope`, RFC 5228 §5.4."""
    for string in strings(node.positional[0]):
        text = builder.constant(string)
        if text is not None and text.lower() not in _ENVELOPE_PARTS:
            raise builder.fault(string.place, f"unknown envelope part '{text}'")
    names, matches, part = (
        builder.texts(node.positional[0]),
        builder.matcher(node, node.positional[1]),
        address_part(node),
    )

    def check(run: Run) -> bool:
        surroundings = run.shared.surroundings
        found: list[str] = []
        for name in names(run):
            path = _path(run, name.lower())
            if path is None:
                continue
            value = part(*split(path), surroundings.owner.delimiter) if path else ""
            if value is not None:
                found.append(value)
        return matches(run, found)

    return check


def _path(run: Run, name: str) -> str | None:
    envelope = run.shared.surroundings.envelope
    match name:
        case "from":
            return envelope.reverse_path
        case "to":
            return envelope.forward_path or None
        case "auth":
            return envelope.login or None
        case "orig_to":
            return envelope.original_recipient or envelope.forward_path or None
    raise ScriptError(f"unknown envelope part '{name}'")


TESTS = {
    "true": true,
    "false": false,
    "not": negation,
    "allof": allof,
    "anyof": anyof,
    "size": size,
    "exists": exists,
    "header": header,
    "address": address,
    "envelope": envelope,
}
