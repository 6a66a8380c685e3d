"""Threads: equal to the algorithm run step by step, equal to what others expect, and told as the grammar has it."""

import itertools
import json
import random
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.message import sorting, threads
from protocol.message.threads import Forest, Messages
from tests.protocol.message.threading_by_steps import by_steps

T = TypeVar("T")
# The values of MailKit's table (MIT), which is that of jwz's TestThreader.
JWZ = json.loads(Path(__file__).with_name("jwz.json").read_text("utf-8"))

# Three and four messages that name each other in a circle. The expected values leave them out; RFC 5256 §3 makes no link that
# would close a circle, so every message is told.
_LOST = ("Loop2", "Loop8")


def nested(forest: Forest) -> list[object]:
    """The threads as nested lists [message, children…], None for a dummy."""

    def told(node: int) -> list[object]:
        return [node if node < forest.size else None, *[told(child) for child in forest.children.get(node, ())]]

    return [told(root) for root in forest.roots]


def messages(*lines: tuple[str, str, str], sent: Sequence[int] = ()) -> Messages:
    """Messages of (subject, identifier, references), one second apart."""
    keys = [
        sorting.keys_of_header(
            f"Subject: {subject}\r\nMessage-ID: {identifier}\r\nReferences: {references}\r\n".encode()
        )
        for subject, identifier, references in lines
    ]
    dates = sent or range(len(keys))
    return Messages(
        dates,
        dates,
        [key.subject for key in keys],
        [key.is_reply for key in keys],
        [key.message_id for key in keys],
        [key.references for key in keys],
    )


@st.composite
def _mailboxes(draw: st.DrawFn) -> Messages:
    """Few identifiers and subjects, so that loops, duplicates, dummies and merges abound."""
    count = draw(st.integers(0, 12))
    some = st.integers(1, 9)

    def drawn(values: st.SearchStrategy[T]) -> list[T]:
        return draw(st.lists(values, min_size=count, max_size=count))

    return Messages(
        drawn(st.integers(0, 5)),
        drawn(st.integers(0, 5)),
        drawn(st.sampled_from([b"", b"A", b"B", b"C", b"D"])),
        drawn(st.booleans()),
        drawn(st.integers(0, 9)),
        drawn(st.lists(some, max_size=4).map(tuple)),
    )


@given(_mailboxes())
def test_references_equals_the_algorithm_by_steps(mailbox: Messages) -> None:
    """REFERENCES is what RFC 5256 §3 gives when it is followed literally."""
    assert nested(threads.references(mailbox)) == by_steps(mailbox)


@given(_mailboxes())
def test_every_message_is_in_one_thread(mailbox: Messages) -> None:
    """Whatever the algorithm, each message is told once, and the numbers in the response are all of them."""
    for algorithm in threads.ALGORITHMS.values():
        forest = algorithm(mailbox)
        text = threads.render(forest, range(1, len(mailbox.sent) + 1))
        told = sorted(int(word) for word in text.replace(b"(", b" ").replace(b")", b" ").split())
        assert told == list(range(1, len(mailbox.sent) + 1))
        assert text.count(b"(") == text.count(b")")


@given(_mailboxes())
def test_refs_threads_as_references_does_without_subjects(mailbox: Messages) -> None:
    """REFS differs from REFERENCES without subjects in the order of the threads alone: the latest arrival comes last."""
    bare = mailbox._replace(subjects=[b""] * len(mailbox.sent))
    found = nested(threads.refs(mailbox))
    assert sorted(map(repr, found)) == sorted(map(repr, by_steps(bare)))

    def latest(thread: object) -> tuple[int, int]:
        assert isinstance(thread, list)
        own = [] if thread[0] is None else [(mailbox.arrived[thread[0]], thread[0])]
        return max(own + [latest(child) for child in thread[1:]])

    assert [latest(thread) for thread in found] == sorted(latest(thread) for thread in found)


def test_ordered_subject() -> None:
    """The first by date is the parent of all others of its subject, and threads stand by their first message's date."""
    mailbox = messages(
        ("b", "", ""), ("Re: a", "", ""), ("a", "", ""), ("B", "", ""), ("c", "", ""), sent=[5, 4, 3, 6, 3]
    )
    assert threads.render(threads.ordered_subject(mailbox), [1, 2, 3, 4, 5]) == b"(3 2)(5)(1 4)"


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        ([("a", "<1@x>", ""), ("re: a", "<2@x>", "<1@x>"), ("re: a", "<3@x>", "<1@x> <2@x>")], b"(1 2 3)"),
        ([("a", "<1@x>", ""), ("re: a", "<2@x>", "<1@x>"), ("re: a", "<3@x>", "<1@x>")], b"(1 (2)(3))"),
        ([("a", "<2@x>", "<1@x>"), ("b", "<3@x>", "<1@x>")], b"((1)(2))"),
        ([("a", "<2@x>", "<1@x>"), ("b", "<4@x>", "<3@x>")], b"(1)(2)"),
        ([("a", "<1@x>", ""), ("a", "<2@x>", ""), ("a", "<3@x>", "")], b"((1)(2)(3))"),
        ([("re: a", "<1@x>", ""), ("a", "<2@x>", ""), ("re: a", "<3@x>", "")], b"(2 (1)(3))"),
        ([("a", "<1@x>", "<2@x>"), ("b", "<2@x>", "<1@x>")], b"(2 1)"),
        ([("", "<1@x>", ""), ("", "<2@x>", "")], b"(1)(2)"),
        ([("a", "<1@x>", "<1@x>")], b"(1)"),
        ([], b""),
    ],
)
def test_rendering(lines: list[tuple[str, str, str]], told: bytes) -> None:
    """thread-list of RFC 5256 §4: members in line, siblings nested, a dummy's children without it."""
    mailbox = messages(*lines)
    assert threads.render(threads.references(mailbox), range(1, len(lines) + 1)) == told


def test_jwz() -> None:
    """The mailbox that others test their threading with comes out as they expect it, and nothing of it is lost."""
    for case in JWZ["cases"]:
        given_messages = case["messages"]
        mailbox = messages(
            *((one["subject"], one["message_id"], " ".join(one["references"])) for one in given_messages),
            sent=[0] * len(given_messages),
        )
        names = [one["subject"] for one in given_messages]

        def told(thread: object, names: list[str] = names) -> dict[str, object]:
            assert isinstance(thread, list)
            subject = "dummy" if thread[0] is None else names[thread[0]]
            return {"subject": subject, "children": [told(child) for child in thread[1:]]}

        found = [told(thread) for thread in nested(threads.ALGORITHMS[case["algorithm"].encode()](mailbox))]
        assert [thread for thread in found if thread["subject"] not in _LOST] == case["expected"]
    for one in JWZ["base_subject"]:
        assert sorting.base_subject(one["subject"])[0] == one["base"]


SCRIPTS = Path(__file__).parents[2] / "daemons/imap/conformance/scripts/imaptest"


def _mailboxes_of_others() -> dict[str, list[bytes]]:
    """The headers of the mailboxes by which others test threading."""
    found = {}
    for path in sorted(SCRIPTS.glob("thread*.mbox")):
        mails = re.split(rb"^From .*\n", path.read_bytes(), flags=re.MULTILINE)[1:]
        found[path.stem] = [mail.partition(b"\n\n")[0] + b"\n" for mail in mails]
    for case in JWZ["cases"]:
        found[case["algorithm"]] = [
            f"Subject: {one['subject']}\nMessage-ID: {one['message_id']}\nDate: {one['date']}\n"
            f"References: {' '.join(one['references'])}\n".encode()
            for one in case["messages"]
        ]
    return found


MAILBOXES = _mailboxes_of_others()


@given(st.sampled_from(sorted(MAILBOXES)), st.randoms(use_true_random=False))
def test_parts_of_real_mailboxes(name: str, chance: random.Random) -> None:
    """Any part of them, in any order, is threaded as the algorithm by steps does it: so expunges and searches are right."""
    headers = MAILBOXES[name]
    some = chance.sample(headers, chance.randint(0, len(headers)))
    keys = [sorting.keys_of_header(header) for header in some]
    arrived = [chance.randrange(10**9) for _ in keys]
    mailbox = Messages(
        [when if key.sent is None else key.sent for key, when in zip(keys, arrived, strict=True)],
        arrived,
        [key.subject for key in keys],
        [key.is_reply for key in keys],
        [key.message_id for key in keys],
        [key.references for key in keys],
    )
    assert nested(threads.references(mailbox)) == by_steps(mailbox)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("shape", ["chain", "reversed", "star", "dummies", "loops"])
def test_time_stays_in_proportion(shape: str) -> None:
    """Twenty thousand messages in any shape: no recursion ends it, and nothing is quadratic."""
    count = 20_000
    identifiers: Sequence[int] = range(1, count + 1)
    shapes: dict[str, list[tuple[int, ...]]] = {
        "chain": [(at,) if at else () for at in range(count)],
        "reversed": [(at + 2,) for at in range(count)],
        "star": [(1,) for _ in range(count)],
        "dummies": [tuple(range(10**9 + at, 10**9 + at + 5)) for at in range(count)],
        "loops": [(at + 2, at) if at else () for at in range(count)],
    }
    references = shapes[shape]
    mailbox = Messages(range(count), range(count), [b"S"] * count, [False] * count, identifiers, references)
    for algorithm in threads.ALGORITHMS.values():
        assert threads.render(algorithm(mailbox), identifiers).count(b"(") >= 1


def test_loops_of_all_orders() -> None:
    """Three messages that name each other keep all of them told, in whatever order they come."""
    lines = [("x", "<1@x>", "<2@x> <3@x>"), ("y", "<2@x>", "<3@x> <1@x>"), ("z", "<3@x>", "<1@x> <2@x>")]
    for order in itertools.permutations(lines):
        mailbox = messages(*order)
        assert nested(threads.references(mailbox)) == by_steps(mailbox)
