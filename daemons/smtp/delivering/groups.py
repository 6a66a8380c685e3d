"""Deliveries as the messages that Ingest.store takes: one NewMessage per tenant and form, the journal's entry on one of them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from daemons.smtp.delivering.incoming import Delivery, Form, Incoming
from daemons.smtp.journal import journal_envelope
from protocol.smtp.command import Rcpt
from storage.effects import Effect
from storage.rows import JournalEntry, NewMessage, Placement


@dataclass(slots=True)
class _Kept:
    form: Form
    placements: dict[int, Placement] = field(default_factory=dict)
    effects: list[Effect] = field(default_factory=list)


@dataclass(slots=True)
class Share:
    """What the accounts of one tenant get of the message itself."""

    tenant_id: int
    whole: Form  # as it came
    _kept: dict[tuple[bytes, object], _Kept] = field(default_factory=dict)
    _effects: list[Effect] = field(default_factory=list)

    def add(self, delivery: Delivery) -> None:
        """One more account's."""
        for filed in delivery.filed:
            key = filed.form.key
            kept = self._kept.get(key)
            if kept is None:
                kept = self._kept[key] = _Kept(filed.form)
            kept.effects += filed.effects
            if filed.placement is not None:
                kept.placements.setdefault(filed.placement.mailbox_id, filed.placement)
        self._effects += delivery.effects

    def taken(self, form: Form) -> tuple[list[Placement], list[Effect]]:
        """What is done with one form, and with the message in whatever form; it is not among the messages any more."""
        kept = self._kept.pop(form.key, None) or _Kept(form)
        effects, self._effects = kept.effects + self._effects, []
        return list(kept.placements.values()), effects

    def messages(self, journal: JournalEntry | None = None) -> list[NewMessage]:
        """What is left of it. The journal has the octets that came, below whatever trace fields."""
        made: list[NewMessage] = []
        if journal is not None:
            original, forms = self.whole.original, (kept.form for kept in self._kept.values())
            bearer = next((form for form in forms if form.original is original), self.whole)
            placements, effects = self.taken(bearer)
            made.append(_message(self.tenant_id, bearer, placements, effects, journal))
        elif self._effects:
            form = next((kept.form for kept in self._kept.values()), self.whole)
            placements, effects = self.taken(form)
            made.append(_message(self.tenant_id, form, placements, effects, None))
        made.extend(
            _message(self.tenant_id, kept.form, list(kept.placements.values()), kept.effects, None)
            for kept in self._kept.values()
        )
        return made


def shares(whole: Form, deliveries: Iterable[Delivery], tenant_ids: Iterable[int] = ()) -> dict[int, Share]:
    """By tenant: those of the deliveries, everybody to whom it is sent on here among them, and those named besides."""
    found = {tenant_id: Share(tenant_id, whole) for tenant_id in tenant_ids}
    for delivery in deliveries:
        for each in delivery.everyone():
            tenant_id = each.tenant_id
            if tenant_id not in found:
                found[tenant_id] = Share(tenant_id, whole)
            found[tenant_id].add(each)
    return found


def caused(deliveries: Iterable[Delivery]) -> list[NewMessage]:
    """What is stored besides: sent on, answered, notified."""
    return [message for delivery in deliveries for each in delivery.everyone() for message in each.messages]


def of_known(incoming: Incoming, deliveries: Sequence[Delivery], tenant_id: int) -> list[NewMessage]:
    """All that is stored of a message that the tenant's journal has had since it was accepted; other tenants' get an entry."""
    rcpts: dict[int, list[Rcpt]] = {}
    for each in [each for delivery in deliveries for each in delivery.everyone()]:
        rcpts.setdefault(each.tenant_id, []).append(each.addressee.rcpt)
    origin = replace(incoming.origin, identity=None)
    made: list[NewMessage] = []
    for other_id, share in shares(incoming.whole, deliveries).items():
        entry = None
        if other_id != tenant_id:
            now = incoming.received_at
            envelope = journal_envelope(incoming.mail, rcpts[other_id], origin, incoming.trace_id, now)
            entry = JournalEntry("in", envelope, now)
        made += share.messages(entry)
    return made + caused(deliveries)


def _message(
    tenant_id: int, form: Form, placements: Sequence[Placement], effects: Sequence[Effect], journal: JournalEntry | None
) -> NewMessage:
    return NewMessage(
        tenant_id, form.head, form.original, form.facts, placements, journal=journal, effects=tuple(effects)
    )
