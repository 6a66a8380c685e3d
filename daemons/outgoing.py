"""Messages that leave a tenant: local recipients as placements, all others as rows of the queue, in one group for Ingest.store.

Whoever sends, sends through here: users by submission, and ourselves (delivery reports, notices, later what is forwarded and
answered automatically). The journal names all recipients to the sender's tenant, and to every other tenant of this host its own.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from daemons.context import Context
from daemons.delivery import facts_of
from daemons.logs import logger
from daemons.smtp.journal import journal_envelope
from daemons.smtp.transaction import Addressee, Origin
from protocol.address import AddrSpec
from protocol.domain import a_labels
from protocol.smtp.command import Mail, Rcpt
from protocol.smtp.parameters import MailParameters, RcptParameters
from protocol.smtp.received import render_return_path
from storage.accounts import Directory
from storage.effects import Effect
from storage.rows import ContentFacts, JournalEntry, NewMessage, Outbound, OutboundRecipient, Placement

_ID_OCTETS = 8
_PIECE_OCTETS = 1 << 20

log = logger("outgoing")


@dataclass(frozen=True, slots=True)
class Encoded:
    """The same message in another encoding, for recipients elsewhere."""

    original: bytes | Path
    facts: ContentFacts
    body: str


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A message that is about to be stored, with everything that its copies share."""

    tenant_id: int  # the sender's
    account_id: int | None  # None: ourselves
    mail: Mail
    addressees: Sequence[Addressee]  # local
    remote: Sequence[Rcpt]
    origin: Origin
    trace_id: str  # 16 hexadecimal digits
    accepted_at: datetime  # aware
    expires_at: datetime  # when the queue gives up
    head: bytes  # trace fields
    original: bytes | Path
    facts: ContentFacts
    copies: Sequence[Placement] = ()  # in the sender's own mailboxes
    release_at: datetime | None = None
    deliver_by: datetime | None = None
    held_reason: str | None = None
    body: str = "7BIT"  # what the queue has to carry, whatever was announced
    is_smtputf8: bool = False
    encoded: Encoded | None = None  # what is queued for remote recipients; None: the message itself

    @property
    def waits(self) -> bool:
        """Whether nobody gets it now: local recipients wait in the queue, too."""
        return self.held_reason is not None or self.release_at is not None


async def compose(
    context: Context,
    tenant_id: int,
    reverse_path: AddrSpec | None,
    forward_paths: Sequence[AddrSpec],
    octets: bytes,
    *,
    trace_id: str,
    account_id: int | None = None,
    notify: tuple[str, ...] | None = None,
    accepted_at: datetime | None = None,
    passes_quota: bool = False,
) -> list[NewMessage]:
    """A message of our own making, as the group that Ingest.store takes, alone or with others; trace_id: 16 hexadecimal digits.

    octets is the whole message without Return-Path. Recipients that cannot have it are left out, with a line in the log: local
    addresses that do not exist, are disabled or have no room, and domains that no DNS could have. None is left: no message.
    passes_quota is for what is small and somebody has to hear of: a full mailbox gets that, too. A report on this is sent as any
    other, so for what must never cause one reverse_path is None. Raises UnavailableError.
    """
    addressees: list[Addressee] = []
    remote: list[Rcpt] = []
    for forward_path in dict.fromkeys(forward_paths):
        rcpt = Rcpt(forward_path, RcptParameters(notify))
        found = await context.directory.resolve(forward_path.local_part, forward_path.domain)
        if found is not None and not found.is_disabled and (passes_quota or not found.is_over_quota):
            addressees.append(Addressee(rcpt, found))
        elif found is None and await _is_remote(context.directory, forward_path):
            remote.append(rcpt)
        else:
            log.warning("recipient left out", id=trace_id, reason="cannot receive")
    if not addressees and not remote:
        return []
    now = accepted_at or datetime.now(UTC)
    paths = [addressee.rcpt.forward_path for addressee in addressees] + [rcpt.forward_path for rcpt in remote]
    paths += [reverse_path] if reverse_path is not None else []
    is_smtputf8 = not all(path.is_ascii for path in paths) or not header_is_ascii(octets)
    body = "7BIT" if octets.isascii() else "8BITMIME"
    return messages_of(
        Outgoing(
            tenant_id=tenant_id,
            account_id=account_id,
            mail=Mail(reverse_path, MailParameters(body=body, is_smtputf8=is_smtputf8)),
            addressees=addressees,
            remote=remote,
            origin=Origin(peer="", helo=context.settings.hostname, protocol="", tls=None),
            trace_id=trace_id,
            accepted_at=now,
            expires_at=now + timedelta(seconds=context.settings.relay.lifetime),
            head=render_return_path(reverse_path),
            original=octets,
            facts=await facts_of(octets),
            body=body,
            is_smtputf8=is_smtputf8,
        )
    )


def messages_of(
    outgoing: Outgoing, placed: Mapping[int, Sequence[Placement]] | None = None, effects: tuple[Effect, ...] = ()
) -> list[NewMessage]:
    """One NewMessage per tenant, the sender's first: it has the queue's rows and the journal entry with all recipients.

    placed: where it is stored, by tenant; None: in the inboxes of the addressees. effects: of the first message.
    """
    everyone = [addressee.rcpt for addressee in outgoing.addressees] + list(outgoing.remote)
    tenants: dict[int, list[Addressee]] = {outgoing.tenant_id: []}
    for addressee in outgoing.addressees:
        tenants.setdefault(addressee.recipient.tenant_id, []).append(addressee)
    if placed is None:
        placed = {tenant_id: _placements(outgoing, addressees) for tenant_id, addressees in tenants.items()}
    leaves = bool(outgoing.remote) or len(tenants) > 1
    queued = [] if outgoing.encoded is not None else list(outgoing.remote)
    if outgoing.waits:
        queued = [addressee.rcpt for addressee in outgoing.addressees] + queued
    own = NewMessage(
        tenant_id=outgoing.tenant_id,
        head=outgoing.head,
        original=outgoing.original,
        facts=outgoing.facts,
        placements=[*outgoing.copies, *(() if outgoing.waits else placed.get(outgoing.tenant_id, ()))],
        journal=entry_of(outgoing, everyone, "out" if leaves else "internal"),
        outbound=_outbound(outgoing, queued, outgoing.body) if queued else None,
        effects=effects,
    )
    others = []
    if outgoing.encoded is not None and outgoing.remote:
        encoded = outgoing.encoded
        outbound = _outbound(outgoing, outgoing.remote, encoded.body)
        others.append(
            NewMessage(outgoing.tenant_id, outgoing.head, encoded.original, encoded.facts, (), outbound=outbound)
        )
    if outgoing.waits or len(tenants) == 1:  # the other tenants have it when it is released, or never
        return [own, *others]
    foreign = foreign_of(outgoing)
    others += [
        replace(
            own,
            tenant_id=tenant_id,
            placements=placed.get(tenant_id, ()),
            journal=entry_of(foreign, [addressee.rcpt for addressee in addressees], "in"),
            outbound=None,
            effects=(),
        )
        for tenant_id, addressees in tenants.items()
        if tenant_id != outgoing.tenant_id
    ]
    return [own, *others]


def foreign_of(outgoing: Outgoing) -> Outgoing:
    """As other tenants see it: where a user sits, and with which login, is its own tenant's business."""
    return replace(outgoing, origin=replace(outgoing.origin, peer="", helo="", identity=None))


def entry_of(outgoing: Outgoing, rcpts: Sequence[Rcpt], direction: str) -> JournalEntry:
    """What a journal has of it."""
    envelope = journal_envelope(outgoing.mail, rcpts, outgoing.origin, outgoing.trace_id, outgoing.accepted_at)
    return JournalEntry(direction, envelope, outgoing.accepted_at)


def new_transaction_id() -> str:
    """An id for the log, the Received field, the journal, the trace and the reply: random, so it tells nothing."""
    return os.urandom(_ID_OCTETS).hex()


def is_routable(domain: str) -> bool:
    """Whether the DNS could know the domain, or it is an address literal."""
    return a_labels(domain).isascii()


def is_ascii(original: bytes | Path) -> bool:
    """Whether all octets are of 7 bits. Reads a file in pieces: blocking I/O. Raises OSError."""
    if isinstance(original, bytes):
        return original.isascii()
    with original.open("rb") as file:
        return all(piece.isascii() for piece in iter(lambda: file.read(_PIECE_OCTETS), b""))


def header_is_ascii(octets: bytes) -> bool:
    """Whether the header section can go without SMTPUTF8 (RFC 6532 §3); bodies of 8 bits need only 8BITMIME."""
    end = octets.find(b"\r\n\r\n")
    return octets.isascii() or octets[: end if end >= 0 else len(octets)].isascii()


async def _is_remote(directory: Directory, forward_path: AddrSpec) -> bool:
    domain = forward_path.domain
    return bool(domain) and is_routable(domain) and not await directory.domain_is_local(domain)


def _placements(outgoing: Outgoing, addressees: Sequence[Addressee]) -> list[Placement]:
    """One placement per mailbox, however often it is addressed."""
    inboxes = dict.fromkeys(addressee.recipient.inbox_id for addressee in addressees)
    return [Placement(inbox_id, internaldate=outgoing.accepted_at) for inbox_id in inboxes]


def _outbound(outgoing: Outgoing, rcpts: Sequence[Rcpt], body: str) -> Outbound:
    mail, parameters = outgoing.mail, outgoing.mail.parameters
    return Outbound(
        account_id=outgoing.account_id,
        reverse_path=str(mail.reverse_path) if mail.reverse_path is not None else "",
        trace_id=outgoing.trace_id,
        recipients=[
            OutboundRecipient(
                str(rcpt.forward_path),
                a_labels(rcpt.forward_path.domain),
                rcpt.parameters.notify,
                rcpt.parameters.orcpt,
            )
            for rcpt in rcpts
        ],
        expires_at=outgoing.expires_at,
        envid=parameters.envid,
        ret=parameters.ret,
        body=body,
        is_smtputf8=outgoing.is_smtputf8,
        is_requiretls=parameters.is_requiretls,
        priority=parameters.priority or 0,
        release_at=outgoing.release_at,
        deliver_by=outgoing.deliver_by,
        deliver_by_mode=parameters.deliver_by.told_mode if parameters.deliver_by is not None else None,
        held_reason=outgoing.held_reason,
    )
