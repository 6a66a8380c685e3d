"""ENVELOPE, RFC 3501 §7.4.2 and RFC 9051 §7.5.2: the fields of a header section in, the rendered list out."""

from collections.abc import Iterable

from protocol.message import address_list
from protocol.message.header import RawField, unfold
from protocol.message.strings import NIL, nstring, remembering, tidy_nstring

_TEXTS = frozenset({b"DATE", b"SUBJECT", b"IN-REPLY-TO", b"MESSAGE-ID"})
_ADDRESSES = frozenset({b"FROM", b"SENDER", b"REPLY-TO", b"TO", b"CC", b"BCC"})


def render(fields: Iterable[RawField]) -> bytes:
    """Render the ENVELOPE of a header section given as header.read() gives it.

    Of a text field that occurs twice the last one counts; address fields add up, as if one had listed them all, so
    that no address a client might show is missing from what another one checked. A missing or empty Sender or
    Reply-To is the From field (RFC 3501 §7.4.2); a present but empty text field is "" and not NIL (RFC 9051 §7.5.2).
    """
    texts: dict[bytes, bytes] = {}
    lists: dict[bytes, bytes] = {}
    for name, body, _ in fields:
        if name in _TEXTS:
            texts[name] = unfold(body)
        elif name in _ADDRESSES:
            rendered = _addresses(body)
            lists[name] = lists[name] + rendered if name in lists else rendered
    sender = lists.get(b"FROM") or b""
    return b"(%b %b %b %b %b %b %b %b %b %b)" % (
        nstring(texts.get(b"DATE")),
        tidy_nstring(texts.get(b"SUBJECT")),
        _listed(sender),
        _listed(lists.get(b"SENDER") or sender),
        _listed(lists.get(b"REPLY-TO") or sender),
        _listed(lists.get(b"TO")),
        _listed(lists.get(b"CC")),
        _listed(lists.get(b"BCC")),
        nstring(texts.get(b"IN-REPLY-TO")),
        nstring(texts.get(b"MESSAGE-ID")),
    )


def _listed(addresses: bytes | None) -> bytes:
    return b"(" + addresses + b")" if addresses else NIL


@remembering(maxsize=1024)  # the same people write to the same people
def _addresses(body: bytes) -> bytes:
    """Render the addresses of one field body, without the list's parentheses."""
    return b"".join(
        [
            b"(%b %b %b %b)" % (tidy_nstring(name), nstring(route), nstring(mailbox), nstring(host))
            for name, route, mailbox, host in address_list.parse(unfold(body))
        ]
    )
