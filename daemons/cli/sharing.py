"""`postwerk team` and `postwerk acl`: mailboxes that several people use."""

import os

import click

from config.settings import Settings
from config.units import Octets
from daemons.cli.common import (
    Quota,
    as_owner,
    checked_address,
    confirm,
    fail,
    json_option,
    settings_option,
    show,
    with_sizes,
    yes_option,
)
from daemons.cli.tenants import tenant_with
from protocol.imap.acl import RIGHTS, expanded
from storage import accounts, senders, sharing, teams
from storage.errors import ExistsError, NotFoundError
from storage.pool import Connection

_MEMBER_RIGHTS = "lrswipkxte"  # all but the right to give rights


@click.group()
def team() -> None:
    """Teams: an address and mailboxes that belong to no person. Members find them below "Shared/"."""


@team.command("add")
@click.argument("address")
@click.option("--name", help='What it is called below "Shared/". Default: the local part of the address.')
@click.option("--tenant", "owner", help="Default: the tenant of the address's domain.")
@click.option("--quota", type=Quota(), help='Room for mail, e.g. "1G". Default: none.')
@settings_option
def add_team(settings: Settings, address: str, name: str | None, owner: str | None, quota: Octets | None) -> None:
    """Add a team with its address and its INBOX. Nobody sees it before rights are granted."""
    domain = accounts.domain_name(checked_address(address).rpartition("@")[2])

    async def run(connection: Connection) -> None:
        tenant = await tenant_with(connection, domain)
        called = name or address.rpartition("@")[0]
        try:
            await teams.add_team(connection, owner or tenant, address, called, quota)
        except ExistsError:
            fail(f"{address} or the name {called} exists already; give another --name", os.EX_CANTCREAT)
        except NotFoundError:
            fail(f"{domain} is not a domain of {owner}", os.EX_NOUSER)
        except ValueError:
            fail(f"{called} cannot be the name of a mailbox; give another --name", os.EX_DATAERR)

    as_owner(settings, run)


@team.command("list")
@json_option
@settings_option
def list_teams(settings: Settings, as_json: bool) -> None:
    """List all teams."""
    rows = as_owner(settings, teams.list_teams)
    show([with_sizes(row, as_json=as_json) for row in rows], as_json=as_json, empty="no teams")


@team.command("grant")
@click.argument("address")
@click.argument("login")
@click.argument("rights", default=_MEMBER_RIGHTS)
@click.option(
    "--send-as/--no-send-as", "may_send", default=None, help="Let LOGIN send as the team's addresses, or not any more."
)
@settings_option
def grant(settings: Settings, address: str, login: str, rights: str, may_send: bool | None) -> None:
    """Give LOGIN, or "anyone" of the tenant, exactly these rights (RFC 4314) on all mailboxes of the team ADDRESS."""
    letters = _letters(rights)

    async def run(connection: Connection) -> None:
        await teams.grant(connection, address, accounts.login_name(login), letters)
        if may_send:
            await senders.grant(connection, address, login)
        elif may_send is not None:
            await senders.revoke(connection, address, login)

    as_owner(settings, run, about=f"{address}, {login}")


@team.command("revoke")
@click.argument("address")
@click.argument("login")
@settings_option
def revoke(settings: Settings, address: str, login: str) -> None:
    """Take all rights on the mailboxes of the team ADDRESS away from LOGIN, and that to send as the team."""

    async def run(connection: Connection) -> None:
        await teams.grant(connection, address, accounts.login_name(login), "")
        await senders.revoke(connection, address, login)

    as_owner(settings, run, about=f"{address}, {login}")


@team.command("senders")
@click.argument("address")
@json_option
@settings_option
def list_senders(settings: Settings, address: str, as_json: bool) -> None:
    """List who may send as the team ADDRESS."""
    rows = as_owner(settings, lambda connection: senders.grants(connection, address))
    show([{"sender": row.sender} for row in rows], as_json=as_json, empty="nobody may send as this team")


@team.command("remove")
@click.argument("address")
@yes_option
@settings_option
def remove_team(settings: Settings, address: str, is_sure: bool) -> None:
    """Remove a team with its mailboxes and addresses. What is archived stays archived."""
    confirm(f"Remove {address} and all its mail?", is_sure=is_sure)

    async def run(connection: Connection) -> None:
        if address.lower() not in [row.address for row in await teams.list_teams(connection)]:
            fail(f"no team {address}", os.EX_NOUSER)
        await accounts.remove_account(connection, address)

    as_owner(settings, run)


@click.group()
def acl() -> None:
    """Access control lists (RFC 4314) of single mailboxes. OWNER is a login or a team's address."""


@acl.command("list")
@click.argument("owner")
@click.argument("mailbox", default="INBOX")
@json_option
@settings_option
def list_acl(settings: Settings, owner: str, mailbox: str, as_json: bool) -> None:
    """Show who may do what in a mailbox, besides its owner."""

    async def run(connection: Connection) -> list[sharing.Entry]:
        return await sharing.entries(connection, await _mailbox(connection, owner, mailbox))

    rows = [
        {"identifier": entry.spelling, "rights": sharing.ordered(entry.rights)} for entry in as_owner(settings, run)
    ]
    show(rows, as_json=as_json, empty="only the owner")


@acl.command("set")
@click.argument("owner")
@click.argument("mailbox")
@click.argument("identifier")
@click.argument("rights")
@click.option("--deny", "is_negative", is_flag=True, help="Take these rights away instead, whoever grants them.")
@settings_option
def set_acl(settings: Settings, owner: str, mailbox: str, identifier: str, rights: str, is_negative: bool) -> None:
    """Give IDENTIFIER (a login, or "anyone" of the tenant) exactly these rights; "" removes the entry."""
    letters = _letters(rights)

    async def run(connection: Connection) -> None:
        mailbox_id = await _mailbox(connection, owner, mailbox)
        name = accounts.login_name(identifier)
        try:
            await sharing.set_rights(connection, mailbox_id, name, "replace", letters, is_negative=is_negative)
        except NotFoundError:
            fail(f"no such identifier in the tenant: {identifier}", os.EX_NOUSER)

    as_owner(settings, run)


@acl.command("seen")
@click.argument("owner")
@click.argument("mailbox")
@click.argument("whose", type=click.Choice(["own", "shared"]))
@settings_option
def share_seen(settings: Settings, owner: str, mailbox: str, whose: str) -> None:
    r"""Say whether each viewer of a mailbox has a \Seen of its own, or all share one. Holds from the next SELECT on."""

    async def run(connection: Connection) -> None:
        mailbox_id = await _mailbox(connection, owner, mailbox)
        await sharing.share_seen(connection, mailbox_id, is_shared=whose == "shared")

    as_owner(settings, run)


async def _mailbox(connection: Connection, owner: str, mailbox: str) -> int:
    try:
        return await sharing.mailbox_of(connection, accounts.login_name(owner), mailbox)
    except NotFoundError:
        fail(f"no mailbox {mailbox} of {owner}", os.EX_NOUSER)


def _letters(rights: str) -> frozenset[str]:
    """The rights, with "c" and "d" for their members."""
    unknown = set(rights) - set(RIGHTS) - {"c", "d"}
    if unknown:
        fail(f"no such right: {', '.join(sorted(unknown))}; the rights are {RIGHTS}", os.EX_USAGE)
    return expanded(rights)
