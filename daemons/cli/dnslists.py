"""`postwerk dnslists`: whether the DNS lists are in order, and whom they have."""

import ipaddress
import os
from typing import Any

import click

from config.settings import Settings
from daemons.cli.common import fail, json_option, run_async, settings_option, show

_TEST_ADDRESS = "127.0.0.1"  # no list has it, RFC 5782 §5


@click.group()
def dnslists() -> None:
    """DNS lists ([dnslists]) of hosts and domains."""


@dnslists.command("check")
@click.argument("address", required=False)
@click.option("--from", "domain", default="", help="A sender's domain to look for.")
@json_option
@settings_option
def check(settings: Settings, address: str | None, domain: str, as_json: bool) -> None:
    """Ask each list for its test entries, and for the host with the IP address ADDRESS."""
    try:
        ipaddress.ip_address(address or _TEST_ADDRESS)
    except ValueError:
        fail(f"{address} is not an IP address", os.EX_USAGE)
    rows = run_async(_examined(settings, address or _TEST_ADDRESS, domain))
    show(rows, as_json=as_json, empty="there are no lists in [dnslists]")


async def _examined(settings: Settings, address: str, domain: str) -> list[dict[str, Any]]:
    from daemons.envelope import make_dnslists
    from daemons.names import Names
    from daemons.relay.resolver import Resolver
    from filters.breaker import Breaker
    from filters.subject import Envelope
    from protocol.address import AddrSpec

    envelope = Envelope(
        transaction_id="",
        peer=address,
        helo="",
        is_secure=False,
        is_authenticated=False,
        reverse_path=AddrSpec("postmaster", domain) if domain else None,
        forward_paths=(),
    )
    resolver = Resolver(settings.transport)
    try:
        found = await make_dnslists(settings.dnslists, Names(resolver), Breaker).examine(envelope)
    finally:
        await resolver.close()
    said = {True: "listed", False: "not listed"}
    return [
        {
            "zone": each.zone,
            "points": each.points,
            "names": each.names,
            "result": answer if isinstance(answer, str) else said[answer],
        }
        for each, answer in found
    ]
