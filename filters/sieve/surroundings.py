"""Tests of what is around the message: environment, mailboxes, annotations, lists, scores, duplicates."""

from collections.abc import Callable

from filters.sieve.actions import Tracked
from filters.sieve.building import Builder, match_type, number, strings
from filters.sieve.control import is_attribute, mailbox_fault
from filters.sieve.state import Check, Run, ScriptError
from protocol.sieve.errors import Fault
from protocol.sieve.validation import Node


def environment(builder: Builder, node: Node) -> Check:
    """`environment`, RFC 5183 §4: an item that is not known matches nothing."""
    name, matches = builder.text(node.positional[0]), builder.matcher(node, node.positional[1])

    def check(run: Run) -> bool:
        value = run.shared.surroundings.environment.get(name(run).lower())
        return value is not None and matches(run, [value])

    return check


def mailboxexists(builder: Builder, node: Node) -> Check:
    """`mailboxexists`, RFC 5490 §3.1: all of them."""
    _warn_of_mailboxes(builder, node)
    names = builder.texts(node.positional[0])
    return lambda run: all(_mailbox_exists(run, name) for name in names(run))


def _mailbox_exists(run: Run, name: str) -> bool:
    if mailbox_fault(name):
        return False
    return run.shared.ask(("mailbox", name), lambda ports: ports.mailbox_exists(name))


def _warn_of_mailboxes(builder: Builder, node: Node) -> None:
    for string in strings(node.positional[0]):
        text = builder.constant(string)
        if text is not None and (fault := mailbox_fault(text)):
            builder.warnings.append(Fault(string.place.line, string.place.column, fault))


def mailboxidexists(builder: Builder, node: Node) -> Check:
    """`mailboxidexists`, RFC 9042 §3: all of them."""
    ids = builder.texts(node.positional[0])

    def exists(run: Run, mailbox_id: str) -> bool:
        return run.shared.ask(("mailbox id", mailbox_id), lambda ports: ports.mailbox_id_exists(mailbox_id))

    return lambda run: all(exists(run, mailbox_id) for mailbox_id in ids(run))


def specialuse_exists(builder: Builder, node: Node) -> Check:
    """`specialuse_exists`, RFC 8579 §3: all attributes, of one mailbox when it is named."""
    for string in strings(node.positional[1]):
        text = builder.constant(string)
        if text is not None and not is_attribute(text):
            raise builder.fault(string.place, f"invalid special-use attribute '{text}'")
    mailbox, attributes = builder.optional_text(node.positional[0]), builder.texts(node.positional[1])

    def exists(run: Run, name: str | None, attribute: str) -> bool:
        if not is_attribute(attribute):
            raise ScriptError(f"invalid special-use attribute '{attribute}'")
        question = ("special use", name, attribute.lower())
        return run.shared.ask(question, lambda ports: ports.special_use_exists(name, attribute))

    def check(run: Run) -> bool:
        name = mailbox(run)
        if name is not None and mailbox_fault(name):
            return False
        return all(exists(run, name, attribute) for attribute in attributes(run))

    return check


def metadata(builder: Builder, node: Node) -> Check:
    """`metadata`, RFC 5490 §3.3, and `servermetadata`, §4.1."""
    mailbox = builder.text(node.positional[0]) if node.name == "metadata" else None
    *_, annotation_argument, keys = node.positional
    annotation, matches = builder.text(annotation_argument), builder.matcher(node, keys)

    def check(run: Run) -> bool:
        value = _annotation(run, None if mailbox is None else mailbox(run), annotation(run))
        return value is not None and matches(run, [value])

    return check


def metadataexists(builder: Builder, node: Node) -> Check:
    """`metadataexists`, RFC 5490 §3.4, and `servermetadataexists`, §4.2: all of them."""
    mailbox = builder.text(node.positional[0]) if node.name == "metadataexists" else None
    names = builder.texts(node.positional[-1])

    def check(run: Run) -> bool:
        name = None if mailbox is None else mailbox(run)
        return all(_annotation(run, name, annotation) is not None for annotation in names(run))

    return check


def _annotation(run: Run, mailbox: str | None, name: str) -> str | None:
    if mailbox is not None and mailbox_fault(mailbox):
        return None
    return run.shared.ask(("metadata", mailbox, name.lower()), lambda ports: ports.metadata(mailbox, name.lower()))


def valid_ext_list(builder: Builder, node: Node) -> Check:
    """`valid_ext_list`, RFC 6134 §2.7: all of them."""
    names = builder.texts(node.positional[0])

    def exists(run: Run, name: str) -> bool:
        return run.shared.ask(("list exists", name), lambda ports: ports.list_exists(name))

    return lambda run: all(exists(run, name) for name in names(run))


def spamtest(builder: Builder, node: Node) -> Check:
    """`spamtest`, RFC 5235 §2: 0 not checked, 1 clean to 10 spam; or percents."""
    has_percent = "percent" in node.options

    def value(run: Run) -> str:
        score = run.shared.surroundings.spam_score
        if score is None:
            return "0"
        score = min(max(score, 0.0), 1.0)
        return str(round(score * 100)) if has_percent else str(1 + int(score * 9 + 1e-9))

    return _score(builder, node, value, lambda run: run.shared.surroundings.spam_score is not None)


def virustest(builder: Builder, node: Node) -> Check:
    """`virustest`, RFC 5235 §3."""
    return _score(
        builder,
        node,
        lambda run: str(run.shared.surroundings.virus),
        lambda run: run.shared.surroundings.virus > 0,
    )


def _score(builder: Builder, node: Node, value: Callable[[Run], str], is_there: Callable[[Run], bool]) -> Check:
    matches = builder.matcher(node, node.positional[0])
    if match_type(node) == "count":  # RFC 5235 §2.1: 1 when it was checked, 0 when not
        return lambda run: matches(run, [value(run)] if is_there(run) else [])
    return lambda run: matches(run, [value(run)])


def duplicate(builder: Builder, node: Node) -> Check:
    """`duplicate`, RFC 7352 §3."""
    handle = builder.optional_text(node.options.get("handle"))
    unique, field = builder.optional_text(node.options.get("uniqueid")), node.options.get("header")
    name = builder.text(field) if field is not None else (lambda run: "message-id")
    seconds, extends = number(node.options.get("seconds")), "last" in node.options

    def check(run: Run) -> bool:
        shared = run.shared
        unique_id = unique(run)
        if unique_id is None:
            values = shared.message.view.texts(name(run))
            unique_id = values[0] if values else ""
        if not unique_id:
            return False
        group = handle(run) or ""
        mark = f"{group}\0{'' if unique(run) is not None else name(run).lower()}\0{unique_id}"
        period = min(
            seconds if seconds is not None else shared.limits.duplicate_usual_seconds,
            shared.limits.duplicate_most_seconds,
        )
        seen = shared.ask(("duplicate", group, mark), lambda ports: ports.is_duplicate(group, mark))
        if (not seen or extends) and all(each.unique_id != mark for each in shared.tracked):
            shared.tracked.append(Tracked(group, mark, period))
        return seen

    return check


TESTS = {
    "environment": environment,
    "mailboxexists": mailboxexists,
    "mailboxidexists": mailboxidexists,
    "specialuse_exists": specialuse_exists,
    "metadata": metadata,
    "metadataexists": metadataexists,
    "servermetadata": metadata,
    "servermetadataexists": metadataexists,
    "valid_ext_list": valid_ext_list,
    "spamtest": spamtest,
    "virustest": virustest,
    "duplicate": duplicate,
}
