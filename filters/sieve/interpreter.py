"""Runs a compiled script over one message, for one recipient."""

import mmap
from collections.abc import Hashable, Sequence
from datetime import datetime

from filters.sieve.actions import Discard, Keep, Result
from filters.sieve.limits import DEFAULT_LIMITS, Limits
from filters.sieve.message import Message
from filters.sieve.ports import Ports, Surroundings
from filters.sieve.script import Script
from filters.sieve.state import Run, ScriptError, Settled, Shared, UnansweredError
from protocol.sieve.errors import Fault

QUESTIONS_LIMIT = (
    100  # of one run; each one costs a run from the start, and all of these together cost Limits.work at most
)


async def run(
    scripts: Script | Sequence[Script],
    octets: bytes | mmap.mmap,
    surroundings: Surroundings,
    ports: Ports,
    *,
    now: datetime,
    limits: Limits = DEFAULT_LIMITS,
    is_traced: bool = False,
) -> Result:
    """Run. A mistake of the script is in Result.error; only what the ports raise is raised.

    Of several scripts (the host's, the user's, the host's again) the next one runs when the one before it keeps the
    message, expressly or not, and takes over what that one decided, edited and flagged. Its mistakes undo nothing of that.
    """
    sequence = (scripts,) if isinstance(scripts, Script) else tuple(scripts)
    answers: dict[Hashable, object] = {}
    wasted = 0  # work of attempts that ended with a question
    while True:
        shared = Shared(Message(octets), surroundings, now, limits, dict(answers), steps=[] if is_traced else None)
        shared.may_ask = len(answers) < QUESTIONS_LIMIT and wasted <= limits.work
        try:
            return attempt(sequence, shared)
        except UnansweredError as question:
            wasted += question.work
            answers[question.question] = await question.fetch(ports)


def attempt(scripts: Sequence[Script], shared: Shared) -> Result:
    """Run with the answers that are there. Raises UnansweredError when one is missing."""
    shared.flags = list(shared.surroundings.flags)
    try:
        run_all(shared, scripts)
    except ScriptError as error:
        return failed(shared, error)
    except RecursionError:  # blocks, tests and included scripts within each other, all at their limits
        return failed(shared, ScriptError("script is nested too deeply"))
    return result_of(shared)


def run_all(shared: Shared, scripts: Sequence[Script]) -> None:
    """Run one script after the other. Raises ScriptError."""
    for at, script in enumerate(scripts):
        if at:
            if not shared.keeps and not any(isinstance(action, Keep) for action in shared.actions):
                return
            shared.actions = [action for action in shared.actions if not isinstance(action, Keep)]
            shared.keeps = True
            settle(shared)
        try:
            script.main(Run(shared, script.name, (("personal", script.name),)))
        except ScriptError as error:
            error.script = script.name if error.script is None else error.script
            raise


def settle(shared: Shared) -> None:
    """What was decided so far holds, whatever comes."""
    actions = tuple(action for action in shared.actions if not isinstance(action, Discard))
    shared.settled = Settled(
        actions, tuple(shared.edits), tuple(shared.tracked), tuple(shared.flags), shared.message.edited
    )


def result_of(shared: Shared) -> Result:
    """What the run came to, the implicit keep included, RFC 5228 §2.10.2."""
    actions = [action for action in shared.actions if not isinstance(action, Discard)] or shared.actions
    if shared.keeps:
        actions = [*actions, Keep(tuple(shared.flags), shared.message.edited, is_implicit=True)]
    return Result(
        tuple(actions),
        tuple(shared.edits),
        tuple(shared.tracked),
        tuple(shared.steps or ()),
        shared.work,
        message=shared.message.edited,
        flags=tuple(shared.flags),
    )


def failed(shared: Shared, error: ScriptError) -> Result:
    """A mistake: the message stays in the inbox, RFC 5228 §2.10.6, as the scripts before left it."""
    place, settled = error.place, shared.settled
    fault = Fault(place.line if place else 1, place.column if place else 1, error.text)
    return Result(
        (*settled.actions, Keep(settled.flags, settled.message, is_implicit=True)),
        settled.edits,
        settled.tracked,
        steps=tuple(shared.steps or ()),
        work=shared.work,
        error=fault,
        error_script=error.script or "",
        message=settled.message,
        flags=settled.flags,
    )
