"""Editing the header: RFC 5293."""

from filters.sieve.actions import AddHeader, DeleteHeader
from filters.sieve.building import Builder, Matcher, number
from filters.sieve.conditions import FIELD_NAME
from filters.sieve.fields import field
from filters.sieve.state import Op, Run, ScriptError
from protocol.message import header, words
from protocol.sieve.syntax import Argument
from protocol.sieve.validation import Node

KEPT = frozenset({b"RECEIVED", b"AUTO-SUBMITTED"})  # RFC 5293 §6: loops must stay visible


def _name(builder: Builder, argument: Argument | None) -> None:
    constant = builder.constant(argument)
    if argument is not None and constant is not None and not FIELD_NAME.fullmatch(constant):
        raise builder.fault(argument.place, f"invalid header field name '{constant}'")


def _checked(name: str) -> str:
    if not FIELD_NAME.fullmatch(name):
        raise ScriptError(f"invalid header field name '{name}'")
    return name


def _value_fault(builder: Builder, value: str) -> str:
    if "\0" in value:
        return "invalid value: NUL is not allowed in a header field"
    if len(value.encode("utf-8", "surrogateescape")) > builder.limits.field_octets:
        return f"invalid value: longer than {builder.limits.field_octets} octets"
    return ""


def addheader(builder: Builder, node: Node) -> Op:
    """`addheader`, RFC 5293 §4."""
    _name(builder, node.positional[0])
    constant = builder.constant(node.positional[1])
    if constant is not None and (fault := _value_fault(builder, constant)):
        raise builder.fault(node.place, fault)
    name, value, is_last = builder.text(node.positional[0]), builder.text(node.positional[1]), "last" in node.options

    def execute(run: Run) -> None:
        field_name, text = _checked(name(run)), value(run)
        if fault := _value_fault(builder, text):
            raise ScriptError(fault)
        if len(run.shared.edits) >= run.shared.limits.actions * 4:
            raise ScriptError("number of edits exceeds policy limit")
        (new,) = header.read(field(field_name, text))
        run.spend(len(run.shared.message.view.fields))
        run.shared.message.edit(lambda fields: [*fields, new] if is_last else [new, *fields])
        run.shared.edits.append(AddHeader(field_name, text, is_last))
        run.note(node.place, f"add header field {field_name}")

    return execute


def deleteheader(builder: Builder, node: Node) -> Op:
    """`deleteheader`, RFC 5293 §5."""
    argument = node.options.get("index")
    if argument is None and "last" in node.options:
        raise builder.fault(node.place, "the :last tag for the deleteheader command requires the :index tag")
    _name(builder, node.positional[0])
    name, patterns = builder.text(node.positional[0]), node.positional[1]
    matches = builder.matcher(node, patterns) if patterns is not None else None
    index = number(argument)
    if index == 0 and argument is not None:
        raise builder.fault(argument.place, "the :index tag counts from 1")

    def execute(run: Run) -> None:
        field_name = _checked(name(run))
        wanted = field_name.upper().encode()
        if wanted in KEPT:
            return
        fields = run.shared.message.view.fields
        run.spend(len(fields))
        places = [at for at, (found, _, _) in enumerate(fields) if found == wanted]
        if index is not None:
            places = (
                (places[-index:][:1] if index <= len(places) else [])
                if "last" in node.options
                else places[index - 1 : index]
            )
        gone = frozenset(at for at in places if matches is None or _holds(run, matches, fields[at]))
        if gone:
            run.shared.message.edit(lambda old: [each for at, each in enumerate(old) if at not in gone])
            run.shared.edits.append(DeleteHeader(field_name, len(gone)))
            run.note(node.place, f"delete {len(gone)} header fields {field_name}")

    return execute


def _holds(run: Run, matches: Matcher, found: header.RawField) -> bool:
    return matches(run, [words.decode(found[1]).strip(" \t\r\n")])


COMMANDS = {"addheader": addheader, "deleteheader": deleteheader}
