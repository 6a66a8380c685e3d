"""FETCH attributes that neither the view nor the facts answer: SAVEDATE (RFC 8514) and PREVIEW (RFC 8970).

Each is read for a whole batch of messages before its rows are made.
"""

import asyncio
from collections.abc import Sequence

from daemons.access.imap.columns import Batch, date_time
from daemons.access.imap.session import Session
from protocol.imap import response
from protocol.imap.fetch import FetchAttribute, Item
from protocol.message import unpack
from protocol.message.preview import READ_OCTETS, candidates, preview_of
from storage import messages, search_text
from storage.blobs.store import BlobReader
from storage.errors import NotFoundError

LOOKED_UP = frozenset({Item.SAVEDATE, Item.PREVIEW})


async def look_up(session: Session, batch: Batch, attributes: Sequence[FetchAttribute]) -> None:
    """Read what the columns of these attributes need. Raises StorageError."""
    for attribute in attributes:
        if attribute.item is Item.SAVEDATE:
            batch.savedates = await _savedates(session, batch)
        elif attribute.item is Item.PREVIEW:
            batch.previews = await _previews(session, batch, is_lazy=attribute.is_lazy)


async def _savedates(session: Session, batch: Batch) -> dict[int, bytes]:
    """By UID."""
    uids = list(batch.column("uids"))
    if not uids:
        return {}
    mailbox_id = batch.selected.view.mailbox_id
    async with session.database() as connection:
        found = await messages.savedates(connection, mailbox_id, uids[0], uids[-1])
    return {uid: date_time(seconds) for uid, seconds in found.items()}


async def _previews(session: Session, batch: Batch, *, is_lazy: bool) -> dict[int, bytes]:
    """By content: as the search index has them; others are made now, or left out if the client would rather not wait (LAZY)."""
    contents = list(dict.fromkeys(batch.column("contents")))
    if not contents:
        return {}
    async with session.database() as connection:
        known = await search_text.previews(connection, session.account.tenant_id, contents)
        previews = {content_id: response.string(text.encode("utf-8")) for content_id, text in known.items()}
        missing = [content_id for content_id in contents if content_id not in previews]
        if is_lazy or not missing:
            return previews
        facts = await messages.facts(connection, missing, ["structure"])
    blobs = session.shared.context.blobs
    await blobs.prefetch(missing)
    for content_id, fact in facts.items():
        text = await _preview(blobs, content_id, fact["structure"])
        if text is not None:
            previews[content_id] = response.string(text.encode("utf-8"))
        await asyncio.sleep(0)  # reading from memory suspends nowhere: let the others have their turn
    return previews


async def _preview(blobs: BlobReader, content_id: int, structure: bytes) -> str | None:
    """Made from the beginnings of the parts; None when the message is gone."""
    try:
        for part in candidates(unpack(structure)):
            end = min(part.end, part.body_start + READ_OCTETS)
            text = preview_of(await blobs.read(content_id, part.body_start, end), part)
            if text:
                return text
    except NotFoundError:  # expunged a moment ago, and swept
        return None
    return ""
