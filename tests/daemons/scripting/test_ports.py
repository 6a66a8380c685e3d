"""What scripts learn of their owner's mailboxes, annotations, lists and memory; of nobody else's."""

from dataclasses import replace

import pytest

from daemons.context import Context
from daemons.scripting.owners import AccountOwner
from daemons.scripting.running import Scripting
from filters.sieve.actions import FileInto
from filters.sieve.ports import Envelope
from protocol.imap import objectid
from storage import address_lists, global_scripts, mailboxes, metadata, scripts, sharing, spam_standing
from storage.address_lists import Holder
from storage.errors import ExistsError
from storage.memory import Remember
from storage.metadata import SERVER, Bounds
from storage.spam_standing import Standing
from tests.conftest import Owner, Person, add_person
from tests.daemons.scripting.conftest import BOUNDS, MAIL, NOW, Filtered, activate
from tests.storage.messages_made import mailbox_id, new_message

ENTRIES = Bounds(100, 10_000)
REQUIRED = (
    'require ["fileinto", "mailbox", "mailboxid", "special-use", "mboxmetadata", "servermetadata", "extlists", "duplicate", '
    '"envelope", "enotify", "environment", "include", "relational", "comparator-i;ascii-numeric", "spamtest", "virustest"];\n'
)


async def holds(context: Context, owner: Owner, account: Person, test: str) -> bool:
    """Whether the test is true in a script of the account's."""
    await activate(owner, account, f'{REQUIRED} if {test} {{ fileinto "Yes"; }}')
    scripting = Scripting(context)  # one that knows nothing yet
    try:
        who = AccountOwner(account.tenant_id, account.account_id)
        result = await scripting.run(who, MAIL, Envelope("bob@example.org", account.login), now=NOW)
    finally:
        scripting.close()
    assert result is not None
    assert result.error is None, result.error
    return any(isinstance(action, FileInto) for action in result.actions)


@pytest.fixture
async def team(context: Context, account: Person, owner: Owner) -> Person:
    """bob, who shares two mailboxes with alice: into one she may put mail, the other she may read."""
    bob = await add_person(context.settings, owner, "bob@example.test")
    for name, rights in (("Open", "lrsi"), ("Closed", "lrs"), ("Hidden", "")):
        box = await mailboxes.create(owner, bob.account_id, name)
        await sharing.set_rights(owner, box.mailbox_id, account.login, "replace", rights, is_negative=False)
        await metadata.write(
            owner,
            bob.tenant_id,
            bob.account_id,
            box.mailbox_id,
            {"/shared/comment": b"shared"},
            bounds=ENTRIES,
            origin="",
        )
    return bob


@pytest.mark.usefixtures("team")
@pytest.mark.parametrize(
    ("test", "expected"),
    [
        ('mailboxexists "INBOX"', True),
        ('mailboxexists ["inbox", "Sent"]', True),
        ('mailboxexists ["Sent", "Nowhere"]', False),
        ('mailboxexists "Other Users/bob@example.test/Open"', True),
        ('mailboxexists "Other Users/bob@example.test/Closed"', False),
        ('mailboxexists "Other Users/bob@example.test/Hidden"', False),
        ('mailboxexists "Open"', False),
        (r'specialuse_exists "\\Junk"', True),
        (r'specialuse_exists ["\\junk", "\\Sent"]', True),
        (r'specialuse_exists "\\Important"', False),
        (r'specialuse_exists "Junk" "\\Junk"', True),
        (r'specialuse_exists "Sent" "\\Junk"', False),
        ('metadata :is "Other Users/bob@example.test/Closed" "/shared/comment" "shared"', True),
        ('metadataexists "Other Users/bob@example.test/Hidden" "/shared/comment"', False),
        (r'metadata :is "Junk" "/private/specialuse" "\\Junk"', True),
        ('metadataexists "Sent" "/private/comment"', False),
        ('servermetadataexists "/shared/comment"', False),
        ('mailboxidexists "F0"', False),
        ('mailboxidexists "nonsense"', False),
        ('valid_ext_list ":addrbook:default"', True),
        ('valid_ext_list ":addrbook:friends"', False),
        ('valid_ext_list ":other:default"', False),
        ('environment :is "name" "Postwerk"', True),
        ('environment :is "host" "mail.example.test"', True),
        ('environment :is "domain" "example.test"', True),
        ('environment :matches "version" "?*"', True),
        ('environment :is "remote-ip" ""', False),
        ('notify_method_capability "https://gate.example/sms" "online" "yes"', True),
        ('spamtest :value "eq" :comparator "i;ascii-numeric" "0"', True),
    ],
)
async def test_questions(context: Context, owner: Owner, account: Person, test: str, expected: bool) -> None:
    """Each is answered for alice as IMAP would show it to her."""
    assert await holds(context, owner, account, test) is expected


async def test_own_annotations(context: Context, owner: Owner, account: Person) -> None:
    """Private ones of the account and shared ones of the tenant's server are seen, another's private ones are not."""
    bob = await add_person(context.settings, owner, "bob@example.test")
    for person, values in ((account, {"/private/x": b"mine", "/shared/y": b"all"}), (bob, {"/private/z": b"his"})):
        await metadata.write(owner, person.tenant_id, person.account_id, SERVER, values, bounds=ENTRIES, origin="")
    assert await holds(context, owner, account, 'servermetadata :is "/PRIVATE/x" "mine"')
    assert await holds(context, owner, account, 'servermetadata :contains "/shared/y" "al"')
    assert not await holds(context, owner, account, 'servermetadataexists "/private/z"')


async def test_mailboxes_by_id(context: Context, owner: Owner, account: Person) -> None:
    """An id is that of a mailbox that the account may put mail into."""
    bob = await add_person(context.settings, owner, "bob@example.test")
    own = objectid.mailbox_id(await mailbox_id(owner, account, "Sent")).decode()
    other = objectid.mailbox_id(await mailbox_id(owner, bob, "Sent")).decode()
    assert await holds(context, owner, account, f'mailboxidexists "{own}"')
    assert not await holds(context, owner, account, f'mailboxidexists ["{own}", "{other}"]')


@pytest.mark.parametrize(
    ("values", "test", "expected"),
    [
        (["Bob@Example.ORG"], 'address :list "from" ":addrbook:default"', True),
        (["carol@example.org"], 'address :list "from" ":addrbook:default"', False),
        (["@example.org"], 'envelope :list "from" ":addrbook:default"', True),
        (["@org"], 'envelope :list "from" ":addrbook:default"', False),
        (["news"], 'header :list "subject" ":addrbook:default"', True),
        (["bob@example.org"], 'address :list "from" ":tenant:default"', False),
    ],
)
async def test_the_address_book(
    context: Context, owner: Owner, account: Person, values: list[str], test: str, expected: bool
) -> None:
    """Addresses are found whatever their case, by themselves or by their domain."""
    await address_lists.add(owner, Holder(account.tenant_id, account.account_id), "default", values)
    assert await holds(context, owner, account, test) is expected


async def test_whom_the_account_has_written_to(context: Context, owner: Owner, account: Person) -> None:
    """Their addresses are a list of the account's own, which no other account sees and nobody fills by hand."""
    bob = await add_person(context.settings, owner, "bob@example.test")
    test = 'address :list "from" ":addrbook:written"'
    kept = Standing(kept=5)
    await spam_standing.count(
        owner, [(bob.account_id, "bob@example.org", Standing(1)), (account.account_id, "bob@example.org", kept)]
    )
    assert not await holds(context, owner, account, test)
    await spam_standing.count(owner, [(account.account_id, "Bob@Example.org", Standing(answered=1))])
    assert await holds(context, owner, account, test)
    assert await holds(context, owner, account, 'valid_ext_list ":addrbook:written"')
    with pytest.raises(ExistsError):
        await address_lists.add(owner, Holder(account.tenant_id, account.account_id), "written", ["carol@example.org"])


async def test_lists_of_others(context: Context, scripting: Scripting, owner: Owner, account: Person) -> None:
    """A list of the tenant is everybody's, one of another account is not; a URI names an own list."""
    bob = await add_person(context.settings, owner, "bob@example.test")
    partners, own = Holder(account.tenant_id), Holder(account.tenant_id, account.account_id)
    await address_lists.add(owner, partners, "partners", ["bob@example.org", "carol@example.org", "@example.com"])
    await address_lists.add(owner, Holder(bob.tenant_id, bob.account_id), "friends", ["bob@example.org"])
    await address_lists.add(owner, own, "tag:example.test,2026:club", ["bob@example.org"])
    assert await holds(context, owner, account, 'address :list "from" ":tenant:partners"')
    assert await holds(
        context, owner, account, 'address :list "from" [":addrbook:friends", "tag:example.test,2026:club"]'
    )
    assert not await holds(context, owner, account, 'address :list "from" ":addrbook:friends"')
    assert not await holds(context, owner, account, 'valid_ext_list [":tenant:partners", ":tenant:friends"]')
    who = AccountOwner(account.tenant_id, account.account_id)
    assert await scripting.members(who, ":tenant:partners") == ["bob@example.org", "carol@example.org"]
    assert await scripting.members(who, ":addrbook:default") == []
    assert await scripting.members(who, ":addrbook:friends") == []


async def test_duplicates(context: Context, filtered: Filtered, owner: Owner, account: Person) -> None:
    """An id is a duplicate once a message was stored together with its memory; not by the run alone."""
    await activate(owner, account, 'require ["duplicate", "fileinto"]; if duplicate { fileinto "Again"; }')
    first, second = await filtered(), await filtered()
    assert first is not None
    assert second is not None
    assert [type(each).__name__ for each in second.actions] == ["Keep"]
    remembered = [Remember(account.account_id, "duplicate", each.unique_id, each.seconds) for each in first.tracked]
    message = new_message(account, await mailbox_id(owner, account), MAIL)
    await context.ingest.store([replace(message, effects=remembered)])
    third = await filtered()
    assert third is not None
    assert [type(each).__name__ for each in third.actions] == ["FileInto"]
    other = await filtered(MAIL.replace(b"<1@", b"<2@"))
    assert other is not None
    assert [type(each).__name__ for each in other.actions] == ["Keep"]


async def test_included_scripts(context: Context, filtered: Filtered, owner: Owner, account: Person) -> None:
    """Personal ones are the account's; global ones the tenant's, then the host's, those that only are for including too."""
    await add_person(context.settings, owner, "bob@example.test")
    await scripts.put(owner, account.account_id, "mine", b'require "fileinto"; fileinto "mine";', BOUNDS)
    for tenant, name in ((None, "both"), ("example", "both"), (None, "host")):
        source = f'require "fileinto"; fileinto "{name} of {tenant}";'
        await global_scripts.put(owner, tenant, name, "library", source.encode())
    await activate(
        owner,
        account,
        'require "include"; include "mine"; include :global "both"; include :global "host"; include :optional "none";',
    )
    result = await filtered()
    assert result is not None
    assert result.error is None
    assert [each.mailbox for each in result.actions if isinstance(each, FileInto)] == [
        "mine",
        "both of example",
        "host of None",
    ]
