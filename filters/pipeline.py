"""Runs the filters of a stage and folds their verdicts into one decision. A filter may fail; none may lose mail.

Envelope filters run one after the other and the first refusal ends the stage. Content filters see the same message and
run at the same time, unless one needs what others find out; their results are folded in the configured order, so that the
outcome never depends on timing.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

from filters.ports import ContentFilter, DeliveryFilter, EnvelopeFilter, Filter
from filters.subject import Envelope, Subject
from filters.verdict import (
    AddField,
    Disposition,
    Drop,
    Finding,
    Junk,
    Keep,
    Quarantine,
    Refuse,
    RefuseDelivery,
    RemoveField,
    Score,
    StripPart,
    Verdict,
)
from protocol.address import AddrSpec
from protocol.smtp.reply import reply

FILTER_UNAVAILABLE = reply(451, "4.7.0", "message cannot be checked now, try again later")

_Answer = TypeVar("_Answer")


@dataclass(frozen=True, slots=True)
class Result:
    """What one filter did, for the log and the metrics."""

    name: str
    verdicts: tuple[Verdict, ...]
    elapsed_seconds: float
    failure: str = ""  # the kind of exception; "" when it did its work


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
        if not self.is_treated:
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
        if not self.is_personal:
            return self.for_tenant(tenant_id)
        own = [_of_account(_of_tenant(each.verdicts, tenant_id), account_id) for each in self.results]
        return decide([replace(each, verdicts=verdicts) for each, verdicts in zip(self.results, own, strict=True)])


PASSED = Decision()


class Pipeline:
    """The filters of all three stages, in their configured order."""

    def __init__(
        self,
        envelope: Sequence[EnvelopeFilter] = (),
        content: Sequence[ContentFilter] = (),
        delivery: Sequence[DeliveryFilter] = (),
    ) -> None:
        self._envelope = tuple(envelope)
        self._content = tuple(content)
        self._delivery = tuple(delivery)

    @property
    def has_content_filters(self) -> bool:
        """Whether check_content looks at the message at all."""
        return bool(self._content)

    async def check_envelope(self, subject: Envelope) -> Decision:
        """Run the envelope filters until one refuses."""
        results: list[Result] = []
        for each in self._envelope:
            results.append(await _checked(each, partial(each.check, subject)))
            if any(isinstance(verdict, Refuse) for verdict in results[-1].verdicts):
                break
        return decide(results)

    async def check_content(self, subject: Subject) -> Decision:
        """Run all content filters at the same time; one that needs others waits for these."""
        if not self._content:
            return PASSED
        running: list[asyncio.Task[Result]] = []
        for each in self._content:
            needed = [task for task in running if task.get_name() in each.needs]
            running.append(asyncio.create_task(_content_checked(each, subject, needed), name=each.name))
        return decide(await asyncio.gather(*running))

    async def dispose(self, subject: Subject, recipient: AddrSpec) -> Disposition:
        """What becomes of one recipient's copy: the first filter with an opinion decides, the inbox is the default."""
        for each in self._delivery:
            disposition, failure = await _limited(each, partial(each.dispose, subject, recipient))
            if failure and each.on_failure == "defer":
                return RefuseDelivery(FILTER_UNAVAILABLE)
            if disposition is not None:
                return disposition
        return Keep()


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


async def _content_checked(each: ContentFilter, subject: Subject, needed: Sequence[asyncio.Task[Result]]) -> Result:
    if needed:
        results = await asyncio.gather(*needed)
        notes = tuple(
            verdict.value for result in results for verdict in result.verdicts if isinstance(verdict, Finding)
        )
        subject = replace(subject, notes=subject.notes + notes)
    return await _checked(each, partial(each.check, subject))


async def _checked(each: Filter, check: Callable[[], Awaitable[Sequence[Verdict]]]) -> Result:
    started = time.monotonic()
    verdicts, failure = await _limited(each, check)
    if failure and each.on_failure == "defer":
        verdicts = (Refuse(FILTER_UNAVAILABLE, f"{each.name} failed"),)
    return Result(each.name, tuple(verdicts or ()), time.monotonic() - started, failure)


async def _limited(each: Filter, work: Callable[[], Awaitable[_Answer]]) -> tuple[_Answer | None, str]:
    """The filter's answer and "", or None and the kind of its failure."""
    try:
        async with asyncio.timeout(each.limit_seconds):
            return await work(), ""
    except Exception as error:  # whatever a filter raises, its policy decides about the mail
        return None, type(error).__name__
