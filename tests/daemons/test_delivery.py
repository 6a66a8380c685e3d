"""From octets to what storage takes: the same facts whether they come from memory or from a file."""

from pathlib import Path

import pytest

from daemons.delivery import THREAD_OCTETS, facts_of, prepare
from storage.rows import Placement

SMALL = (
    b"Date: Sun, 8 Nov 2026 12:00:00 +0000\r\nMessage-ID: <a@b>\r\nSubject: =?utf-8?q?gr=C3=BC=C3=9Fe?=\r\n\r\nbody\r\n"
)
ATTACHMENT = b"QUJD" * 18 + b"\r\n"
LARGE = (
    b"Subject: large\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\ntext\r\n"
    b"--b\r\nContent-Type: application/pdf\r\nContent-Transfer-Encoding: base64\r\n\r\n"
    + ATTACHMENT * 6000
    + b"--b--\r\n"
)


async def test_prepare() -> None:
    """The facts of the message, with what the caller said."""
    made = await prepare(7, b"Received: x\r\n", SMALL, [Placement(1)])
    assert (made.tenant_id, made.head, made.original, made.placements) == (7, b"Received: x\r\n", SMALL, [Placement(1)])
    assert made.facts.message_id == b"<a@b>"
    assert made.facts.subject == "grüße"
    assert made.facts.sent_at is not None
    assert made.facts.envelope.startswith(b"(")
    assert made.facts.extents == ()


@pytest.mark.parametrize("message", [SMALL, LARGE], ids=["small", "large"])
async def test_file_and_memory_give_the_same_facts(message: bytes, tmp_path: Path) -> None:
    """Octets in a file are parsed through a map and come to the same."""
    path = tmp_path / "message"
    path.write_bytes(message)
    assert await facts_of(path) == await facts_of(message)


async def test_extents_are_start_and_length() -> None:
    """An attachment's extent is where its encoded body starts and how long it is."""
    assert len(LARGE) > THREAD_OCTETS
    ((start, length),) = (await facts_of(LARGE)).extents
    assert LARGE[start : start + length].strip() == (ATTACHMENT * 6000).strip()
