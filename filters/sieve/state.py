"""What a run knows and has decided so far. One object per script that runs: an included script has its own, with shared parts."""

from collections.abc import Awaitable, Callable, Hashable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import TypeVar, cast

from filters.sieve.actions import Action, Edit, Step, Tracked
from filters.sieve.limits import Limits
from filters.sieve.message import Message, Path
from filters.sieve.ports import Ports, Surroundings
from protocol.sieve.syntax import Place

_Answer = TypeVar("_Answer")

Fetch = Callable[[Ports], Awaitable[_Answer]]


class ScriptError(Exception):
    """The script made a mistake while it ran."""

    def __init__(self, text: str, place: Place | None = None) -> None:
        super().__init__(text)
        self.text = text
        self.place = place
        self.script: str | None = None


class UnansweredError(Exception):
    """A question to the outside has no answer yet; interpreter.run fetches it."""

    def __init__(self, question: Hashable, fetch: "Fetch[object]", work: int) -> None:
        super().__init__("unanswered")
        self.question = question
        self.fetch = fetch
        self.work = work  # done up to here, and to be done again


class Signal(Enum):
    """Why a block ended before its end."""

    STOP = "stop"
    RETURN = "return"
    BREAK = "break"


@dataclass(frozen=True, slots=True)
class Settled:
    """What the scripts before the running one came to: it holds whatever mistake this one makes."""

    actions: tuple[Action, ...] = ()
    edits: tuple[Edit, ...] = ()
    tracked: tuple[Tracked, ...] = ()
    flags: tuple[str, ...] = ()
    message: bytes | None = None


@dataclass(slots=True)
class Shared:
    """What all scripts of a run have in common."""

    message: Message
    surroundings: Surroundings
    now: datetime
    limits: Limits
    answers: dict[Hashable, object] = field(default_factory=dict)
    actions: list[Action] = field(default_factory=list)
    edits: list[Edit] = field(default_factory=list)
    tracked: list[Tracked] = field(default_factory=list)
    steps: list[Step] | None = None
    globals: dict[str, str] = field(default_factory=dict)
    flags: list[str] = field(default_factory=list)  # the internal variable, RFC 5232 §2
    parts: list[Path] = field(default_factory=list)  # of foreverypart, the innermost last
    included: set[tuple[str, str]] = field(default_factory=set)
    include_count: int = 0
    work: int = 0
    may_ask: bool = True
    versions: list[bytes] = field(default_factory=list)  # of the message, as actions have it
    keeps: bool = True  # the implicit keep, RFC 5228 §2.10.2
    settled: Settled = Settled()
    is_stopped: bool = False

    def ask(self, question: Hashable, fetch: "Fetch[_Answer]") -> _Answer:
        """The answer to a question. Raises UnansweredError when it must be fetched first, ScriptError when there were enough."""
        if question not in self.answers:
            if not self.may_ask:
                raise ScriptError("script asks more than its limit allows")
            raise UnansweredError(question, cast("Fetch[object]", fetch), self.work)
        return cast(_Answer, self.answers[question])

    def store_global(self, name: str, value: str) -> None:
        """Set a global variable. Raises ScriptError when there are too many."""
        if name not in self.globals and len(self.globals) >= self.limits.variables:
            raise ScriptError(f"there are more than {self.limits.variables} global variables")
        self.globals[name] = value


class Run:
    """One script in one run."""

    __slots__ = ("breaking", "chain", "global_names", "match", "name", "shared", "variables")

    def __init__(self, shared: Shared, name: str, chain: Sequence[tuple[str, str]] = ()) -> None:
        self.shared = shared
        self.name = name
        self.variables: dict[str, str] = {}
        self.global_names: set[str] = set()
        self.match: list[str] = []  # ${0}, ${1}, …
        self.breaking = ""  # the loop that `break` leaves; "" is the innermost
        self.chain = tuple(chain)  # of the scripts that include each other

    def spend(self, work: int) -> None:
        """Count work. Raises ScriptError when there was too much."""
        shared = self.shared
        shared.work += work + (shared.message.take_copied() >> 10)
        if shared.work > shared.limits.work:
            raise ScriptError("script did more work than its limit allows")

    def edited(self) -> bytes | None:
        """The message for an action; None: as it came. Raises ScriptError when such messages take too much room together."""
        shared = self.shared
        octets = shared.message.edited
        self.spend(0)  # the copy
        if octets is not None and all(octets is not version for version in shared.versions):
            room = sum(map(len, shared.versions))
            if room and room + len(octets) > shared.limits.message_octets:
                raise ScriptError("edited messages take more room than their limit")
            shared.versions.append(octets)
        return octets

    def act(self, action: Action) -> None:
        """Add an action. Raises ScriptError when there are too many."""
        if len(self.shared.actions) >= self.shared.limits.actions:
            raise ScriptError("total number of actions exceeds policy limit")
        self.shared.actions.append(action)

    def note(self, place: Place, text: str) -> None:
        """Note a step, when somebody wants to see them."""
        if self.shared.steps is not None:
            self.shared.steps.append(Step(self.name, place.line, text))

    def value(self, name: str) -> str:
        """A variable's value; that of one never set is empty, RFC 5229 §3."""
        if name in self.global_names:
            return self.shared.globals.get(name, "")
        return self.variables.get(name, "")

    def store(self, name: str, value: str) -> None:
        """Set a variable; a value that is too long loses its end, RFC 5229 §6."""
        value = cut(value, self.shared.limits.variable_octets)
        if name in self.global_names:
            self.shared.store_global(name, value)
        else:
            self.variables[name] = value


def cut(value: str, limit: int) -> str:
    """As much of the value as the limit, in octets, allows, no character cut."""
    if len(value) <= limit // 4 or len(octets := value.encode("utf-8", "surrogateescape")) <= limit:
        return value
    while limit and octets[limit] & 0xC0 == 0x80:
        limit -= 1
    return octets[:limit].decode("utf-8", "surrogateescape")


Op = Callable[[Run], Signal | None]
Check = Callable[[Run], bool]
Text = Callable[[Run], str]
Texts = Callable[[Run], Sequence[str]]
