"""LIST and LSUB: RFC 3501 §6.3.8, §6.3.9, the extended LIST of RFC 5258, and what can be told along with it.

A name is told when a pattern matches it and it is what the selection options ask for. Names that no mailbox has are told in
three cases: they are subscribed and SUBSCRIBED asks for them; they are superior to what RECURSIVEMATCH looks for; or they are
levels of the hierarchy that a closing "%" stops at, which is how the roots of the namespaces of others show.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from itertools import chain

from daemons.access.imap.metadata import Wanted, may_read, read
from daemons.access.imap.rights import visible
from daemons.access.imap.session import Completion, Session
from daemons.access.imap.status import check_items, status_lines
from protocol.imap import acl, command, match, metadata, response
from storage import mailboxes
from storage.mailboxes import SEPARATOR
from storage.sharing import Visible

_BATCH = 1000  # names that are told at once, or compared with patterns
_ANNOTATED = 50  # with annotations, of which one command may ask for 64 KiB of names each

Attachment = Callable[[Session, command.List, Sequence[Visible]], Awaitable[Mapping[int, bytes]]]


async def _my_rights(session: Session, asked: command.List, told: Sequence[Visible]) -> Mapping[int, bytes]:
    """MYRIGHTS behind each mailbox, RFC 8440 §3."""
    return {
        each.mailbox.mailbox_id: acl.myrights_line(session.mailbox_name(each.mailbox.name), each.rights)
        for each in told
    }


async def _statuses(session: Session, asked: command.List, told: Sequence[Visible]) -> Mapping[int, bytes]:
    """STATUS behind each mailbox that could be selected, RFC 5819 §2."""
    return await status_lines(session, [each.mailbox for each in told if is_selectable(each)], asked.status_items)


async def _annotations(session: Session, asked: command.List, told: Sequence[Visible]) -> Mapping[int, bytes]:
    """METADATA behind each mailbox whose annotations may be read, RFC 9590 §3; NIL for what a mailbox does not have."""
    boxes = {each.mailbox.mailbox_id: each.mailbox for each in told if may_read(each)}
    values = await read(session, list(boxes.values()), Wanted(asked.entries))
    return {
        mailbox_id: metadata.metadata_line(session.mailbox_name(box.name), values[mailbox_id].items())
        for mailbox_id, box in boxes.items()
    }


# Return option -> what gives the responses behind a mailbox's LIST response, by mailbox. In the order they are sent in.
ATTACHMENTS: dict[bytes, Attachment] = {b"MYRIGHTS": _my_rights, b"STATUS": _statuses, b"METADATA": _annotations}


def is_selectable(each: Visible) -> bool:
    """Whether SELECT and STATUS would work (RFC 5819 §2)."""
    return each.mailbox.is_selectable and "r" in each.rights


def parents_of(names: Iterable[str]) -> set[str]:
    """Every name that has an inferior among these."""
    parents: set[str] = set()
    for name in names:
        at = name.rfind(SEPARATOR)
        while at > 0:
            parent = name[:at]
            if parent in parents:
                break
            parents.add(parent)
            at = name.rfind(SEPARATOR, 0, at)
    return parents


@dataclass(slots=True)
class Names:
    """What there is to tell: mailboxes by name, names with inferiors, subscribed names."""

    mailboxes: dict[str, Visible]
    subscribed: Set[str] = frozenset()
    parents: set[str] = field(init=False)

    def __post_init__(self) -> None:
        self.parents = parents_of(self.mailboxes)


async def list_names(session: Session, asked: command.List) -> Completion:
    """LIST."""
    if not asked.is_extended and not asked.patterns[0]:
        session.put(response.DELIMITER_LINE)
        return Completion("done")
    check_items(session, asked.status_items)
    listed = {each.mailbox.name: each for each in await visible(session) if "l" in each.rights}
    subscribed: Set[str] = frozenset()
    if b"SUBSCRIBED" in asked.selection or b"SUBSCRIBED" in asked.returns:
        async with session.database() as connection:
            subscribed = frozenset(await mailboxes.subscriptions(connection, session.account.account_id))
    await _tell(session, asked, Names(listed, subscribed))
    return Completion("done")


async def _tell(session: Session, asked: command.List, names: Names) -> None:
    patterns = [match.full_pattern(asked.reference, pattern) for pattern in asked.patterns]
    matchers = [match.matcher(pattern) for pattern in patterns]
    chosen = _chosen(asked, names)
    told = await _matching(matchers, chosen)
    children: set[str] = set()
    if b"RECURSIVEMATCH" in asked.selection:
        children = parents_of(set(chosen) - set(told))
    extra = children - set(told)
    if not asked.selection and any(pattern.endswith("%") for pattern in patterns):
        extra |= names.parents - names.mailboxes.keys()
    extra = set(await _matching(matchers, extra))
    lines = sorted(chain(told, extra)) if extra else told
    step = _ANNOTATED if b"METADATA" in asked.returns else _BATCH
    for start in range(0, len(lines), step):
        await _tell_some(session, asked, names, lines[start : start + step], children, extra)


async def _matching(matchers: Sequence[Callable[[str], bool]], among: Iterable[str]) -> list[str]:
    """The names that any of the patterns matches; others have their turn while there are many of both."""
    found = []
    for number, name in enumerate(among):
        if any(matches(name) for matches in matchers):
            found.append(name)
        if number * len(matchers) % _BATCH >= _BATCH - len(matchers):
            await asyncio.sleep(0)
    return found


async def _tell_some(
    session: Session, asked: command.List, names: Names, told: Sequence[str], children: set[str], extra: set[str]
) -> None:
    """The responses for some of the names, one after the other: what is attached to all of them is in memory at once."""
    there = [names.mailboxes[name] for name in told if name in names.mailboxes and name not in extra]
    attached = await _attached(session, asked, there)
    for name in told:
        childinfo = b'("CHILDINFO" ("SUBSCRIBED"))' if name in children else b""
        attributes = _attributes(session, asked, names, name)
        session.put(response.list_line(attributes, session.mailbox_name(name), extended=childinfo))
        each = names.mailboxes.get(name)
        if each is not None and name not in extra:
            for lines in attached:
                if (line := lines.get(each.mailbox.mailbox_id)) is not None:
                    session.put(line)
        await session.room()


def _chosen(asked: command.List, names: Names) -> list[str]:
    """The names that the selection options ask for, sorted (RFC 5258 §3.1, RFC 6154 §2)."""
    chosen = sorted(names.subscribed) if b"SUBSCRIBED" in asked.selection else list(names.mailboxes)
    if b"SPECIAL-USE" in asked.selection:
        chosen = [name for name in chosen if name in names.mailboxes and _use(names.mailboxes[name])]
    return chosen


async def _attached(session: Session, asked: command.List, told: Sequence[Visible]) -> list[Mapping[int, bytes]]:
    return [await attach(session, asked, told) for option, attach in ATTACHMENTS.items() if option in asked.returns]


def _attributes(session: Session, asked: command.List, names: Names, name: str) -> list[bytes]:
    return attributes_of(
        names,
        name,
        knows_nonexistent=asked.is_extended or session.has(b"IMAP4REV2"),
        tells_subscribed=b"SUBSCRIBED" in asked.returns or b"SUBSCRIBED" in asked.selection,
    )


def attributes_of(names: Names, name: str, *, knows_nonexistent: bool, tells_subscribed: bool) -> list[bytes]:
    r"""The attributes of a name. Who knows RFC 5258 knows that \NonExistent implies \Noselect; others are told what they know."""
    attributes = []
    each = names.mailboxes.get(name)
    if each is None:
        attributes.append(rb"\NonExistent" if knows_nonexistent else rb"\Noselect")
    elif not is_selectable(each):
        attributes.append(rb"\Noselect")
    if tells_subscribed and name in names.subscribed:
        attributes.append(rb"\Subscribed")
    attributes.append(rb"\HasChildren" if name in names.parents else rb"\HasNoChildren")  # RFC 3348 §3
    if each is not None and (use := _use(each)):
        attributes.append(use)
    return attributes


def _use(each: Visible) -> bytes | None:
    """The special use; that of another's mailbox is another's: a client would put its own sent mail there."""
    return each.mailbox.special_use.encode() if each.mailbox.special_use and not each.prefix else None


async def list_subscribed(session: Session, asked: command.Lsub) -> Completion:
    r"""LSUB: a level that "%" stops at is told as \Noselect when only an inferior is subscribed."""
    if not asked.pattern:
        session.put(response.DELIMITER_LINE.replace(b"LIST", b"LSUB"))
        return Completion("done")
    matches = match.matcher(match.full_pattern(asked.reference, asked.pattern))
    async with session.database() as connection:
        names = await mailboxes.subscriptions(connection, session.account.account_id)
    subscribed = set(names)
    parents = parents_of(names) - subscribed if asked.pattern.endswith("%") else set[str]()
    for name in sorted(subscribed | parents):
        if matches(name):
            attributes = [] if name in subscribed else [rb"\Noselect"]
            session.put(response.lsub_line(attributes, session.mailbox_name(name)))
    return Completion("done")
