"""`postwerk transport`: ways to other hosts, what TLS they must show, what was reported, and where tenants' mail comes from."""

import ipaddress
import os
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from config.settings import Settings
from daemons.cli.common import as_owner, fail, json_option, run_async, settings_option, show
from protocol.address import is_address_literal
from protocol.domain import a_labels
from storage import transport as storage

if TYPE_CHECKING:  # loaded when used: they bring the whole relay
    from daemons.relay.route import Host, Route


@click.group()
def transport() -> None:
    """Ways to other hosts: routes, TLS policies, reports of TLS, source addresses."""


@transport.command("check")
@click.argument("domain")
@click.option("--from", "sender", default="", help="As if this sender sent it. Default: the null sender.")
@click.option("--tenant", help="As if this tenant sent it.")
@click.option("--requiretls", "is_requiretls", is_flag=True, help="As if the message had to stay in TLS (RFC 8689).")
@click.option("--connect", "connects", is_flag=True, help="Connect to each host and see whether it keeps the policy.")
@json_option
@settings_option
def check(
    settings: Settings,
    domain: str,
    sender: str,
    tenant: str | None,
    is_requiretls: bool,
    connects: bool,
    as_json: bool,
) -> None:
    """Show where mail for DOMAIN goes now, and what the hosts must show. Nothing is sent."""
    name = domain if is_address_literal(domain) else a_labels(domain)
    show(run_async(_look(settings, name, sender, tenant, is_requiretls, connects)), as_json=as_json)


async def _look(
    settings: Settings, domain: str, sender: str, tenant: str | None, is_requiretls: bool, connects: bool
) -> list[dict[str, Any]]:
    from daemons.relay.route import RouteError
    from daemons.relay.transport import open_routes
    from storage.pool import open_pool

    database = settings.database
    async with open_pool(database.dsn or "", size=2, role=database.role) as pool:
        tenant_id = await storage.tenant_named(pool, tenant) if tenant is not None else 0
        if tenant_id is None:
            fail(f"no tenant {tenant}", os.EX_NOUSER)
        async with open_routes(settings, pool, _send_nothing) as opened:
            try:
                route = await opened.routes.of(domain, tenant_id, sender, is_requiretls=is_requiretls)
            except RouteError as error:
                fail(f"{error.enhanced} {error.text}", os.EX_NOHOST if error.permanent else os.EX_TEMPFAIL)
        rows = []
        for host in route.hosts:
            row: dict[str, Any] = {
                "host": host.name,
                "preference": host.preference,
                "port": host.port,
                "addresses": " ".join(host.addresses),
                "tls": host.policy.mode,
                "because": host.policy.basis or None,
                "records": "; ".join(host.policy.policy_strings) or None,
            }
            if connects:
                row["found"] = await _found(settings, route, host)
            rows.append(row)
        return rows


async def _found(settings: Settings, route: "Route", host: "Host") -> str:
    """What a session with the host is like, up to the point where mail would follow."""
    from daemons.relay.connection import OpenError, open_connection

    try:
        connection = await open_connection(
            [host], settings.relay, hostname=settings.hostname, source=route.source, credentials=route.credentials
        )
    except OpenError as error:
        failure = error.telling
        return f"{failure.phase}: {failure.reply.code} {' '.join(failure.reply.lines)}"
    found = str(connection.tls) or "no TLS"
    await connection.quit()
    return found


async def _send_nothing(*_: object) -> bool:
    return False


@transport.command("policies")
@json_option
@settings_option
def list_policies(settings: Settings, as_json: bool) -> None:
    """List the MTA-STS policies of other domains that are kept."""
    rows = as_owner(settings, storage.list_sts_policies)
    shown = [
        {
            "domain": row.domain,
            "mode": row.mode,
            "mx": " ".join(row.mx),
            "id": row.policy_id,
            "fetched_at": f"{row.fetched_at:%Y-%m-%d %H:%M:%S}",
            "max_age": row.max_age,
        }
        for row in rows
    ]
    show(shown, as_json=as_json, empty="no policies")


@transport.command("reports")
@json_option
@settings_option
def list_reports(settings: Settings, as_json: bool) -> None:
    """List the days and domains whose TLS sessions were counted, and what became of the reports (RFC 8460)."""
    rows = as_owner(settings, storage.list_reports)
    show([asdict(row) for row in rows], as_json=as_json, empty="no sessions with domains that ask for reports")


@transport.group()
def source() -> None:
    """Addresses that tenants' mail comes from."""


@source.command("list")
@json_option
@settings_option
def list_sources(settings: Settings, as_json: bool) -> None:
    """List the tenants with addresses of their own."""
    rows = as_owner(settings, storage.list_sources)
    show([asdict(row) for row in rows], as_json=as_json, empty="all mail comes from the same addresses")


@source.command("set")
@click.argument("tenant")
@click.option("--ipv4", help="An IPv4 address of this host.")
@click.option("--ipv6", help="An IPv6 address of this host.")
@click.option("--hostname", help="Name for EHLO: that of the addresses' reverse records. Default: the host's.")
@settings_option
def set_source(settings: Settings, tenant: str, ipv4: str | None, ipv6: str | None, hostname: str | None) -> None:
    """Give a tenant addresses of its own, in place of those it had. Every host with a relay must have them."""
    if ipv4 is None and ipv6 is None and hostname is None:
        fail("give --ipv4, --ipv6 or --hostname, or use `postwerk transport source reset`", os.EX_USAGE)
    for text, version in ((ipv4, 4), (ipv6, 6)):
        if text is not None and not _is_address(text, version):
            fail(f"{text} is no IPv{version} address", os.EX_USAGE)

    as_owner(
        settings,
        lambda connection: storage.set_source(connection, tenant, ipv4=ipv4, ipv6=ipv6, hostname=hostname),
        missing=f"no tenant {tenant}",
    )


@source.command("reset")
@click.argument("tenant")
@settings_option
def reset_source(settings: Settings, tenant: str) -> None:
    """Let a tenant's mail come from the same addresses as all other mail."""
    as_owner(
        settings,
        lambda connection: storage.reset_source(connection, tenant),
        missing=f"{tenant} has no addresses of its own",
    )


def _is_address(text: str, version: int) -> bool:
    try:
        return ipaddress.ip_address(text).version == version
    except ValueError:
        return False
