"""UIDBATCHES, draft-ietf-mailmaint-imap-uidbatches: UID ranges that hold so many messages each, from the newest down."""

from daemons.access.imap.selected import Selected
from daemons.access.imap.selecting import chosen
from daemons.access.imap.session import Completion, RefusalError, Session
from protocol.imap import command, response

_LEAST_MESSAGES = 500  # §3.1.4 of the draft


async def batches(session: Session, asked: command.UidBatches) -> Completion:
    """UIDBATCHES. The ranges lie side by side and go down to UID 1, whether or not there are messages at their ends."""
    if asked.size_messages < _LEAST_MESSAGES:
        raise RefusalError.no(b"TOOFEW", "batches must be larger")
    first, last = asked.batches or (1, None)
    if last is not None and last < first:
        raise RefusalError("BAD", b"CLIENTBUG", "the range of batches is reversed")
    session.put(response.uidbatches(asked.tag, _ranges(chosen(session), asked.size_messages, first, last)))
    return Completion("done")


def _ranges(selected: Selected, size: int, first: int, last: int | None) -> list[tuple[int, int]]:
    """(high, low) of the batches first to last."""
    uids = selected.uids
    tops = range(selected.count - (first - 1) * size, 0, -size)[: None if last is None else last - first + 1]
    return [(uids[top - 1], uids[top - size - 1] + 1 if top > size else 1) for top in tops]
