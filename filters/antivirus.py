"""Antivirus: one scan of the whole message, and what each recipient's tenant wants to be done when something is found.

Users of ours who send something infected are told at once, whatever their tenant does with mail that comes in. Elsewhere the
tenant decides; but where one tenant refuses, or some recipient belongs to none, all recipients of the message are refused, and so
they are where a part cannot be taken out cleanly: nothing that is known to be infected gets by.
"""

import asyncio
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from filters.ports import InfectedAction, InfectedActions, OnFailure, Scanner, TooLargeError
from filters.subject import Envelope, Subject
from filters.verdict import AddField, Drop, Finding, Quarantine, Refuse, StripPart, Verdict
from protocol.message.stripping import Notice, PartPath, body, leaves, strip
from protocol.smtp.reply import reply

STATUS_FIELD = "X-Virus-Status"

INFECTED = reply(550, "5.7.1", "message refused: a virus was found in it")
UNAVAILABLE = reply(451, "4.7.1", "message cannot be checked for viruses now, try again later")
TOO_LARGE = reply(552, "5.3.4", "message refused: too large to be checked for viruses")

_GRACE_SECONDS = 5.0  # from our own time limit to the pipeline's, which would know nothing of our policy
_UNSHOWN = re.compile(r"[^!-~]+")
_NAME_CHARACTERS = 100


@dataclass(frozen=True, slots=True)
class Scanned:
    """What a scan that came to an end says of the message as it came."""

    found: str | None  # the name of what was found


class Antivirus:
    """The filter `antivirus`. One for all messages; it remembers nothing."""

    name = "antivirus"
    on_failure: OnFailure = "defer"
    needs: Sequence[str] = ()

    def __init__(
        self,
        scanner: Scanner,
        actions: InfectedActions,
        *,
        unavailable: OnFailure = "defer",
        too_large: Literal["reject", "pass"] = "reject",
        time_limit_seconds: float = 60.0,
    ) -> None:
        self._scanner = scanner
        self._actions = actions
        self._unavailable: OnFailure = unavailable
        self._too_large = too_large
        self._time_limit_seconds = time_limit_seconds

    @property
    def limit_seconds(self) -> float:
        """For the pipeline: only what is wrong with ourselves takes longer than our own limit."""
        return self._time_limit_seconds + _GRACE_SECONDS

    async def check(self, subject: Subject) -> Sequence[Verdict]:
        """Judge the message."""
        is_incoming = not subject.envelope.is_authenticated
        try:
            async with asyncio.timeout(self._time_limit_seconds):
                found = await self._look(subject)
                if found is not None:
                    return await self._judge(subject, found)
        except TooLargeError:
            if self._too_large == "reject":
                return [Refuse(TOO_LARGE, "too large to be scanned")]
            return [AddField(STATUS_FIELD, "unchecked (too large)")] if is_incoming else []
        except OSError as error:  # TimeoutError is one
            if self._unavailable == "defer":
                return [Refuse(UNAVAILABLE, f"antivirus unavailable: {type(error).__name__}")]
            return [AddField(STATUS_FIELD, "unchecked (scanner unavailable)")] if is_incoming else []
        clean = Finding(Scanned(None))
        return [AddField(STATUS_FIELD, "clean"), clean] if is_incoming else [clean]

    async def _look(self, subject: Subject) -> str | None:
        """What was found. A message that is too large as a whole is looked at part by part. Raises as the scanner does."""
        try:
            return await self._scanner.scan(subject.original)
        except TooLargeError:
            for found in (await self._scanned_parts(subject, is_first_enough=True)).values():
                return found
            return None

    async def _scanned_parts(self, subject: Subject, *, is_first_enough: bool) -> dict[PartPath, str]:
        """What was found in the contents of which leaves."""
        found: dict[PartPath, str] = {}
        for path, part in leaves(subject.scanned.root):
            name = await self._scanner.scan(await asyncio.to_thread(body, subject.original, part))
            if name is not None:
                found[path] = name
                if is_first_enough:
                    break
        return found

    async def _judge(self, subject: Subject, found: str) -> Sequence[Verdict]:
        reason = f"virus: {_shown(found)}"
        actions = await self._actions_for(subject.envelope)
        if not actions or "reject" in actions.values():
            return [Refuse(INFECTED, reason)]
        parts: Mapping[PartPath, str] = {}
        if "strip" in actions.values():
            parts = await self._strippable(subject)
            if not parts:
                return [Refuse(INFECTED, f"{reason}, in no part that could be taken out")]
        verdicts: list[Verdict] = [AddField(STATUS_FIELD, f"infected ({_shown(found)})"), Finding(Scanned(found))]
        for tenant_id, action in actions.items():
            if action == "quarantine":
                verdicts.append(Quarantine(reason, tenant_id))
            elif action == "discard":
                verdicts.append(Drop(reason, tenant_id))
            else:
                verdicts += [StripPart(path, _shown(name), tenant_id, "virus") for path, name in parts.items()]
        return verdicts

    async def _actions_for(self, envelope: Envelope) -> dict[int, InfectedAction]:
        """What to do for whom; nothing when there is nobody who could decide."""
        if envelope.is_authenticated:
            return {}
        return {tenant_id: await self._actions.action_of(tenant_id) for tenant_id in dict.fromkeys(envelope.tenant_ids)}

    async def _strippable(self, subject: Subject) -> Mapping[PartPath, str]:
        """The infected leaves, provided that nothing is found in the message without them."""
        parts = await self._scanned_parts(subject, is_first_enough=False)
        if not parts:
            return {}
        notices = {path: Notice("virus", name, "en", "0") for path, name in parts.items()}
        rest = await asyncio.to_thread(lambda: b"".join(strip(subject.original, subject.scanned.root, notices)))
        return parts if await self._look(Subject(subject.envelope, rest)) is None else {}


def _shown(name: str) -> str:
    """The name as it may stand in a header field."""
    return _UNSHOWN.sub("_", name)[:_NAME_CHARACTERS]
