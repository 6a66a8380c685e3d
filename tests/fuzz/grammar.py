"""Fuzz targets of the IMAP grammar: the reader on a stream, and each module of commands with one command's arguments."""

from collections.abc import Callable
from contextlib import suppress

from protocol.imap import names as imap_names
from protocol.imap import response
from protocol.imap import url as imap_url
from protocol.imap.command import Select
from protocol.imap.events import AppendStarts, Continue, Rejected
from protocol.imap.limits import Limits
from protocol.imap.match import full_pattern, matcher
from protocol.imap.reader import CommandReader, Event
from protocol.imap.sequence import SequenceSet, positions
from tests.protocol.imap.feeds import SMALL, answered

# All verbs of protocol/imap/grammar.py, by the modules that parse them. The first octet of an input chooses one.
ACCESS = tuple(
    b"ID|ENABLE|LOGIN|AUTHENTICATE|COMPRESS|STARTTLS|CAPABILITY|NOOP|LOGOUT|IDLE|UNAUTHENTICATE|NAMESPACE|CHECK|CLOSE|"
    b"UNSELECT|EXPUNGE".split(b"|")
)
MAILBOXES = tuple(b"SELECT|EXAMINE|CREATE|DELETE|RENAME|SUBSCRIBE|UNSUBSCRIBE|LIST|LSUB|STATUS".split(b"|"))
MESSAGES = tuple(
    b"FETCH|STORE|COPY|MOVE|UID FETCH|UID STORE|UID COPY|UID MOVE|UID EXPUNGE|UIDBATCHES|APPEND|REPLACE|UID REPLACE".split(
        b"|"
    )
)
SEARCH = tuple(b"SEARCH|SORT|THREAD|UID SEARCH|UID SORT|UID THREAD|ESEARCH|CANCELUPDATE".split(b"|"))
NOTIFY = (b"NOTIFY",)
SHARING = tuple(
    b"SETACL|DELETEACL|GETACL|LISTRIGHTS|MYRIGHTS|GETMETADATA|SETMETADATA|GETQUOTA|GETQUOTAROOT|SETQUOTA".split(b"|")
)

_LARGE = Limits()
_NUMBERS = list(range(2, 60, 3))


def reader(octets: bytes) -> None:
    """Any stream gives the same events however it is cut, keeps no more than the limits allow, and raises nothing."""
    if not octets:
        return
    choice, octets = octets[0], octets[1:]
    limits = SMALL if choice & 1 else _LARGE
    is_strict, accepts, step = bool(choice & 2), bool(choice & 4), 1 + (choice >> 3)
    whole = answered(octets, None, limits, is_strict=is_strict, accepts=accepts)
    assert answered(octets, step, limits, is_strict=is_strict, accepts=accepts) == whole
    repr(whole)


def _commands(verbs: tuple[bytes, ...]) -> Callable[[bytes], None]:
    def target(octets: bytes) -> None:
        if not octets:
            return
        line = b"a " + verbs[octets[0] % len(verbs)] + b" " + octets[1:] + b"\r\n"
        limits = SMALL if octets[0] & 128 else _LARGE
        events = answered(line, None, limits, is_strict=False, accepts=True)
        assert answered(line, 7, limits, is_strict=False, accepts=True) == events
        for event in events:
            _use(event)

    return target


def _use(event: Event) -> None:
    """What every handler does with what it gets: the sets have numbers, the text of a refusal can be said."""
    repr(event)
    if isinstance(event, Rejected):
        said = response.tagged(event.tag, event.status, event.code, event.text)
        assert said.endswith(b"\r\n")
        assert said.count(b"\n") == 1
        return
    asked = event.replaced if isinstance(event, AppendStarts) else event
    sequence = getattr(asked, "sequence", None)
    if isinstance(sequence, SequenceSet) and not sequence.is_saved:
        ranges = sequence.resolve(_NUMBERS[-1])
        assert all(1 <= first <= last for first, last in ranges)
        assert all(0 <= start < end <= len(_NUMBERS) for start, end in positions(ranges, _NUMBERS))
    for pattern in getattr(event, "patterns", ()):
        matcher(full_pattern(getattr(event, "reference", ""), pattern))("INBOX/a/b")


access, mailboxes, messages = _commands(ACCESS), _commands(MAILBOXES), _commands(MESSAGES)
search, notify, sharing = _commands(SEARCH), _commands(NOTIFY), _commands(SHARING)


def url(octets: bytes) -> None:
    """A URL is read or refused with UrlError, and can be told back in a response code."""
    for selected in (None, "INBOX", "A/B"):
        try:
            repr(imap_url.parse(octets, selected))
        except imap_url.UrlError:
            continue
    assert response.tagged(b"a", "NO", imap_url.badurl(octets), "no").count(b"\n") == 1


def names(octets: bytes) -> None:
    """A string that we write is read back as it was, and a mailbox name too, in both spellings."""
    with suppress(ValueError):
        assert imap_names.encode(imap_names.decode(octets)) == octets
    name = octets.decode("utf-8", "replace")
    assert imap_names.decode(imap_names.encode(name)) == name
    for is_utf8 in (False, True):
        reads = CommandReader()
        reads.is_utf8 = is_utf8
        line = b"a SELECT " + response.mailbox_name(name, is_utf8=is_utf8) + b"\r\n"
        found = [event for event in reads.receive(line) if not isinstance(event, Continue)]
        assert len(found) == 1, found
        if isinstance(found[0], Select):
            assert found[0].mailbox == imap_names.canonical(name)
        else:
            assert isinstance(found[0], Rejected)
    pattern, _, tried = name.partition("\n")
    matcher(pattern)(tried)
