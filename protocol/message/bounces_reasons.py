"""Why a message came back: a reason to act upon, from what the servers wrote and from the codes.

The words come first: many servers give 5.1.1 or 5.7.1 to everything, and say in the text what they mean. The status decides
where the words say nothing.
"""

from collections.abc import Mapping

from protocol.message.bounces_words import ADDRESS, FORMULAS, PATTERNS, Reason
from protocol.status import Enhanced

HARD: frozenset[Reason] = frozenset(
    {"unknown-mailbox", "unknown-domain", "moved"}
)  # the address is wrong, and stays so

TEXT_LIMIT = 8 * 1024  # characters of a diagnostic that are looked at, ours

_BY_STATUS: Mapping[tuple[int, int], Reason] = {
    (1, 0): "unknown-mailbox", (1, 1): "unknown-mailbox", (1, 2): "unknown-domain", (1, 3): "unknown-mailbox",
    (1, 4): "unknown-mailbox", (1, 6): "moved", (1, 7): "policy", (1, 8): "policy", (1, 10): "unknown-domain",
    (2, 0): "other", (2, 1): "disabled", (2, 2): "full", (2, 3): "too-large", (2, 4): "system",
    (3, 0): "system", (3, 1): "system", (3, 2): "system", (3, 3): "system", (3, 4): "too-large", (3, 5): "system",
    (4, 0): "network", (4, 1): "expired", (4, 2): "network", (4, 3): "network", (4, 4): "unknown-domain", (4, 5): "rate",
    (4, 6): "network", (4, 7): "expired", (5, 3): "rate", (7, 13): "disabled", (7, 17): "unknown-mailbox",
    (7, 18): "unknown-domain", (7, 20): "authentication", (7, 21): "authentication", (7, 22): "authentication",
    (7, 23): "authentication", (7, 24): "authentication", (7, 25): "blocked", (7, 26): "authentication", (7, 27): "policy",
    (7, 28): "rate", (7, 29): "authentication",
}  # fmt: skip
_BY_SUBJECT: Mapping[int, Reason] = {
    1: "unknown-mailbox", 2: "other", 3: "system", 4: "network", 5: "system", 6: "policy", 7: "policy",
}  # fmt: skip
# Details that are given with care: no server means anything else by them, so no word outweighs them.
_CERTAIN = frozenset(
    {
        (1, 2),
        (1, 6),
        (1, 7),
        (1, 8),
        (2, 2),
        (2, 3),
        (3, 4),
        (7, 13),
        (7, 20),
        (7, 21),
        (7, 22),
        (7, 23),
        (7, 25),
        (7, 26),
    }
)


def reason_of(status: Enhanced | None, text: str) -> Reason:
    """The reason. text is what the servers wrote about this recipient, in any order."""
    key = (status.subject, status.detail) if status is not None else None
    if key in _CERTAIN and key is not None:
        return _BY_STATUS[key]
    text = ADDRESS.sub("x", FORMULAS.sub("", text[:TEXT_LIMIT]))  # dots in addresses end no sentence
    for reason, pattern in PATTERNS:
        if pattern.search(text):
            return reason
    if status is None or key is None:
        return "other"
    return _BY_STATUS.get(key) or _BY_SUBJECT.get(status.subject, "other")
