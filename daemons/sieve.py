"""The configured limits of Sieve as the interpreter takes them."""

from config.sieve import Sieve
from filters.sieve.limits import Limits
from filters.sieve.script import ALL


def limits_of(settings: Sieve) -> Limits:
    """What a script may cost."""
    return Limits(
        script_octets=settings.script_octets,
        nesting=settings.nesting,
        actions=settings.actions,
        redirects=settings.redirects,
        notifications=settings.notifications,
        work=settings.work,
        variables=settings.variables,
        variable_octets=settings.variable_octets,
        include_depth=settings.include_depth,
        includes=settings.includes,
        body_octets=settings.body,
        message_octets=settings.edited,
        vacation_least_seconds=int(settings.vacation_least),
        vacation_most_seconds=int(settings.vacation_most),
        vacation_usual_seconds=int(settings.vacation_usual),
        duplicate_usual_seconds=int(settings.duplicate_usual),
        duplicate_most_seconds=int(settings.duplicate_most),
    )


def capabilities_of(settings: Sieve) -> frozenset[str]:
    """What scripts may require."""
    return ALL - frozenset(settings.without)
