"""Every kind of stored thing is changed, deleted, swapped or cut off behind the archive's back: verification names it."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import asyncpg
import pytest

from daemons.archiver.service import Archiver
from daemons.context import Context
from storage.archive.checkpoint import Checkpoint, open_note
from storage.archive.head import head_file, read_head, tenants_with_head
from storage.archive.keys import open_signer, trusted_keys
from storage.archive.merkle import root_hash
from storage.archive.verify import Report, Verifier, tenants
from storage.blobs.segments import segment_path
from storage.blobs.store import BlobReader
from tests.conftest import Person
from tests.storage.archive.conftest import Deliver, heads_of, new_archiver


async def verify(context: Context, tenant_id: int) -> Report:
    """What a fresh process finds: nothing of it is in anybody's cache."""
    settings = context.settings
    blobs = BlobReader(context.pool, settings.segments_directory, context.keys)
    head = read_head(heads_of(context), tenant_id)
    try:
        return await Verifier(context.pool, blobs, tenant_id, trusted_keys(settings.archive_key_file), head).verify()
    finally:
        blobs.close()


Tamper = Callable[[str], Awaitable[None]]


@pytest.fixture
async def log(archiver: Archiver, deliver: Deliver) -> None:
    """Nine leaves in three checkpoints of 3, 7 and 9; one more message waits in the journal."""
    for first, count in ((0, 3), (3, 4), (7, 2)):
        await deliver(count, first=first)
        await archiver.archive_batch()
        await archiver.sign_due(everything=True)
    await deliver(1, first=9)


@pytest.fixture
async def tamper(log: None, owner: "asyncpg.Connection[asyncpg.Record]") -> Tamper:
    """Run statements with neither triggers nor foreign keys, as one who owns the server can."""

    async def run(statements: str) -> None:
        async with owner.transaction():
            await owner.execute("SET LOCAL session_replication_role = replica")
            await owner.execute(statements)

    return run


async def test_an_untouched_log_is_intact(context: Context, account: Person, log: None) -> None:
    """Leaves, messages, checkpoints and journal add up, and nothing is found."""
    report = await verify(context, account.tenant_id)
    assert report.findings == []
    assert report.is_intact
    assert (report.leaves, report.messages, report.checkpoints, report.unsigned) == (9, 9, 3, 0)
    assert (report.accepted, report.waiting) == (10, 1)
    assert report.octets == sum(len(f"Subject: {n}\r\n\r\n") + 200 for n in range(9))


async def test_unsigned_leaves_are_counted(context: Context, account: Person, log: None, archiver: Archiver) -> None:
    """Leaves after the newest checkpoint are no finding, and are told."""
    await archiver.archive_batch()
    report = await verify(context, account.tenant_id)
    assert report.is_intact
    assert (report.leaves, report.unsigned, report.waiting) == (10, 1, 0)


async def test_a_log_that_grows_meanwhile_is_intact(
    context: Context, account: Person, log: None, deliver: Deliver
) -> None:
    """Verification at any moment of a running intake with two archivers finds nothing."""
    is_over = False

    async def archive(archiver: Archiver) -> None:
        while not is_over:
            await archiver.archive_batch()
            await archiver.sign_due(everything=True)

    async def intake() -> None:
        for number in range(10, 60):
            await deliver(1, first=number)

    async def work() -> None:
        nonlocal is_over
        await intake()
        is_over = True

    working = asyncio.gather(work(), archive(new_archiver(context)), archive(new_archiver(context)))
    seen = set()
    while not is_over:
        report = await verify(context, account.tenant_id)
        assert report.findings == []
        seen.add(report.leaves)
    await working
    assert len(seen) > 1


@pytest.mark.parametrize("at", [0, 7, 31])
@pytest.mark.parametrize(
    ("table", "column", "what"),
    [
        ("archive_leaf", "commitment", "the leaf does not have its hash"),
        ("archive_leaf", "leaf_hash", "the leaf does not have its hash"),
        ("archive_message", "salt", "the commitment is not to this salt"),
        ("archive_message", "envelope", "the commitment is not to this salt"),
        ("archive_message", "digest", "the commitment is not to this salt"),
    ],
)
async def test_a_flipped_byte_is_found(
    context: Context, account: Person, tamper: Tamper, table: str, column: str, what: str, at: int
) -> None:
    """One changed byte of a leaf, salt, envelope or digest is found, with its sequence number, and no other leaf is blamed."""
    await tamper(f"UPDATE {table} SET {column} = set_byte({column}, {at}, get_byte({column}, {at}) # 1) WHERE seq = 4")
    report = await verify(context, account.tenant_id)
    assert any(finding.seq == 4 and finding.what.startswith(what) for finding in report.findings)
    assert {finding.seq for finding in report.findings} <= {4, 3}  # 3: where the stretch of checkpoint 1 begins
    assert {finding.tenant_id for finding in report.findings} == {account.tenant_id}


@pytest.mark.parametrize(
    ("change", "seq"),
    [
        ("UPDATE archive_leaf SET at_ms = at_ms + 1 WHERE seq = 0", 0),
        ("UPDATE archive_leaf SET size_octets = size_octets + 1 WHERE seq = 1", 1),
        ("UPDATE archive_leaf SET class_id = 1 WHERE seq = 2", 2),
        ("UPDATE archive_leaf SET version = 2 WHERE seq = 3", 3),
        ("UPDATE archive_leaf SET kind = 2 WHERE seq = 4", 4),
        ("UPDATE archive_leaf SET kind = 16 WHERE seq = 4", 4),
        ("UPDATE archive_leaf SET kind = 1000 WHERE seq = 4", 4),
        ("UPDATE archive_leaf SET at_ms = -1 WHERE seq = 4", 4),
        ("UPDATE archive_message SET direction = 'out' WHERE seq = 5", 5),
        ("UPDATE archive_message SET journal_id = 4711 WHERE seq = 6", 6),
        ("UPDATE archive_message SET content_id = 4711 WHERE seq = 6", 6),
        ("DELETE FROM archive_message WHERE seq = 7", 7),
        ("DELETE FROM archive_leaf WHERE seq = 0", 0),
        ("DELETE FROM archive_leaf WHERE seq = 4", 4),
        ("DELETE FROM archive_leaf WHERE seq BETWEEN 2 AND 7", 2),
        ("DELETE FROM archive_leaf WHERE seq = 4; DELETE FROM archive_message WHERE seq = 4", 4),
        ("DELETE FROM journal WHERE archived_seq = 8", 8),
        ("UPDATE journal SET digest = set_byte(digest, 0, get_byte(digest, 0) # 1) WHERE archived_seq = 8", 8),
        ("UPDATE journal SET envelope = envelope || '\\x20' WHERE archived_seq = 8", 8),
        ("UPDATE journal SET accepted_at = accepted_at + interval '1 ms' WHERE archived_seq = 8", 8),
        ("UPDATE journal SET size_octets = 0 WHERE archived_seq = 8", 8),
        ("UPDATE journal SET archived_seq = 5 WHERE archived_seq = 8", 8),
        ("UPDATE journal SET archived_seq = NULL WHERE archived_seq = 8", 8),
        (
            "UPDATE content SET digest = set_byte(digest, 0, get_byte(digest, 0) # 1)"
            " WHERE content_id = (SELECT content_id FROM archive_message WHERE seq = 3)",
            3,
        ),
        (
            "UPDATE content SET size_octets = size_octets - 1"
            " WHERE content_id = (SELECT content_id FROM archive_message WHERE seq = 3)",
            3,
        ),
        (
            "UPDATE content SET tenant_id = tenant_id + 1"
            " WHERE content_id = (SELECT content_id FROM archive_message WHERE seq = 3)",
            3,
        ),
        ("DELETE FROM content WHERE content_id = (SELECT content_id FROM archive_message WHERE seq = 3)", 3),
        (
            "DELETE FROM blob WHERE digest = (SELECT skeleton FROM content WHERE content_id ="
            " (SELECT content_id FROM archive_message WHERE seq = 3))",
            3,
        ),
        (
            "UPDATE blob SET wrapped_key = set_byte(wrapped_key, 20, get_byte(wrapped_key, 20) # 1) WHERE digest ="
            " (SELECT skeleton FROM content WHERE content_id = (SELECT content_id FROM archive_message WHERE seq = 3))",
            3,
        ),
    ],
)
async def test_a_changed_or_deleted_row_is_found(
    context: Context, account: Person, tamper: Tamper, change: str, seq: int
) -> None:
    """Whatever row behind a leaf is changed or deleted, the finding names the leaf."""
    await tamper(change)
    report = await verify(context, account.tenant_id)
    assert not report.is_intact
    assert seq in {finding.seq for finding in report.findings}


_SWAP = """
    ALTER TABLE archive_message DROP CONSTRAINT archive_message_journal_id_key;
    CREATE TEMP TABLE pair AS SELECT * FROM {table} WHERE seq IN (4, 5);
    UPDATE {table} AS t SET ({columns}) = (SELECT {columns} FROM pair WHERE pair.seq = 9 - t.seq) WHERE seq IN (4, 5);
    DROP TABLE pair
"""


@pytest.mark.parametrize(
    ("table", "columns"),
    [
        ("archive_leaf", "kind, at_ms, size_octets, commitment, leaf_hash"),
        ("archive_leaf", "commitment, size_octets"),
        ("archive_message", "journal_id, content_id, envelope, salt, digest"),
        ("archive_message", "journal_id, digest"),
        ("archive_message", "content_id, direction"),
        ("archive_message", "salt, direction"),
        ("archive_message", "envelope, direction"),
    ],
)
async def test_swapped_rows_are_found(
    context: Context, account: Person, tamper: Tamper, table: str, columns: str
) -> None:
    """Two leaves or messages in each other's place, whole or in part, are both named."""
    await tamper(_SWAP.format(table=table, columns=columns))
    report = await verify(context, account.tenant_id)
    assert {4, 5} <= {finding.seq for finding in report.findings}


async def test_a_forged_leaf_is_found_by_its_checkpoint(context: Context, account: Person, tamper: Tamper) -> None:
    """A leaf that is consistent in itself, with envelope, commitment and hash made anew, does not lead to the signed root."""
    await tamper("""
        UPDATE archive_message SET envelope = '{}' WHERE seq = 4;
        UPDATE journal SET envelope = '{}' WHERE archived_seq = 4;
        UPDATE archive_leaf AS l SET commitment = sha256(m.salt || m.digest || sha256(m.envelope))
          FROM archive_message AS m WHERE m.seq = 4 AND l.seq = 4;
        UPDATE archive_leaf SET leaf_hash = sha256('\\x00' || '\\x0101'::bytea || '\\x0000' || int8send(seq) || int8send(at_ms)
            || int8send(size_octets) || commitment) WHERE seq = 4
    """)
    report = await verify(context, account.tenant_id)
    assert [(finding.seq, finding.what) for finding in report.findings] == [
        (3, "checkpoint 1: its root is not that of leaves 3 to 6")
    ]


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ("UPDATE archive_checkpoint SET note = overlay(note placing 'X' from 3) WHERE number = 1", "checkpoint 1: no trusted key"),
        ("UPDATE archive_checkpoint SET note = replace(note, E'\\n7\\n', E'\\n8\\n') WHERE number = 1", "checkpoint 1: no trusted"),
        ("UPDATE archive_checkpoint SET note = note || 'x' WHERE number = 1", "checkpoint 1: the signature lines"),
        ("UPDATE archive_checkpoint SET note = '' WHERE number = 1", "checkpoint 1: not a checkpoint"),
        ("UPDATE archive_checkpoint SET size = 8 WHERE number = 1", "checkpoint 1: its note is of another"),
        (
            "UPDATE archive_checkpoint SET note = (SELECT note FROM archive_checkpoint WHERE number = 0) WHERE number = 1",
            "checkpoint 1: its note is of another",
        ),
        (
            "UPDATE archive_checkpoint SET frontier = set_byte(frontier, 5, get_byte(frontier, 5) # 1) WHERE number = 1",
            "checkpoint 1: its frontier",
        ),
        ("UPDATE archive_checkpoint SET frontier = '' WHERE number = 1", "checkpoint 1: its frontier"),
        ("DELETE FROM archive_checkpoint WHERE number = 0", "missing: checkpoint 0"),
        ("DELETE FROM archive_checkpoint WHERE number = 1", "missing: checkpoint 1"),
        ("DELETE FROM archive_checkpoint WHERE number = 2", "the head copy is checkpoint 2"),
        ("DELETE FROM archive_checkpoint", "the head copy is checkpoint 2"),
        ("UPDATE archive_log SET origin = 'other/1/0'", "checkpoint 0: its note is of another log"),
        ("DELETE FROM archive_log", "the log has leaves or checkpoints, but no origin"),
    ],
)  # fmt: skip
async def test_a_changed_checkpoint_is_found(
    context: Context, account: Person, tamper: Tamper, change: str, what: str
) -> None:
    """A checkpoint that was changed, replaced or deleted is named."""
    await tamper(change)
    report = await verify(context, account.tenant_id)
    assert any(finding.what.startswith(what) for finding in report.findings), report.findings


async def test_a_cut_off_tail_is_found(context: Context, account: Person, tamper: Tamper) -> None:
    """A log that lost its last leaves is shorter than its checkpoint says."""
    await tamper("DELETE FROM archive_leaf WHERE seq >= 7; DELETE FROM archive_message WHERE seq >= 7;"
                 "DELETE FROM journal WHERE archived_seq >= 7")  # fmt: skip
    report = await verify(context, account.tenant_id)
    assert [finding.what for finding in report.findings] == [
        "checkpoint 2 covers 9 leaves, but only 7 are there",
        "the head copy covers 9 leaves, but only 7 are there",
    ]


@pytest.mark.parametrize("kept", [7, 3, 0])
async def test_a_database_set_back_is_found_by_the_head_copy(
    context: Context, account: Person, tamper: Tamper, kept: int
) -> None:
    """A database that is consistent in itself, but older than the copy outside, is noticed."""
    await tamper(f"""
        DELETE FROM archive_leaf WHERE seq >= {kept}; DELETE FROM archive_message WHERE seq >= {kept};
        DELETE FROM journal WHERE archived_seq >= {kept}; DELETE FROM archive_checkpoint WHERE size > {kept}
    """)
    report = await verify(context, account.tenant_id)
    assert [finding.what for finding in report.findings] == [
        f"the head copy covers 9 leaves, but only {kept} are there"
    ]


async def test_a_whole_vanished_tenant_is_found_by_the_head_copy(
    context: Context, account: Person, tamper: Tamper
) -> None:
    """Where the database knows nothing of a tenant any more, the copy outside still does."""
    await tamper("DELETE FROM tenant; DELETE FROM archive_leaf; DELETE FROM archive_message; DELETE FROM journal;"
                 "DELETE FROM archive_checkpoint; DELETE FROM archive_log")  # fmt: skip
    assert tenants_with_head(heads_of(context)) == [account.tenant_id]
    assert await tenants(context.pool, heads_of(context)) == {account.tenant_id: ""}
    report = await verify(context, account.tenant_id)
    assert [finding.what for finding in report.findings] == ["the head copy outside the database is of another log"]


async def test_leaves_of_an_unknown_tenant_are_listed(context: Context, account: Person, tamper: Tamper) -> None:
    """Leaves that were given to a tenant that does not exist are looked at as well."""
    await tamper("UPDATE archive_leaf SET tenant_id = 99 WHERE seq = 8")
    assert await tenants(context.pool, heads_of(context)) == {account.tenant_id: "example", 99: ""}
    assert not (await verify(context, 99)).is_intact


@pytest.mark.parametrize("change", [b"", b"nonsense", None])
async def test_a_changed_head_copy_is_found(context: Context, account: Person, log: None, change: bytes | None) -> None:
    """The copy outside must verify as well; without one the log alone is judged."""
    path = head_file(heads_of(context), account.tenant_id)
    if change is None:
        path.unlink()
        assert (await verify(context, account.tenant_id)).is_intact
        return
    path.write_bytes(change)
    report = await verify(context, account.tenant_id)
    assert [finding.what for finding in report.findings] == ["the head copy outside the database: not a checkpoint"]


async def test_a_fork_is_found(context: Context, account: Person, tamper: Tamper) -> None:
    """Who has the key can sign another history: the head copy and the replaced checkpoint cannot both be true."""
    rows = await context.pool.fetch("SELECT leaf_hash FROM archive_leaf ORDER BY seq")
    note = await context.pool.fetchval("SELECT note FROM archive_checkpoint WHERE number = 2")
    signer = open_signer(context.settings.archive_key_file)
    old = open_note(note, [signer.public_key])
    forged = signer.sign(Checkpoint(old.origin, 9, root_hash([row["leaf_hash"] for row in rows]), 2, old.at_ms + 1))
    await tamper(f"UPDATE archive_checkpoint SET note = '{forged}' WHERE number = 2")
    report = await verify(context, account.tenant_id)
    assert [finding.what for finding in report.findings] == [
        "the head copy is checkpoint 2, which the database does not have as it was signed"
    ]


async def test_any_flipped_byte_of_a_segment_is_found(context: Context, account: Person, log: None) -> None:
    """Each byte of the stored octets of a message counts: whichever is flipped, its leaf is named."""
    location = await context.pool.fetchrow("""
        SELECT b.segment_id, b.position, b.record_octets FROM archive_message AS m JOIN content AS c USING (content_id)
          JOIN blob AS b ON b.tenant_id = c.tenant_id AND b.digest = c.skeleton WHERE m.seq = 5
    """)
    assert location is not None
    path = segment_path(context.settings.segments_directory, location["segment_id"])
    for at in range(location["position"], location["position"] + location["record_octets"], 11):
        _flip(path, at)
        report = await verify(context, account.tenant_id)
        assert {finding.seq for finding in report.findings} == {5}, at
        _flip(path, at)
    assert (await verify(context, account.tenant_id)).is_intact


def _flip(path: Path, at: int) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        octet = file.read(1)[0]
        file.seek(at)
        file.write(bytes([octet ^ 0x10]))


async def test_a_missing_and_a_cut_segment_are_found(context: Context, account: Person, log: None) -> None:
    """A segment file that is gone, or ends too early, is found at each message in it."""
    segment_id = await context.pool.fetchval("SELECT max(segment_id) FROM blob")
    path = segment_path(context.settings.segments_directory, segment_id)
    octets = path.read_bytes()
    path.write_bytes(octets[: len(octets) // 2])
    assert 8 in {finding.seq for finding in (await verify(context, account.tenant_id)).findings}
    path.unlink()
    report = await verify(context, account.tenant_id)
    assert [finding.seq for finding in report.findings] == list(range(9))


async def test_findings_are_bounded(
    context: Context, account: Person, log: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beyond a limit findings are only counted: memory does not grow with the damage."""
    monkeypatch.setattr("storage.archive.verify._FINDINGS_KEPT", 4)
    for path in context.settings.segments_directory.glob("*.seg"):
        Path(path).unlink()
    report = await verify(context, account.tenant_id)
    assert (len(report.findings), report.finding_count) == (4, 9)
