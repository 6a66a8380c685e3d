"""What filters leave of an accepted message: it is stored without a part or a field, or archived and given to nobody.

The archive has the message as it came, with a mark that says what was done: the journal is complete whatever the filters decide.
"""

import asyncio
from collections.abc import AsyncIterator, Collection, Iterable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

from daemons.context import Context
from daemons.delivery import facts_of, mapped
from filters.forged import without
from filters.pipeline import Decision
from filters.subject import HEADER_LIMIT
from protocol.message import scan
from protocol.message.dsn import language_of
from protocol.message.header import fields
from protocol.message.stripping import Notice, leaves, strip
from storage.rows import ContentFacts, NewMessage
from storage.spool import Spool, SpoolFile


@dataclass(frozen=True, slots=True)
class Treated:
    """What one tenant's recipients get in place of the message."""

    mark: Mapping[str, object]  # for the journal
    rest: bytes | Path | None = None  # None: they get nothing
    facts: ContentFacts | None = None

    def applied(self, whole: NewMessage) -> list[NewMessage]:
        """The message for the archive alone, and what is delivered in its place."""
        archived = replace(whole, placements=())
        if self.rest is None or self.facts is None:
            return [archived]
        return [archived, replace(whole, original=self.rest, facts=self.facts, journal=None)]


def treating(
    context: Context, decision: Decision, original: bytes | Path, tenant_ids: Collection[int], reference: str
) -> AbstractAsyncContextManager[Mapping[int, Treated]]:
    """What is different for which tenants, while the messages are being stored. Raises StorageError, OSError."""
    if not decision.is_changed:
        return nullcontext({})
    return _changing(context, decision, original, tenant_ids, reference)


@asynccontextmanager
async def _changing(
    context: Context, decision: Decision, original: bytes | Path, tenant_ids: Collection[int], reference: str
) -> AsyncIterator[Mapping[int, Treated]]:
    treated: dict[int, Treated] = {}
    spooled: list[SpoolFile] = []
    try:
        for tenant_id in dict.fromkeys(tenant_ids):
            own = decision.for_tenant(tenant_id)
            if own.drop is not None:
                treated[tenant_id] = Treated({"action": "discard", "reasons": [own.drop.reason]})
            elif own.stripped or own.removed:
                spooled.append(Spool(context.settings.spool_directory).open())
                language = await context.directory.language(tenant_id)
                rest = await asyncio.to_thread(_rest, original, own, language, reference, spooled[-1])
                reasons = [f"{each.cause}: {each.reason}" for each in own.stripped]
                reasons += dict.fromkeys(f"field: {each.reason}" for each in own.removed)
                mark = {"action": "strip" if own.stripped else "remove", "reasons": reasons}
                treated[tenant_id] = Treated(mark, rest, await facts_of(rest))
        yield treated
    finally:
        for file in spooled:
            file.discard()


def _rest(original: bytes | Path, decision: Decision, language: str, reference: str, file: SpoolFile) -> bytes | Path:
    """The message with notices in place of parts, and without fields. The first filter that names a part says why it goes."""
    notices: dict[tuple[int, ...], Notice] = {}
    for each in decision.stripped:
        notices.setdefault(each.part, Notice(each.cause, each.reason, language_of(language), reference))
    with mapped(original) as octets:
        root = scan(octets)
        if not notices.keys() <= {path for path, _ in leaves(root)}:
            raise ValueError("a filter names a part that is none")  # nobody gets what was to be taken out
        for piece in _without_fields(strip(octets, root, notices), {each.octets for each in decision.removed}):
            file.write(piece)
    return file.original


def _without_fields(pieces: Iterable[bytes], removed: Collection[bytes]) -> Iterator[bytes]:
    """The message without those fields of its header section."""
    header: bytes | None = b"" if removed else None  # None: it is done with
    for piece in pieces:
        if header is None:
            yield piece
            continue
        header += piece
        end = header.find(b"\r\n\r\n") + 2
        if end >= 2 or len(header) > HEADER_LIMIT:
            yield _cut(header, removed)
            header = None
    if header is not None:
        yield _cut(header, removed)


def _cut(octets: bytes, removed: Collection[bytes]) -> bytes:
    return without(octets, [field for field in fields(octets) if octets[field.start : field.end] in removed])
