"""How many messages one command may take: MESSAGELIMIT and SAVELIMIT, RFC 9738.

A command on more messages does the newest ones and says down to which UID it came; what must do all or nothing (COPY,
APPEND) does nothing. A server tells one of the two limits only (§3): SAVELIMIT where COPY and APPEND alone are limited.
"""

from daemons.access.imap.selected import Range, Selected
from daemons.access.imap.session import Completion, RefusalError, Session
from protocol.imap import response


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
