"""Appending to evidence logs and signing them, against a real database."""

from daemons.archiver.service import Archiver
from daemons.context import Context
from storage.archive.checkpoint import open_note
from storage.archive.keys import trusted_keys
from storage.archive.merkle import root_hash
from tests.conftest import Person
from tests.storage.archive.conftest import Deliver


async def test_accepted_messages_become_leaves_in_order(
    context: Context, account: Person, archiver: Archiver, deliver: Deliver
) -> None:
    """Every journal row gets a leaf, in order and without gaps, and the checkpoint signs their root."""
    await deliver(7)
    assert await archiver.archive_batch() == 7
    assert await archiver.archive_batch() == 0
    await archiver.sign_due(everything=True)
    rows = await context.pool.fetch("SELECT * FROM archive_leaf ORDER BY seq")
    assert [row["seq"] for row in rows] == list(range(7))
    journaled = await context.pool.fetch("SELECT archived_seq FROM journal ORDER BY journal_id")
    assert [row["archived_seq"] for row in journaled] == list(range(7))
    note = await context.pool.fetchval("SELECT note FROM archive_checkpoint")
    checkpoint = open_note(note, trusted_keys(context.settings.archive_key_file))
    assert (checkpoint.size, checkpoint.number) == (7, 0)
    assert checkpoint.root == root_hash([row["leaf_hash"] for row in rows])
    assert checkpoint.origin.startswith(f"mail.example.test/{account.tenant_id}/")
