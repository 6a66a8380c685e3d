"""Tests and variables: what the conformance tests leave out, and what asks the outside."""

import pytest

from filters.sieve.actions import FileInto, Keep, Tracked
from filters.sieve.limits import Limits
from filters.sieve.ports import Envelope, Owner
from filters.sieve.script import compile_script
from protocol.sieve.errors import SieveError
from tests.filters.sieve.running import MAIL, Outside, holds, result

MULTIPART = (
    b"From: a@example.net\r\nSubject: x\r\nContent-Type: multipart/mixed; boundary=o\r\n\r\npreamble\r\n--o\r\n"
    b'Content-Type: text/html; charset=utf-8; name="a.html"\r\nX-Part: one\r\n\r\nHello <b>you</b> there\r\n--o\r\n'
    b'Content-Type: application/pdf\r\nContent-Disposition: attachment; filename="b.pdf"\r\n\r\nPDF\r\n--o--\r\n'
)


@pytest.mark.parametrize(
    ("test", "expected"),
    [
        ('header :contains :comparator "i;unicode-casemap" "subject" "grüSSE"', True),
        ('header :contains :comparator "i;unicode-casemap" "subject" "CAFÉ"', True),
        ('header :contains "subject" "CAFÉ"', False),
        ('header :contains "subject" "CAF"', True),
        ('header :contains :comparator "i;octet" "subject" "CAF"', False),
        ('header :value "gt" :comparator "i;ascii-numeric" "x-number" "9"', True),
        ('header :value "gt" "x-number" "9"', False),
    ],
)
def test_comparators(test: str, expected: bool) -> None:
    """Each comparator folds as its document says, RFC 4790 and RFC 5051."""
    mail = "Subject: Grüsse vom café\r\nX-Number: 10 apples\r\n\r\n".encode()
    needs = ["comparator-i;unicode-casemap", "comparator-i;ascii-numeric", "relational"]
    assert holds(test, mail, needs=needs) is expected


def test_envelope_parts() -> None:
    """From, to and auth; the null path is empty text; without a login there is no auth. RFC 5228 §5.4."""
    assert holds('envelope :user "to" "bob"', needs=["envelope", "subaddress"])
    assert holds('envelope :detail "to" "work"', needs=["envelope", "subaddress"])
    assert holds('envelope "from" ""', needs=["envelope"], envelope=Envelope("", "bob@example.org"))
    assert not holds('envelope :contains "auth" ""', needs=["envelope"])
    assert holds('envelope "auth" "bob"', needs=["envelope"], envelope=Envelope("a@b.c", "d@e.f", login="bob"))
    assert holds(
        'envelope :detail "to" "x"',
        needs=["envelope", "subaddress"],
        envelope=Envelope("", "a-x@b.c"),
        owner=Owner(delimiter="-"),
    )


def test_what_is_no_address() -> None:
    """It shows itself whole, and has no parts."""
    for field, shown in ((b'"Test User"', '"Test User"'), (b"undisclosed", "undisclosed"), (b"", "")):
        mail = b"From: " + field + b"\r\nTo: a@b.c\r\n\r\n"
        quoted = shown.replace('"', '\\"')
        assert holds(f'address "from" "{quoted}"', mail)
        assert not holds('address :matches :domain "from" "*"', mail)


def test_mailboxes() -> None:
    """Existence by name, by id, by special use, RFC 5490, RFC 9042 and RFC 8579."""
    outside = Outside(mailbox_ids={"F1"}, special_uses={"\\junk": "Junk"})
    assert holds('mailboxexists ["INBOX", "Junk"]', needs=["mailbox"])
    assert not holds('mailboxexists ["INBOX", "Other"]', needs=["mailbox"])
    assert holds('mailboxidexists "F1"', needs=["mailboxid"], outside=outside)
    assert not holds('mailboxidexists ["F1", "F2"]', needs=["mailboxid"], outside=outside)
    for test, expected in (
        (r'"\\Junk"', True),
        (r'"Junk" "\\JUNK"', True),
        (r'"INBOX" "\\Junk"', False),
        (r'["\\Junk", "\\Sent"]', False),
    ):
        assert holds(f"specialuse_exists {test}", needs=["special-use"], outside=outside) is expected


def test_annotations() -> None:
    """Of a mailbox and of the server, RFC 5490 §3.3 to §4.2; one that is not there matches nothing."""
    outside = Outside(annotations={("INBOX", "/private/comment"): "Mine", (None, "/shared/admin"): "mailto:x"})
    needs = ["mboxmetadata", "servermetadata"]
    assert holds('metadata "INBOX" "/private/Comment" "mine"', needs=needs, outside=outside)
    assert not holds('metadata :contains "INBOX" "/private/other" ""', needs=needs, outside=outside)
    assert holds('metadataexists "INBOX" "/private/comment"', needs=needs, outside=outside)
    assert not holds('metadataexists "INBOX" ["/private/comment", "/x"]', needs=needs, outside=outside)
    assert holds('servermetadata :matches "/shared/admin" "mailto:*"', needs=needs, outside=outside)
    assert not holds('servermetadataexists "/shared/x"', needs=needs, outside=outside)


def test_lists() -> None:
    """All values are asked for at once; the one that was found is ${0}; RFC 6134."""
    outside = Outside(lists={":addrbook:default": {"alice@example.net"}})
    source = 'require ["extlists", "variables", "fileinto"]; if address :list "from" ":addrbook:default" { fileinto "${0}"; }'
    assert result(source, outside=outside).actions == (FileInto("alice@example.net"),)
    assert outside.asked == [":addrbook:default"]
    assert holds('valid_ext_list ":addrbook:default"', needs=["extlists"], outside=outside)
    assert not holds('valid_ext_list [":addrbook:default", "tag:other"]', needs=["extlists"], outside=outside)
    assert not holds('header :list "x-missing" ":addrbook:default"', needs=["extlists"], outside=Outside())


def test_duplicates() -> None:
    """The id is told to be remembered, once, and known ones are duplicates; handles keep them apart; RFC 7352 §3."""
    source = 'require ["duplicate", "fileinto"]; if duplicate %s { discard; }'
    found = result(source % "")
    (mark,) = found.tracked
    assert mark.seconds == 7 * 86_400
    assert "<1@example.net>" in mark.unique_id
    outside = Outside(seen={mark.unique_id})
    assert not isinstance(result(source % "", outside=outside).actions[0], Keep)
    assert result(source % "", outside=outside).tracked == ()
    assert result(source % ":last :seconds 60", outside=outside).tracked == (Tracked("", mark.unique_id, 60),)
    assert isinstance(result(source % ':handle "h"', outside=outside).actions[0], Keep)
    ids = {
        result(source % more).tracked[0].unique_id
        for more in ("", ':header "subject"', ':uniqueid "Hello"', ':handle "x"')
    }
    assert len(ids) == 4
    assert result(source % ':header "x-missing"').tracked == ()
    assert result(source % ":seconds 99999999").tracked[0].seconds == 30 * 86_400


def test_scores() -> None:
    """Spam from 1 to 10 and in percents, 0 when it was not checked; viruses from 0 to 5; RFC 5235."""
    needs = ["spamtest", "spamtestplus", "virustest", "relational", "comparator-i;ascii-numeric"]
    numeric = ':value "{}" :comparator "i;ascii-numeric"'
    for score, value, percent in ((None, 0, 0), (0.0, 1, 0), (0.5, 5, 50), (1.0, 10, 100), (2.0, 10, 100)):
        assert holds(f'spamtest {numeric.format("eq")} "{value}"', needs=needs, spam_score=score)
        assert holds(f'spamtest :percent {numeric.format("eq")} "{percent}"', needs=needs, spam_score=score)
        checked = holds('spamtest :count "eq" :comparator "i;ascii-numeric" "1"', needs=needs, spam_score=score)
        assert checked is (score is not None)
    assert holds(f'virustest {numeric.format("ge")} "4"', needs=needs, virus=5)
    assert holds('virustest "0"', needs=needs)


def test_environment() -> None:
    """Items that are not known match nothing; those of an IMAP event come in the same way; RFC 5183, RFC 6785 §4."""
    around = {"name": "Postwerk", "imap.cause": "COPY", "imap.mailbox": "Junk"}
    needs = ["environment", "imapsieve"]
    assert holds('environment "Name" "postwerk"', needs=needs, environment=around)
    assert holds('environment :matches "imap.cause" "*"', needs=needs, environment=around)
    assert not holds('environment :contains "remote-ip" ""', needs=needs, environment=around)


def test_dates() -> None:
    """The moment comes from outside; zones are shown as asked; RFC 5260."""
    needs = ["date", "relational"]
    assert holds('currentdate "date" "2026-01-02"', needs=needs)
    assert holds('currentdate :zone "-0500" "std11" "Thu, 01 Jan 2026 22:04:05 -0500"', needs=needs)
    assert holds('currentdate :zone "+0545" "iso8601" "2026-01-02T08:49:05+05:45"', needs=needs)
    assert holds('currentdate "weekday" "5"', needs=needs)
    assert holds('date :originalzone "date" "zone" "+0000"', needs=needs)
    assert not holds('date "x-missing" "year" "2026"', needs=needs)
    assert not holds('date "subject" "year" "2026"', needs=needs)
    with pytest.raises(SieveError, match="unknown date part"):
        compile_script('require "date"; if currentdate "century" "21" { keep; }')


def test_parts() -> None:
    """Parts with their own fields, types, parameters and texts, RFC 5703 §4."""
    needs = ["mime", "foreverypart", "extracttext", "variables"]
    assert holds('header :mime :anychild :subtype "content-type" "html"', MULTIPART, needs=needs)
    assert holds('header :mime :anychild :param "filename" "Content-Disposition" "b.pdf"', MULTIPART, needs=needs)
    assert holds('header :mime :type "content-type" "multipart"', MULTIPART, needs=needs)
    assert not holds('header "x-part" "one"', MULTIPART, needs=needs)
    source = f'require ["fileinto", {", ".join(map(repr, needs))}]; '.replace("'", '"')
    found = result(
        source
        + 'foreverypart { if header :mime :contenttype "content-type" "text/html" { extracttext :first 9 "t"; break; } } '
        'fileinto "${t}";',
        MULTIPART,
    )
    assert found.actions == (FileInto("Hello you"),)


def test_body() -> None:
    """Raw, of some types, and as text without markup; what lies behind the limit is not seen; RFC 5173."""
    assert holds('body :text :contains "Hello you"', MULTIPART, needs=["body"])
    assert holds('body :raw :contains "<b>"', MULTIPART, needs=["body"])
    assert holds('body :content "application/pdf" :matches "PDF*"', MULTIPART, needs=["body"])
    assert holds('body :content "multipart" :contains "preamble"', MULTIPART, needs=["body"])
    assert not holds('body :content "text" :contains "preamble"', MULTIPART, needs=["body"])
    assert not holds('body :raw :contains "PDF"', MULTIPART, needs=["body"], limits=Limits(body_octets=50))


def test_variables() -> None:
    """Names lose their case, a value that is too long its end, never a part of a character; RFC 5229."""
    source = 'require ["variables", "fileinto"]; '
    assert result(source + 'set "A" "x"; set :upperfirst :lower "b" "${a}Y${c}"; fileinto "${B}${1}";').actions == (
        FileInto("Xy"),
    )
    assert result(source + 'set "a" "ééé"; fileinto "${a}";', limits=Limits(variable_octets=5)).actions == (
        FileInto("éé"),
    )
    assert result('fileinto "${a}";'.join(['require "fileinto"; ', ""])).actions == (FileInto("${a}"),)


def test_included_scripts() -> None:
    """Each has its own variables but the global ones, `return` ends it alone and `stop` all; RFC 6609."""
    outside = Outside(
        scripts={
            ("personal", "a"): 'require ["include", "variables"]; global "g"; set "g" "1"; set "l" "2"; return; stop;',
            ("global", "s"): "stop;",
            ("personal", "loop"): 'require "include"; include "loop";',
        }
    )
    source = 'require ["include", "variables", "fileinto"]; '
    assert result(source + 'global "g"; include "a"; fileinto "x${g}${l}";', outside=outside).actions == (
        FileInto("x1"),
    )
    assert result(source + 'include :global "s"; fileinto "x";', outside=outside).actions == (Keep(is_implicit=True),)
    assert result(source + 'include :optional "none"; fileinto "x";', outside=outside).actions == (FileInto("x"),)
    assert "there is no personal script" in str(result(source + 'include "none";', outside=outside).error)
    assert "circular" in str(result(source + 'include "loop";', outside=outside).error)


def test_notification_methods() -> None:
    """Valid methods, and whether somebody is there, RFC 5435 §4 and §5."""
    needs = ["enotify"]
    assert holds('valid_notify_method ["mailto:a@example.org", "https://example.org/"]', needs=needs)
    assert not holds('valid_notify_method ["mailto:a@example.org", "tel:1"]', needs=needs)
    assert holds('notify_method_capability "https://example.org/hook" "online" "yes"', needs=needs)
    assert holds('notify_method_capability "https://example.org/other" "online" "no"', needs=needs)
    assert holds('notify_method_capability "mailto:a@example.org" "Online" "maybe"', needs=needs)


def test_each_question_is_asked_once() -> None:
    """A run that begins again has the answers of the one before."""
    outside = Outside()
    source = 'require ["mailbox", "fileinto"]; ' + "".join(
        f'if mailboxexists "m{at % 3}" {{ discard; }}' for at in range(9)
    )
    result(source, MAIL, outside=outside)
    assert outside.asked == ["m0", "m1", "m2"]
