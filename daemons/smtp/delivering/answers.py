"""Mail that delivery itself causes: answers of vacation, reports of a rejection, and word of a mistake to a script's owner.

Each is stored in the transaction of the message that causes it, with the memory of it: whatever is killed or tried again,
nobody is answered twice, and no answer is lost.
"""

from dataclasses import dataclass, field
from datetime import UTC, datetime

from config.units import DAY
from daemons.context import Context
from daemons.outgoing import compose, new_transaction_id
from daemons.scripting.owners import AccountOwner
from daemons.smtp.delivering.faults import fault_notice
from filters.sieve.actions import Vacation
from filters.sieve.message import View
from filters.sieve.outgoing import Declined, vacation_reply
from filters.sieve.ports import Surroundings
from protocol.address import AddressError, AddrSpec, parse_addr_spec
from protocol.sieve.errors import Fault
from storage.effects import Effect
from storage.memory import Remember, is_remembered
from storage.rows import NewMessage

_ERROR_SECONDS = int(365 * DAY)


@dataclass(frozen=True, slots=True)
class Answer:
    """What is to be stored, or why nothing is."""

    messages: list[NewMessage] = field(default_factory=list)
    effects: list[Effect] = field(default_factory=list)
    note: str = ""  # for the trace
    copy: bytes | None = None  # the mail, for fcc (RFC 8580)


class Answers:
    """One per process."""

    def __init__(self, context: Context, author: AddrSpec) -> None:
        self._context = context
        self._hostname = context.settings.hostname
        self._author = author

    async def vacation(
        self, owner: AccountOwner, action: Vacation, view: View, surroundings: Surroundings, *, now: datetime
    ) -> Answer:
        """The answer to the sender, once within its period. Raises StorageError."""
        trace_id = new_transaction_id()
        made = vacation_reply(action, view, surroundings, now=now, message_id=f"<{trace_id}.vacation@{self._hostname}>")
        if isinstance(made, Declined):
            return Answer(note=f"no answer: {made.reason}")
        key = f"{action.handle}\0{surroundings.envelope.reverse_path.lower()}"
        memory: list[Effect] = []
        if action.period_seconds:
            if await is_remembered(self._context.pool, owner.account_id, "vacation", key):
                return Answer(note="no answer: the sender was answered before")
            memory.append(Remember(owner.account_id, "vacation", key, action.period_seconds, is_exclusive=True))
        try:
            to = [parse_addr_spec(path) for path in made.forward_paths]
        except AddressError:
            return Answer(note="no answer: the sender has no usable address")
        messages = await compose(
            self._context, owner.tenant_id, None, to, made.octets, trace_id=trace_id, accepted_at=now
        )
        if not messages:
            return Answer(note="no answer: the sender cannot receive")
        return Answer(messages, memory, f"answered: {trace_id}", made.octets)

    async def fault(self, owner: AccountOwner, address: AddrSpec, script: str, fault: Fault, version: str) -> Answer:
        """Word to the owner of a script that makes a mistake, once for each version of the script. Raises StorageError."""
        if await is_remembered(self._context.pool, owner.account_id, "error", version):
            return Answer()
        trace_id, now = new_transaction_id(), datetime.now(UTC)
        language = await self._context.directory.language(owner.tenant_id)
        octets = fault_notice(
            script,
            fault,
            author=self._author,
            owner=address,
            language=language,
            message_id=f"<{trace_id}.sieve@{self._hostname}>",
            date=now,
        )
        messages = await compose(
            self._context,
            owner.tenant_id,
            None,
            [address],
            octets,
            trace_id=trace_id,
            accepted_at=now,
            passes_quota=True,
        )
        effects: list[Effect] = [Remember(owner.account_id, "error", version, _ERROR_SECONDS, is_exclusive=True)]
        return Answer(messages, effects, f"owner told of the mistake: {trace_id}")
