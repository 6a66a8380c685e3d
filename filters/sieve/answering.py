"""Commands that send something of their own: vacation (RFC 5230, RFC 6131), notify (RFC 5435), and :fcc (RFC 8580)."""

import hashlib
import re
from collections.abc import Callable

from filters.sieve.actions import Fcc, Notify, Reject, Vacation
from filters.sieve.addresses import mailbox_of
from filters.sieve.building import Builder, number, strings
from filters.sieve.control import mailbox_fault, special_use_of
from filters.sieve.flags import split_flags
from filters.sieve.mailto import MailtoError, parse_mailto
from filters.sieve.state import Check, Op, Run, ScriptError
from protocol.sieve.validation import Node
from protocol.sms import SmsError, parse_sms

METHODS = ("mailto", "https", "sms")  # schemes that notifications go by
_OPTION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*=[^\r\n]*")  # RFC 5435 §3.6
_DAY = 86_400
_PROHIBITED = "local policy prohibits the use of a notify action"


def fcc(builder: Builder, node: Node) -> Callable[[Run], Fcc | None]:
    """Where :fcc wants its copy, RFC 8580 §3. Raises CompileError."""
    argument = node.options.get("fcc")
    if argument is None:
        for name in ("flags", "create", "mailboxid", "specialuse"):
            if name in node.options:
                raise builder.fault(node.place, f"the :{name} tag for the {node.name} command requires the :fcc tag")
        return lambda run: None
    mailbox, flags = builder.text(argument), builder.texts(node.options.get("flags"))
    mailbox_id = builder.optional_text(node.options.get("mailboxid"))
    special_use, creates = builder.optional_text(special_use_of(builder, node)), "create" in node.options

    def wanted(run: Run) -> Fcc:
        name = mailbox(run)
        if fault := mailbox_fault(name):
            raise ScriptError(fault)
        return Fcc(name, tuple(split_flags(flags(run))), creates, mailbox_id(run), special_use(run))

    return wanted


def _sender(builder: Builder, node: Node) -> Callable[[Run], str | None]:
    """The :from of a command, checked. Raises CompileError."""
    argument = node.options.get("from")
    constant = builder.constant(argument)
    if argument is not None and constant is not None and mailbox_of(constant) is None:
        raise builder.fault(argument.place, f"invalid address '{constant}' for the :from tag")
    text = builder.optional_text(argument)

    def sender(run: Run) -> str | None:
        found = text(run)
        if found is not None and mailbox_of(found) is None:
            raise ScriptError(f"invalid address '{found}' for the :from tag")
        return found

    return sender


def vacation(builder: Builder, node: Node) -> Op:
    """`vacation`, RFC 5230 §4."""
    reason, sender = builder.text(node.positional[0]), _sender(builder, node)
    subject, handle = (
        builder.optional_text(node.options.get("subject")),
        builder.optional_text(node.options.get("handle")),
    )
    addresses, copy = builder.texts(node.options.get("addresses")), fcc(builder, node)
    days, seconds, is_mime = (
        number(node.options.get("days")),
        number(node.options.get("seconds")),
        "mime" in node.options,
    )

    def execute(run: Run) -> None:
        shared = run.shared
        if shared.surroundings.is_event:
            raise ScriptError("vacation is not possible for an event in a mailbox")
        for action in shared.actions:
            if isinstance(action, Vacation):
                if action in shared.settled.actions:  # RFC 5230 §4.7 is about one script: the host's answers first
                    run.note(node.place, "vacation, but an earlier script has answered")
                    return
                raise ScriptError("duplicate vacation: there is an answer already")
            if isinstance(action, Reject):
                raise ScriptError("vacation conflicts with an earlier reject")
        limits = shared.limits
        if seconds is not None:
            period = 0 if seconds == 0 else min(seconds, limits.vacation_most_seconds)
        else:
            wanted = limits.vacation_usual_seconds if days is None else days * _DAY
            period = min(max(wanted, limits.vacation_least_seconds), limits.vacation_most_seconds)
        text, title, own = reason(run), subject(run), sender(run)
        mark = handle(run)
        if mark is None:  # RFC 5230 §4.2: different answers are remembered apart
            mark = hashlib.sha256(
                "\0".join([text, title or "", own or "", str(is_mime)]).encode("utf-8", "replace")
            ).hexdigest()
        run.note(node.place, "vacation")
        run.act(Vacation(text, mark, period, title, own, tuple(addresses(run)), is_mime, copy(run)))

    return execute


def method_fault(uri: str) -> str:
    """What is wrong with a notification method, or ""."""
    scheme, colon, rest = uri.partition(":")
    if not colon or scheme.lower() not in METHODS:
        return f"unknown notification method '{scheme}'"
    if scheme.lower() == "mailto":
        try:
            parse_mailto(uri)
        except MailtoError as error:
            return f"invalid mailto URI: {error}"
        return ""
    if scheme.lower() == "sms":
        try:
            parse_sms(uri)
        except SmsError as error:
            return f"invalid sms URI: {error}"
        return ""
    return "" if rest.startswith("//") and not re.search(r"[\s<>\"\x00-\x20\x7f]", rest) else "invalid URI"


def notify(builder: Builder, node: Node) -> Op:
    """`notify`, RFC 5435 §3."""
    if builder.limits.notifications == 0:
        raise builder.fault(node.place, _PROHIBITED)
    constant = builder.constant(node.positional[0])
    if constant is not None and (fault := method_fault(constant)):
        raise builder.fault(node.place, fault)
    for string in strings(node.options.get("options")):
        text = builder.constant(string)
        if text is not None and not _OPTION.fullmatch(text):
            raise builder.fault(string.place, f"invalid option '{text}' of the notify command")
    method, sender = builder.text(node.positional[0]), _sender(builder, node)
    importance, message = (
        builder.optional_text(node.options.get("importance")),
        builder.optional_text(node.options.get("message")),
    )
    options, copy = builder.texts(node.options.get("options")), fcc(builder, node)

    def execute(run: Run) -> None:
        uri = method(run)
        if fault := method_fault(uri):
            raise ScriptError(fault)
        shared = run.shared
        if shared.limits.notifications == 0:
            raise ScriptError(_PROHIBITED)
        if sum(isinstance(action, Notify) for action in shared.actions) >= shared.limits.notifications:
            raise ScriptError("number of notify actions exceeds policy limit")
        level = importance(run) or "2"
        if level not in ("1", "2", "3"):
            raise ScriptError(f"invalid importance '{level}'")
        pairs = tuple((name, value) for name, _, value in (each.partition("=") for each in options(run)))
        run.note(node.place, f"notify by {uri.partition(':')[0]}")
        run.act(Notify(uri, message(run), sender(run), int(level), pairs, copy(run)))

    return execute


def valid_notify_method(builder: Builder, node: Node) -> Check:
    """`valid_notify_method`, RFC 5435 §4: all of them."""
    uris = builder.texts(node.positional[0])
    return lambda run: all(not method_fault(uri) for uri in uris(run))


def notify_method_capability(builder: Builder, node: Node) -> Check:
    """`notify_method_capability`, RFC 5435 §5: `online` is the one there is; for mail it is always `maybe`."""
    uri, name = builder.text(node.positional[0]), builder.text(node.positional[1])
    matches = builder.matcher(node, node.positional[2])

    def check(run: Run) -> bool:
        method = uri(run)
        if method_fault(method) or name(run).lower() != "online":
            return False
        if method.partition(":")[0].lower() == "mailto":
            return matches(run, ["maybe"])
        can = run.shared.ask(("notify", method), lambda ports: ports.can_notify(method))
        return matches(run, ["yes" if can else "no"])

    return check


COMMANDS = {"vacation": vacation, "notify": notify}
TESTS = {"valid_notify_method": valid_notify_method, "notify_method_capability": notify_method_capability}
