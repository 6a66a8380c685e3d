"""What a search answers: SEARCH, SORT and ESEARCH responses, the saved result, and MODSEQ.

RFC 3501 §7.2.5, RFC 4731 §3, RFC 5182 §2, RFC 5267 §3, RFC 7162 §3.1.5, RFC 9394 §3.
"""

from array import array
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from daemons.access.imap.searcher import Searcher
from daemons.access.imap.selected import Selected
from daemons.access.imap.session import Completion, RefusalError
from protocol.imap import search
from protocol.imap.match import compress
from protocol.imap.search import SearchKey
from storage.errors import StorageError

Item = tuple[bytes, bytes]

_WHOLE = frozenset({b"ALL", b"COUNT"})  # options that are about all that was found


class Outcome:
    """What was found, in the order it is told in: indices into the searcher's positions and places."""

    def __init__(self, searcher: Searcher, found: Sequence[int], key: SearchKey, *, is_uid: bool) -> None:
        self.searcher = searcher
        self.found = found
        self.is_uid = is_uid
        self._has_modseq = search.mentions(key, search.ModSeq)

    def numbers(self, found: Sequence[int]) -> Sequence[int]:
        """What the client knows these messages by."""
        if self.is_uid:
            return self.searcher.column(self.searcher.rows.uids, found)
        positions = self.searcher.positions
        return [positions[at] + 1 for at in found]

    def part(self, partial: tuple[int, int]) -> Sequence[int]:
        """The window of PARTIAL (RFC 9394 §3.1); negative positions count from the end."""
        low, high = partial
        if low > 0:
            return self.found[low - 1 : high]
        return self.found[max(0, len(self.found) + high) : max(0, len(self.found) + low + 1)]

    def meant(self, returns: Sequence[bytes], partial: tuple[int, int] | None) -> Sequence[int]:
        """What the options are about, which SAVE saves and MODSEQ covers: all that was found, unless only MIN, MAX or
        PARTIAL were asked for (RFC 5182 §2.4, RFC 7162 §3.1.10, RFC 9394 §3.2)."""
        options = frozenset(returns)
        if not options & {b"MIN", b"MAX", b"PARTIAL"} or options & _WHOLE:
            return self.found
        meant: dict[int, None] = {}
        if b"MIN" in options:
            meant |= dict.fromkeys(self.found[:1])
        if b"MAX" in options:
            meant |= dict.fromkeys(self.found[-1:])
        if partial is not None:
            meant |= dict.fromkeys(self.part(partial))
        return list(meant)

    def modseq(self, meant: Sequence[int]) -> int | None:
        """The highest MODSEQ of what is told, where the search named MODSEQ."""
        if not self._has_modseq:
            return None
        return max(self.searcher.column(self.searcher.rows.modseqs, meant), default=None)

    def items(self, returns: Sequence[bytes], partial: tuple[int, int] | None) -> list[Item]:
        """The data of an ESEARCH response. MIN and MAX of a sorted result are its first and last (RFC 5267 §3.1)."""
        options = frozenset(returns) - {b"CONTEXT"} or frozenset({b"ALL"})  # CONTEXT is a hint (RFC 5267 §3.2)
        found = self.found
        items: list[Item] = []
        if b"MIN" in options and found:
            items.append((b"MIN", b"%d" % self.numbers(found[:1])[0]))
        if b"MAX" in options and found:
            items.append((b"MAX", b"%d" % self.numbers(found[-1:])[0]))
        if b"ALL" in options and found:
            items.append((b"ALL", compress(self.numbers(found))))
        if partial is not None:
            window = self.part(partial)
            told = compress(self.numbers(window)) if window else b"NIL"
            items.append((b"PARTIAL", b"(%d:%d %b)" % (*partial, told)))
        if b"COUNT" in options:
            items.append((b"COUNT", b"%d" % len(found)))
        if b"RELEVANCY" in options and found:
            items.append(self._relevancy(found if partial is None else self.part(partial)))
        modseq = self.modseq(self.meant(returns, partial))
        if modseq is not None:
            items.append((b"MODSEQ", b"%d" % modseq))
        return items

    def _relevancy(self, told: Sequence[int]) -> Item:
        """A score from 1 to 100 for each message, in the order they are told in (RFC 6203 §4)."""
        return b"RELEVANCY", b"(" + b" ".join([b"%d" % self.searcher.score(at) for at in told]) + b")"

    def save(self, meant: Sequence[int]) -> None:
        """Make these messages "$" (RFC 5182 §2.1)."""
        self.searcher.selected.saved = array("I", sorted(self.searcher.column(self.searcher.rows.uids, meant)))

    def completion(self, text: str) -> Completion:
        """OK, and whether messages were passed over: expunged ones by number, or older ones than a command may take."""
        searcher = self.searcher
        if searcher.start:
            first = searcher.selected.uids[searcher.start]
            return Completion(f"{text}, the newest messages only", b"MESSAGELIMIT %d %d" % (searcher.limit, first))
        if searcher.missing and not self.is_uid:
            return Completion(f"{text}, but some of the messages are gone", b"EXPUNGEISSUED")
        return Completion(text)


@contextmanager
def saving(selected: Selected, returns: Sequence[bytes] | None) -> Iterator[None]:
    """A search with SAVE that ends in NO leaves "$" empty (RFC 5182 §2.1)."""
    try:
        yield
    except (RefusalError, StorageError) as error:
        if b"SAVE" in (returns or ()) and not (isinstance(error, RefusalError) and error.status == "BAD"):
            selected.saved = array("I")
        raise
