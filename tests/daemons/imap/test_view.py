"""Views and what sessions know of them, without a database: arrays, the change log, sequence numbers."""

from datetime import UTC, datetime
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemons.access.imap.flags import FlagTable
from daemons.access.imap.selected import Selected
from daemons.access.imap.view import Rows, View
from storage.rows import FLAGGED, SEEN, Changes, Mailbox, MessageRow

DAY = datetime(2026, 11, 22, tzinfo=UTC)


def row(uid: int, modseq: int, flags: int = 0, *keywords: str) -> MessageRow:
    """A message of 100 + uid octets."""
    return MessageRow(uid, modseq, flags, keywords, 100 + uid, DAY, 1000 + uid)


def view_of(*rows: MessageRow) -> View:
    """A view of a mailbox with these messages."""
    uidnext = rows[-1].uid + 1 if rows else 1
    modseq = max((one.modseq for one in rows), default=1)
    box = Mailbox(1, 1, 1, "INBOX", 7, uidnext, modseq, len(rows), 0, 0, uidnext, None, is_selectable=True)
    held = Rows(FlagTable())
    for one in rows:
        held.append(one)
    return View(cast(Any, None), box, held, 0.0)


def test_flags_are_rendered_once_per_combination() -> None:
    """Messages with the same flags share one entry, whatever their keywords' case."""
    view = view_of(row(1, 1, SEEN, "Work"), row(2, 2, SEEN, "WORK"), row(3, 3), row(4, 4))
    texts = [view.table.texts[kind] for kind in view.rows.kinds]
    assert texts == [b"\\Seen Work", b"\\Seen Work", b"", b""]
    assert view.rows.kinds[2] == view.rows.kinds[3]
    assert view.unseen_count() == 2
    assert view.first_unseen() == 2


def test_combinations_out_of_use_are_dropped() -> None:
    """A client that makes ever new combinations of flags does not fill the memory; sessions notice nothing."""
    view = view_of(row(1, 1), row(2, 1, SEEN))
    selected = Selected(view, is_read_only=False)
    for modseq in range(2, 3000):
        view.apply(Changes(modseq, 3, (row(1, modseq, 0, f"k{modseq}"),), ()))
    assert len(view.table.sets) < 1500
    assert [view.table.texts[kind] for kind in view.rows.kinds] == [b"k2999", b"\\Seen"]
    assert selected.uids is view.rows.uids
    assert selected.take_changed(2) == [(0, 0)]


def test_a_change_that_the_view_has_is_no_news() -> None:
    """Notifications name the MODSEQ: one of a change that is known, or comes to be, has nobody ask the database."""
    view = view_of(row(1, 4), row(2, 5))
    heard: list[int] = []
    view.listeners.add(lambda: heard.append(view.highestmodseq))
    view.touch(5)
    assert not view.is_behind
    assert heard == []
    view.touch(6)
    assert view.is_behind
    assert heard == [5]
    view.apply(Changes(6, 3, (row(1, 6, SEEN),), ()))
    assert not view.is_behind
    view.touch()  # of what, is not known
    assert view.is_behind


def test_sequence_numbers_stay_until_the_expunge_is_told() -> None:
    """New messages are numbered behind those the session knows, gone ones included."""
    view = view_of(*(row(uid, 1) for uid in range(1, 6)))
    selected = Selected(view, is_read_only=False)
    view.apply(Changes(2, 7, (row(6, 2),), (2, 4)))
    assert not selected.is_current
    assert selected.take_new() == 1
    assert (selected.count, selected.last_uid, selected.position(6)) == (6, 6, 5)
    positions, places = selected.rows_at(view.rows, 0, 6)
    assert list(positions) == [0, 2, 4, 5]
    assert [view.rows.uids[place] for place in places] == [1, 3, 5, 6]
    assert selected.take_expunged() == [(3, 4), (1, 2)]
    assert selected.take_changed(4) == []
    assert list(selected.uids[: selected.count]) == [1, 3, 5, 6]
    assert selected.is_current


def test_a_change_of_flags_is_told_once_and_not_to_who_made_it() -> None:
    """What a session knows by its own STORE is left out, unless another one changed it again."""
    view = view_of(row(1, 1), row(2, 1))
    mine, other = Selected(view, is_read_only=False), Selected(view, is_read_only=False)
    view.apply(Changes(2, 3, (row(1, 2, SEEN),), ()))
    mine.keep(1, 2)
    assert other.take_changed(2) == [(0, 0)]
    assert other.take_changed(2) == []
    view.apply(Changes(3, 3, (row(2, 3, FLAGGED),), ()))
    assert mine.take_changed(2) == [(1, 1)]


def test_a_forgotten_past_is_made_up_by_the_whole() -> None:
    """When the list of expunges was trimmed, what is not among all messages is gone."""
    view = view_of(row(1, 1), row(2, 1), row(3, 1))
    selected = Selected(view, is_read_only=False)
    view.apply(Changes(9, 5, (row(2, 8, SEEN), row(4, 9)), (), is_whole=True))
    assert list(view.rows.uids) == [2, 4]
    assert selected.take_expunged() == [(2, 3), (0, 1)]
    assert selected.take_new() == 1


def test_recent_ranges_do_not_count_twice() -> None:
    r"""A message is \Recent once, however often its range is added."""
    view = view_of(*(row(uid, 1) for uid in range(1, 6)))
    selected = Selected(view, is_read_only=True)
    selected.add_recent(3, 5)
    selected.add_recent(3, 6)
    assert selected.recent_count() == 3
    assert not selected.is_recent(2)


@pytest.mark.parametrize("is_told", [True, False])
@given(steps=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 7)), max_size=40))
def test_the_client_can_follow(is_told: bool, steps: list[tuple[int, int]]) -> None:
    """A client that counts by EXISTS and EXPUNGE alone always has the server's numbers, whenever expunges are told."""
    view = view_of(*(row(uid, 1) for uid in range(1, 5)))
    selected = Selected(view, is_read_only=False)
    client = list(view.rows.uids)
    modseq, uidnext = 1, 5
    for kind, which in steps:
        modseq += 1
        uids = list(view.rows.uids)
        if kind == 0:
            view.apply(Changes(modseq, uidnext + 1, (row(uidnext, modseq),), ()))
            uidnext += 1
        elif kind == 1 and uids:
            view.apply(Changes(modseq, uidnext, (), (uids[which % len(uids)],)))
        elif kind == 2 and uids:
            view.apply(Changes(modseq, uidnext, (row(uids[which % len(uids)], modseq, which),), ()))
        if is_told or which % 2:
            for position, uid in selected.take_expunged():
                assert client.pop(position) == uid
        before = selected.count
        if selected.take_new():
            client.extend(selected.uids[len(client) : selected.count])
        for position, place in selected.take_changed(before):
            assert client[position] == view.rows.uids[place]
        assert client == list(selected.uids[: selected.count])
