"""The threading algorithms of THREAD: ORDEREDSUBJECT and REFERENCES (RFC 5256 §3), REFS (draft-ietf-morg-inthread §4).

Messages come as parallel sequences in mailbox order; a thread is told in their indices. Nothing recurses: a thread may be as
long as the mailbox.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple


class Messages(NamedTuple):
    """What is threaded, in mailbox order. Identifiers are the hashes of protocol.message.sorting, 0 where there is none."""

    sent: Sequence[int]  # seconds; INTERNALDATE's where there is no valid Date field
    arrived: Sequence[int]  # INTERNALDATE, seconds
    subjects: Sequence[bytes]  # collation keys of base subjects
    replies: Sequence[bool]
    message_ids: Sequence[int]
    references: Sequence[tuple[int, ...]]


class Forest(NamedTuple):
    """Threads, sorted. A root from `size` on is a dummy, whose children are told without it (RFC 5256 §4)."""

    size: int  # how many messages there are
    roots: list[int]
    children: dict[int, list[int]]  # sorted; no entry where there are none


def ordered_subject(messages: Messages) -> Forest:
    """ORDEREDSUBJECT: all messages of a subject are children of the first by sent date."""
    first: dict[bytes, int] = {}
    children: dict[int, list[int]] = {}
    for at in _by_date(messages):
        root = first.setdefault(messages.subjects[at], at)
        if root != at:
            children.setdefault(root, []).append(at)
    return Forest(len(messages.sent), list(first.values()), children)


def references(messages: Messages) -> Forest:
    """REFERENCES, all six steps; ties of dates are broken by mailbox order (RFC 5256 §2.2)."""
    forest, rank = _linked(messages)
    forest.roots.sort(key=lambda root: _rank_of(root, forest, rank))
    roots = _merged_by_subject(forest, messages, rank)
    roots.sort(key=lambda root: _rank_of(root, forest, rank))
    return forest._replace(roots=roots)


def refs(messages: Messages) -> Forest:
    """REFS: as REFERENCES without subjects; the thread with the latest arrival is the last."""
    forest, _ = _linked(messages)
    arrived = messages.arrived
    latest: dict[int, tuple[int, int]] = {}
    for root in forest.roots:
        best = (-(2**63), -1)
        waiting = [root]
        while waiting:
            node = waiting.pop()
            if node < forest.size:
                best = max(best, (arrived[node], node))
            waiting.extend(forest.children.get(node, ()))
        latest[root] = best
    forest.roots.sort(key=latest.__getitem__)
    return forest


ALGORITHMS = {b"ORDEREDSUBJECT": ordered_subject, b"REFERENCES": references, b"REFS": refs}


def _by_date(messages: Messages) -> list[int]:
    """All messages by sent date; sorted() is stable, so that equal dates stay in mailbox order."""
    return sorted(range(len(messages.sent)), key=messages.sent.__getitem__)


def _rank_of(root: int, forest: Forest, rank: Sequence[int]) -> int:
    """Where a thread stands by date; that of a dummy is its first child's."""
    return rank[root] if root < forest.size else rank[forest.children[root][0]]


def _linked(messages: Messages) -> tuple[Forest, list[int]]:
    """Steps 1 to 3, with siblings sorted as step 6 wants them, and each message's rank by sent date."""
    count = len(messages.sent)
    parents = _parents(messages)
    order = _by_date(messages)
    rank = [0] * count
    children: dict[int, list[int]] = {}
    roots: list[int] = []
    for number, at in enumerate(order):  # in order of dates, so that every list of siblings comes out sorted
        rank[at] = number
        parent = parents[at]
        if parent >= count:  # step 3: a dummy's children take its place, but not directly under the root
            top = parent
            while top >= count and parents[top] >= 0:
                top = parents[top]
            while parent >= count and parents[parent] >= 0:
                parents[parent], parent = top, parents[parent]
            parent = top
        if parent < 0:
            roots.append(at)
        elif parent in children:
            children[parent].append(at)
        else:
            children[parent] = [at]
            if parent >= count:
                roots.append(parent)
    for place, root in enumerate(roots):
        if root >= count and len(children[root]) == 1:
            (roots[place],) = children.pop(root)
    return Forest(count, roots, children), rank


def _parents(messages: Messages) -> list[int]:
    """Step 1: the parent of each message, and behind them of each dummy; -1 where there is none."""
    nodes: dict[int, int] = {}
    for at, identifier in enumerate(messages.message_ids):
        if identifier:
            nodes.setdefault(identifier, at)  # of equal identifiers only the first counts
    parents = [-1] * len(messages.sent)
    has_children = bytearray(len(parents))
    for at, given in enumerate(messages.references):
        previous = -1
        for identifier in given:
            node = nodes.get(identifier, -1)
            if node < 0:
                node = nodes[identifier] = len(parents)
                parents.append(-1)
                has_children.append(0)
            if previous >= 0 > parents[node] and not _makes_loop(node, previous, parents, has_children):
                parents[node] = previous
                has_children[previous] = 1
            previous = node
        parents[at] = -1  # what others said of this message was cut short: its own References count
        if previous >= 0 and not _makes_loop(at, previous, parents, has_children):
            parents[at] = previous
            has_children[previous] = 1
    return parents


def _makes_loop(child: int, parent: int, parents: list[int], has_children: bytearray) -> bool:
    """Whether the child is the parent, or above it."""
    if not has_children[child]:
        return child == parent
    while parent >= 0 and parent != child:
        parent = parents[parent]
    return parent == child


def _merged_by_subject(forest: Forest, messages: Messages, rank: Sequence[int]) -> list[int]:
    """Step 5: threads of one subject become one; gives the roots that are left, and sorts the children of changed ones."""
    count, roots, children = forest
    subjects, replies = messages.subjects, messages.replies
    table: dict[bytes, int] = {}
    named: list[tuple[int, bytes]] = []
    for root in roots:
        subject = subjects[root] if root < count else subjects[children[root][0]]
        named.append((root, subject))
        held = table.get(subject, -1)
        if held < 0 or (held < count and (root >= count or (replies[held] and not replies[root]))):
            table[subject] = root
    kept: dict[int, None] = dict.fromkeys(roots)
    changed: set[int] = set()
    dummy = max(count - 1, max(roots, default=0))
    for root, subject in named:
        held = table[subject]
        if not subject or held == root:
            continue
        del kept[root]
        if root >= count:  # then the other is a dummy as well
            children[held] += children.pop(root)
        elif held >= count or (replies[root] and not replies[held]):
            children.setdefault(held, []).append(root)
        else:
            dummy += 1
            children[dummy] = [held, root]
            del kept[held]
            kept[dummy] = None
            table[subject] = held = dummy
        changed.add(held)
    for parent in changed:
        children[parent].sort(key=rank.__getitem__)
    return list(kept)


def render(forest: Forest, numbers: Sequence[int]) -> bytes:
    """The thread-lists of a THREAD response, RFC 5256 §4; `numbers` are what the client knows the messages by."""
    roots, children = forest.roots, forest.children
    pieces: list[bytes] = []
    for root in roots:
        if root in children:
            _render_thread(root, forest, numbers, pieces)
        else:
            pieces.append(b"(%d)" % numbers[root])
    return b"".join(pieces)


def _render_thread(root: int, forest: Forest, numbers: Sequence[int], pieces: list[bytes]) -> None:
    """thread-list = "(" (thread-members / thread-nested) ")"."""
    count, _, children = forest
    waiting: list[int] = [root]  # -1 closes a list
    while waiting:
        node = waiting.pop()
        if node < 0:
            pieces.append(b")")
            continue
        pieces.append(b"(")
        waiting.append(-1)
        below: Iterable[int] = children.get(node, ())
        if node < count:
            pieces.append(b"%d" % numbers[node])
            while below:
                if len(children[node]) > 1:
                    pieces.append(b" ")
                    break
                (node,) = below
                pieces.append(b" %d" % numbers[node])
                below = children.get(node, ())
        waiting.extend(reversed(list(below)))
