"""The filter `authentication` as configured, with the DNS, and with counts for reports."""

from ipaddress import ip_network

from daemons.context import Context
from daemons.dmarc_reports import DmarcReports
from daemons.names import Names
from daemons.relay.resolver import Resolver
from filters.authentication.checker import Authentication, Rules
from filters.authentication.overrides import Known
from protocol.domain import a_labels


def build_authentication(context: Context) -> Authentication:
    """The filter; what it counts comes to the database a minute later, or when the process ends."""
    settings = context.settings.authenticity
    resolver = Resolver(context.settings.transport)
    context.closing.push_async_callback(resolver.close)
    names = Names(resolver)
    reports = DmarcReports(settings, context.settings.hostname, context.pool, names)
    context.closing.push_async_callback(reports.close)
    rules = Rules(
        authserv_id=settings.authserv_id or context.settings.hostname,
        apply=settings.dmarc,
        known=Known(
            forwarders=tuple(ip_network(network, strict=False) for network in settings.forwarders),
            sealers=frozenset(a_labels(domain) for domain in settings.sealers),
            mailing_lists=frozenset(a_labels(domain) for domain in settings.mailing_lists),
            unchecked=tuple(ip_network(network, strict=False) for network in settings.unchecked),
        ),
    )
    return Authentication(rules, names, note=reports.note if reports.is_on and not context.is_rehearsal else None)
