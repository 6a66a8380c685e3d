"""The envelope filter `rates`: how much one network, and one sender in it, may bring within an hour."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from filters.networks import network_of
from filters.ports import Allowances, OnFailure
from filters.sender_lists import spelled
from filters.subject import Envelope
from filters.verdict import Refuse, Verdict
from protocol.smtp.reply import Reply, reply

Counted: TypeAlias = Literal["connections", "messages", "recipients", "unknown"]

TOO_MANY_CONNECTIONS = reply(421, "4.7.0", "too many connections from your network, come back later")
TOO_MUCH_OF_NETWORK = reply(450, "4.7.1", "too much mail from your network, try again later")
TOO_MUCH_OF_SENDER = reply(450, "4.7.1", "too much mail from this sender, try again later")
TOO_MANY_UNKNOWN = reply(421, "4.7.0", "too many unknown recipients from your network, come back later")


@dataclass(frozen=True, slots=True)
class Rate:
    """One limit: so many of what for each of whom, within an hour."""

    counted: Counted
    whose: Literal["network", "sender"]
    limit: int
    amount: int = 1  # that one check uses up; 0: it only looks whether something is left

    @property
    def name(self) -> str:
        """What its counts are kept under."""
        return f"{self.whose} {self.counted}"


class Rates:
    """The filter, for one moment of the session: each counts what belongs there."""

    name = "rates"
    on_failure: OnFailure = "pass"
    limit_seconds = 10.0

    def __init__(self, rates: Sequence[Rate], allowances: Allowances) -> None:
        self._rates = rates
        self._allowances = allowances

    async def check(self, subject: Envelope) -> Sequence[Verdict]:
        """Count this one, and refuse it for now when it is one too many."""
        for rate in self._rates:
            whose = _whose(rate, subject)
            if whose and not await self._allowances.take(rate.name, whose, rate.amount, rate.limit):
                return [Refuse(_answer(rate), f"more than {rate.limit} {rate.counted} of a {rate.whose} in an hour")]
        return ()


def _whose(rate: Rate, subject: Envelope) -> str:
    network = network_of(subject.peer)
    if rate.whose == "network":
        return network
    # Anybody may write any name there: what a stranger sends in a sender's name must not use up what that one has.
    return f"{network} {spelled(subject.reverse_path)}" if subject.reverse_path is not None else ""


def _answer(rate: Rate) -> Reply:
    if rate.counted == "connections":
        return TOO_MANY_CONNECTIONS
    if rate.counted == "unknown":
        return TOO_MANY_UNKNOWN
    return TOO_MUCH_OF_NETWORK if rate.whose == "network" else TOO_MUCH_OF_SENDER
