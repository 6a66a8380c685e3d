"""Parts of the message one by one, changed, taken out: RFC 5703."""

import hashlib

from filters.sieve.actions import AddHeader
from filters.sieve.addresses import mailbox_of
from filters.sieve.building import Builder, number
from filters.sieve.conditions import part_of
from filters.sieve.fields import field, text_part
from filters.sieve.message import Message, View, part_text, paths_below
from filters.sieve.state import Op, Run, ScriptError, Signal
from filters.sieve.variables import modifiers
from protocol.message import header
from protocol.sieve.syntax import String
from protocol.sieve.validation import Node


def _loop_name(node: Node) -> str:
    argument = node.options.get("name")
    return argument.text if isinstance(argument, String) else ""


def foreverypart(builder: Builder, node: Node) -> Op:
    """`foreverypart`, RFC 5703 §3.1: the message and all parts in it, or the parts in the one of the loop around."""
    name = _loop_name(node)
    if len(builder.loops) >= builder.limits.part_depth:
        raise builder.fault(node.place, f"foreverypart is nested deeper than {builder.limits.part_depth}")
    builder.loops.append(name)
    block = builder.block(node.block)
    builder.loops.pop()

    def execute(run: Run) -> Signal | None:
        shared = run.shared
        if len(shared.parts) >= shared.limits.part_depth:
            raise ScriptError("nested foreverypart loops exceed policy limit")
        part = part_of(run).part
        around = shared.parts[-1] if shared.parts else ()
        paths = paths_below(part, around) if part is not None else []
        for path in paths if shared.parts else [(), *paths]:
            if shared.message.at(path) is None:  # it was replaced
                continue
            run.spend(4)
            shared.parts.append(path)
            signal = block(run)
            shared.parts.pop()
            if signal is Signal.BREAK:
                if run.breaking in ("", name):
                    run.breaking = ""
                    return None
                return signal
            if signal is not None:
                return signal
        return None

    return execute


def leave_loop(builder: Builder, node: Node) -> Op:
    """`break`, RFC 5703 §3.2."""
    name = _loop_name(node)
    if not builder.loops:
        raise builder.fault(node.place, "the break command must stand within a foreverypart loop")
    if name and name not in builder.loops:
        raise builder.fault(node.place, f"there is no foreverypart loop named '{name}' around the break command")

    def execute(run: Run) -> Signal:
        run.breaking = name
        return Signal.BREAK

    return execute


def extracttext(builder: Builder, node: Node) -> Op:
    """`extracttext`, RFC 5703 §7."""
    if not builder.has_variables:
        raise builder.fault(node.place, 'the extracttext command needs require "variables"')
    if not builder.loops:
        raise builder.fault(node.place, "the extracttext command must stand within a foreverypart loop")
    store, modify, first = (
        builder.target(node.positional[0]),
        modifiers(node, builder.limits.variable_octets),
        number(node.options.get("first")),
    )

    def execute(run: Run) -> None:
        text = _beginning(run, part_of(run))
        run.spend(len(text) // 64)
        store(run, modify(text if first is None else text[:first]))

    return execute


def _beginning(run: Run, view: View) -> str:
    """The text of a part, read once: as much of it as a variable could ever need."""
    if view.part is None or not view.part.is_text or view.part.children:
        return ""
    if (known := view.remembered.get("extracttext")) is None:
        run.spend((view.part.end - view.part.body_start) // 128)
        known = view.remembered["extracttext"] = [part_text(view)[: max(run.shared.limits.variable_octets, 1 << 16)]]
    return known[0]


def replace(builder: Builder, node: Node) -> Op:
    """`replace`, RFC 5703 §5: the current part, or the whole message."""
    text, is_mime = builder.text(node.positional[0]), "mime" in node.options
    subject, sender = (
        builder.optional_text(node.options.get("subject")),
        builder.optional_text(node.options.get("from")),
    )

    def execute(run: Run) -> None:
        message = run.shared.message
        path = run.shared.parts[-1] if run.shared.parts else ()
        view = message.at(path)
        if view is None or view.part is None:
            return
        head, body = _entity(text(run)) if is_mime else text_part(text(run))
        octets, part = view.octets, view.part
        if not path:
            changes = {"Subject": subject(run), "From": sender(run)}
            _replace_all(message, head, body, {name: value for name, value in changes.items() if value is not None})
        else:
            end = body.removesuffix(b"\r\n") if octets[part.end : part.end + 1] in (b"\r", b"\n") else body
            message.replace(bytes(octets[: part.header_start]) + head + b"\r\n" + end + bytes(octets[part.end :]))
        _check_size(run)
        run.note(node.place, "replace " + (f"part {'.'.join(str(at + 1) for at in path)}" if path else "the message"))
        run.shared.edits.append(AddHeader("Content-Type", "", is_last=False))

    return execute


def _check_size(run: Run) -> None:
    run.spend(0)  # the copy
    if run.shared.message.size > run.shared.limits.message_octets:
        raise ScriptError("edited message is larger than its limit")


def _entity(text: str) -> tuple[bytes, bytes]:
    """Header and body of a MIME entity given as text."""
    octets = text.encode("utf-8", "surrogateescape")
    if octets.startswith(b"\r\n"):
        return b"", octets[2:]
    head, blank, body = octets.partition(b"\r\n\r\n")
    return (head + b"\r\n", body) if blank else (octets.rstrip(b"\r\n") + b"\r\n", b"")


def _is_content(name: bytes) -> bool:
    return name.startswith(b"CONTENT-") or name == b"MIME-VERSION"


def _replace_all(message: Message, head: bytes, body: bytes, changes: dict[str, str]) -> None:
    """Another body in the same message; what it said of itself stays as Original-Subject and Original-From."""
    lines: list[bytes] = []
    for name, _, raw in message.view.fields:
        if _is_content(name):
            continue
        if name in (b"SUBJECT", b"FROM") and name.decode().capitalize() in changes:
            lines.append(b"Original-" + raw)
        else:
            lines.append(raw)
    for changed, value in changes.items():
        lines.append(field(changed, mailbox_field(value) if changed == "From" else value))
    given = [raw for name, _, raw in header.read(head) if _is_content(name) and name != b"MIME-VERSION"]
    message.replace(b"".join([*lines, b"MIME-Version: 1.0\r\n", *given]) + b"\r\n" + body)


def mailbox_field(text: str) -> str:
    """The value of From: as given when it is an address. Raises ScriptError."""
    if mailbox_of(text) is None:
        raise ScriptError(f"invalid address '{text}'")
    return text


def enclose(builder: Builder, node: Node) -> Op:
    """`enclose`, RFC 5703 §6: the message becomes an attachment of a new one."""
    text, subject = builder.text(node.positional[0]), builder.optional_text(node.options.get("subject"))
    headers = builder.texts(node.options.get("headers"))

    def execute(run: Run) -> None:
        message = run.shared.message
        old = bytes(message.octets)
        boundary = _boundary(old)
        kept: list[bytes] = [
            raw
            for name, _, raw in message.view.fields
            if not _is_content(name) and not (name == b"SUBJECT" and subject(run) is not None)
        ]
        lines = [*kept, *([] if subject(run) is None else [field("Subject", subject(run) or "")])]
        lines.extend(field(*_header_of(line)) for line in headers(run))
        head, body = text_part(text(run))
        lines.append(b"MIME-Version: 1.0\r\n")
        lines.append(f'Content-Type: multipart/mixed; boundary="{boundary}"\r\n\r\n'.encode())
        delimiter = f"--{boundary}\r\n".encode()
        message.replace(
            b"".join([*lines, delimiter, head, b"\r\n", body, delimiter])
            + b"Content-Type: message/rfc822\r\nContent-Disposition: attachment\r\n\r\n"
            + old
            + (b"" if old.endswith(b"\n") else b"\r\n")
            + f"--{boundary}--\r\n".encode()
        )
        _check_size(run)
        run.note(node.place, "enclose the message")

    return execute


def _header_of(line: str) -> tuple[str, str]:
    name, colon, value = line.partition(":")
    if not colon or not name.isascii() or not name.strip() or " " in name.strip():
        raise ScriptError(f"invalid header field '{line}'")
    return name.strip(), value.strip()


def _boundary(octets: bytes) -> str:
    """One that does not occur: nothing holds its own hash."""
    return "=_" + hashlib.sha256(octets).hexdigest()[:40]


COMMANDS = {
    "foreverypart": foreverypart,
    "break": leave_loop,
    "extracttext": extracttext,
    "replace": replace,
    "enclose": enclose,
}
