"""When the next attempt is made, when a delay is told, and when delivery is given up. No clock of its own."""

import random
from dataclasses import replace
from datetime import datetime, timedelta

from config.relay import Relay
from daemons.relay.attempt import Attempt, Settled
from protocol.status import enhanced
from storage.outbound import Leased

_EXPIRED = enhanced("5.4.7")


def wait_seconds(settings: Relay, attempts: int) -> float:
    """The wait after that many attempts, without jitter."""
    waits = settings.retry_waits
    if attempts <= len(waits):
        return waits[max(attempts, 1) - 1]
    if attempts <= len(waits) + settings.retry_repeats:
        return waits[-1]
    return settings.retry_slow_wait


def settle(settings: Relay, leased: Leased, attempt: Attempt) -> Settled:
    """What follows from an attempt: done, given up, or tried again at a time that is part chance."""
    if attempt.kind != "deferred":
        return Settled(leased, attempt)
    now, ends_at = attempt.at, leased.expires_at
    if leased.deliver_by is not None and (leased.deliver_by_mode or "").startswith("R"):
        ends_at = min(ends_at, leased.deliver_by)  # RFC 2852 §4.1.3: too late is as good as never
    if now >= ends_at:
        return Settled(leased, replace(attempt, kind="failed", status=_EXPIRED))
    jitter = 1 + random.uniform(-settings.retry_jitter, settings.retry_jitter)  # noqa: S311  # it hides nothing
    next_attempt_at = now + timedelta(seconds=wait_seconds(settings, leased.tries + 1) * jitter)
    if leased.deliver_by is not None and now < leased.deliver_by:
        ends_at = min(ends_at, leased.deliver_by)  # by mode N the sender is told then, so there is something to tell
    # The last attempt is made when the time is over, not hours before.
    return Settled(leased, attempt, min(next_attempt_at, ends_at), is_delay_due=_is_delay_due(settings, leased, now))


def _is_delay_due(settings: Relay, leased: Leased, now: datetime) -> bool:
    if leased.delay_told_at is not None:
        return False
    if leased.deliver_by is not None and (leased.deliver_by_mode or "").startswith("N") and now >= leased.deliver_by:
        return True  # RFC 2852 §4.1.3: the sender asked to be told at that time
    # What was to be sent later has its lifetime from then on.
    begun_at = max(leased.created_at, leased.expires_at - timedelta(seconds=settings.lifetime))
    return now - begun_at >= timedelta(seconds=settings.delay_report_after)
