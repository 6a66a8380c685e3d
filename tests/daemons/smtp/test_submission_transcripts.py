"""Every tests/transcripts/submission/*.txt, fed whole and fed one octet at a time in real TLS, must read the same.

`$plain` stands for the PLAIN message of alice@example.test, `$until` for a date and time, `$id` for the id of an accepted message.
alice@example.test exists, and so does the domain; nobody else does.
"""

import asyncio
import base64
import re
from pathlib import Path

import pytest

from tests.conftest import PASSWORD, Person
from tests.daemons.smtp.users import DEADLINE_SECONDS, Users
from tests.feeding import cut, transcripts, turns

FILES = transcripts("submission")
PLAIN = base64.b64encode(f"\0alice@example.test\0{PASSWORD}".encode())


@pytest.mark.parametrize("step", [None, 1], ids=["whole", "octets"])
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
async def test_transcript(path: Path, step: int | None, users: Users, account: Person) -> None:
    """The conversation goes as written, and the session says nothing else."""
    reader, writer = await asyncio.open_connection(
        *users.endpoints["submissions"], ssl=users.tls, server_hostname="localhost"
    )
    async with asyncio.timeout(DEADLINE_SECONDS):
        for sent, expected in turns(path.read_text("utf-8")):
            for piece in cut(sent.replace(b"$plain", PLAIN), step):
                writer.write(piece)
                await writer.drain()
            heard = b"".join([await reader.readline() for _ in range(expected.count(b"\r\n"))])
            pattern = re.escape(expected).replace(rb"\$id", rb"[0-9a-f]{16}").replace(rb"\$until", rb"[0-9TZ:-]{20}")
            assert re.fullmatch(pattern, heard) is not None, f"expected {expected!r}, heard {heard!r}"
        assert await reader.read() == b""
    writer.close()
