"""Simple settings of accounts: read, changed, compiled. What is stored was checked against the host's limits, and runs."""

from collections.abc import Callable, Iterator

from config.rules import zone_of
from config.settings import Settings
from daemons.notifying import can_notify
from daemons.sieve import capabilities_of, limits_of
from filters.sieve.limits import Limits
from filters.sieve.script import compile_script
from filters.simple import settings as simple
from filters.simple.compiling import FaxSign, compiled, demand
from protocol.address import AddressError, parse_addr_spec
from protocol.sieve.errors import SieveError
from storage import global_scripts
from storage import settings as stored
from storage.accounts import login_name
from storage.errors import NotFoundError
from storage.pool import Connection, Pool, reported

Edit = Callable[[simple.Settings], simple.Settings]


class RulesError(Exception):
    """The settings cannot be stored. The message is for whoever makes them."""


async def settings_of(connection: "Connection | Pool", account_id: int) -> simple.Settings:
    """What the account has set. Raises StorageError."""
    return _read(await stored.read(connection, account_id))


async def change(connection: Connection, host: Settings, account_id: int, edit: Edit) -> simple.Settings:
    """Store what `edit` makes of the settings as they are. Raises RulesError, NotFoundError, StorageError."""
    async with reported(), connection.transaction():
        tenant_id, document = await stored.read_locked(connection, account_id)
        settings = _checked(edit(_read(document)))
        script = script_of(host, settings)
        own = await global_scripts.addresses_of(connection, tenant_id, account_id)
        for address in _forwards(settings):
            if login_name(address) in own:
                raise RulesError(f"{address} is an address of this account: it would forward to itself")
        await stored.write(connection, account_id, simple.to_json(settings), script)
    return settings


async def recompile(
    connection: Connection, host: Settings, is_over: Callable[[], bool] = lambda: False
) -> dict[str, str]:
    """Compile everybody's settings for the host as it is now. By login, what is wrong with those that stay as they were.

    Raises StorageError.
    """
    failed: dict[str, str] = {}
    for account_id, login in await stored.list_accounts(connection):
        if is_over():
            break
        try:
            await change(connection, host, account_id, lambda settings: settings)
        except (RulesError, ValueError) as error:  # ValueError: a document that this version cannot read
            failed[login] = str(error)
        except NotFoundError:
            continue  # gone meanwhile
    return failed


def script_of(host: Settings, settings: simple.Settings) -> bytes | None:
    """The script that does what the settings say; None: all mail stays where it comes in. Raises RulesError."""
    limits = limits_of(host.sieve)
    _check_limits(settings, host.rules.rule_limit, limits)
    for address in _forwards(settings):
        try:
            parse_addr_spec(address)
        except AddressError as error:
            raise RulesError(f"{address} is no address: {error}") from error
    try:
        zone = zone_of(settings.time_zone or host.rules.time_zone)
    except ValueError as error:
        raise RulesError(str(error)) from error
    text = compiled(settings, zone, FaxSign(host.rules.fax_subject, host.rules.fax_senders))
    if text is None:
        return None
    script = text.encode()
    try:
        compile_script(script, capabilities=capabilities_of(host.sieve), limits=limits)
    except SieveError as error:
        raise RulesError("; ".join(dict.fromkeys(fault.text for fault in error.faults))) from error
    for uri in dict.fromkeys(uri for rule in settings.rules for uri in rule.notify):
        if not can_notify(host.notifier, uri):
            raise RulesError(f"nobody can be notified here by {uri}")
    return script


def _check_limits(settings: simple.Settings, rule_limit: int, limits: Limits) -> None:
    """A script that runs into a limit decides nothing: that must not depend on the mail. Raises RulesError."""
    if len(settings.rules) > rule_limit:
        raise RulesError(f"{len(settings.rules)} rules: rules.rule_limit is {rule_limit}")
    most = demand(settings)
    for name, count in (
        ("redirects", most.redirects),
        ("notifications", most.notifications),
        ("actions", most.actions),
    ):
        if count > (limit := getattr(limits, name)):
            raise RulesError(f"a message could cause {count} {name}: sieve.{name} is {limit}")


def _forwards(settings: simple.Settings) -> Iterator[str]:
    for rule in settings.rules:
        yield from rule.forward_to
    if settings.forwarding is not None:
        yield from settings.forwarding.addresses


def _read(document: str | None) -> simple.Settings:
    return simple.Settings() if document is None else simple.from_json(document)


def _checked(settings: simple.Settings) -> simple.Settings:
    """As it will be read again: whoever made it in a program went past the limits of its fields. Raises RulesError."""
    try:
        return simple.from_json(simple.to_json(settings))
    except ValueError as error:
        raise RulesError(str(error)) from error
