"""Changing the message: header fields (RFC 5293), parts and the whole (RFC 5703)."""

from filters.sieve.actions import AddHeader, DeleteHeader, FileInto, Keep
from filters.sieve.message import Message, descendants
from tests.filters.sieve.running import MAIL, result
from tests.filters.sieve.test_conditions import MULTIPART

EDIT = 'require ["editheader", "fileinto", "copy", "variables"]; '
PARTS = 'require ["mime", "foreverypart", "replace", "enclose", "extracttext", "variables", "fileinto"]; '


def message(source: str, mail: bytes = MAIL) -> bytes:
    found = result(source, mail)
    assert found.error is None, found.error
    assert found.message is not None
    return found.message


def test_fields_are_added_and_deleted() -> None:
    """On top or at the end, encoded and folded; the rest stays as it was, octet for octet."""
    assert message(EDIT + 'addheader "X-A" "1"; addheader :last "X-B" "2";') == (
        b"X-A: 1\r\n" + MAIL.replace(b"\r\n\r\n", b"\r\nX-B: 2\r\n\r\n", 1)
    )
    assert message(EDIT + 'deleteheader "Subject";') == MAIL.replace(b"Subject: Hello\r\n", b"")
    assert message(EDIT + 'addheader "Subject" "Grüße";').startswith(b"Subject: =?utf-8?b?R3LDvMOfZQ==?=\r\n")
    many = message(EDIT + f'addheader "X-Long" "{"word " * 40}";').partition(b"From:")[0]
    assert max(map(len, many.split(b"\r\n"))) <= 78
    found = result(EDIT + 'addheader "X-A" "1"; deleteheader "x-a";')
    assert found.edits == (AddHeader("X-A", "1"), DeleteHeader("x-a", 1))


def test_fields_by_number_and_value() -> None:
    """One of several by its number, from the end too, or those that match."""
    mail = b"X: a\r\nX: b\r\nX: ab\r\nY: z\r\n\r\n"
    assert message(EDIT + 'deleteheader :index 2 "X";', mail) == b"X: a\r\nX: ab\r\nY: z\r\n\r\n"
    assert message(EDIT + 'deleteheader :last :index 1 "X";', mail) == b"X: a\r\nX: b\r\nY: z\r\n\r\n"
    assert message(EDIT + 'deleteheader :contains "X" "a";', mail) == b"X: b\r\nY: z\r\n\r\n"
    assert result(EDIT + 'deleteheader :index 4 "X"; deleteheader "Z";', mail).message is None


def test_some_fields_stay() -> None:
    """Received and Auto-Submitted are not deleted, no value begins another field, RFC 5293 §6."""
    mail = b"Received: x\r\nAuto-Submitted: yes\r\n\r\n"
    assert result(EDIT + 'deleteheader "Received"; deleteheader "auto-submitted";', mail).message is None
    assert message(EDIT + 'addheader "X-A" "1\r\nTo: evil";', mail).startswith(b"X-A: 1 To: evil\r\nReceived")


def test_actions_have_the_message_of_their_moment() -> None:
    """What was filed before an edit is not edited, RFC 5293 §6."""
    found = result(EDIT + 'fileinto :copy "a"; addheader "X-A" "1"; fileinto :copy "b"; deleteheader "To";')
    first, second, kept = found.actions
    assert isinstance(first, FileInto)
    assert isinstance(second, FileInto)
    assert isinstance(kept, Keep)
    assert first.message is None
    assert second.message == b"X-A: 1\r\n" + MAIL
    assert kept.message == second.message.replace(b"To: bob+work@example.org\r\n", b"")


def test_a_part_is_replaced() -> None:
    """The part that the loop is at gets another text, its siblings stay as they were."""
    source = PARTS + 'foreverypart { if header :mime :subtype "content-type" "pdf" { replace "Größer als erlaubt"; } }'
    changed = message(source, MULTIPART)
    before, after = MULTIPART.split(b"--o\r\nContent-Type: application/pdf")[0], changed.split(b"--o\r\n")
    assert changed.startswith(before)
    assert after[2].startswith(b"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: base64\r\n\r\n")
    assert [view.part.subtype for view in descendants(Message(changed).root()) if view.part] == [
        b"mixed",
        b"html",
        b"plain",
    ]
    mime = (
        PARTS
        + 'foreverypart { if header :mime :type "content-type" "application" { replace :mime "Content-Type: text/x\r\n\r\ny"; } }'
    )
    assert message(mime, MULTIPART).endswith(b"--o\r\nContent-Type: text/x\r\n\r\ny\r\n--o--\r\n")


def test_the_whole_message_is_replaced() -> None:
    """The header stays but for what describes the body; replaced fields are kept as Original-…, RFC 5703 §5."""
    changed = message(PARTS + 'replace :subject "New" :from "eve@example.org" "Text";', MULTIPART)
    assert changed == (
        b"Original-From: a@example.net\r\nOriginal-Subject: x\r\nSubject: New\r\nFrom: eve@example.org\r\n"
        b"MIME-Version: 1.0\r\nContent-Type: text/plain; charset=us-ascii\r\nContent-Transfer-Encoding: 7bit\r\n\r\nText\r\n"
    )


def test_the_message_is_enclosed() -> None:
    """It becomes an attachment, unchanged, of a message with a text and more fields, RFC 5703 §6."""
    changed = message(PARTS + 'enclose :subject "See below" :headers ["X-A: 1"] "Look:";')
    root = Message(changed).root()
    assert root.texts("subject") == ["See below"]
    assert root.texts("x-a") == ["1"]
    assert root.texts("from") == ["Alice <alice@example.net>"]
    assert root.part is not None
    text, inner = root.part.children
    assert changed[text.body_start : text.end] == b"Look:"
    assert changed[inner.body_start : inner.end] == MAIL.removesuffix(b"\r\n")
    twice = message(PARTS + 'enclose "a"; enclose "b";')
    assert twice.count(MAIL.rstrip(b"\r\n")) == 1
    assert len(list(descendants(Message(twice).root()))) == 7
