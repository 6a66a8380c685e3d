"""A message that is about to be delivered here: what all of its recipients share, and the forms in which they get it."""

import asyncio
import mmap
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Literal

from daemons.delivery import mapped
from daemons.smtp.transaction import Addressee, Origin
from daemons.smtp.treatment import Treated
from filters.pipeline import Decision
from protocol.smtp.command import Mail
from protocol.smtp.received import render_return_path
from protocol.smtp.reply import Reply
from storage.effects import Effect
from storage.rows import ContentFacts, NewMessage, Placement
from storage.spool import Spool, SpoolFile

_PIECE_OCTETS = 1 << 20


@dataclass(frozen=True, slots=True)
class Form:
    """The octets that some of the recipients get."""

    head: bytes  # trace fields
    original: bytes | Path
    facts: ContentFacts

    @property
    def key(self) -> tuple[bytes, object]:
        """Equal for those that are the same message."""
        return self.head, self.original if isinstance(self.original, Path) else id(self.original)


@dataclass(frozen=True, slots=True)
class Incoming:
    """One message on its way to accounts of this host."""

    mail: Mail
    origin: Origin
    trace_id: str  # 16 hexadecimal digits
    received_at: datetime
    received: bytes  # our Received field
    decision: Decision  # of the content filters, for all recipients
    original: bytes | Path  # as it came
    facts: ContentFacts
    treated: Mapping[int, Treated] = field(default_factory=dict)  # what tenants get in place of it
    earlier_login: str = ""  # who sent it after AUTH, when that is all that is known of him any more
    _whole: list[Form] = field(default_factory=list, init=False, repr=False, compare=False)  # one at most

    @property
    def login(self) -> str:
        """Who has sent it after AUTH, as scripts see it; "" is nobody."""
        identity = self.origin.identity
        return identity.login if identity is not None else self.earlier_login

    @property
    def whole(self) -> Form:
        """As it came, below the fields that are for everybody."""
        if not self._whole:
            self._whole.append(Form(self.head(self.decision), self.original, self.facts))
        return self._whole[0]

    def head(self, decision: Decision) -> bytes:
        """The trace fields, what filters add among them."""
        return render_return_path(self.mail.reverse_path) + decision.fields + self.received

    def form(self, tenant_id: int, own: Decision) -> Form:
        """What a recipient of the tenant gets, for whom the filters come to this decision."""
        treated = self.treated.get(tenant_id)
        if treated is None or treated.rest is None or treated.facts is None:
            return self.whole if own is self.decision else Form(self.head(own), self.original, self.facts)
        return Form(self.head(own), treated.rest, treated.facts)


@dataclass(frozen=True, slots=True)
class Filed:
    """One form of the message that is kept for an account: in a mailbox, or by an effect alone."""

    form: Form
    placement: Placement | None = None
    effects: tuple[Effect, ...] = ()


@dataclass(frozen=True, slots=True)
class Refusal:
    """An account does not take the message."""

    reply: Reply
    reason: str  # for log and trace


@dataclass(slots=True)
class Delivery:
    """What becomes of the message for one account."""

    addressee: Addressee
    filed: list[Filed] = field(default_factory=list)
    effects: list[Effect] = field(default_factory=list)  # that need the message, in whatever form
    messages: list[NewMessage] = field(default_factory=list)  # what is stored with it: sent on, answered, notified
    further: list["Delivery"] = field(default_factory=list)  # accounts of this host that it is sent on to
    refusal: Refusal | None = None  # then the rest is empty
    is_sent_on: bool = False  # to another host, or it was before
    passed_on: Literal["expanded", "relayed"] | None = (
        None  # so is success reported, unless by whoever it is sent on to
    )
    led_to: set[int] = field(default_factory=set)  # accounts of this host that it is sent on to, each by its own rules
    form: Form | None = None  # as the account gets it
    done: list[str] = field(default_factory=list)  # what was done, in words, for the trace
    fault: str = ""  # a mistake of a script

    @property
    def account_id(self) -> int:
        """Whose it is."""
        return self.addressee.recipient.account_id

    @property
    def tenant_id(self) -> int:
        """Of the account."""
        return self.addressee.recipient.tenant_id

    def forget(self) -> None:
        """As if nothing had been done yet."""
        self.filed, self.effects, self.messages, self.further = [], [], [], []
        self.passed_on = None
        self.is_sent_on, self.led_to, self.done, self.fault, self.refusal = False, set(), [], "", None

    @property
    def is_kept(self) -> bool:
        """Whether it lies in some mailbox afterwards."""
        return any(filed.placement is not None for filed in self.filed)

    @property
    def success(self) -> Literal["delivered", "expanded", "relayed"] | None:
        """What a sender hears who asked for reports of success; None: nothing, or from whoever it is sent on to."""
        return "delivered" if self.is_kept else self.passed_on

    @property
    def is_handled(self) -> bool:
        """Whether somebody is to have it afterwards."""
        return bool(self.filed or self.led_to) or self.is_sent_on

    @property
    def depends(self) -> bool:
        """Whether nobody has it afterwards but accounts that it is sent on to, if they do."""
        return bool(self.led_to) and not (self.filed or self.is_sent_on)

    @property
    def outcome(self) -> Literal["stored", "quarantined", "sent on", "dropped"]:
        """What became of it, in a word: whatever else was done, a copy that is kept counts."""
        if self.is_kept:
            return "stored"
        if self.filed:
            return "quarantined"
        return "sent on" if self.is_handled else "dropped"

    def keep(self, form: Form, received_at: datetime) -> None:
        """Into the inbox, whatever rules say."""
        self.filed.append(Filed(form, Placement(self.addressee.recipient.inbox_id, 0, (), received_at)))

    def everyone(self) -> "list[Delivery]":
        """This one and all that follow from it."""
        return [self, *self.others()] if self.further else [self]

    def others(self) -> "list[Delivery]":
        """All that follow from it."""
        return [each for further in self.further for each in further.everyone()]


class Readings:
    """Forms as scripts read them, head and all. Large ones are files, there until close()."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self._large: dict[tuple[bytes, object], bytes | mmap.mmap] = {}
        self._stack: ExitStack | None = None  # what ends with the files

    async def of(self, form: Form) -> bytes | mmap.mmap:
        """The octets. Raises OSError, UnavailableError."""
        if isinstance(form.original, bytes):
            return form.head + form.original
        found = self._large.get(form.key)
        if found is None:
            found = self._large[form.key] = await asyncio.to_thread(self._composed, form.head, form.original)
        return found

    def _composed(self, head: bytes, original: Path) -> bytes | mmap.mmap:
        stack = self._stack = self._stack or ExitStack()
        file: SpoolFile = self._spool.open()
        stack.callback(file.discard)
        file.write(head)
        with original.open("rb") as pieces:
            for piece in iter(lambda: pieces.read(_PIECE_OCTETS), b""):
                file.write(piece)
        return stack.enter_context(mapped(file.original))

    def close(self) -> None:
        """Nobody reads them any more."""
        self._large.clear()
        if self._stack is not None:
            self._stack.close()


def lost(deliveries: Sequence[Delivery]) -> list[Delivery]:
    """Those of accounts that send the message on to each other, or to who refuses it: nobody would have it."""
    if not any(delivery.led_to for delivery in deliveries):
        return []
    everyone = [each for delivery in deliveries for each in delivery.everyone()]
    refusing = {each.account_id for each in everyone if each.refusal is not None}
    depending = {each.account_id: each for each in everyone if each.depends}
    while depending:
        safe = [
            account_id for account_id, each in depending.items() if each.led_to - depending.keys() - refusing
        ]  # somebody whom it is sent on to has it
        if not safe:
            return list(depending.values())
        for account_id in safe:
            del depending[account_id]
    return []


def refused(deliveries: Sequence[Delivery]) -> Refusal | None:
    """Why nobody of these takes it, when that is so: one that says so for good goes before one that says so for now."""
    refusals = [delivery.refusal for delivery in deliveries if delivery.refusal is not None]
    if not refusals or len(refusals) < len(deliveries):
        return None
    return min(refusals, key=lambda refusal: refusal.reply.is_temporary)
