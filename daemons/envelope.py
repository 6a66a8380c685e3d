"""The envelope filters as configured, made into what the SMTP sessions ask."""

from collections.abc import Callable, Sequence
from functools import partial
from ipaddress import IPv4Network

from config.dnslists import DnsLists as DnsListSettings
from daemons.breakers import build_breaker
from daemons.context import Context
from daemons.filtering import Observe, observe, policies_of
from daemons.greylist import build_greylist
from daemons.lists import build_sender_lists
from daemons.logs import logger
from daemons.names import Names
from daemons.policy_service import build_policy_service
from daemons.rates import Allowances
from daemons.relay.resolver import Resolver
from daemons.smtp.policing import Policing, Stages
from daemons.sockets import Networks
from filters.breaker import Breaker
from filters.dnslists import DnsList, DnsLists
from filters.greylisting import Greylisting
from filters.helo import Helo
from filters.pipeline import Pipeline
from filters.policy import Policy as PolicyFilter
from filters.ports import EnvelopeFilter
from filters.rates import Rate, Rates
from filters.sender_policy import SenderPolicy
from storage.errors import StorageError

log = logger("envelope")


def build_policing(context: Context, *, observe: Observe = observe) -> Policing:
    """One per process. Raises StorageError for a filter that lacks its settings."""
    settings = context.settings
    filters = _Filters(context, observe)
    return Policing(
        settings.hostname,
        Stages(
            connect=filters.pipeline(filters.connect),
            mail=filters.pipeline(filters.mail),
            rcpt=filters.pipeline(filters.rcpt),
            unknown=filters.pipeline(filters.unknown),
        ),
        trusted=Networks([*settings.trusted_networks, *settings.authenticity.forwarders]),
        denied=Networks(settings.envelope.denied_networks),
        lists=build_sender_lists(context) if "lists" in settings.smtp.filters else None,
        resolver=filters.resolver,
    )


class _Filters:
    """Each configured filter, at the moments that it is asked."""

    def __init__(self, context: Context, observe: Observe) -> None:
        self._context = context
        self._observe = observe
        self._settings = context.settings
        resolver = Resolver(context.settings.transport)
        context.closing.push_async_callback(resolver.close)
        self.resolver = Names(resolver)
        self.connect: list[EnvelopeFilter] = []
        self.mail: list[EnvelopeFilter] = []
        self.rcpt: list[EnvelopeFilter] = []
        self.unknown: list[EnvelopeFilter] = []
        for name in context.settings.envelope.filters:
            {
                "rates": self._add_rates,
                "helo": self._add_helo,
                "dnslists": self._add_dnslists,
                "spf": self._add_spf,
                "policy": self._add_policy,
                "greylisting": self._add_greylisting,
            }[name]()

    def pipeline(self, filters: Sequence[EnvelopeFilter]) -> Pipeline:
        """What is asked at one moment, with its policies and metrics."""
        return Pipeline(filters, policies=policies_of(self._settings.filtering), observe=self._observe)

    def _add_rates(self) -> None:
        rates = self._settings.rates
        allowances = Allowances(self._context.pool)
        moments = (
            (self.connect, Rate("connections", "network", rates.connections)),
            (self.connect, Rate("unknown", "network", rates.unknown_recipients, amount=0)),
            (self.unknown, Rate("unknown", "network", rates.unknown_recipients)),
            (self.mail, Rate("messages", "network", rates.messages)),
            (self.mail, Rate("messages", "sender", rates.sender_messages)),
            (self.rcpt, Rate("recipients", "network", rates.recipients)),
            (self.rcpt, Rate("recipients", "sender", rates.sender_recipients)),
        )
        for moment in (self.connect, self.unknown, self.mail, self.rcpt):
            limits = [rate for place, rate in moments if place is moment and rate.limit]
            if limits:
                moment.append(Rates(limits, allowances))

    def _add_helo(self) -> None:
        self.mail.append(Helo([self._settings.hostname]))

    def _add_dnslists(self) -> None:
        settings = self._settings.dnslists
        if settings.lists:
            self.mail.append(make_dnslists(settings, self.resolver, partial(build_breaker, self._context)))

    def _add_spf(self) -> None:
        refuses = self._settings.envelope.spf_fail == "reject"
        receiver = self._settings.authenticity.authserv_id or self._settings.hostname
        self.mail.append(SenderPolicy(self.resolver, receiver, refuses_fail=refuses))

    def _add_policy(self) -> None:
        settings = self._settings.policy_service
        if not settings.address and not settings.command:
            raise StorageError("policy_service: address or command is missing, and envelope.filters names policy")
        self.rcpt.append(PolicyFilter(build_policy_service(self._context), settings.time_limit))

    def _add_greylisting(self) -> None:
        self.rcpt.append(Greylisting(build_greylist(self._context)))


def make_dnslists(settings: DnsListSettings, resolver: Names, breaker: Callable[[str], Breaker]) -> DnsLists:
    """The filter `dnslists`. breaker makes one for the list of that name."""
    return DnsLists(
        [
            DnsList(
                each.zone.lower(),
                each.points,
                each.names,
                tuple(IPv4Network(answer, strict=False) for answer in each.answers),
            )
            for each in settings.lists
        ],
        resolver,
        breaker=lambda zone: breaker(f"dnslists.{zone}"),
        refuse_at=settings.refuse_at,
        limit_seconds=settings.time_limit,
        warn=lambda zone, problem: log.warning("DNS list is left alone for an hour", zone=zone, problem=problem),
    )
