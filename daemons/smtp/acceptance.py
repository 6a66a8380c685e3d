"""The step from a complete message to durable mail: hop count, content filters, trace fields, journal, storage, replies.

A reply that is positive has been made true before: Ingest.store has returned. One transaction is one group, whatever number
of tenants its recipients belong to, and so is stored whole or not at all; a tenant's journal names only its own recipients.
The report of delivery that the sender asked for is stored in the same group.
"""

import mmap
import os
import secrets
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from config.smtp import Smtp
from daemons import metrics
from daemons.delivery import facts_of
from daemons.logs import logger
from daemons.smtp import replies
from daemons.smtp.journal import journal_envelope
from daemons.smtp.reports import Reports
from daemons.smtp.transaction import Addressee, Origin, Transaction
from filters.pipeline import PASSED, Decision, Pipeline
from filters.subject import HEADER_LIMIT, Envelope, Subject
from filters.verdict import Refuse
from protocol.smtp.received import Hop, render_received, render_return_path
from protocol.smtp.reply import Reply
from protocol.status import enhanced
from storage.errors import MailboxNotFoundError, NotFoundError, OverQuotaError, StorageError
from storage.ingest import Ingest
from storage.rows import ContentFacts, JournalEntry, NewMessage, Placement

log = logger("smtp")

_ID_OCTETS = 8
_ACCEPTED = enhanced("2.0.0")
_IN_CIRCLES = Decision(refusal=Refuse(replies.HOP_LIMIT, "hop limit"))


def new_transaction_id() -> str:
    """An id for the log, the Received field, the journal and the reply: random, so it tells nothing."""
    return os.urandom(_ID_OCTETS).hex()


class Acceptance:
    """Accepts complete messages. One per process."""

    def __init__(self, hostname: str, limits: Smtp, ingest: Ingest, pipeline: Pipeline, reports: Reports) -> None:
        self._hostname = hostname
        self._limits = limits
        self._ingest = ingest
        self._pipeline = pipeline
        self._reports = reports
        self._counted = {name: metrics.messages_accepted.labels(name) for name in ("smtp", "lmtp")}

    async def accept(self, transaction: Transaction, origin: Origin, *, is_lmtp: bool) -> list[Reply]:
        """Take responsibility for the message, or say why not: one reply per addressee, in their order.

        Over SMTP all replies are the same. Never raises: what nobody foresaw is logged with an id and becomes 451 4.3.0.
        """
        transaction_id = new_transaction_id()
        everyone = transaction.addressees
        try:
            answers = await self._accept(transaction, origin, transaction_id, is_lmtp=is_lmtp)
        except StorageError as error:
            log.warning("message deferred", id=transaction_id, reason=type(error).__name__, detail=str(error))
            answers = [replies.UNAVAILABLE] * len(everyone)
        except Exception:
            log.exception("message deferred by an internal error", id=transaction_id, error_id=secrets.token_hex(6))
            answers = [replies.UNAVAILABLE] * len(everyone)
        if any(answer.is_positive for answer in answers):
            self._counted["lmtp" if is_lmtp else "smtp"].inc()
        return answers

    async def _accept(
        self, transaction: Transaction, origin: Origin, transaction_id: str, *, is_lmtp: bool
    ) -> list[Reply]:
        everyone = transaction.addressees
        original = transaction.file.original
        received_at = datetime.now(UTC)
        if isinstance(original, bytes):
            decision = await self._check(transaction, origin, transaction_id, original)
        else:
            with _mapped(original) as octets:
                decision = await self._check(transaction, origin, transaction_id, octets)
        if decision.refusal is not None:
            log.info("message refused", id=transaction_id, reason=decision.refusal.reason)
            return [decision.refusal.reply] * len(everyone)
        only = everyone[0].rcpt.forward_path if len(everyone) == 1 else None
        hop = Hop(
            helo=origin.helo,
            peer=origin.peer,
            hostname=self._hostname,
            protocol=origin.protocol,
            transaction_id=transaction_id,
            forward_path=only if only is not None and only.domain else None,  # <Postmaster> is no Path
            received_at=received_at,
        )
        head = render_return_path(transaction.mail.reverse_path) + decision.fields + render_received(hop)
        message = _Message(transaction, origin, transaction_id, received_at, head, original, await facts_of(original))
        return await (self._store_each(message) if is_lmtp else self._store_all(message))

    async def _check(
        self, transaction: Transaction, origin: Origin, transaction_id: str, octets: bytes | mmap.mmap
    ) -> Decision:
        if hop_count(octets) >= self._limits.hop_limit:
            return _IN_CIRCLES
        if not self._pipeline.has_content_filters:
            return PASSED
        envelope = Envelope(
            transaction_id=transaction_id,
            peer=origin.peer,
            helo=origin.helo,
            is_secure=origin.tls is not None,
            is_authenticated=False,
            reverse_path=transaction.mail.reverse_path,
            forward_paths=tuple(addressee.rcpt.forward_path for addressee in transaction.addressees),
        )
        return await self._pipeline.check_content(Subject(envelope, octets))

    async def _store_all(self, message: "_Message") -> list[Reply]:
        everyone = message.transaction.addressees
        answer = await self._store(message, everyone, await self._reports_of(message, everyone))
        return [answer] * len(everyone)

    async def _store_each(self, message: "_Message") -> list[Reply]:
        """LMTP answers for each recipient (RFC 2033 §4.2): when they cannot be served together, each is served alone."""
        everyone = message.transaction.addressees
        together = await self._store(message, everyone, await self._reports_of(message, everyone))
        accounts = {addressee.recipient.account_id for addressee in everyone}
        if together.is_positive or len(accounts) == 1:
            return [together] * len(everyone)
        answers: dict[int, Reply] = {}
        for account_id in accounts:
            alone = [addressee for addressee in everyone if addressee.recipient.account_id == account_id]
            try:
                answers[account_id] = await self._store(message, alone)
            except StorageError:
                answers[account_id] = replies.UNAVAILABLE  # the others' positive replies stay true
        await self._report_late(message, [each for each in everyone if answers[each.recipient.account_id].is_positive])
        return [answers[addressee.recipient.account_id] for addressee in everyone]

    async def _reports_of(self, message: "_Message", addressees: Sequence[Addressee]) -> list[NewMessage]:
        return await self._reports.of_delivery(
            message.transaction, addressees, message.transaction_id, message.received_at
        )

    async def _report_late(self, message: "_Message", stored: Sequence[Addressee]) -> None:
        """One report for all who were served alone. It cannot undo what they were answered: if it fails, it is lost."""
        try:
            reports = await self._reports_of(message, stored)
            if reports:
                await self._ingest.store(reports)
        except Exception:
            log.exception("report lost", id=message.transaction_id)

    async def _store(
        self, message: "_Message", addressees: Sequence[Addressee], reports: Sequence[NewMessage] = ()
    ) -> Reply:
        """Store for these addressees, with the reports, all or none. Raises StorageError when nobody could be served now."""
        try:
            await self._ingest.store([*message.for_tenants_of(addressees), *reports])
        except OverQuotaError:
            return replies.MAILBOX_FULL if self._limits.over_quota_is_permanent else replies.MAILBOX_FULL_FOR_NOW
        except (MailboxNotFoundError, NotFoundError):
            return replies.MAILBOX_GONE  # asked again at the next RCPT, it will be known to be gone
        size_octets = message.transaction.file.size_octets
        log.info("message accepted", id=message.transaction_id, size_octets=size_octets, recipients=len(addressees))
        return Reply(250, _ACCEPTED, (f"accepted as {message.transaction_id}",))


class _Message:
    """A message that passed, with everything that its copies share."""

    def __init__(
        self,
        transaction: Transaction,
        origin: Origin,
        transaction_id: str,
        received_at: datetime,
        head: bytes,
        original: bytes | Path,
        facts: ContentFacts,
    ) -> None:
        self.transaction = transaction
        self.transaction_id = transaction_id
        self._origin = origin
        self.received_at = received_at
        self._head = head
        self._original = original
        self._facts = facts

    def for_tenants_of(self, addressees: Sequence[Addressee]) -> list[NewMessage]:
        """One NewMessage per tenant, with one placement per mailbox, however often the mailbox is addressed."""
        tenants: dict[int, list[Addressee]] = {}
        for addressee in addressees:
            tenants.setdefault(addressee.recipient.tenant_id, []).append(addressee)
        return [
            NewMessage(
                tenant_id=tenant_id,
                head=self._head,
                original=self._original,
                facts=self._facts,
                placements=[
                    Placement(inbox_id, internaldate=self.received_at)
                    for inbox_id in dict.fromkeys(addressee.recipient.inbox_id for addressee in own)
                ],
                journal=JournalEntry("in", self._envelope(own), self.received_at),
            )
            for tenant_id, own in tenants.items()
        ]

    def _envelope(self, addressees: Sequence[Addressee]) -> bytes:
        rcpts = [addressee.rcpt for addressee in addressees]
        return journal_envelope(self.transaction.mail, rcpts, self._origin, self.transaction_id, self.received_at)


def hop_count(octets: bytes | mmap.mmap) -> int:
    """How many Received fields the header has: each server on the way added one (RFC 5321 §6.3)."""
    if octets[:2] == b"\r\n":
        return 0  # no header at all
    end = octets.find(b"\r\n\r\n", 0, HEADER_LIMIT)
    header = octets[: end if end >= 0 else HEADER_LIMIT].lower()
    return header.count(b"\r\nreceived:") + header.startswith(b"received:")


def _mapped(path: Path) -> mmap.mmap:
    with path.open("rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
