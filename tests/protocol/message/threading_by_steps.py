"""The REFERENCES algorithm once more, as slow and as literal as RFC 5256 §3 states it: what threads.py must equal."""

import itertools
from dataclasses import dataclass, field

from protocol.message.threads import Messages


@dataclass(eq=False)
class Node:
    """A message, or a dummy where `at` is None."""

    at: int | None
    parent: "Node | None" = None
    children: "list[Node]" = field(default_factory=list)

    def adopt(self, child: "Node") -> None:
        """Link, unless that makes a loop."""
        above: Node | None = self
        while above is not None:
            if above is child:
                return
            above = above.parent
        child.parent = self
        self.children.append(child)

    def leave(self) -> None:
        """Break the link to the parent."""
        if self.parent is not None:
            self.parent.children.remove(self)
            self.parent = None


def linked(messages: Messages) -> Node:
    """Steps 1 to 3: the root, with everything below it unsorted."""
    nodes = [Node(at) for at in range(len(messages.sent))]
    by_identifier: dict[int, Node] = {}
    for node, identifier in zip(nodes, messages.message_ids, strict=True):
        if identifier and identifier not in by_identifier:
            by_identifier[identifier] = node
    everything = list(nodes)
    for node, given in zip(nodes, messages.references, strict=True):
        chain: list[Node] = []
        for identifier in given:
            if identifier not in by_identifier:
                by_identifier[identifier] = Node(None)
                everything.append(by_identifier[identifier])
            chain.append(by_identifier[identifier])
        for upper, lower in itertools.pairwise(chain):
            if lower.parent is None:
                upper.adopt(lower)
        node.leave()
        if chain:
            chain[-1].adopt(node)
    root = Node(None)
    for node in everything:
        if node.parent is None:
            node.parent = root
            root.children.append(node)
    prune(root, is_root=True)
    return root


def prune(node: Node, *, is_root: bool) -> None:
    """Step 3, from the leaves up."""
    for child in list(node.children):
        prune(child, is_root=False)
        if child.at is None and (not child.children or not is_root or len(child.children) == 1):
            node.children.remove(child)
            for promoted in child.children:
                promoted.parent = node
                node.children.append(promoted)


def by_steps(messages: Messages) -> list[object]:
    """REFERENCES: the threads as nested lists [message, children…], None for a dummy."""

    def date(node: Node) -> tuple[int, int]:
        at = node.children[0].at if node.at is None else node.at
        assert at is not None
        return messages.sent[at], at

    def subject(node: Node) -> bytes:
        at = node.children[0].at if node.at is None else node.at
        assert at is not None
        return messages.subjects[at]

    def is_reply(node: Node) -> bool:
        return node.at is not None and messages.replies[node.at]

    root = linked(messages)
    for child in root.children:
        if child.at is None:
            child.children.sort(key=date)
    root.children.sort(key=date)
    table: dict[bytes, Node] = {}
    for node in root.children:
        found = table.get(subject(node))
        if subject(node) and (
            found is None or (found.at is not None and (node.at is None or (is_reply(found) and not is_reply(node))))
        ):
            table[subject(node)] = node
    for node in list(root.children):
        if not subject(node) or table[subject(node)] is node:
            continue
        found = table[subject(node)]
        root.children.remove(node)
        if found.at is None and node.at is None:
            found.children += node.children
        elif found.at is None or (is_reply(node) and not is_reply(found)):
            found.children.append(node)
        else:
            dummy = Node(None, None, [node, found])
            root.children.remove(found)
            root.children.append(dummy)
            table[subject(node)] = dummy
    sort(root, date)
    return [told(node) for node in root.children]


def sort(node: Node, date: object) -> None:
    """Step 6."""
    for child in node.children:
        sort(child, date)
    node.children.sort(key=date)  # type: ignore[arg-type]


def told(node: Node) -> list[object]:
    """A thread as nested lists."""
    return [node.at, *[told(child) for child in node.children]]
