"""Commands of control and the plain actions: RFC 5228 §3 and §4, RFC 5429, RFC 6009."""

from collections.abc import Callable
from dataclasses import replace

from filters.sieve.actions import Action, Discard, FileInto, Keep, Notify, Redirect, Reject
from filters.sieve.addresses import mailbox_of
from filters.sieve.building import Builder
from filters.sieve.flags import flags_of
from filters.sieve.state import Op, Run, ScriptError, Signal
from protocol.sieve.syntax import Argument
from protocol.sieve.validation import Node

MAILBOX_NAME_LIMIT = 1_000  # octets; storage has a limit of its own


def stop(builder: Builder, node: Node) -> Op:
    """`stop`, RFC 5228 §3.3."""
    return lambda run: Signal.STOP


def keep(builder: Builder, node: Node) -> Op:
    """`keep`, RFC 5228 §4.3."""
    flags = flags_of(builder, node)

    def execute(run: Run) -> None:
        action = Keep(flags(run), run.edited())
        run.shared.keeps = False
        run.note(node.place, "keep")
        _deliver(run, action)

    return execute


def discard(builder: Builder, node: Node) -> Op:
    """`discard`, RFC 5228 §4.4: the implicit keep ends."""

    def execute(run: Run) -> None:
        run.shared.keeps = False
        run.note(node.place, "discard")
        if not any(isinstance(action, Discard) for action in run.shared.actions):
            run.act(Discard())

    return execute


def fileinto(builder: Builder, node: Node) -> Op:
    """`fileinto`, RFC 5228 §4.1, with :copy, :create, :mailboxid, :specialuse and :flags."""
    constant = builder.constant(node.positional[0])
    if constant is not None and (fault := mailbox_fault(constant)):
        raise builder.fault(node.place, fault)
    mailbox, flags = builder.text(node.positional[0]), flags_of(builder, node)
    mailbox_id = builder.optional_text(node.options.get("mailboxid"))
    special_use = builder.optional_text(special_use_of(builder, node))
    creates, copies = "create" in node.options, "copy" in node.options
    if {"mailboxid", "specialuse"} <= node.options.keys():  # RFC 9042 §5
        raise builder.fault(node.place, "the :mailboxid and :specialuse tags exclude each other")

    def execute(run: Run) -> None:
        name = mailbox(run)
        if fault := mailbox_fault(name):
            raise ScriptError(fault)
        action = FileInto(name, flags(run), creates, mailbox_id(run), special_use(run), run.edited())
        if not copies:
            run.shared.keeps = False
        run.note(node.place, f'file into "{name}"')
        _deliver(run, action)

    return execute


def special_use_of(builder: Builder, node: Node) -> Argument | None:
    """The attribute of :specialuse, checked. Raises CompileError."""
    argument = node.options.get("specialuse")
    constant = builder.constant(argument)
    if argument is not None and constant is not None and not is_attribute(constant):
        raise builder.fault(argument.place, f"invalid special-use attribute '{constant}'")
    return argument


def is_attribute(text: str) -> bool:
    r"""Whether this is a special-use attribute: `\Junk`."""
    return text[:1] == "\\" and text[1:].isascii() and bool(text[1:]) and not set(text[1:]) & set('\\ (){%*"]')


def mailbox_fault(name: str) -> str:
    """What is wrong with the name of a mailbox, or ""."""
    try:
        octets = name.encode()
    except UnicodeEncodeError:
        return "invalid folder name: not UTF-8"
    if len(octets) > MAILBOX_NAME_LIMIT:
        return "invalid folder name: too long"
    if any(ord(character) < 32 or 0x7F <= ord(character) < 0xA0 for character in name):
        return "invalid folder name: control characters"
    return ""


def redirect(builder: Builder, node: Node) -> Op:
    """`redirect`, RFC 5228 §4.2, with :copy, :list (RFC 6134), :notify and :ret (RFC 6009)."""
    to_list, copies = "list" in node.options, "copy" in node.options
    constant = builder.constant(node.positional[0])
    if constant is not None and not to_list and recipient(constant) is None:
        raise builder.fault(node.place, f"invalid address '{constant}' for the redirect command")
    address = builder.text(node.positional[0])
    notify, ret = _dsn(builder, node, "notify", _notify), _dsn(builder, node, "ret", _ret)

    def execute(run: Run) -> None:
        text = address(run)
        target = "" if to_list else recipient(text)
        if target is None:
            raise ScriptError(f"invalid address '{text}' for the redirect command")
        message = run.edited()
        wanted, returned = notify(run), ret(run)
        action = Redirect(target, text if to_list else None, wanted, returned[0] if returned else None, message)
        if not copies:
            run.shared.keeps = False
        run.note(node.place, f"redirect to {text}")
        _deliver(run, action)

    return execute


def recipient(text: str) -> str | None:
    """The address to send to, or None: `address` or `Name <address>`, ASCII or with UTF-8 (RFC 6532)."""
    return mailbox_of(text)


def _dsn(
    builder: Builder, node: Node, option: str, read: Callable[[str], tuple[str, ...] | None]
) -> Callable[[Run], tuple[str, ...] | None]:
    argument = node.options.get(option)
    constant = builder.constant(argument)
    if argument is not None and constant is not None and read(constant) is None:
        raise builder.fault(argument.place, f"invalid value '{constant}' of :{option}")
    text = builder.optional_text(argument)

    def value(run: Run) -> tuple[str, ...] | None:
        found = text(run)
        if found is None:
            return None
        parsed = read(found)
        if parsed is None:
            raise ScriptError(f"invalid value '{found}' of :{option}")
        return parsed

    return value


def _notify(text: str) -> tuple[str, ...] | None:
    """NOTIFY of RFC 3461 §4.1: NEVER, or some of the others."""
    words = tuple(word.strip().upper() for word in text.split(","))
    if words == ("NEVER",):
        return words
    return words if set(words) <= {"SUCCESS", "FAILURE", "DELAY"} and len(set(words)) == len(words) else None


def _ret(text: str) -> tuple[str, ...] | None:
    return (text.upper(),) if text.upper() in ("FULL", "HDRS") else None


def reject(builder: Builder, node: Node) -> Op:
    """`reject` and `ereject`, RFC 5429 §2: with nothing that stores or sends the message."""
    reason, is_extended = builder.text(node.positional[0]), node.name == "ereject"

    def execute(run: Run) -> None:
        shared = run.shared
        if shared.surroundings.is_event:
            raise ScriptError(f"{node.name} is not possible for an event in a mailbox")
        run.shared.keeps = False
        for action in shared.actions:
            if isinstance(action, Reject):
                raise ScriptError("duplicate reject: the message is refused already")
            if not isinstance(action, Discard | Notify):  # RFC 5435 §3: notify goes with everything
                raise ScriptError(f"{node.name} conflicts with an earlier {type(action).__name__.lower()}")
        run.note(node.place, node.name)
        run.act(Reject(reason(run), is_extended))

    return execute


def _deliver(run: Run, action: Keep | FileInto | Redirect) -> None:
    """Add an action that stores or sends; the same one twice is done once, RFC 5228 §2.10.3."""
    actions = run.shared.actions
    if any(isinstance(each, Reject) for each in actions):
        raise ScriptError(f"{type(action).__name__.lower()} conflicts with an earlier reject")
    for at, each in enumerate(actions):
        if _same(each, action):
            if isinstance(each, Keep | FileInto) and isinstance(action, Keep | FileInto):
                actions[at] = replace(each, flags=action.flags)  # the later flags count
            return
    if (
        isinstance(action, Redirect)
        and sum(isinstance(each, Redirect) for each in actions) >= run.shared.limits.redirects
    ):
        raise ScriptError("number of redirect actions exceeds policy limit")
    run.act(action)


def _same(one: Action, other: Keep | FileInto | Redirect) -> bool:
    if isinstance(other, Redirect):
        if not isinstance(one, Redirect) or one.message != other.message:
            return False
        return (one.address.lower(), one.list_name) == (other.address.lower(), other.list_name)
    if not isinstance(one, Keep | FileInto) or one.message != other.message:
        return False
    return _mailbox(one) == _mailbox(other)


def _mailbox(action: Keep | FileInto) -> tuple[str | None, ...]:
    if isinstance(action, Keep):
        return ("INBOX", None, None)
    name = "INBOX" if action.mailbox.upper() == "INBOX" else action.mailbox
    return (name, action.mailbox_id, action.special_use)


COMMANDS = {
    "stop": stop,
    "keep": keep,
    "discard": discard,
    "fileinto": fileinto,
    "redirect": redirect,
    "reject": reject,
    "ereject": reject,
}
