"""Signed mail from the queue to a server of another host, verified there as that host would: by Mail::DKIM and dkimpy."""

import asyncio
import re

import pytest

from tests.daemons.relay.signatures import dkimpy_verifies, make_keys, needs_mail_dkim, publish, verify
from tests.daemons.relay.world import ORIGINAL, World

UMLAUTS = ORIGINAL.replace(b"Hello.", "Grüße,  \t\r\n\r\n. und mehr".encode()).replace(
    b"Message-ID",
    b"MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\nMessage-ID",
)
LARGE = ORIGINAL + b"The quick brown fox jumps over the lazy dog.\r\n" * 60_000  # 2.7 MB


@needs_mail_dkim
@pytest.mark.parametrize("original", [ORIGINAL, UMLAUTS, LARGE], ids=["plain", "8bit", "large"])
@pytest.mark.parametrize("offers", ["8BITMIME PIPELINING CHUNKING", "8BITMIME", ""], ids=["chunks", "dots", "7bit"])
async def test_signed_mail_verifies_where_it_arrives(world: World, original: bytes, offers: str) -> None:
    """However a message is sent, in chunks, with doubled dots, or converted for a server without 8BITMIME, it verifies there."""
    await make_keys(world.context, world.owner, "example.test")
    texts = await publish(world.names, world.context, world.owner, "example.test")
    mx = await world.mx("example.net")
    mx.offers = set(offers.split())
    await world.queue("bob@example.net", "carol@example.net", original=original, body="8BITMIME")
    world.start()
    rows = await world.until_done()
    assert [row["state"] for row in rows] == ["delivered", "delivered"]
    for message in mx.received:
        assert "rsa-sha256 pass" in await verify(world.names, message.content)
        assert dkimpy_verifies(texts, message.content)
        assert message.content.startswith(b"DKIM-Signature: ")
        assert b"Return-Path" not in message.content


async def test_a_new_key_signs_at_once(world: World) -> None:
    """A running relay signs with the successor as soon as that is active."""
    await make_keys(world.context, world.owner, "example.test")
    mx = await world.mx("example.net")
    await world.queue("bob@example.net")
    world.start()
    await mx.wait(1)
    assert selectors(mx.received[0].content) == ["pw20261122r", "pw20261122e"]
    await make_keys(world.context, world.owner, "example.test")
    async with asyncio.timeout(20):
        while selectors(mx.received[-1].content) != ["pw20261122r2", "pw20261122e2"]:
            await world.queue("bob@example.net")
            await mx.wait(len(mx.received) + 1)


def selectors(message: bytes) -> list[str]:
    """Of the signatures, from the top."""
    return re.findall(r"\ss=([^;]*);", message.decode())
