"""The step from a complete message of a user to durable mail: whose name it bears, repairs, caps, filters, copies, the queue.

Only what RFC 6409 §8 lets be added is added, and only when it is missing: Date and Message-ID, on top of the message, so that the
journal, the recipients and signatures have the same octets. Nothing else of the message is changed, with one exception: a binary
one (RFC 3030) is queued in an encoding that every server takes, while local recipients and the journal have it as it was sent.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from config.smtp import Smtp
from config.submission import Submission as Limits
from daemons.context import Context
from daemons.delivery import facts_of, mapped
from daemons.logs import logger
from daemons.outgoing import Encoded, Outgoing, entry_of, foreign_of, is_ascii, messages_of
from daemons.postmaster import postmaster_of
from daemons.smtp import replies
from daemons.smtp.acceptance import Acceptance, Made
from daemons.smtp.authors import Heading, header_of, read_heading
from daemons.smtp.delivering.groups import caused, shares
from daemons.smtp.delivering.incoming import Delivery, Incoming, refused
from daemons.smtp.delivering.planning import Delivering, Refusals
from daemons.smtp.notes import Notes
from daemons.smtp.reports import Reports
from daemons.smtp.sending import Held, Sending
from daemons.smtp.transaction import Addressee, Origin, Transaction
from filters.pipeline import Pipeline
from protocol.message import scan
from protocol.message.binary import in_lines
from protocol.message.transfer import UnknownEncodingError
from protocol.smtp.received import render_date
from protocol.smtp.reply import Reply
from storage.effects import Effect
from storage.rows import SEEN, ContentFacts, NewMessage, Placement
from storage.senders import Senders
from storage.sent import SentCopies
from storage.spool import Spool, SpoolFile

log = logger("submission")


class Submitted(Acceptance):
    """Accepts complete messages of users. One per process."""

    def __init__(
        self,
        context: Context,
        limits: Smtp,
        pipeline: Pipeline,
        reports: Reports,
        delivering: Delivering,
        *,
        senders: Senders,
        sending: Sending,
        copies: SentCopies,
        spool: Spool,
    ) -> None:
        super().__init__(context, limits, pipeline, reports, delivering)
        self._submission: Limits = context.settings.submission
        self._senders = senders
        self._sending = sending
        self._copies = copies
        self._spool = spool
        self._postmaster = postmaster_of(limits, self._hostname)

    async def _accept(
        self, transaction: Transaction, origin: Origin, transaction_id: str, *, is_lmtp: bool
    ) -> list[Reply]:
        notes = Notes(self._context.recorder, transaction, origin, transaction_id)
        received_at = datetime.now(UTC)
        heading = read_heading(header_of(transaction.file.original))
        refusal = await self._judge_authors(heading, origin)
        if refusal is not None:
            log.info("message refused", id=transaction_id, reason="author")
            notes.refused(refusal, "author")
            return [refusal]
        self._settle_terms(transaction)
        await self._repair(transaction, heading, transaction_id, received_at)
        decision = await self._decide(transaction, origin, transaction_id)
        notes.checked(decision)
        if decision.refusal is not None:
            log.info("message refused", id=transaction_id, reason=decision.refusal.reason)
            notes.refused(decision.refusal.reply, decision.refusal.reason)
            return [decision.refusal.reply]
        shown = origin if self._submission.shows_client else replace(origin, peer="", helo="")
        facts = await facts_of(transaction.file.original, transaction.scanned)
        notes.read(facts)
        incoming = Incoming(
            mail=transaction.mail,
            origin=origin,
            trace_id=transaction_id,
            received_at=received_at,
            received=self._received(transaction, shown, transaction_id, received_at),
            decision=decision,
            original=transaction.file.original,
            facts=facts,
        )
        outgoing = await self._outgoing(transaction, incoming)
        spooled: SpoolFile | None = None
        try:
            if transaction.is_binary and transaction.remote:
                spooled = self._spool.open()
                encoded = await self._encoded(transaction.file.original, spooled)
                if encoded is None:
                    notes.refused(replies.NOT_CONVERTIBLE, "binary")
                    return [replies.NOT_CONVERTIBLE]
                outgoing = replace(outgoing, encoded=encoded)
            return [await self._send(transaction, incoming, outgoing, notes)]
        finally:
            if spooled is not None:
                spooled.discard()

    async def _judge_authors(self, heading: Heading, origin: Origin) -> Reply | None:
        """Why the message must not go out in this name. Raises UnavailableError."""
        assert origin.identity is not None
        if not heading.has_from or not heading.authors:
            return replies.AUTHOR_MISSING
        if heading.is_ambiguous:
            return replies.AUTHOR_AMBIGUOUS
        if len(heading.authors) > self._submission.author_limit:
            return replies.AUTHORS_TOO_MANY
        for author in heading.authors:
            text = author.local_part + author.domain
            if not text.isprintable() or not await self._senders.may_send(
                origin.identity.account_id, author.local_part, author.domain
            ):
                return replies.AUTHOR_NOT_OWN
        return None

    def _settle_terms(self, transaction: Transaction) -> None:
        """Lower a priority that is above what users may ask for: MAIL was answered so."""
        mail, limit = transaction.mail, self._submission.priority_limit
        if (mail.parameters.priority or 0) > limit:
            transaction.mail = replace(mail, parameters=replace(mail.parameters, priority=limit))

    async def _repair(
        self, transaction: Transaction, heading: Heading, transaction_id: str, received_at: datetime
    ) -> None:
        """Put Date and Message-ID on top where they are missing (RFC 6409 §8.2, §8.3). Raises UnavailableError."""
        missing = b""
        if not heading.has_date:
            missing += b"Date: %s\r\n" % render_date(received_at).encode()
        if not heading.has_message_id:
            missing += b"Message-ID: <%s@%s>\r\n" % (transaction_id.encode(), self._hostname.encode())
        if not missing:
            return
        original, before = transaction.file.original, transaction.file
        repaired = self._spool.open()
        try:
            repaired.write(missing)
            if isinstance(original, bytes):
                repaired.write(original)
            else:
                await asyncio.to_thread(_append, repaired, original)
        except BaseException:
            repaired.discard()
            raise
        transaction.file = repaired
        before.discard()

    async def _outgoing(self, transaction: Transaction, incoming: Incoming) -> Outgoing:
        origin, received_at = incoming.origin, incoming.received_at
        identity, mail, parameters = origin.identity, transaction.mail, transaction.mail.parameters
        assert identity is not None
        begun_at = transaction.begun_at or received_at
        release_at = parameters.hold_until
        if parameters.hold_for_seconds:
            release_at = begun_at + timedelta(seconds=parameters.hold_for_seconds)
        by = parameters.deliver_by
        original = transaction.file.original
        is_plain = await asyncio.to_thread(is_ascii, original) if isinstance(original, Path) else is_ascii(original)
        paths = [rcpt.forward_path for rcpt in transaction.rcpts]
        paths += [mail.reverse_path] if mail.reverse_path is not None else []
        lifetime = timedelta(seconds=self._context.settings.relay.lifetime)
        return Outgoing(
            tenant_id=identity.tenant_id,
            account_id=identity.account_id,
            mail=mail,
            addressees=[self._with_domain(addressee) for addressee in transaction.addressees],
            remote=transaction.remote,
            origin=origin,
            trace_id=incoming.trace_id,
            accepted_at=received_at,
            expires_at=(release_at or received_at) + lifetime,
            head=incoming.head(incoming.decision),
            original=original,
            facts=incoming.facts,
            copies=await self._copies_of(identity.account_id, incoming.facts, received_at),
            release_at=release_at,
            deliver_by=begun_at + timedelta(seconds=by.seconds) if by is not None else None,
            body="BINARYMIME" if transaction.is_binary else "7BIT" if is_plain else "8BITMIME",
            # Some programs always announce SMTPUTF8. What needs none is not kept from servers without it (RFC 6531 §3.4).
            is_smtputf8=parameters.is_smtputf8 and not (is_plain and all(path.is_ascii for path in paths)),
        )

    def _with_domain(self, addressee: Addressee) -> Addressee:
        """What stands in the queue needs a domain; <Postmaster> has none."""
        if addressee.rcpt.forward_path.domain:
            return addressee
        return replace(addressee, rcpt=replace(addressee.rcpt, forward_path=self._postmaster))

    async def _copies_of(self, account_id: int, facts: ContentFacts, received_at: datetime) -> Sequence[Placement]:
        if facts.message_id is None:
            return ()
        target = await self._copies.target(account_id, facts.message_id, self._submission.sent_copy_time)
        return () if target is None else (Placement(target, SEEN, internaldate=received_at),)

    async def _encoded(self, original: bytes | Path, spooled: SpoolFile) -> Encoded | None:
        """The same message in lines; None when that is not possible without breaking it."""

        def encode() -> None:
            with mapped(original) as octets:
                for piece in in_lines(octets, scan(octets)):
                    spooled.write(piece)

        try:
            await asyncio.to_thread(encode)
        except UnknownEncodingError:
            return None
        encoded = spooled.original
        body = "7BIT" if await asyncio.to_thread(is_ascii, encoded) else "8BITMIME"
        return Encoded(encoded, await facts_of(encoded), body)

    async def _send(self, transaction: Transaction, incoming: Incoming, outgoing: Outgoing, notes: Notes) -> Reply:
        """Count it, store it, queue it: all of it or nothing."""
        identity = outgoing.origin.identity
        assert identity is not None
        counted = identity, transaction.mail.reverse_path, transaction.recipient_count
        admitted = await self._sending.admit(*counted)
        if isinstance(admitted, Reply):
            log.info("message refused", id=outgoing.trace_id, reason="cap")
            notes.refused(admitted, "cap")
            return admitted
        is_stored = False
        try:
            if isinstance(admitted, Held):
                outgoing = replace(outgoing, held_reason=admitted.reason)
            if outgoing.waits:
                answer = await self._store(Made(messages_of(outgoing)), notes)
            else:
                answer = await self._deliver(transaction, incoming, outgoing, notes)
            is_stored = answer.is_positive
        finally:
            if not is_stored:
                self._sending.withdraw(*counted)
        return answer

    async def _deliver(self, transaction: Transaction, incoming: Incoming, outgoing: Outgoing, notes: Notes) -> Reply:
        """To accounts of this host by their rules, to all others by the queue."""
        refusals: Refusals = "none" if outgoing.remote else "all"

        async def made() -> Made | Reply:
            deliveries = await self.delivering.plan(incoming, outgoing.addressees, refusals)
            refusal = refused(deliveries)
            if refusal is not None:
                return self._refused(notes, refusal)
            return Made(await self._sent(transaction, incoming, outgoing, deliveries), deliveries)

        return await self._stored(made, notes)

    async def _sent(
        self, transaction: Transaction, incoming: Incoming, outgoing: Outgoing, deliveries: Sequence[Delivery]
    ) -> list[NewMessage]:
        placed: dict[int, Sequence[Placement]] = {}
        effects: list[Effect] = []
        others: list[NewMessage] = []
        direct = {outgoing.tenant_id} | {each.recipient.tenant_id for each in outgoing.addressees}
        for tenant_id, share in shares(incoming.whole, deliveries).items():
            if tenant_id not in direct:  # a rule has sent it on to there
                led_to = [each.addressee.rcpt for delivery in deliveries for each in delivery.others()
                          if each.tenant_id == tenant_id]  # fmt: skip
                others += share.messages(entry_of(foreign_of(outgoing), led_to, "in"))
                continue
            placed[tenant_id], own_effects = share.taken(incoming.whole)
            effects += own_effects
            others += share.messages()
        group = messages_of(outgoing, placed, tuple(effects))
        reports = await self._reports_of(incoming, transaction, deliveries)
        return [*group, *others, *caused(deliveries), *reports]


def _append(spooled: SpoolFile, original: Path) -> None:
    with original.open("rb") as file:
        for piece in iter(lambda: file.read(1 << 20), b""):
            spooled.write(piece)
