"""The filters that a configuration can name, and the pipeline that is made of them: its metrics, its log, its policies.

A filter of another package is named in the entry point group `postwerk.filters`: a callable that takes the Surroundings of
filters/foreign.py and gives a content filter. Names of ours go before theirs.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from importlib.metadata import entry_points
from ipaddress import ip_network
from typing import Any, TypeAlias, get_args

from prometheus_client import Counter, Histogram

from config.envelope import FilterName
from config.filtering import Filtering
from daemons import metrics
from daemons.antivirus import build_antivirus
from daemons.authenticity import build_authentication
from daemons.breakers import build_breaker
from daemons.context import Context
from daemons.lists import build_lists
from daemons.logs import logger
from daemons.names import Names
from daemons.relay.resolver import Resolver
from daemons.spam import build_spam
from filters.authentication.overrides import Known
from filters.breaker import Breaker
from filters.foreign import Surroundings
from filters.forged import ForgedFields
from filters.mime import Mime, MimeRules
from filters.pipeline import Pipeline, Policy, Result
from filters.ports import ContentFilter
from filters.words import kinds_of
from storage.errors import StorageError

log = logger("filters")

ENTRY_POINTS = "postwerk.filters"
Observe: TypeAlias = Callable[[Result], None]


def build_mime(context: Context) -> Mime:
    """The filter `mime` as configured."""
    settings = context.settings.mime
    return Mime(
        MimeRules(
            part_limit=settings.part_limit,
            depth_limit=settings.depth_limit,
            forbidden_suffixes=frozenset(suffix.lower().lstrip(".") for suffix in settings.forbidden_suffixes),
            forbidden_types=frozenset(kind.lower() for kind in settings.forbidden_types),
            forbidden=settings.forbidden,
            encrypted_archives=settings.encrypted_archives,
        )
    )


CONTENT_FILTERS: Mapping[str, Callable[[Context], ContentFilter]] = {
    "antivirus": build_antivirus,
    "authentication": build_authentication,
    "lists": build_lists,
    "mime": build_mime,
    "spam": build_spam,
}


def observe(result: Result) -> None:
    """Count what a filter did, and log its failures: those of services by name, those of its own with where they happened."""
    _seconds(result.name).observe(result.elapsed_seconds)
    for kind in kinds_of(result):
        _verdicts(result.name, kind).inc()
    if isinstance(result.error, OSError):
        log.warning("filter failed", filter=result.name, reason=result.failure)
    elif result.error is not None:
        log.error("filter failed", filter=result.name, reason=result.failure, exc_info=result.error)


@cache  # to look a child up costs more than to count
def _seconds(name: str) -> Histogram:
    return metrics.filter_seconds.labels(name)


@cache
def _verdicts(name: str, kind: str) -> Counter:
    return metrics.filter_verdicts.labels(name, kind)


def build_pipeline(context: Context, names: Sequence[str], *, observe: Observe = observe) -> Pipeline:
    """The content filters of these names, in their order.

    Raises StorageError for a name that no filter has, and for a filter that cannot be made.
    """
    return Pipeline(
        content=content_filters(names, context),
        forged=_forged(context),
        policies=policies_of(context.settings.filtering),
        observe=observe,
    )


def policies_of(settings: Filtering) -> dict[str, Policy]:
    """What the configuration wants otherwise than filters have it. Raises StorageError for a name that no filter has."""
    known = available().keys() | set(get_args(FilterName))
    for each in settings.policies:
        if each.filter not in known:
            raise StorageError(f"filtering.policies: there is no filter {each.filter!r}")
    return {each.filter: Policy(each.on_failure, each.time_limit) for each in settings.policies}


def available() -> dict[str, str]:
    """The content filters that smtp.filters may name, and the package that each is from."""
    foreign = {
        point.name: point.dist.name if point.dist is not None else point.value
        for point in entry_points(group=ENTRY_POINTS)
    }
    return foreign | dict.fromkeys(CONTENT_FILTERS, "postwerk")


def content_filters(names: Sequence[str], context: Context) -> list[ContentFilter]:
    """The filters of these names, in their order. Raises StorageError for a name that no filter has."""
    doubled = {name for name in names if names.count(name) > 1}
    if doubled:
        raise StorageError(f"smtp.filters: {', '.join(sorted(doubled))} is named twice")
    made = [_made(name, context) for name in names]
    _check_needs(made)
    return made


def _made(name: str, context: Context) -> ContentFilter:
    if name in CONTENT_FILTERS:
        return CONTENT_FILTERS[name](context)
    for point in entry_points(group=ENTRY_POINTS, name=name):
        try:
            return _foreign(point.load(), name, context)
        except Exception as error:  # whatever a foreign package raises, the operator reads which filter it is
            raise StorageError(f"smtp.filters: {name}, of {point.value}: {error!r}") from error
    raise StorageError(f"smtp.filters: there is no filter {name!r}")


def _foreign(build: Callable[[Surroundings], ContentFilter], name: str, context: Context) -> ContentFilter:
    """A filter of another package. Raises what its maker raises, and TypeError when it is none."""
    policy = context.settings.filtering.of(name)
    made = build(_Surroundings(context, name, policy.options if policy is not None else {}))
    missing = [each for each in ("name", "on_failure", "limit_seconds", "needs", "check") if not hasattr(made, each)]
    if missing:
        raise TypeError(f"a filter needs {', '.join(missing)}")
    if made.name != name:
        raise TypeError(f"the filter calls itself {made.name!r}")
    return made


def _check_needs(made: Sequence[ContentFilter]) -> None:
    """A filter waits only for those in front of it: one that stands behind would never be waited for."""
    seen: set[str] = set()
    names = {each.name for each in made}
    for each in made:
        late = (set(each.needs) & names) - seen
        if late:
            raise StorageError(f"smtp.filters: {each.name} must stand behind {', '.join(sorted(late))}")
        seen.add(each.name)


class _Surroundings:
    """The Surroundings of filters/foreign.py."""

    def __init__(self, context: Context, name: str, options: Mapping[str, Any]) -> None:
        self.hostname = context.settings.hostname
        self.options = options
        self.is_rehearsal = context.is_rehearsal
        self._context = context
        self._name = name
        self._names: Names | None = None

    @property
    def resolver(self) -> Names:
        """One for this filter, made when it is asked for."""
        if self._names is None:
            resolver = Resolver(self._context.settings.transport)
            self._context.closing.push_async_callback(resolver.close)
            self._names = Names(resolver)
        return self._names

    def breaker(self, service: str) -> Breaker:
        """For one service that the filter asks."""
        return build_breaker(self._context, f"{self._name}.{service}")

    def on_close(self, close: Callable[[], Any]) -> None:
        """Call this, and wait for what it gives, when the process ends."""
        self._context.closing.push_async_callback(close)


def _forged(context: Context) -> ForgedFields:
    settings = context.settings.authenticity
    known = Known(forwarders=tuple(ip_network(network, strict=False) for network in settings.forwarders))
    return ForgedFields(settings.authserv_id or context.settings.hostname, known.forwards)
