"""Runs the filters of a stage and folds their verdicts into one decision. A filter may fail; none may lose mail.

Envelope filters run one after the other and the first refusal ends the stage. Content filters see the same message and
run at the same time, unless one needs what others find out; their results are folded in the configured order, so that the
outcome never depends on timing. What a configuration wants otherwise than a filter has it (`Policy`) goes before the filter's own.
"""

import asyncio
import mmap
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Generic, TypeVar

from filters.ports import ContentFilter, EnvelopeFilter, FieldFilter, Filter, OnFailure
from filters.subject import Envelope, Subject
from filters.verdict import (
    AddField,
    Drop,
    Finding,
    Junk,
    Quarantine,
    Refuse,
    RemoveField,
    Score,
    StripPart,
    Verdict,
)
from protocol.smtp.reply import reply

FILTER_UNAVAILABLE = reply(451, "4.7.0", "message cannot be checked now, try again later")
FORGED = "forged"  # under this name the pipeline tells of what it removes itself

_THREAD_OCTETS = 64 << 10  # reading the structure of more than this would hold up others
_Answer = TypeVar("_Answer")
_Filter = TypeVar("_Filter", bound=Filter)


@dataclass(frozen=True, slots=True)
class Result:
    """What one filter did, for the log and the metrics."""

    name: str
    verdicts: tuple[Verdict, ...]
    elapsed_seconds: float
    failure: str = ""  # the kind of exception; "" when it did its work
    error: Exception | None = field(default=None, repr=False, compare=False)  # the same, for the log


@dataclass(frozen=True, slots=True)
class Decision:
    """What the stage comes to."""

    results: tuple[Result, ...] = ()
    refusal: Refuse | None = None  # a rejection goes before a deferral, then the order of the filters decides
    fields: bytes = b""  # header fields to add on top
    score: float = 0.0
    quarantine: Quarantine | None = None
    junk: Junk | None = None
    stripped: tuple[StripPart, ...] = ()
    drop: Drop | None = None
    removed: tuple[RemoveField, ...] = ()

    @property
    def is_changed(self) -> bool:
        """Whether somebody gets something else than what came."""
        return self.is_treated or bool(self.removed)

    @property
    def is_treated(self) -> bool:
        """Whether somebody's copy is not simply delivered as it came."""
        return self.quarantine is not None or self.drop is not None or bool(self.stripped)

    def for_tenant(self, tenant_id: int) -> "Decision":
        """What it comes to for the recipients of one tenant."""
        verdicts = [verdict for each in self.results for verdict in each.verdicts]
        if all(getattr(verdict, "tenant_id", None) in (None, tenant_id) for verdict in verdicts):
            return self
        return decide([replace(each, verdicts=_of_tenant(each.verdicts, tenant_id)) for each in self.results])

    @property
    def is_personal(self) -> bool:
        """Whether it may come to something else for one account than for another."""
        return any(
            getattr(verdict, "account_id", None) is not None for each in self.results for verdict in each.verdicts
        )

    def for_account(self, tenant_id: int, account_id: int) -> "Decision":
        """What it comes to for one account, what is meant for it alone included."""
        if not self.results:
            return self
        if not self.is_personal:
            return self.for_tenant(tenant_id)
        own = [_of_account(_of_tenant(each.verdicts, tenant_id), account_id) for each in self.results]
        return decide([replace(each, verdicts=verdicts) for each, verdicts in zip(self.results, own, strict=True)])


PASSED = Decision()


@dataclass(frozen=True, slots=True)
class Policy:
    """What is wanted otherwise than a filter has it. None: as the filter has it."""

    on_failure: OnFailure | None = None
    limit_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class _Member(Generic[_Filter]):
    """A filter as it is run."""

    filter: _Filter
    on_failure: OnFailure
    limit_seconds: float

    @property
    def name(self) -> str:
        return self.filter.name


class Pipeline:
    """The filters of the envelope and content stages, in their configured order."""

    def __init__(
        self,
        envelope: Sequence[EnvelopeFilter] = (),
        content: Sequence[ContentFilter] = (),
        *,
        forged: FieldFilter | None = None,
        policies: Mapping[str, Policy] | None = None,
        observe: Callable[[Result], None] | None = None,
    ) -> None:
        """observe is told each result."""
        policies = policies or {}
        self._envelope = [_member(each, policies) for each in envelope]
        self._content = [_member(each, policies) for each in content]
        self._forged = forged
        self._observe = observe

    def concerns(self, octets: bytes | mmap.mmap) -> bool:
        """Whether check_content could have anything to say about a message."""
        return bool(self._content) or (self._forged is not None and self._forged.may_be_in(octets))

    @property
    def names(self) -> tuple[str, ...]:
        """Of the content filters, in their order."""
        return tuple(each.name for each in self._content)

    async def check_envelope(self, subject: Envelope) -> Decision:
        """Run the envelope filters until one refuses. Each knows what those before it have found out."""
        results: list[Result] = []
        for each in self._envelope:
            results.append(self._observed(await _checked(each, partial(each.filter.check, subject))))
            subject = replace(subject, notes=subject.notes + found_by(results[-1:]))
            if any(isinstance(verdict, Refuse) for verdict in results[-1].verdicts):
                break
        return decide(results)

    async def check_content(self, subject: Subject) -> Decision:
        """Run all content filters at the same time; one that needs others waits for these."""
        results = self._removing(subject)
        if self._content and len(subject.original) > _THREAD_OCTETS:
            await asyncio.to_thread(lambda: subject.scanned)
        running: list[asyncio.Task[Result]] = []
        for each in self._content:
            needed = [task for task in running if task.get_name() in each.filter.needs]
            running.append(asyncio.create_task(_content_checked(each, subject, needed), name=each.name))
        try:
            results += [self._observed(await task) for task in running]
        except BaseException:  # this is cancelled, and so are they
            for task in running:
                task.cancel()
            await asyncio.wait(running)
            raise
        return decide(results)

    def _removing(self, subject: Subject) -> list[Result]:
        """The result that tells of forged fields. Nearly all mail has none, and then there is nothing to tell."""
        if self._forged is None:
            return []
        started = time.monotonic()
        found = tuple(self._forged(subject))
        return [self._observed(Result(FORGED, found, time.monotonic() - started))] if found else []

    def _observed(self, result: Result) -> Result:
        if self._observe is not None:
            self._observe(result)
        return result


def decide(results: Sequence[Result]) -> Decision:
    """Fold the filters' results, in order, into one decision. What concerns single accounts waits for for_account()."""
    if not results:
        return PASSED
    verdicts = [verdict for result in results for verdict in result.verdicts if _is_for_all(verdict)]
    refusals = [verdict for verdict in verdicts if isinstance(verdict, Refuse)]
    return Decision(
        results=tuple(results),
        refusal=min(refusals, key=lambda refusal: refusal.reply.is_temporary, default=None),
        fields=b"".join(verdict.octets for verdict in verdicts if isinstance(verdict, AddField)),
        score=sum(verdict.points for verdict in verdicts if isinstance(verdict, Score)),
        quarantine=next((verdict for verdict in verdicts if isinstance(verdict, Quarantine)), None),
        junk=next((verdict for verdict in verdicts if isinstance(verdict, Junk)), None),
        stripped=tuple(verdict for verdict in verdicts if isinstance(verdict, StripPart)),
        drop=next((verdict for verdict in verdicts if isinstance(verdict, Drop)), None),
        removed=tuple(verdict for verdict in verdicts if isinstance(verdict, RemoveField)),
    )


def found_by(results: Sequence[Result]) -> tuple[object, ...]:
    """What these filters have found out for others."""
    return tuple(verdict.value for result in results for verdict in result.verdicts if isinstance(verdict, Finding))


def _of_tenant(verdicts: Sequence[Verdict], tenant_id: int) -> tuple[Verdict, ...]:
    """Without what is meant for others."""
    return tuple(
        verdict
        for verdict in verdicts
        if not isinstance(verdict, Quarantine | Junk | StripPart | Drop) or verdict.tenant_id in (None, tenant_id)
    )


def _of_account(verdicts: Sequence[Verdict], account_id: int) -> tuple[Verdict, ...]:
    """Without what is meant for other accounts; what is meant for this one is for all who are asked about: it alone."""
    own: list[Verdict] = []
    for verdict in verdicts:
        if _is_for_all(verdict):
            own.append(verdict)
        elif (
            isinstance(verdict, Refuse | Score | AddField | Quarantine | Junk | Drop)
            and verdict.account_id == account_id
        ):
            own.append(replace(verdict, account_id=None))
    return tuple(own)


def _is_for_all(verdict: Verdict) -> bool:
    return getattr(verdict, "account_id", None) is None


def _member(each: _Filter, policies: Mapping[str, Policy]) -> _Member[_Filter]:
    policy = policies.get(each.name, Policy())
    limit = each.limit_seconds if policy.limit_seconds is None else policy.limit_seconds
    return _Member(each, policy.on_failure or each.on_failure, limit)


async def _content_checked(
    each: _Member[ContentFilter], subject: Subject, needed: Sequence[asyncio.Task[Result]]
) -> Result:
    if needed:
        subject = replace(subject, notes=subject.notes + found_by([await task for task in needed]))
    return await _checked(each, partial(each.filter.check, subject))


async def _checked(each: _Member[_Filter], check: Callable[[], Awaitable[Sequence[Verdict]]]) -> Result:
    started = time.monotonic()
    verdicts, error = await _limited(each, check)
    elapsed = time.monotonic() - started
    if error is None and not all(isinstance(verdict, Verdict) for verdict in verdicts or ()):
        error = TypeError("what the filter returns is no verdict")
    if error is None:
        return Result(each.name, tuple(verdicts or ()), elapsed)
    refusal = (Refuse(FILTER_UNAVAILABLE, f"{each.name} failed"),) if each.on_failure == "defer" else ()
    return Result(each.name, refusal, elapsed, type(error).__name__, error)


async def _limited(
    each: _Member[_Filter], work: Callable[[], Awaitable[_Answer]]
) -> tuple[_Answer | None, Exception | None]:
    """The filter's answer, or its failure."""
    try:
        async with asyncio.timeout(each.limit_seconds):
            return await work(), None
    except Exception as error:  # whatever a filter raises, its policy decides about the mail
        return None, error
