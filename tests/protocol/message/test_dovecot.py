"""ENVELOPE and BODYSTRUCTURE beside recorded answers of Dovecot 2.3.19, whose conventions clients know.

dovecot.json holds small probes with the whole answer; dovecot_corpora.tsv holds a digest for each mail of tests/corpora.
"""

import hashlib
import json
from pathlib import Path

import pytest

from protocol.message import render_bodystructure, render_envelope, scan
from tests.mails import MAILS, as_sent, has_bare_line_ends, name_of
from tests.protocol.message.imap_lists import comparable, one

HERE = Path(__file__).parent
PROBES = json.loads((HERE / "dovecot.json").read_text("ascii"))
RECORDED = dict(row.split("\t") for row in (HERE / "dovecot_corpora.tsv").read_text("utf-8").splitlines()[1:])

_NO_TYPE = 'an unreadable Content-Type is read by RFC 2045 §5.2 or by what it plainly means, and not shown as "" ""'
_CUT_BOUNDARY = "Dovecot looks at the first 80 octets of a boundary"
_SPECIAL = "Dovecot splits at, and shows, what stands in front of an unquoted special in a boundary, we the whole of it"
_PLAIN = "Dovecot shows every root without Content-Type as 7bit, whatever Content-Transfer-Encoding says"
DIFFERENT = {
    "bounces-sisimai/lhost-x1-02.eml": _NO_TYPE,
    "flanker/fixtures/messages/spam/broken-ctype.eml": _NO_TYPE,
    "gluon/tests/testdata/afternoon-meeting.eml": "Dovecot writes a plain root's parameter name in lower case",
    "james-eml/eml/oneAttachmentWithEmptyContentType.eml": _NO_TYPE,
    "jsmime/message-encoded": "message/global holds a message, RFC 9051 §7.5.2",
    "mime4j-testmsgs/very-long-boundary.msg": _CUT_BOUNDARY,
    "mime4j-testmsgs/very-very-long-boundary.msg": _CUT_BOUNDARY,
    "mimekit-messages/messages/missing-subtype.txt": _NO_TYPE,
    "odd/all-octets.raw": _PLAIN,
    "python-email-data/msg_14.txt": _NO_TYPE,
    "ruby-mail/emails/mime_emails/raw_email_with_binary_encoded.eml": _SPECIAL,
    "ruby-mail/emails/mime_emails/raw_email_with_illegal_boundary.eml": _SPECIAL,
    "ruby-mail/emails/plain_emails/raw_email_bad_time.eml": _SPECIAL,
    "spamassassin-tdata/t/data/nice/mime8": _NO_TYPE,
    "spamassassin-tdata/t/data/spam/003": _PLAIN,
    "spamassassin-tdata/t/data/spam/badctype1": _NO_TYPE,
    "stalwart-mail-parser/malformed/007.eml": "the inner of two boundaries with one beginning keeps its parts",
    "stalwart-mail-parser/malformed/016.eml": _CUT_BOUNDARY,
    "stalwart-mail-parser/malformed/017.eml": _NO_TYPE,
}


@pytest.mark.parametrize("probe", PROBES, ids=range(len(PROBES)))
def test_probe(probe: dict[str, str]) -> None:
    """A small odd message gets the ENVELOPE and BODYSTRUCTURE that Dovecot gives it."""
    octets = probe["mail"].encode("latin-1")
    root = scan(octets)
    assert one(render_envelope(octets, root)) == one(b"(%b)" % probe["envelope"].encode("latin-1"))
    expected = one(b"(%b)" % probe["bodystructure"].encode("latin-1"))
    assert comparable(one(render_bodystructure(root))) == comparable(expected)


@pytest.mark.parametrize("path", [path for path in MAILS if name_of(path) in RECORDED], ids=name_of)
def test_corpus_mail(path: Path) -> None:
    """A mail of the corpora gets Dovecot's ENVELOPE and BODYSTRUCTURE, save for those named with their reason."""
    octets = as_sent(path)
    root = scan(octets)
    answer = (one(render_envelope(octets, root)), comparable(one(render_bodystructure(root))))
    digest = hashlib.sha256(repr(answer).encode()).hexdigest()[:24]
    assert (digest != RECORDED[name_of(path)]) == (name_of(path) in DIFFERENT), answer


def test_every_mail_is_recorded() -> None:
    """Only mails with bare line ends have no record: we refuse them (RFC 5321 §2.3.8), and Dovecot stores them changed."""
    assert {name_of(path) for path in MAILS if has_bare_line_ends(as_sent(path))} == {
        name_of(path) for path in MAILS
    } - RECORDED.keys()
    assert DIFFERENT.keys() <= RECORDED.keys() <= {name_of(path) for path in MAILS}
