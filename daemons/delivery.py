"""From octets to the NewMessage that storage takes: parsed once, whatever number of tenants and mailboxes get it.

Used wherever mail comes in: SMTP, LMTP, IMAP APPEND, import. It never decides who gets the message.
"""

import asyncio
import mmap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from protocol.message import Parsed, parse, parse_scanned
from protocol.message.mime import Scanner
from storage.rows import ContentFacts, JournalEntry, NewMessage, Placement

THREAD_OCTETS = 256 * 1024  # parsing more than this would hold up every other session of the process


async def prepare(
    tenant_id: int,
    head: bytes,
    original: bytes | Path,
    placements: Sequence[Placement],
    journal: JournalEntry | None = None,
) -> NewMessage:
    """Parse the message and build what Ingest.store takes.

    head are the trace fields that we add on top; original are the octets as accepted, or the path of a complete,
    non-empty spool file, which must stay until store has returned. Raises OSError when the file cannot be read.
    """
    return NewMessage(tenant_id, head, original, await facts_of(original), placements, journal)


async def facts_of(original: bytes | Path, scanned: Scanner | None = None) -> ContentFacts:
    """What is computed once at intake; several NewMessages of the same octets share it. Raises OSError.

    scanned: by whoever had to look into the message before.
    """
    if scanned is not None:
        is_large = isinstance(original, Path) or len(original) > THREAD_OCTETS
        return await asyncio.to_thread(_facts_of_scan, scanned) if is_large else _facts_of_scan(scanned)
    if isinstance(original, Path):
        return await asyncio.to_thread(_facts_of_file, original)
    if len(original) > THREAD_OCTETS:
        return await asyncio.to_thread(_facts_of_octets, original)
    return _facts_of_octets(original)


@contextmanager
def mapped(original: bytes | Path) -> Iterator[bytes | mmap.mmap]:
    """The octets of a message, wherever it is. Raises OSError."""
    if isinstance(original, bytes):
        yield original
        return
    with original.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as octets:
        yield octets


def _facts_of_scan(scanned: Scanner) -> ContentFacts:
    return _facts(parse_scanned(scanned))


def _facts_of_octets(original: bytes) -> ContentFacts:
    return _facts(parse(original))


def _facts_of_file(path: Path) -> ContentFacts:
    with mapped(path) as octets:
        return _facts(parse(octets))


def _facts(parsed: Parsed) -> ContentFacts:
    return ContentFacts(
        envelope=parsed.envelope,
        bodystructure=parsed.bodystructure,
        structure=parsed.structure,
        header_cache=parsed.header_cache,
        sent_at=parsed.sent_at,
        message_id=parsed.message_id,
        subject=parsed.subject,
        extents=tuple((start, end - start) for start, end in parsed.extents),
        sorting=parsed.sorting,
    )
