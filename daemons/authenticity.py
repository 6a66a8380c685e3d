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
    """The filter; what it counts comes to the database by itself, a minute later."""
    settings = context.settings.authenticity
    names = Names(Resolver(context.settings.transport))
    reports = DmarcReports(settings, context.settings.hostname, context.pool, names)
    rules = Rules(
        authserv_id=settings.authserv_id or context.settings.hostname,
        apply=settings.dmarc,
        known=Known(
            forwarders=tuple(ip_network(network, strict=False) for network in settings.forwarders),
            sealers=frozenset(a_labels(domain) for domain in settings.sealers),
            mailing_lists=frozenset(a_labels(domain) for domain in settings.mailing_lists),
        ),
    )
    return Authentication(rules, names, note=reports.note if reports.is_on else None)
