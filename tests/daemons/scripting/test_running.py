"""Which scripts run over an account's mail, in which order, and how soon a change of them counts."""

import asyncio

import pytest

from daemons.context import Context
from daemons.scripting.owners import AccountOwner
from daemons.scripting.running import Scripting
from filters.sieve.actions import Discard, FileInto, Keep, Redirect, Result
from storage import accounts, global_scripts, scripts, settings
from storage.blobs.keys import KeyRing
from storage.global_scripts import Place
from tests.conftest import Owner, Person, add_person
from tests.daemons.scripting.conftest import MAIL, Filtered, activate


def mailboxes(result: Result | None) -> list[str]:
    """Where the message goes."""
    assert result is not None
    assert result.error is None
    return [each.mailbox if isinstance(each, FileInto) else type(each).__name__ for each in result.actions]


async def changed(context: Context) -> asyncio.Event:
    """Set when the process has heard of the next change."""
    heard = asyncio.Event()
    context.changes.subscribe_scripts(lambda _: heard.set())
    return heard


async def heard_of(event: asyncio.Event) -> None:
    """Wait for it."""
    async with asyncio.timeout(20):
        await event.wait()


async def test_mail_of_who_has_no_script_costs_no_query(filtered: Filtered, owner: Owner) -> None:
    """Once that is known, the database is not asked again."""
    assert await filtered() is None
    async with owner.transaction():
        await owner.execute("LOCK TABLE sieve_script, sieve_global, simple_settings, account")
        async with asyncio.timeout(20):
            assert await filtered() is None


async def test_a_script_counts_from_the_next_message_on(
    filtered: Filtered, context: Context, owner: Owner, account: Person
) -> None:
    """Activating, replacing and deactivating it anywhere is heard of in every process."""
    assert await filtered() is None
    for source, expected in (('fileinto "A";', ["A"]), ('fileinto "B";', ["B"])):
        told = await changed(context)
        await activate(owner, account, f'require "fileinto"; {source}')
        await heard_of(told)
        assert mailboxes(await filtered()) == expected
    told = await changed(context)
    await scripts.activate(owner, account.account_id, None)
    await heard_of(told)
    assert await filtered() is None


async def test_simple_settings_count_from_the_next_message_on(
    filtered: Filtered, context: Context, owner: Owner, account: Person
) -> None:
    """What they are compiled to runs like a script of the account's own."""
    assert await filtered() is None
    told = await changed(context)
    await settings.write(owner, account.account_id, "{}", b'require "fileinto"; fileinto "Simple";')
    await heard_of(told)
    assert mailboxes(await filtered()) == ["Simple"]


async def test_others_scripts_are_not_ones_own(
    filtered: Filtered, context: Context, owner: Owner, account: Person
) -> None:
    """A script of another account changes nothing."""
    await activate(owner, await add_person(context.settings, owner, "bob@example.test"), "discard;")
    assert await filtered() is None


async def test_the_order_of_scripts(filtered: Filtered, context: Context, owner: Owner, account: Person) -> None:
    """The host's, the tenant's, the simple settings, the own script; then the tenant's and the host's that come after."""
    variable = 'require ["variables", "fileinto", "include", "copy"]; global "way"; '
    scripts_of_many: list[tuple[str | None, str, Place, str]] = [
        (None, "2-host", "before", "b"),
        (None, "1-host", "before", "a"),
        ("example", "tenant", "before", "c"),
        ("example", "tenant-after", "after", "f"),
        (None, "host-after", "after", "g"),
    ]
    for tenant, name, place, letter in scripts_of_many:
        source = f'{variable} set "way" "${{way}}{letter}"; fileinto :copy "${{way}}";'
        await global_scripts.put(owner, tenant, name, place, source.encode())
    simple = f'{variable} set "way" "${{way}}d";'
    await settings.write(owner, account.account_id, "{}", simple.encode())
    await activate(owner, account, f'{variable} set "way" "${{way}}e";')
    assert mailboxes(await filtered()) == ["a", "ab", "abc", "abcdef", "abcdefg", "Keep"]


async def test_what_one_script_takes_away_the_next_does_not_see(
    filtered: Filtered, owner: Owner, account: Person
) -> None:
    """A script of the tenant that discards a message leaves nothing to the account's own one."""
    await global_scripts.put(owner, "example", "first", "before", b"discard;")
    await activate(owner, account, 'require "fileinto"; fileinto "Mine";')
    result = await filtered()
    assert result is not None
    assert result.actions == (Discard(),)


async def test_a_tenants_script_is_for_its_own_accounts(
    filtered: Filtered, context: Context, owner: Owner, account: Person
) -> None:
    """Another tenant's global script does not run."""
    await accounts.add_tenant(owner, "other", KeyRing(context.settings.master_key_file).new_tenant_key())
    await global_scripts.put(owner, "other", "theirs", "before", b"discard;")
    assert await filtered() is None


async def test_a_global_script_counts_for_accounts_that_had_none(
    filtered: Filtered, context: Context, owner: Owner
) -> None:
    """It is heard of although nothing about the account has changed."""
    assert await filtered() is None
    told = await changed(context)
    await global_scripts.put(owner, None, "all", "before", b'require "fileinto"; fileinto "All";')
    await heard_of(told)
    assert mailboxes(await filtered()) == ["All"]


async def test_a_script_that_may_not_run_any_more(
    filtered: Filtered, scripting: Scripting, context: Context, owner: Owner, account: Person
) -> None:
    """Mail stays in the inbox and the fault is told; with another script the key of the telling is another one, too."""
    who = AccountOwner(account.tenant_id, account.account_id)
    await activate(owner, account, 'require "vnd.gone"; discard;', name="old")
    result = await filtered()
    assert result is not None
    assert result.actions == (Keep(is_implicit=True),)
    assert result.error is not None
    assert (result.error.line, result.error_script) == (1, "old")
    version = await scripting.version(who)
    assert version == await scripting.version(who)
    told = await changed(context)
    await owner.execute("UPDATE sieve_script SET octets = 'discard'")
    await heard_of(told)
    assert await scripting.version(who) != version


async def test_what_came_before_a_script_that_may_not_run_any_more(
    filtered: Filtered, owner: Owner, account: Person
) -> None:
    """The tenant's script has done its part, and who is not reached by the mistake is not told of it."""
    await global_scripts.put(
        owner,
        "example",
        "first",
        "before",
        b'require "copy"; if header :is "subject" "x" { discard; } redirect :copy "c@example.org";',
    )
    await activate(owner, account, 'require "vnd.gone"; discard;')
    result = await filtered()
    assert result is not None
    assert result.actions == (Redirect("c@example.org"), Keep(is_implicit=True))
    assert result.error is not None
    result = await filtered(b"Subject: x\r\n\r\n")
    assert result is not None
    assert (result.actions, result.error) == ((Redirect("c@example.org"),), None)


async def test_a_broken_global_script_is_left_out(filtered: Filtered, owner: Owner, account: Person) -> None:
    """What the operator did wrong neither keeps the account's rules from running nor is told to its owner."""
    await owner.execute("INSERT INTO sieve_global (name, place, octets) VALUES ('bad', 'before', 'nonsense')")
    await activate(owner, account, 'require "fileinto"; fileinto "Mine";')
    assert mailboxes(await filtered()) == ["Mine"]


@pytest.mark.parametrize("octets", [b"", b"no header", MAIL * 100])
async def test_any_message_runs(filtered: Filtered, owner: Owner, account: Person, octets: bytes) -> None:
    """What is no proper message is filtered like any other."""
    await activate(owner, account, 'require "fileinto"; if not header :contains "Subject" "?" { fileinto "A"; }')
    assert mailboxes(await filtered(octets)) == ["A"]
