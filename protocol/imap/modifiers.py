"""Parameters of SELECT and EXAMINE, and modifiers of FETCH and STORE (RFC 4466 §2): CONDSTORE, QRESYNC, PARTIAL."""

from dataclasses import dataclass

from protocol.imap.cursor import Cursor, expect_list, expect_number
from protocol.imap.sequence import SequenceSet, partial_range, sequence_set

MOST_MODSEQ = 2**63 - 1
"""RFC 7162 §7, mod-sequence-value."""


@dataclass(frozen=True, slots=True)
class Resync:
    """What a client says it knows of a mailbox (RFC 7162 §3.2.5)."""

    uidvalidity: int
    modseq: int
    known_uids: SequenceSet | None = None
    matches: tuple[SequenceSet, SequenceSet] | None = None  # sequence numbers, and the UIDs they had


@dataclass(frozen=True, slots=True)
class FetchModifiers:
    """What narrows a FETCH down."""

    changed_since: int | None = None  # RFC 7162 §3.1.4.1
    wants_vanished: bool = False  # RFC 7162 §3.2.6
    partial: tuple[int, int] | None = None  # RFC 9394 §3.3: from and to, counted from 1, or from the end if negative


NO_MODIFIERS = FetchModifiers()


# select-params = SP "(" select-param *(SP select-param) ")"        (RFC 4466 §6)
# select-param  = "CONDSTORE" / "QRESYNC" SP "(" uidvalidity SP mod-sequence-value [SP known-uids] [SP seq-match-data] ")"
def expect_select_parameters(cursor: Cursor) -> tuple[bool, Resync | None]:
    """Whether CONDSTORE stands there, and what stands behind QRESYNC."""
    found = expect_list(cursor, _select_param)
    resyncs = [parameter for parameter in found if parameter is not None]
    if len(resyncs) > 1:
        cursor.refuse("QRESYNC stands there twice")
    return None in found, resyncs[0] if resyncs else None


def _select_param(cursor: Cursor) -> Resync | None:
    if cursor.take_keyword(b"CONDSTORE"):
        return None
    if not cursor.take_keyword(b"QRESYNC"):
        cursor.fail("a SELECT parameter")
    cursor.expect_space()
    cursor.expect(b"(")
    uidvalidity = expect_number(cursor, "a UIDVALIDITY", least=1)
    cursor.expect_space()
    modseq = expect_number(cursor, "a mod-sequence", least=1, most=MOST_MODSEQ)
    known_uids = matches = None
    if not cursor.take(b")"):
        cursor.expect_space()
        if not cursor.is_next(b"("):
            known_uids = _numbers(cursor)
            if not cursor.is_next(b")"):
                cursor.expect_space()
        if cursor.is_next(b"("):
            matches = _seq_match_data(cursor)
        cursor.expect(b")")
    return Resync(uidvalidity, modseq, known_uids, matches)


# seq-match-data = "(" known-sequence-set SP known-uid-set ")"
def _seq_match_data(cursor: Cursor) -> tuple[SequenceSet, SequenceSet]:
    cursor.expect(b"(")
    numbers = _numbers(cursor)
    cursor.expect_space()
    uids = _numbers(cursor)
    cursor.expect(b")")
    return numbers, uids


# known-uids = sequence-set        ; "*" is not allowed
def _numbers(cursor: Cursor) -> SequenceSet:
    start = cursor.position
    found = sequence_set(cursor)
    if found.is_saved or any(end is None for ends in found.ranges for end in ends):
        cursor.position = start
        cursor.fail("a set of numbers")
    return found


# fetch-modifiers = SP "(" fetch-modifier *(SP fetch-modifier) ")"        (RFC 4466 §6)
# fetch-modifier  = "CHANGEDSINCE" SP mod-sequence-value / "VANISHED"     (RFC 7162 §7)
# fetch-modifier =/ "PARTIAL" SP partial-range                            (RFC 9394 §4)
def expect_fetch_modifiers(cursor: Cursor) -> FetchModifiers:
    """All modifiers of a FETCH."""
    given: dict[str, tuple[int, int]] = {}
    for name, value in expect_list(cursor, _fetch_modifier):
        if name in given:
            cursor.refuse("a modifier stands there twice")
        given[name] = value
    changed_since = given.get("CHANGEDSINCE")
    return FetchModifiers(changed_since[0] if changed_since else None, "VANISHED" in given, given.get("PARTIAL"))


def _fetch_modifier(cursor: Cursor) -> tuple[str, tuple[int, int]]:
    if cursor.take_keyword(b"CHANGEDSINCE"):
        cursor.expect_space()
        modseq = expect_number(cursor, "a mod-sequence", least=1, most=MOST_MODSEQ)
        return "CHANGEDSINCE", (modseq, modseq)
    if cursor.take_keyword(b"VANISHED"):
        return "VANISHED", (0, 0)
    if cursor.take_keyword(b"PARTIAL"):
        cursor.expect_space()
        return "PARTIAL", partial_range(cursor)
    return cursor.fail("CHANGEDSINCE")


# store-modifier = "UNCHANGEDSINCE" SP mod-sequence-valzer        (RFC 7162 §7)
def expect_unchanged_since(cursor: Cursor) -> int:
    """The modifier of a conditional STORE, in its parentheses."""
    cursor.expect(b"(")
    if not cursor.take_keyword(b"UNCHANGEDSINCE"):
        cursor.fail("UNCHANGEDSINCE")
    cursor.expect_space()
    modseq = expect_number(cursor, "a mod-sequence", most=MOST_MODSEQ)
    cursor.expect(b")")
    return modseq
