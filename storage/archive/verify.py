"""Recomputing a tenant's evidence log from what is stored, and naming everything that is not as it was signed.

Trusts nothing in the database: leaf hashes come from the leaves' fields, commitments from the octets read out of the segments,
roots from the leaves, and signatures are held against key files outside. Streams in slices: memory does not grow with the log.

Each stretch of leaves between two checkpoints is judged on its own: at every checkpoint whose frontier leads to its signed root
the tree is taken up again from there, so that one change is one finding, not a finding in all that follows.
"""

import hashlib
from collections.abc import AsyncIterator, Collection
from dataclasses import dataclass, field
from pathlib import Path

import asyncpg

from storage.archive.checkpoint import Checkpoint, CheckpointError, open_note
from storage.archive.evidence import milliseconds
from storage.archive.head import tenants_with_head
from storage.archive.leaf import KIND_OF_DIRECTION, Leaf, commitment
from storage.archive.merkle import Frontier
from storage.blobs.store import BlobReader
from storage.errors import StorageError
from storage.pool import Pool, reported

_SLICE = 500
_FINDINGS_KEPT = 1000  # per tenant; the rest is counted
_READ_OCTETS = 1 << 20

_MESSAGE_KINDS = frozenset(KIND_OF_DIRECTION.values())

_ORIGIN = "SELECT origin FROM archive_log WHERE tenant_id = $1"
_NEWEST = "SELECT coalesce(max(number), -1) FROM archive_checkpoint WHERE tenant_id = $1"
_END = "SELECT coalesce(max(seq) + 1, 0) FROM archive_leaf WHERE tenant_id = $1"

_LEAVES = f"""
SELECT l.seq, l.kind, l.at_ms, l.size_octets, l.commitment, l.class_id, l.version, l.leaf_hash,
       m.journal_id, m.content_id, m.direction, sha256(m.envelope) AS envelope_digest, m.salt, m.digest,
       j.tenant_id AS journal_tenant_id, j.content_id AS journal_content_id, j.direction AS journal_direction,
       sha256(j.envelope) AS journal_envelope_digest, j.digest AS journal_digest, j.size_octets AS journal_size_octets,
       j.accepted_at AS journal_accepted_at, j.archived_seq AS journal_seq,
       c.tenant_id AS content_tenant_id, c.digest AS content_digest
  FROM archive_leaf AS l
  LEFT JOIN archive_message AS m USING (tenant_id, seq)
  LEFT JOIN journal AS j ON j.journal_id = m.journal_id
  LEFT JOIN content AS c ON c.content_id = m.content_id
 WHERE l.tenant_id = $1 AND l.seq >= $2 AND l.seq < $3
 ORDER BY l.seq LIMIT {_SLICE}
"""

_CHECKPOINTS = f"""
SELECT number, size, note, frontier FROM archive_checkpoint
 WHERE tenant_id = $1 AND number >= $2 AND number <= $3 ORDER BY number LIMIT {_SLICE}
"""

_ACCOUNTED = """
SELECT (SELECT count(*) FROM journal WHERE tenant_id = $1) AS accepted,
       (SELECT count(*) FROM journal WHERE tenant_id = $1 AND archived_seq IS NULL) AS waiting,
       (SELECT count(*) FROM archive_message WHERE tenant_id = $1) AS messages
"""

# Rows that hang in the air. What a running archiver or ingest adds meanwhile adds all sides in one transaction.
_STRAYS = {
    "archived message {} has no leaf": """
SELECT seq FROM archive_message AS m WHERE tenant_id = $1
   AND NOT EXISTS (SELECT FROM archive_leaf AS l WHERE l.tenant_id = m.tenant_id AND l.seq = m.seq) LIMIT $2
""",
    "journal row {} is marked as archived, but is not in the archive": """
SELECT journal_id FROM journal AS j WHERE tenant_id = $1 AND archived_seq IS NOT NULL
   AND NOT EXISTS (SELECT FROM archive_message AS m WHERE m.journal_id = j.journal_id AND m.tenant_id = j.tenant_id) LIMIT $2
""",
    "waiting journal row {} and its content have different digests": """
SELECT journal_id FROM journal AS j JOIN content AS c USING (content_id)
 WHERE j.tenant_id = $1 AND archived_seq IS NULL AND (j.digest <> c.digest OR j.tenant_id <> c.tenant_id) LIMIT $2
""",
}

# Everybody who has a name or a leaf. The recursion hops from tenant to tenant in the primary key.
_TENANTS = """
WITH RECURSIVE found AS (
    SELECT min(tenant_id) AS tenant_id FROM archive_leaf
     UNION ALL
    SELECT (SELECT min(tenant_id) FROM archive_leaf AS l WHERE l.tenant_id > f.tenant_id)
      FROM found AS f WHERE f.tenant_id IS NOT NULL)
SELECT tenant_id, name FROM tenant FULL JOIN (SELECT * FROM found WHERE tenant_id IS NOT NULL) AS f USING (tenant_id)
 ORDER BY tenant_id
"""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as it should be."""

    tenant_id: int
    seq: int | None  # the leaf it belongs to; None: a checkpoint, a journal row, the log as a whole
    what: str


@dataclass(slots=True)
class Report:
    """What was looked at, and what was found."""

    tenant_id: int
    leaves: int = 0
    messages: int = 0
    octets: int = 0  # of originals read and digested
    checkpoints: int = 0
    unsigned: int = 0  # leaves after the newest checkpoint
    accepted: int = 0  # journal rows
    waiting: int = 0  # of those, not archived yet
    has_head_copy: bool = False  # without one, a database set back to an older state as a whole is not noticed
    findings: list[Finding] = field(default_factory=list)
    finding_count: int = 0

    @property
    def is_intact(self) -> bool:
        """Whether nothing was found."""
        return self.finding_count == 0

    def add(self, what: str, seq: int | None = None) -> None:
        """Note a finding; beyond the first 1,000 they are only counted."""
        self.finding_count += 1
        if len(self.findings) < _FINDINGS_KEPT:
            self.findings.append(Finding(self.tenant_id, seq, what))


class Verifier:
    """Verifies one tenant's log once."""

    def __init__(
        self, pool: Pool, blobs: BlobReader, tenant_id: int, trusted: Collection[bytes], head: str | None
    ) -> None:
        """`head` is the copy of the newest checkpoint kept outside the database, read before anything else is."""
        self._pool = pool
        self._blobs = blobs
        self._tenant_id = tenant_id
        self._trusted = trusted
        self._head = head
        self._report = Report(tenant_id, has_head_copy=head is not None)
        self._frontier = Frontier()
        self._resumed_at = 0  # where the stretch of leaves began that the frontier has covered since
        self._origin: str | None = None

    async def verify(self) -> Report:
        """Go through the whole log. Raises StorageError only when the database cannot be used."""
        async with reported():
            self._origin = await self._pool.fetchval(_ORIGIN, self._tenant_id)
            newest: int = await self._pool.fetchval(_NEWEST, self._tenant_id)  # before the end of the leaves, so that
            end: int = await self._pool.fetchval(_END, self._tenant_id)  # a log that grows meanwhile is no finding
            await self._log(newest, end)
            await self._journal()
        return self._report

    async def _log(self, newest: int, end: int) -> None:
        report, head = self._report, _HeadCopy(self._head, self._trusted, self._report)
        if self._origin is None and (end or newest >= 0):
            report.add("the log has leaves or checkpoints, but no origin")
        checkpoints = self._checkpoints(newest, head)
        upcoming = await anext(checkpoints, None)
        expected = signed = 0
        async for row in self._leaves(end):
            seq: int = row["seq"]
            if seq != expected:
                report.add(f"missing: {_stretch('leaf', 'leaves', expected, seq)}", expected)
            while upcoming is not None and upcoming[0].size <= seq:
                signed = self._compare(*upcoming)
                upcoming = await anext(checkpoints, None)
            await self._leaf(row)
            expected = seq + 1
        while upcoming is not None:
            if upcoming[0].size > end:
                report.add(
                    f"checkpoint {upcoming[0].number} covers {upcoming[0].size} leaves, but only {end} are there", end
                )
            else:
                signed = self._compare(*upcoming)
            upcoming = await anext(checkpoints, None)
        report.unsigned = max(0, end - signed)
        head.finish(self._origin, end)

    async def _leaves(self, end: int) -> AsyncIterator[asyncpg.Record]:
        start = 0
        while rows := await self._pool.fetch(_LEAVES, self._tenant_id, start, end):
            await self._blobs.prefetch([row["content_id"] for row in rows if row["content_id"] is not None])
            for row in rows:
                yield row
            start = rows[-1]["seq"] + 1

    async def _checkpoints(self, newest: int, head: "_HeadCopy") -> AsyncIterator[tuple[Checkpoint, Frontier | None]]:
        """The checkpoints whose notes verify, in order, each with the frontier to go on from if that one verifies too."""
        start = size = 0
        while rows := await self._pool.fetch(_CHECKPOINTS, self._tenant_id, start, newest):
            for row in rows:
                if row["number"] != start:
                    self._report.add(f"missing: {_stretch('checkpoint', 'checkpoints', start, row['number'])}")
                start = row["number"] + 1
                self._report.checkpoints += 1
                head.compare(row["number"], row["note"])
                opened = self._open(row)
                if opened is not None and opened.size <= size:
                    self._report.add(f"checkpoint {start - 1}: covers no more leaves than the one before")
                elif opened is not None:
                    size = opened.size
                    yield opened, self._edge(opened, row["frontier"])

    def _open(self, row: asyncpg.Record) -> Checkpoint | None:
        try:
            opened = open_note(row["note"], self._trusted)
        except CheckpointError as error:
            self._report.add(f"checkpoint {row['number']}: {error}")
            return None
        if (opened.origin, opened.number, opened.size) != (self._origin, row["number"], row["size"]):
            self._report.add(f"checkpoint {row['number']}: its note is of another log, number or size")
            return None
        return opened

    def _edge(self, opened: Checkpoint, edge: bytes) -> Frontier | None:
        try:
            frontier = Frontier.unpack(opened.size, edge)
        except ValueError:
            frontier = Frontier()
        if frontier.size == opened.size and frontier.root() == opened.root:
            return frontier
        self._report.add(f"checkpoint {opened.number}: its frontier does not lead to its root")
        return None

    def _compare(self, opened: Checkpoint, edge: Frontier | None) -> int:
        """Hold the leaves so far against a checkpoint; returns the leaves it covers."""
        if self._frontier.size != opened.size or self._frontier.root() != opened.root:
            stretch = _stretch("leaf", "leaves", self._resumed_at, opened.size)
            self._report.add(f"checkpoint {opened.number}: its root is not that of {stretch}", self._resumed_at)
        if edge is not None:
            self._frontier, self._resumed_at = edge, opened.size
        return opened.size

    async def _leaf(self, row: asyncpg.Record) -> None:
        report, seq = self._report, row["seq"]
        report.leaves += 1
        leaf = Leaf(
            seq, row["kind"], row["at_ms"], row["size_octets"], row["commitment"], row["class_id"], row["version"]
        )
        try:
            computed = leaf.hash()
        except ValueError:
            report.add("a field of the leaf is out of range", seq)
            computed = row["leaf_hash"]
        if computed != row["leaf_hash"]:
            report.add("the leaf does not have its hash", seq)
        self._frontier.append(computed)
        if (row["journal_id"] is not None) != (leaf.kind in _MESSAGE_KINDS):
            report.add(
                "the leaf's message is missing" if leaf.kind in _MESSAGE_KINDS else "the leaf is not of a message", seq
            )
        elif row["journal_id"] is not None:
            report.messages += 1
            await self._message(row, leaf)

    async def _message(self, row: asyncpg.Record, leaf: Leaf) -> None:
        report, seq = self._report, leaf.seq
        if commitment(row["salt"], row["digest"], row["envelope_digest"]) != leaf.commitment:
            report.add("the commitment is not to this salt, digest and envelope", seq)
        if KIND_OF_DIRECTION.get(row["direction"]) != leaf.kind:
            report.add("the direction is not the leaf's", seq)
        if row["content_tenant_id"] != self._tenant_id or row["content_digest"] != row["digest"]:
            report.add("the content's row is missing, of another tenant, or of another digest", seq)
        self._against_journal(row, leaf)
        try:
            digest, size = await self._digest(row["content_id"], leaf.size_octets)
        except (StorageError, OSError) as error:
            report.add(f"the octets cannot be read: {error}", seq)
            return
        if digest != row["digest"] or size != leaf.size_octets:
            report.add("the octets are not those that were accepted", seq)

    def _against_journal(self, row: asyncpg.Record, leaf: Leaf) -> None:
        if row["journal_tenant_id"] is None:
            self._report.add(f"journal row {row['journal_id']} is missing", leaf.seq)
            return
        archived = (
            self._tenant_id,
            leaf.seq,
            row["content_id"],
            row["direction"],
            row["envelope_digest"],
            row["digest"],
        )
        journaled = (
            row["journal_tenant_id"], row["journal_seq"], row["journal_content_id"], row["journal_direction"],
            row["journal_envelope_digest"], row["journal_digest"],
        )  # fmt: skip
        facts = (row["journal_size_octets"], milliseconds(row["journal_accepted_at"]))
        if archived != journaled or facts != (leaf.size_octets, leaf.at_ms):
            self._report.add(f"journal row {row['journal_id']} does not say what the archive says", leaf.seq)

    async def _digest(self, content_id: int, size_octets: int) -> tuple[bytes, int]:
        """SHA-256 and size of the octets, read in pieces. One octet more is asked for than there should be."""
        hashed, size = hashlib.sha256(), 0
        while piece := await self._blobs.read(content_id, size, size + _READ_OCTETS):
            hashed.update(piece)
            size += len(piece)
            if size > size_octets:
                break
        self._report.octets += size
        return hashed.digest(), size

    async def _journal(self) -> None:
        row = await self._pool.fetchrow(_ACCOUNTED, self._tenant_id)
        assert row is not None
        report = self._report
        report.accepted, report.waiting = row["accepted"], row["waiting"]
        if row["accepted"] != row["messages"] + row["waiting"]:
            report.add(f"{row['accepted']} accepted, but {row['messages']} archived and {row['waiting']} waiting")
        for what, query in _STRAYS.items():
            for (identity,) in await self._pool.fetch(query, self._tenant_id, _FINDINGS_KEPT):
                report.add(what.format(identity))


async def tenants(pool: Pool, heads: Path) -> dict[int, str]:
    """The tenants whose logs exist or should: id and name, "" where only leaves or a head copy know of one."""
    async with reported():
        found = {row["tenant_id"]: row["name"] or "" for row in await pool.fetch(_TENANTS)}
    return dict.fromkeys(tenants_with_head(heads), "") | found


class _HeadCopy:
    """The checkpoint kept outside the database, held against those inside."""

    def __init__(self, note: str | None, trusted: Collection[bytes], report: Report) -> None:
        self._note = note
        self._report = report
        self._opened: Checkpoint | None = None
        self._is_found = False
        if note is not None:
            try:
                self._opened = open_note(note, trusted)
            except CheckpointError as error:
                report.add(f"the head copy outside the database: {error}")

    def compare(self, number: int, note: str) -> None:
        """Look at a checkpoint of the database."""
        if self._opened is not None and number == self._opened.number:
            self._is_found = note == self._note

    def finish(self, origin: str | None, end: int) -> None:
        """All checkpoints were looked at."""
        opened = self._opened
        if opened is None:
            return
        if opened.origin != origin:
            self._report.add("the head copy outside the database is of another log")
        elif opened.size > end:
            self._report.add(f"the head copy covers {opened.size} leaves, but only {end} are there", end)
        elif not self._is_found:
            self._report.add(
                f"the head copy is checkpoint {opened.number}, which the database does not have as it was signed"
            )


def _stretch(one: str, many: str, start: int, end: int) -> str:
    """ "leaf 4", or "leaves 4 to 9"."""
    return f"{one} {start}" if end == start + 1 else f"{many} {start} to {end - 1}"
