"""Authentication-Results: what is written is read by another library's eyes, and what pretends to be ours is found."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from filters.verdict import AddField
from protocol.authentication_results import NAME, Finding, pretended, render

OURS = ["mx.example.test"]


def test_field() -> None:
    """RFC 8601 §2.2: the id, then one resinfo for each method, with its properties."""
    findings = [
        Finding("spf", "pass", [("smtp.mailfrom", "alice@example.net")], "mx"),
        Finding("dkim", "fail", [("header.d", "example.net"), ("header.i", "")], "the body (was) changed"),
        Finding("dmarc", "pass", [("header.from", "example.net")], reason='a "reason"'),
    ]
    assert render("mx.example.test", findings) == (
        "mx.example.test;\r\n spf=pass (mx) smtp.mailfrom=alice@example.net;\r\n"
        " dkim=fail (the body ?was? changed) header.d=example.net;\r\n"
        ' dmarc=pass reason="a \\"reason\\"" header.from=example.net'
    )


def test_field_without_results() -> None:
    """RFC 8601 §2.2: a field without results says so."""
    assert render("mx.example.test", []) == "mx.example.test; none"


@given(st.text(max_size=120), st.text(max_size=120), st.text(max_size=300))
def test_any_words(value: str, comment: str, authserv_id: str) -> None:
    """Whatever strangers' words go into it, the field is one field, and its comments and strings are closed."""
    body = render(authserv_id or "x", [Finding("spf", "pass", [("smtp.helo", value)], comment)])
    AddField(NAME, body)
    bare = re.sub(r'"(?:[^"\\]|\\.)*"', "", body)
    assert '"' not in bare
    assert bare.count("(") == bare.count(")") <= 1
    assert bare.count(";") == 1


@pytest.mark.parametrize(
    "body",
    [
        b" mx.example.test; spf=pass",
        b" MX.Example.TEST 1; spf=pass",
        b"mx.example.test",
        b' "mx.example.test"; dkim=pass',
        b' "mx\\.example.test"; dkim=pass',
        b" (a;b) mx.example.test; dkim=pass",
        b" (a (nested; one) comment) (mx) mx.example.test (x); dkim=pass",
        b"\r\n mx.example.test;\r\n dkim=pass",
        b" x mx.example.test; dkim=pass",
        b" mx.example.test.; dkim=pass",
        b" (never closed mx.example.test; dkim=pass",
    ],
)
def test_fields_that_pretend(body: bytes) -> None:
    """RFC 8601 §5: a field with our id, however it is written, is not from outside."""
    header = b"From: a@example.net\r\nAUTHENTICATION-results:" + body + b"\r\nTo: b@example.net\r\n"
    found = pretended(header, OURS)
    assert [header[field.start : field.end] for field in found] == [header[21:-19]]


@pytest.mark.parametrize(
    "header",
    [
        b"Authentication-Results: example.net; dkim=pass header.d=mx.example.test\r\n",
        b"Authentication-Results: other.mx.example.test; dkim=pass\r\n",
        b"Authentication-Results: mx.example.test.example.net; dkim=pass\r\n",
        b"ARC-Authentication-Results: i=1; mx.example.test; dkim=pass\r\n",
        b"X-Authentication-Results: mx.example.test; dkim=pass\r\n",
    ],
)
def test_fields_of_others(header: bytes) -> None:
    """Fields of other hosts stay: their owners answer for them."""
    assert pretended(header, OURS) == []


@given(
    st.lists(st.sampled_from([b"mx.example.test", b"(", b")", b";", b'"', b"\\", b" ", b"\r\n ", b"x"])).map(b"".join)
)
def test_any_field(body: bytes) -> None:
    """Any body is read, and one that begins with our id is always found."""
    assert pretended(b"Authentication-Results: mx.example.test" + (b";" + body if body else b"") + b"\r\n", OURS)
    pretended(b"Authentication-Results:" + body, OURS)


def test_hostile_body() -> None:
    """A body of parentheses is read in linear time."""
    assert pretended(b"Authentication-Results:" + b"(" * 500_000, OURS) == []
