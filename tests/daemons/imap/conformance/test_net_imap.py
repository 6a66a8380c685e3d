"""Responses as a client takes them: the fixtures of Ruby's net-imap (scripts/net-imap, BSD-2-Clause), and RFC's examples."""

from pathlib import Path

import pytest

from protocol.imap import response
from tests.daemons.imap.conformance.net_imap import Fixture, compared, read, rendered, said, same, values_of

FIXTURES = [
    one for path in sorted((Path(__file__).parent / "scripts" / "net-imap").glob("*.yml")) for one in read(path)
]
_NO_RESPONSE = "no RFC knows this response"
_NO_TEXT = "a text has at least one character, RFC 3501 §9 (text): we send one"
_OTHER_DELIMITER = "our delimiter is /"
_NO_TAG = "each ESEARCH of ours names its command, RFC 4466 §2.6.2"
# What no server may send.
NOT_READ = {
    "test_invalid_noop_response_is_ignored": _NO_RESPONSE,
    "test_invalid_noop_response_with_unparseable_data": _NO_RESPONSE,
    "test_invalid_noop_response_with_numeric_prefix": _NO_RESPONSE,
    "test_invalid_noop_response_with_numeric_prefix_and_unparseable_data": _NO_RESPONSE,
    "invalid literal numeric format (too large)": "it must not be parsed",
    "Microsoft Exchange issues an invalid resp-text-code": "a response code begins with an atom, RFC 3501 §9 (resp-text-code)",
    "Outlook.com and Microsoft 365 can send an invalid COPYUID response code": "COPYUID without UIDs, RFC 4315 §4",
    "test_imaginary_status_response_using_tagged-ext-val": "values that no STATUS item has, as Ruby objects of their own",
}
# What is well-formed, more or less, and not our way.
NOT_SENT = {
    "outlook.com puts an extra SP in ENVELOPE address lists": "Sender and Reply-To are From where they lack, RFC 3501 §7.4.2",
    "response-tagged_without_SP_resp-text": _NO_TEXT,
    "resp-cond-state_without_SP_resp-text": _NO_TEXT,
    "resp-cond-auth_without_SP_resp-text": _NO_TEXT,
    "resp-cond-bye_without_SP_resp-text": _NO_TEXT,
    "rfc3501_7.2.3_LSUB_response_example": _OTHER_DELIMITER,
    "rfc9051_7.3.4_ESEARCH_example_1": _NO_TAG,
    "rfc9051_7.3.4_ESEARCH_example_3": _NO_TAG,
    "test_bodystructure_bug11128_ext_mpart_without_lang": "BODY has no extension data, RFC 3501 §7.4.2",
    "test_bodystructure_extension_fields": "extension data that no RFC defines",
    "test_bodystructure_mixed_boundary": "a multipart has parts, RFC 3501 §9 (body-type-mpart): we show an empty one",
    "test_invalid_bodystructure_bug7153_mixed": "a multipart has parts, RFC 3501 §9 (body-type-mpart): we show an empty one",
    "test_list_with_various_flag_capitalizations": _OTHER_DELIMITER,
    "test_utf8_in_resp_text": "our texts are ASCII, RFC 3501 §9 (text)",
    "test_xlist_inbox": "SPECIAL-USE has replaced XLIST, RFC 6154 §1",
}


def agree(wish: bytes, fixture: Fixture) -> bool:
    """Whether a response has the values of the fixture."""
    return fixture.expected is not None and same(compared(values_of(fixture.expected)), compared(said(wish)))


@pytest.mark.parametrize("fixture", [one for one in FIXTURES if one.name not in NOT_READ], ids=lambda one: one.name)
def test_read(fixture: Fixture) -> None:
    """The parser by which these tests compare finds in a response what a client finds."""
    assert agree(fixture.octets, fixture), said(fixture.octets)


@pytest.mark.parametrize("fixture", [one for one in FIXTURES if one.name not in NOT_READ], ids=lambda one: one.name)
def test_sent(fixture: Fixture) -> None:
    """What we send for the values of a response is that response, as values, but for what is named with its reason."""
    assert fixture.expected is not None
    is_sent = fixture.expected.get("name") != "XLIST" and fixture.name not in NOT_SENT
    if not is_sent:
        with pytest.raises((AssertionError, KeyError, AttributeError)):
            assert agree(rendered(fixture.expected), fixture)
        return
    assert agree(rendered(fixture.expected), fixture), rendered(fixture.expected)


def test_every_fixture_has_its_place() -> None:
    """What is left out is there."""
    assert NOT_READ.keys() | NOT_SENT.keys() <= {one.name for one in FIXTURES}
    assert len(FIXTURES) == 116


@pytest.mark.parametrize(
    ("sent", "example"),
    [
        (response.sort_line([2, 84, 882]), b"* SORT 2 84 882"),  # RFC 5256 §4
        (response.sort_line([2, 5, 6], 917162500), b"* SORT 2 5 6 (MODSEQ 917162500)"),  # RFC 7162 §3.1.6
        (response.vanished([405, 407, 410, 425])[0], b"* VANISHED 405,407,410,425"),  # RFC 7162 §3.2.10
        (response.vanished_ranges([(41, 41), (43, 116)])[0], b"* VANISHED (EARLIER) 41,43:116"),  # RFC 7162 §3.2.10.1
        (
            response.untagged("OK", response.modified([7, 9]), "Conditional STORE failed"),
            b"* OK [MODIFIED 7,9] Conditional STORE failed",  # RFC 7162 §3.1.3
        ),
        (
            response.fetch(1, [response.fetch_uid(4), response.fetch_modseq(12121231000)]),
            b"* 1 FETCH (UID 4 MODSEQ (12121231000))",  # RFC 7162 §3.1.3
        ),
        (
            response.fetch(1, [response.fetch_binary(b"BINARY[1]", b"a\0b")]),
            b"* 1 FETCH (BINARY[1] ~{3}\r\na\0b)",  # RFC 3516 §4.2
        ),
        (
            response.tagged(b"A003", "OK", response.appenduid(38505, [3955]), "APPEND completed"),
            b"A003 OK [APPENDUID 38505 3955] APPEND completed",  # RFC 4315 §3
        ),
        (
            response.tagged(b"A004", "OK", response.copyuid(38505, [304, 319, 320], [3956, 3957, 3958]), "Done"),
            b"A004 OK [COPYUID 38505 304,319:320 3956:3958] Done",  # RFC 4315 §3
        ),
        (
            response.namespace("", "Other Users/", "Shared/"),
            b'* NAMESPACE (("" "/")) (("Other Users/" "/")) (("Shared/" "/"))',  # RFC 2342 §5
        ),
        (response.in_progress(b"A001", 454, 1000), b'* OK [INPROGRESS ("A001" 454 1000)] still at it'),  # RFC 9585 §4
    ],
)
def test_examples(sent: bytes, example: bytes) -> None:
    """Kinds of responses for which net-imap has no fixture are as in the examples of their RFCs."""
    assert sent == example + b"\r\n"
    assert compared(said(example))
