"""How many messages one command may take: MESSAGELIMIT and SAVELIMIT, RFC 9738.

A command on more messages does the newest ones and says down to which UID it came; what must do all or nothing (COPY,
APPEND) does nothing. A server tells one of the two limits only (§3): SAVELIMIT where COPY and APPEND alone are limited.
"""

from daemons.access.imap.selected import Range, Selected
from daemons.access.imap.session import Completion, RefusalError, Session
from protocol.imap import response, search
from protocol.imap.search import SearchKey


def limited(session: Session, selected: Selected, ranges: list[Range]) -> tuple[list[Range], bytes | None]:
    """The position ranges, down to the limit, with the response code MESSAGELIMIT if they were cut."""
    limit = session.shared.settings.message_limit
    if not limit or sum(end - start for start, end in ranges) <= limit:
        return ranges, None
    kept: list[Range] = []
    left = limit
    for start, end in reversed(ranges):
        kept.append((max(start, end - left), end))
        left -= kept[-1][1] - kept[-1][0]
        if not left:
            break
    kept.reverse()
    return kept, b"MESSAGELIMIT %d %d" % (limit, selected.uids[kept[0][0]])


def completed(session: Session, completion: Completion, code: bytes | None) -> Completion:
    """The limit's code in the tagged response, or, where another code stands there, in one before it (RFC 9738 §3.1)."""
    if code is None:
        return completion
    if completion.code is None:
        return Completion(completion.text, code)
    session.put(response.untagged("NO", code, "not all of the messages were done"))
    return completion


def check_saved(session: Session, count: int) -> None:
    """NO [MESSAGELIMIT n] when COPY or APPEND would place too many messages at once."""
    settings = session.shared.settings
    limit = settings.message_limit or settings.save_limit
    if count > limit:
        raise RefusalError.no(b"MESSAGELIMIT %d" % limit, "too many messages at once")


def check_partial(session: Session, partial: tuple[int, int]) -> None:
    """NO [MESSAGELIMIT n] when PARTIAL (RFC 9394) asks for more than one command may take (RFC 9738 §3.1)."""
    limit = session.shared.settings.message_limit
    if limit and abs(partial[1]) - abs(partial[0]) >= limit:
        raise RefusalError.no(b"MESSAGELIMIT %d" % limit, "too many messages at once")


def part_of(ranges: list[Range], partial: tuple[int, int]) -> list[Range]:
    """The n-th to the m-th of the positions, counted from 1, or from the end where negative (RFC 9394 §3.1)."""
    total = sum(end - start for start, end in ranges)
    first, last = partial
    low, high = (first - 1, last) if first > 0 else (total + last, total + first + 1)
    found = []
    before = 0
    for start, end in ranges:
        piece = (max(start, start + low - before), min(end, start + high - before))
        if piece[0] < piece[1]:
            found.append(piece)
        before += end - start
    return found


def search_start(session: Session, selected: Selected, key: SearchKey) -> int:
    """The position from which a search looks at messages: 0 unless those its sets allow are too many (RFC 9738 §3.2)."""
    limit = session.shared.settings.message_limit
    if not limit or selected.count <= limit:
        return 0
    low, high = _window(selected, key)
    return max(0, high - limit) if high - low > limit else 0


def _window(selected: Selected, key: SearchKey) -> Range:
    """Positions outside of which a key that every match must meet finds nothing."""
    low, high = 0, selected.count
    match key:
        case search.And(keys):
            for part in keys:
                start, end = _window(selected, part)
                low, high = max(low, start), min(high, end)
        case search.Uids(sequence) | search.SequenceNumbers(sequence) if not sequence.is_saved:
            ranges = selected.ranges(sequence, is_uid=isinstance(key, search.Uids))
            low, high = (ranges[0][0], min(high, ranges[-1][1])) if ranges else (0, 0)
        case search.Not(search.Uids(sequence)) if not sequence.is_saved:
            ranges = selected.uid_positions(sequence)
            if ranges and not ranges[0][0]:
                low = ranges[0][1]
            if ranges and ranges[-1][1] == high:
                high = max(low, ranges[-1][0])
    return low, high
