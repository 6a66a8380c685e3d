"""Caps of submission, bursts, suspended accounts: may this account send this now, and does it go out or is it held?

Use: check() at MAIL and RCPT, which asks nobody; admit() when the message is complete, before it is stored; withdraw() when it
could not be stored after all. The database counts; a process reserves room for several messages of an account at once and uses
it up from memory, so that a message of a busy account costs no statement. What is reserved counts as sent until it is given
back, half a minute later at most: all processes together never admit more than the cap.
"""

import asyncio
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Protocol
from weakref import WeakValueDictionary

from prometheus_client import Counter

from config.sending import Sending as Settings
from daemons.logs import logger
from protocol.address import AddrSpec
from protocol.smtp.reply import Reply, reply
from storage import sending
from storage.accounts import domain_name
from storage.errors import UnavailableError
from storage.notifications import ChangeHub
from storage.pool import Pool
from storage.sending import HELD_FOR_SUSPENSION, SENDING, Reserved

_log = logger("sending")
_DENIED_SECONDS = 2.0  # a refusal is remembered for so long: room that others reserved may be given back
_MOST_MESSAGES, _MOST_RECIPIENTS = 32, 256  # reserved at once
_REMEMBERED_ACCOUNTS = 10_000
_REFUSED = Counter("postwerk_sending_refused", "Messages refused by caps or suspensions of sending.", ["verdict"])
_HELD = Counter("postwerk_sending_held", "Messages accepted and held, of accounts whose sending is suspended.")
_BURSTS = Counter("postwerk_sending_bursts", "Bursts that suspended an account's sending.")

SUSPENDED = reply(550, "5.7.1", "sending is suspended for this account: ask your administrator")
SUSPENDED_AND_FULL = reply(450, "4.7.1", "sending is suspended for this account: ask your administrator")
_WHOSE = {"account": "this account", "domain": "this domain", "tenant": "your organisation"}


class Sender(Protocol):
    """Whose message it is: daemons.authentication.Identity."""

    @property
    def account_id(self) -> int: ...

    @property
    def tenant_id(self) -> int: ...

    @property
    def login(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Held:
    """The message is accepted and stored, but all its recipients wait in the queue until somebody releases them."""

    reason: str  # what Outbound.held_reason takes


@dataclass(slots=True)
class _Block:
    """Room that is reserved and counted already."""

    reserved: Reserved
    messages: int
    recipients: int
    ends_at: float

    def has_room(self, recipients: int, now: float) -> bool:
        return self.messages > 0 and self.recipients >= recipients and now < self.ends_at


class Sending:
    """One per process."""

    def __init__(
        self, settings: Settings, pool: Pool, hub: ChangeHub, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._settings = settings
        self._caps = _caps_of(settings)
        self._pool = pool
        self._clock = clock
        self._blocks: dict[tuple[int, str], _Block] = {}
        self._denied: dict[int, tuple[float, Reply]] = {}
        self._refused: frozenset[int] = frozenset()
        self._asking: WeakValueDictionary[tuple[int, str], asyncio.Lock] = WeakValueDictionary()
        self._returning: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._end: Callable[[], None] = hub.on(SENDING, self._on_change)

    def __repr__(self) -> str:
        return f"<Sending: room reserved for {len(self._blocks)} accounts>"

    def refuse(self, accounts: Collection[int]) -> None:
        """These, and no others, are suspended without their mail being held: check() refuses them."""
        self._refused = frozenset(accounts)

    def check(self, account: Sender) -> Reply | None:
        """At MAIL and RCPT: a refusal that is known without asking, or None."""
        if account.account_id in self._refused:
            return SUSPENDED
        denied = self._denied.get(account.account_id)
        if denied is not None and self._clock() < denied[0]:
            return denied[1]
        return None

    async def admit(self, account: Sender, reverse_path: AddrSpec | None, recipients: int) -> Reply | Held | None:
        """Count the message and its recipients, one at least. None: it may go out. Raises UnavailableError."""
        key = _key(account, reverse_path)
        if self._take(key, recipients):
            return None
        async with self._asking.setdefault(
            key, asyncio.Lock()
        ):  # sessions of one account wait for one answer and share it
            if self._take(key, recipients):
                return None
            return self._judge(key, account, recipients, await self._reserve(key, account, recipients))

    def withdraw(self, account: Sender, reverse_path: AddrSpec | None, recipients: int) -> None:
        """What was admitted was not stored: do not count it."""
        block = self._blocks.get(_key(account, reverse_path))
        if block is not None:  # otherwise so much time has passed that it stays counted: that is on the safe side
            block.messages += 1
            block.recipients += recipients

    async def close(self) -> None:
        """Give back what was reserved and not used."""
        self._end()
        self._give_back_all()
        if self._timer is not None:
            self._timer.cancel()
        while self._returning:
            await asyncio.wait(self._returning)

    def _take(self, key: tuple[int, str], recipients: int) -> bool:
        block = self._blocks.get(key)
        if block is None or not block.has_room(recipients, self._clock()):
            return False
        block.messages -= 1
        block.recipients -= recipients
        return True

    async def _reserve(self, key: tuple[int, str], account: Sender, recipients: int) -> Reserved:
        settings = self._settings
        rest = self._blocks.pop(key, None)
        # Who sends one message an hour reserves one and has nothing to give back; who goes on soon gets twice as much each time.
        times = 1 if rest is None else min(2 * rest.reserved.messages, _MOST_MESSAGES, _MOST_RECIPIENTS // recipients)
        if rest is not None and (rest.messages or rest.recipients):  # what is left does not count against this message
            await sending.give_back(self._pool, rest.reserved, messages=rest.messages, recipients=rest.recipients)
        return await sending.reserve(
            self._pool,
            account.account_id,
            account.tenant_id,
            key[1],
            recipients,
            times=times,
            caps=self._caps,
            burst_recipients=settings.burst_recipients,
            burst_factor=settings.burst_factor,
            held_messages=settings.held_messages,
        )

    def _judge(self, key: tuple[int, str], account: Sender, recipients: int, reserved: Reserved) -> Reply | Held | None:
        match reserved.verdict:
            case "go":
                self._denied.pop(account.account_id, None)  # the notification may be on its way still
                self._keep(key, recipients, reserved)
                return None
            case "burst" | "held":
                if reserved.verdict == "burst":
                    _BURSTS.inc()
                    _log.warning("sending suspended", account_id=account.account_id, reason=reserved.reason)
                _HELD.inc()
                return Held(held_reason(reserved.reason or ""))
        _REFUSED.labels(reserved.verdict).inc()
        answer = _refusal(reserved, recipients)
        if answer.is_temporary and (recipients == 1 or "messages" in (reserved.unit or "messages")):
            self._deny(account.account_id, answer)  # the next message would not fare better
        elif reserved.verdict == "refused":
            self._deny(account.account_id, answer)
        return answer

    def _keep(self, key: tuple[int, str], recipients: int, reserved: Reserved) -> None:
        """Remember what is left after this message."""
        ends_at = self._clock() + reserved.seconds
        left = reserved.messages - 1, reserved.recipients - recipients
        self._blocks[key] = _Block(reserved, *left, ends_at)
        self._wake_at_end()

    def _deny(self, account_id: int, answer: Reply) -> None:
        if len(self._denied) >= _REMEMBERED_ACCOUNTS:
            self._denied.clear()
        self._denied[account_id] = (self._clock() + _DENIED_SECONDS, answer)

    # -- giving back ------------------------------------------------------------------------------------------------

    def _on_change(self) -> None:
        """Somebody was suspended or released, or caps were changed: ask anew."""
        self._denied.clear()
        self._give_back_all()

    def _give_back_all(self) -> None:
        for key in list(self._blocks):
            self._give_back(self._blocks.pop(key))

    def _give_back_ended(self) -> None:
        self._timer = None
        now = self._clock()
        for key, block in list(self._blocks.items()):
            if block.ends_at <= now:
                self._give_back(self._blocks.pop(key))
        self._wake_at_end()

    def _wake_at_end(self) -> None:
        if self._timer is None and self._blocks:
            earliest = min(block.ends_at for block in self._blocks.values())
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(max(1.0, earliest - self._clock()), self._give_back_ended)

    def _give_back(self, block: _Block) -> None:
        if block.messages or block.recipients:
            task = asyncio.create_task(self._return(block))
            self._returning.add(task)
            task.add_done_callback(self._returning.discard)

    async def _return(self, block: _Block) -> None:
        try:
            await sending.give_back(self._pool, block.reserved, messages=block.messages, recipients=block.recipients)
        except UnavailableError as error:  # it stays counted until its hour is over
            _log.warning("reserved room not given back", reason=str(error))


def held_reason(reason: str) -> str:
    """What the queue keeps of mail that is held for a suspension."""
    return f"{HELD_FOR_SUSPENSION}{reason}"


def _key(account: Sender, reverse_path: AddrSpec | None) -> tuple[int, str]:
    domain = reverse_path.domain if reverse_path is not None else account.login.rpartition("@")[2]
    return account.account_id, domain_name(domain)


def _refusal(reserved: Reserved, recipients: int) -> Reply:
    if reserved.verdict == "refused":
        return SUSPENDED
    if reserved.verdict == "full":
        return SUSPENDED_AND_FULL
    whose, unit, cap = _WHOSE[reserved.scope or "account"], reserved.unit or "", reserved.cap or 0
    if unit.startswith("messages"):
        return reply(450, "4.7.1", f"{whose} has sent {cap} {unit}, which is the limit: try again later")
    if recipients > cap:
        return reply(550, "5.7.1", f"more recipients than {whose} may ever have at once: the limit is {cap} {unit}")
    return reply(452, "4.7.1", f"{whose} has reached {cap} {unit}, which is the limit: try again later")


def _caps_of(settings: Settings) -> list[int]:
    return [
        getattr(settings, f"{scope}_{unit}_{span}")
        for scope in ("account", "domain", "tenant")
        for span in ("hour", "day")
        for unit in ("messages", "recipients")
    ]
