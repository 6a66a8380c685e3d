"""Searching texts: what the index answers, what memory answers and what a scan answers is the same, and is right."""

import contextlib
import random
from collections.abc import AsyncIterator

import msgspec

from config.search import Search
from daemons.archiver.indexing import Indexer
from protocol.message import scan
from protocol.message.header import fields
from protocol.message.text import canonical, canonical_text, field_text
from tests.daemons.imap.conftest import Service
from tests.daemons.imap.conversation import Client
from tests.mails import MAILS, as_sent

HEAD = b"Return-Path: <>\r\n"  # what Service.deliver puts on top


@contextlib.asynccontextmanager
async def indexing(service: Service, **changes: object) -> AsyncIterator[Indexer]:
    """An indexer of the service's database."""
    indexer = Indexer(service.context.pool, service.context.blobs, msgspec.structs.replace(Search(), **changes))
    try:
        yield indexer
    finally:
        await indexer.close()


async def index_all(service: Service) -> None:
    """Index what waits."""
    async with indexing(service) as indexer:
        while await indexer.index_batch():
            pass


async def found(client: Client, *criteria: str) -> list[int]:
    """UIDs; each criterion that begins with "=" is sent as a literal."""
    octets = b"UID SEARCH CHARSET UTF-8"
    for criterion in criteria:
        text = criterion[1:].encode()
        octets += b" {%d+}\r\n%s" % (len(text), text) if criterion.startswith("=") else b" " + criterion.encode()
    lines = await client.ok(octets)
    assert lines[0].startswith(b"* SEARCH"), lines
    return [int(uid) for uid in lines[0].split()[2:]]


class Brute:
    """The right answers, by the definition alone."""

    def __init__(self, uids: list[int], originals: list[bytes]) -> None:
        self.uids = uids
        self.texts = [canonical_text(HEAD, octets, scan(octets)) for octets in originals]
        self.fields: list[dict[bytes, str]] = []
        for octets in originals:
            by_name: dict[bytes, list[str]] = {}
            for field in fields(octets[: scan(octets).body_start]):
                by_name.setdefault(field.name.upper(), []).append(canonical(field_text(field.body)))
            self.fields.append({name: "\n".join(lines) for name, lines in by_name.items()})

    def text(self, needle: str) -> list[int]:
        return self._where(any(canonical(needle) in text for text in texts) for texts in self.texts)

    def body(self, needle: str) -> list[int]:
        return self._where(canonical(needle) in texts[1] for texts in self.texts)

    def header(self, name: bytes, needle: str) -> list[int]:
        return self._where(name in named and canonical(needle) in named[name] for named in self.fields)

    def _where(self, matches: object) -> list[int]:
        return [uid for uid, is_match in zip(self.uids, matches, strict=True) if is_match]  # type: ignore[call-overload]


def needles(brute: Brute, count: int) -> list[str]:
    """Pieces of the texts themselves, and of none."""
    chance = random.Random(5051)
    pieces = ["grüße", "GRÜSSE", "the", "\u200b", "qqzzxx", "e\u0301", "한", "invoice", "a=b", "<p>", "&amp;"]
    texts = [text for texts in brute.texts for text in texts if len(text) > 60]
    for _ in range(count):
        text = chance.choice(texts)
        start = chance.randrange(len(text) - 50)
        piece = text[start : start + chance.choice((1, 2, 3, 5, 8, 13, 40))].replace("\0", "")
        pieces.append(chance.choice((piece, piece.lower())))
    return [piece for piece in pieces if piece]


async def test_index_memory_and_scan_give_one_answer(service: Service) -> None:
    """Over all mails of the corpora: nothing indexed, a part, all of it, searched for the first time and again."""
    originals = [as_sent(path) for path in MAILS if path.stat().st_size < 200_000]
    uids = await service.deliver(*originals)
    brute = Brute(uids, originals)
    wanted = needles(brute, 20)
    async with indexing(service, batch_limit=len(uids) // 2) as indexer, await service.client() as client:
        await client.ok(b"SELECT INBOX")
        for step in ("scanned", "half indexed", "indexed", "in memory"):
            if step in ("half indexed", "indexed"):
                await indexer.index_batch()
                await indexer.index_batch()
                async with await service.client() as other:  # no memory of the step before
                    await other.ok(b"SELECT INBOX")
            for needle in wanted[:8] if step == "scanned" else wanted:
                assert await found(client, "TEXT", "=" + needle) == brute.text(needle), (step, needle)
                assert await found(client, "BODY", "=" + needle) == brute.body(needle), (step, needle)
                for name in (b"SUBJECT", b"FROM", b"RECEIVED", b"X-MAILER", b"RETURN-RECEIPT-TO"):
                    told = await found(client, "HEADER", name.decode(), "=" + needle)
                    assert told == brute.header(name, needle), (step, name, needle)
        for name in (b"SUBJECT", b"RECEIVED", b"MIME-VERSION"):
            assert await found(client, "HEADER", name.decode(), '""') == brute.header(name, ""), name
