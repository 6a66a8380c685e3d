"""Fields that only this host may write are found, and taken out without touching another octet."""

from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from filters.authentication.overrides import Known
from filters.forged import ForgedFields, forged, without
from filters.mime import Mime, MimeRules
from filters.pipeline import PASSED, Pipeline
from filters.subject import Envelope, Subject
from protocol.message.header import fields

OURS = ["mx.example.test"]
FORWARDERS = Known(forwarders=(ip_network("198.51.100.0/24"),))
HEADER = (
    b"Received: from x\r\n"
    b"x-spam-status: No,\r\n\tscore=-100\r\n"
    b"From: a@example.net\r\n"
    b"Authentication-Results: mx.example.test;\r\n dmarc=pass header.from=example.net\r\n"
    b"Authentication-Results: mx.example.net; dkim=pass\r\n"
    b"X-Virus-Scanned: clean\r\n"
    b"X-Spammer: I\r\n"
    b"Subject: X-Spam-Flag: NO\r\n"
)


def test_forged_fields_are_found() -> None:
    """Verdicts on spam and viruses, and results with our id; not those of others, and nothing that is only similar."""
    found = forged(HEADER, OURS)
    assert [field.name for field in found] == [b"x-spam-status", b"Authentication-Results", b"X-Virus-Scanned"]
    assert forged(b"From: a@example.net\r\n", OURS) == []


def test_rest_is_as_it_came() -> None:
    """What is left is octet for octet what came, the body included."""
    message = HEADER + b"\r\nX-Spam-Flag: YES\r\n\x00\xff"
    assert without(message, forged(HEADER, OURS)) == (
        b"Received: from x\r\nFrom: a@example.net\r\nAuthentication-Results: mx.example.net; dkim=pass\r\n"
        b"X-Spammer: I\r\nSubject: X-Spam-Flag: NO\r\n\r\nX-Spam-Flag: YES\r\n\x00\xff"
    )


_LINES = st.sampled_from([
    *(b"X-Spam-Flag: NO\r\n", b"X-VIRUS-Status:\r\n", b"X-Spam-Flag\r\n", b" folded\r\n", b"To: a\r\n", b"junk\r\n", b"\n"),
    *(b"Authentication-Results: mx.example.test\r\n", b"Authentication-Results : mx.example.test; x\r\n", b"X-Spam: 1\r\n"),
])  # fmt: skip


@given(st.lists(_LINES, max_size=12).map(b"".join))
def test_none_is_left(header: bytes) -> None:
    """Once they are taken out there are none, and all other fields are still there."""
    found = forged(header, OURS)
    rest = without(header, found)
    assert forged(rest, OURS) == []
    starts = {field.start for field in found}
    kept = [header[field.start : field.end] for field in fields(header) if field.start not in starts]
    assert [rest[field.start : field.end] for field in fields(rest)] == kept


def _subject(peer: str = "192.0.2.1", *, is_authenticated: bool = False) -> Subject:
    envelope = Envelope("id", peer, "client.example", False, is_authenticated, None, ())
    return Subject(envelope, HEADER + b"\r\nbody\r\n")


@pytest.mark.parametrize("filters", [0, 1], ids=["without filters", "with a filter"])
async def test_forged_fields_go_whatever_filters_there_are(filters: int) -> None:
    """RFC 8601 §5: what only looks like our judgement is taken out, also where nothing is configured to judge."""
    pipeline = Pipeline(
        content=[Mime(MimeRules())] * filters, forged=ForgedFields("MX.example.test", FORWARDERS.forwards)
    )
    decision = await pipeline.check_content(_subject())
    assert [verdict.octets.partition(b":")[0] for verdict in decision.removed] == [
        b"x-spam-status",
        b"Authentication-Results",
        b"X-Virus-Scanned",
    ]
    assert decision.is_changed
    assert not decision.is_treated


async def test_what_is_no_forgery_stays() -> None:
    """A known forwarder has checked mail for us, and users of ours may write what they like."""
    pipeline = Pipeline(forged=ForgedFields("mx.example.test", FORWARDERS.forwards))
    assert await pipeline.check_content(_subject("198.51.100.7")) is PASSED
    assert await pipeline.check_content(_subject(is_authenticated=True)) is PASSED
