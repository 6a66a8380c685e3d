"""Every mail of tests/corpora goes in over SMTP and LMTP and comes out of IMAP and POP3, octet for octet."""

from collections.abc import Iterator

import pytest

from bench.suite import Suite
from bench.system import Account
from tests.end_to_end.imap_client import Fetched
from tests.end_to_end.parts import differences, sections, shape
from tests.end_to_end.suite import TRACE, bodies, imap, pop3, smtp
from tests.mails import MAILS, as_sent, has_bare_line_ends, name_of

# Refused with 550 5.6.0, because a CR or LF stands alone in what a client would send (RFC 5321 §2.3.8, §4.1.1.4).
REFUSED = [
    "flanker/fixtures/messages/dkim/email.25",
    "flanker/fixtures/messages/dkim/relaxed.expected.25",
    "odd/bare-cr-in-body.raw",
    "odd/bare-lf-everywhere.raw",
    "odd/bare-lf-in-body.raw",
    "odd/cr-cr-lf.raw",
    "odd/cr-dot-cr.raw",
    "odd/lf-dot-lf.raw",
    "rspamd-messages/numeric_urls.eml",
    "stalwart-mail-parser/legacy/049.eml",
]

# Not taken apart, therefore not the sum of its parts: RFC 2046 §5.1.1 allows a boundary of 70 octets, this one has 7,000.
NOT_TAKEN_APART = ["mime4j-testmsgs/very-very-long-boundary.msg"]

_NAMES = {name_of(path): path for path in MAILS}
_ACCEPTED = [name for name in _NAMES if name not in REFUSED]
_BATCH = 100


def _stored(name: str, is_bdat: bool) -> bytes:
    """What must be stored: what was sent, and after DATA always a line end."""
    octets = as_sent(_NAMES[name])
    return octets if is_bdat or not octets or octets.endswith(b"\r\n") else octets + b"\r\n"


class Sent:
    """An account and what was put into its INBOX, in the order of the UIDs."""

    def __init__(self, suite: Suite, account: Account) -> None:
        self.suite = suite
        self.account = account
        self.originals: list[tuple[str, bytes]] = []

    def batches(self, items: str) -> Iterator[tuple[str, bytes, Fetched]]:
        """(name, original, what IMAP gives) of every message."""
        with imap(self.suite, self.account) as client:
            assert client.select() == len(self.originals)
            for start in range(0, len(self.originals), _BATCH):
                batch = self.originals[start : start + _BATCH]
                answers = client.fetch(f"{start + 1}:{start + len(batch)}", items)
                for (name, octets), fetched in zip(batch, answers, strict=True):
                    yield name, octets, fetched


def _send_all(suite: Suite, account: Account, protocol: str) -> Sent:
    """Send all accepted mails over one connection: DATA, BDAT in two chunks, DATA, BDAT in one, in turn."""
    sent = Sent(suite, account)
    refusals = []
    to = [account.login]
    with smtp(suite, protocol) as session:
        for number, name in enumerate(_ACCEPTED):
            octets = as_sent(_NAMES[name])
            is_bdat = number % 2 == 1
            replies = session.bdat(to, octets, 1 + number % 3) if is_bdat else session.data(to, octets)
            if [reply.code for reply in replies] == [250]:
                sent.originals.append((name, _stored(name, is_bdat)))
            else:
                refusals.append(f"{name}: {replies[0]}")
    assert not refusals
    return sent


@pytest.fixture(scope="module")
def over_smtp(suite: Suite) -> Sent:
    """All mails in alice's INBOX, by SMTP."""
    return _send_all(suite, suite.accounts()[0], "smtp")


@pytest.fixture(scope="module")
def over_lmtp(suite: Suite) -> Sent:
    """All mails in bob's INBOX, by LMTP."""
    return _send_all(suite, suite.accounts()[1], "lmtp")


def _imap_failures(sent: Sent) -> list[str]:
    failures = []
    for name, original, fetched in sent.batches("UID RFC822.SIZE BODY.PEEK[]"):
        octets = fetched.octets("BODY[]")
        head, rest = octets[: len(octets) - len(original)], octets[len(octets) - len(original) :]
        if rest != original:
            failures.append(f"{name}: not the octets that were sent")
        elif not TRACE.match(head):
            failures.append(f"{name}: {head!r} are not the trace fields")
        elif int(fetched.octets("RFC822.SIZE")) != len(octets):
            failures.append(f"{name}: RFC822.SIZE is {fetched.octets('RFC822.SIZE')!r}")
    return failures


def test_corpus_is_what_is_refused_or_sent() -> None:
    """The mails listed as refused are exactly those with a CR or LF that stands alone."""
    assert [name for name, path in _NAMES.items() if has_bare_line_ends(as_sent(path))] == REFUSED
    assert len(_ACCEPTED) >= 1000


def test_smtp_mails_return_over_imap(over_smtp: Sent) -> None:
    """Each mail sent with DATA or BDAT is one BODY[] whose octets after the trace fields are those sent."""
    assert not _imap_failures(over_smtp)


def test_lmtp_mails_return_over_imap(over_lmtp: Sent) -> None:
    """Each mail sent over LMTP is one BODY[] whose octets after the trace fields are those sent."""
    assert not _imap_failures(over_lmtp)


def test_mails_are_the_sum_of_their_parts(over_smtp: Sent) -> None:
    """HEADER and TEXT, and all MIME headers and bodies with their delimiter lines, make up each message octet for octet."""
    failures = []
    with imap(over_smtp.suite, over_smtp.account) as client:
        client.select()
        for name, _, fetched in over_smtp.batches("UID BODYSTRUCTURE"):
            if name in NOT_TAKEN_APART:
                continue
            root = shape(fetched.items[b"BODYSTRUCTURE"])
            wanted = list(dict.fromkeys(sections(root)))
            octets: dict[str, bytes] = {}
            for start in range(0, len(wanted), 500):
                some = wanted[start : start + 500]
                (answer,) = client.fetch(str(fetched.uid), " ".join(f"BODY.PEEK[{section}]" for section in some))
                octets |= {section: answer.octets(f"BODY[{section}]") for section in some}
            failures += [f"{name}: {difference}" for difference in differences(root, octets.__getitem__)]
    assert not failures


def test_partial_fetches_are_the_whole(over_smtp: Sent) -> None:
    """Slices BODY[]<start.count> of every message, put together, are the message, and beyond its end nothing comes."""
    slices = "BODY.PEEK[]<0.700> BODY.PEEK[]<700.5000> BODY.PEEK[]<5700.1000000> BODY.PEEK[]<90000000.10>"
    for name, original, fetched in over_smtp.batches(f"UID {slices}"):
        octets = b"".join(fetched.octets(f"BODY[]<{start}>") for start in (0, 700, 5700))
        assert octets.endswith(original), name
        assert TRACE.match(octets[: len(octets) - len(original)]), name
        assert not fetched.octets("BODY[]<90000000>"), name


@pytest.mark.parametrize("over", ["over_smtp", "over_lmtp"])
def test_mails_return_over_pop3(over: str, suite: Suite, request: pytest.FixtureRequest) -> None:
    """RETR gives each mail's octets after the trace fields, only the last line end added where there was none."""
    sent: Sent = request.getfixturevalue(over)
    failures = []
    with pop3(suite, sent.account) as session:
        assert session.command("STAT").split()[1] == str(len(sent.originals))
        for number, (name, original) in enumerate(sent.originals, 1):
            octets = session.multi(f"RETR {number}")
            expected = original if not original or original.endswith(b"\r\n") else original + b"\r\n"
            if not octets.endswith(expected) or not TRACE.match(octets[: len(octets) - len(expected)]):
                failures.append(name)
    assert not failures


@pytest.mark.parametrize("protocol", ["smtp", "lmtp"])
def test_bare_line_ends_are_refused(suite: Suite, account: Account, protocol: str) -> None:
    """A mail with a CR or LF that stands alone gets 550 5.6.0 after DATA and BDAT; nothing of it is stored."""
    with smtp(suite, protocol) as session:
        for name in REFUSED:
            octets = as_sent(_NAMES[name])
            for replies in (session.data([account.login], octets), session.bdat([account.login], octets)):
                assert [reply.code for reply in replies] == [550], name
                assert replies[0].lines[-1].startswith("5.6.0 "), name
            assert session.data([account.login], b"Subject: fine\r\n\r\n")[0].code == 250, name
    assert len(bodies(suite, account)) == len(REFUSED)


@pytest.mark.parametrize("protocol", ["smtp", "lmtp"])
@pytest.mark.parametrize("mebibytes", [1.5, 6, 24])
def test_large_mails_return(suite: Suite, account: Account, protocol: str, mebibytes: float) -> None:
    """A mail above 1 MiB, which waits in the spool, returns octet for octet, and its slices are slices of it."""
    line = b"".join(b"%02x" % octet for octet in range(38)) + b"\r\n"
    body = line * int(mebibytes * 1024 * 1024 / len(line))
    head = b'Subject: large\r\nContent-Type: multipart/mixed; boundary="b"\r\n\r\n--b\r\n\r\ntext\r\n--b\r\n'
    octets = head + b"Content-Type: application/octet-stream\r\n\r\n" + body + b"--b--\r\n"
    with smtp(suite, protocol) as session:
        assert session.data([account.login], octets)[0].code == 250
        assert session.bdat([account.login], octets, chunks=7)[0].code == 250
    with imap(suite, account) as client:
        assert client.select() == 2
        for uid in "12":
            (fetched,) = client.fetch(uid, "BODY.PEEK[] BODY.PEEK[2] BODY.PEEK[2]<1000000.500>")
            assert fetched.octets("BODY[]").endswith(octets)
            assert fetched.octets("BODY[2]") == body.removesuffix(b"\r\n")
            assert fetched.octets("BODY[2]<1000000>") == body[1_000_000:1_000_500]


def test_too_large_mail_is_refused(suite: Suite, account: Account) -> None:
    """A mail above the advertised SIZE is refused with 552 5.3.4: at MAIL where SIZE is given, else after its octets."""
    with smtp(suite) as session:
        limit = next(int(word.split()[1]) for word in session.keywords if word.startswith("SIZE "))
        assert str(session.command(b"MAIL FROM:<a@sender.test> SIZE=%d" % (limit + 1))).startswith("552 5.3.4 ")
        assert session.command(b"MAIL FROM:<a@sender.test>").code == 250
        assert session.command(b"RCPT TO:<%s>" % account.login.encode()).code == 250
        assert session.command(b"DATA").code == 354
        reply = session.command(b"Subject: x\r\n\r\n" + b"0123456789\r\n" * (limit // 12 + 1) + b".")
        assert str(reply).startswith("552 5.3.4 ")
        assert session.command(b"NOOP").code == 250
