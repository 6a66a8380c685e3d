"""Notifications that rules ask for (RFC 5435): mail at once, web servers (https:) and SMS gateways (sms:) by a queue of their own.

A notification never hinders the delivery that it tells of: what cannot or must not be sent is noted, and that is all. Only
limits are looked at here; the count is kept in the transaction that stores the message, so that a crash neither loses nor
doubles anything.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from urllib.parse import urlsplit

from config.notifier import Gateway, Notifier
from daemons.context import Context
from daemons.outgoing import compose, new_transaction_id
from daemons.scripting.owners import AccountOwner
from filters.sieve.actions import Notify
from filters.sieve.addresses import mailbox_of
from filters.sieve.message import View
from filters.sieve.outgoing import Declined, notification_mail
from filters.sieve.ports import Surroundings
from protocol.address import AddressError, AddrSpec, parse_addr_spec
from protocol.sms import SmsError, fitted, parse_sms, parts_of
from storage.effects import Effect
from storage.notifying import Counted, Kind, Queued, room
from storage.rows import NewMessage

_URL_LIMIT = 2000  # characters


@dataclass(frozen=True, slots=True)
class Planned:
    """What a notification comes to. Effects stand on any NewMessage of the group that the messages are stored with."""

    messages: Sequence[NewMessage] = ()
    effects: Sequence[Effect] = ()
    note: str = ""  # for the trace: what is done, or why nothing is
    copy: bytes | None = None  # the mail, for fcc (RFC 8580)


@dataclass(frozen=True, slots=True)
class _Occasion:
    """One notification of one message."""

    owner: AccountOwner
    action: Notify
    view: View
    surroundings: Surroundings
    now: datetime
    trace_id: str
    told: set[str] = field(default_factory=set)

    @property
    def main_address(self) -> str:
        addresses = self.surroundings.owner.addresses
        return addresses[0] if addresses else self.surroundings.envelope.forward_path

    def text(self, name: str) -> str:
        """The first field of that name, on one line."""
        return " ".join(_clean((self.view.texts(name) or [""])[0]).split())

    @property
    def message(self) -> str:
        """What the rule says, "" for nothing."""
        return _clean(self.action.message or "")


class Notifications:
    """One per process."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._settings = context.settings.notifier

    async def plan(
        self,
        owner: AccountOwner,
        action: Notify,
        view: View,
        surroundings: Surroundings,
        *,
        now: datetime,
        trace_id: str,
        told: set[str],
    ) -> Planned:
        """What is to be stored for a notification of the message in `view`. Raises UnavailableError.

        `told` collects whom the message's notifications went to already: nobody is told twice of one message.
        """
        occasion = _Occasion(owner, action, view, surroundings, now, trace_id, told)
        match _scheme(action.method):
            case "mailto":
                return await self._mail(occasion)
            case "https":
                return await self._web(occasion)
            case "sms":
                return await self._sms(occasion)
        return _nothing("no such method")

    async def _mail(self, occasion: _Occasion) -> Planned:
        limit = self._settings.mail_limit
        if not await self._has_room(occasion, "mail", limit):
            return _nothing("the day's limit of mails is reached")
        own = {address.lower() for address in occasion.surroundings.owner.addresses}
        action = occasion.action
        if (mailbox_of(action.from_address or "") or "").lower() not in own:
            action = replace(action, from_address=None)  # RFC 5435 §3.3: only addresses of the owner's
        mail = notification_mail(
            action,
            occasion.view,
            occasion.surroundings,
            now=occasion.now,
            message_id=f"<{new_transaction_id()}.notification@{self._context.settings.hostname}>",
            told=occasion.told,
        )
        if isinstance(mail, Declined):
            return _nothing(mail.reason)
        forward_paths = _addresses(mail.forward_paths)
        messages = await compose(
            self._context,
            occasion.owner.tenant_id,
            next(iter(_addresses([mail.reverse_path])), None),
            forward_paths,
            mail.octets,
            trace_id=occasion.trace_id,
            account_id=occasion.owner.account_id,
            accepted_at=occasion.now,
        )
        if not messages:
            return _nothing("nobody can be told")
        note = f"notified by mail: {', '.join(map(str, forward_paths))}"
        return Planned(messages, [Counted(occasion.owner.account_id, limit)], note, mail.octets)

    async def _web(self, occasion: _Occasion) -> Planned:
        url, most = occasion.action.method, self._settings.text_limit
        if not can_notify(self._settings, url):
            return _nothing("not an address of a web server")
        if url in occasion.told:
            return _nothing("the web server was told already")
        if not await self._has_room(occasion, "web", self._settings.web_limit):
            return _nothing("the day's limit of webhooks is reached")
        occasion.told.add(url)
        facts = {
            "id": new_transaction_id(),
            "account": occasion.main_address,
            "from": occasion.text("from")[:most],
            "to": occasion.surroundings.envelope.forward_path,
            "subject": occasion.text("subject")[:most],
            "message": occasion.message[:most],
            "importance": occasion.action.importance,
            "received_at": occasion.now.isoformat(timespec="seconds"),
        }
        effect = self._queued(occasion, "web", self._settings.web_limit, url, facts)
        return Planned(effects=[effect], note=f"notified by webhook: {urlsplit(url).hostname}")

    async def _sms(self, occasion: _Occasion) -> Planned:
        limit = self._settings.sms_limit
        try:
            uri = parse_sms(occasion.action.method)
        except SmsError as error:
            return _nothing(str(error))
        left = await room(self._context.pool, occasion.owner.account_id, "sms", limit)
        text = occasion.message or _clean(uri.body or "") or f"{occasion.text('from')}: {occasion.text('subject')}"
        effects: list[Effect] = []
        told: list[str] = []
        for number in uri.numbers:
            gateway = gateway_for(self._settings, number)
            if gateway is None:
                return _nothing(f"no gateway for {number}")
            if number in occasion.told or len(effects) >= left:
                continue
            occasion.told.add(number)
            cut = fitted(text, gateway.parts)
            facts = {"id": new_transaction_id(), "text": cut}
            effects.append(self._queued(occasion, "sms", limit, number, facts, parts_of(cut)))
            told.append(number)
        if not effects:
            return _nothing("the day's limit of SMS is reached" if left <= 0 else "all were told already")
        return Planned(effects=effects, note=f"notified by SMS: {', '.join(told)}")

    async def _has_room(self, occasion: _Occasion, kind: Kind, limit: int) -> bool:
        return await room(self._context.pool, occasion.owner.account_id, kind, limit) > 0

    def _queued(
        self, occasion: _Occasion, kind: Kind, limit: int, target: str, facts: Mapping[str, object], parts: int = 1
    ) -> Queued:
        return Queued(
            account_id=occasion.owner.account_id,
            kind=kind,
            limit=limit,
            target=target,
            facts=json.dumps(facts, ensure_ascii=False),
            trace_id=occasion.trace_id,
            expires_at=occasion.now + timedelta(seconds=self._settings.lifetime),
            parts=parts,
        )


def can_notify(settings: Notifier, uri: str) -> bool:
    """Whether notifications to this URI are possible, RFC 5435 §5. Whether somebody is there is another matter."""
    match _scheme(uri):
        case "mailto":
            return settings.mail_limit > 0
        case "https":
            return settings.web_limit > 0 and _names_a_host(uri)
        case "sms":
            try:
                return all(gateway_for(settings, number) is not None for number in parse_sms(uri).numbers)
            except SmsError:
                return False
    return False


def methods_of(settings: Notifier) -> tuple[str, ...]:
    """The schemes that notifications go by here, as ManageSieve tells them (RFC 5804 §1.7)."""
    return ("mailto", "https", "sms") if settings.gateways else ("mailto", "https")


def gateway_for(settings: Notifier, number: str) -> Gateway | None:
    """The gateway for a telephone number."""
    return next((each for each in settings.gateways if number.startswith(tuple(each.prefixes) or "+")), None)


def _scheme(uri: str) -> str:
    return uri.partition(":")[0].lower()


def _names_a_host(url: str) -> bool:
    """Whether the URL names a host, and no user: a password does not belong into a script."""
    if not url.isascii() or len(url) > _URL_LIMIT:
        return False
    try:
        found = urlsplit(url)
        return bool(found.hostname) and found.username is None and found.port != 0
    except ValueError:
        return False


def _addresses(texts: Sequence[str]) -> list[AddrSpec]:
    """Those that are addresses."""
    found: list[AddrSpec] = []
    for text in texts:
        try:
            found.append(parse_addr_spec(text))
        except AddressError:
            continue
    return found


def _clean(text: str) -> str:
    """The text as it can be stored and sent: strangers wrote some of it."""
    return text.encode("utf-8", "replace").decode().replace("\0", "")


def _nothing(reason: str) -> Planned:
    return Planned(note=f"not notified: {reason}")
