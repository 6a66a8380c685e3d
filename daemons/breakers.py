"""Circuit breakers of the services that filters ask, as configured, with a metric and a line in the log for each change."""

from daemons import metrics
from daemons.context import Context
from daemons.logs import logger
from filters.breaker import Breaker, State

log = logger("filters")


def build_breaker(context: Context, service: str) -> Breaker:
    """For one service; whatever filters ask of it goes through this one."""
    settings = context.settings.filtering
    metrics.service_available.labels(service).set(1)
    return Breaker(
        service,
        failures=settings.breaker_failures,
        pause_seconds=settings.breaker_pause,
        longest_pause_seconds=settings.breaker_longest_pause,
        changed=_changed,
    )


def _changed(service: str, state: State) -> None:
    metrics.service_available.labels(service).set(1 if state == "closed" else 0)
    if state == "open":
        log.warning("service is left alone for a while: it gives no answer", service=service)
    elif state == "closed":
        log.info("service answers again", service=service)
