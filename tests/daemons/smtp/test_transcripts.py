"""Every tests/transcripts/smtp/*.txt, fed whole and fed one octet at a time to a real session, must read the same.

`$id` in a server line stands for the id of an accepted message. Files named lmtp_* are conversations with the LMTP port.
alice@example.test exists, and so does the domain; nobody else does.
"""

import asyncio
import re
from pathlib import Path

import pytest

from tests.daemons.smtp.conftest import Intake
from tests.feeding import cut, transcripts, turns

FILES = transcripts("smtp")


@pytest.mark.parametrize("step", [None, 1], ids=["whole", "octets"])
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
async def test_transcript(path: Path, step: int | None, intake: Intake) -> None:
    """The conversation goes as written, and the session says nothing else."""
    client = intake.connect(is_lmtp=path.stem.startswith("lmtp_"))
    for sent, expected in turns(path.read_text("utf-8")):
        for piece in cut(sent, step):
            client.say(piece)
            await asyncio.sleep(0)
        heard = await client.hear(expected.count(b"\r\n"))
        pattern = re.escape(expected).replace(rb"\$id", rb"[0-9a-f]{16}")
        assert re.fullmatch(pattern, heard) is not None, f"expected {expected!r}, heard {heard!r}"
    assert await client.end() == b""
