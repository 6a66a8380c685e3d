"""Scripts that run after what happens in mailboxes (RFC 6785): whose they are, what they may send, and what goes wrong."""

from storage import global_scripts, mailboxes, quota, scripts, sharing
from tests.conftest import Owner, Person, add_person
from tests.daemons.imap.conftest import Service, mail
from tests.daemons.imap.conversation import Client
from tests.daemons.imap.proofs import proves
from tests.daemons.scripting.conftest import BOUNDS

ENTRY = b"/shared/imapsieve/script"
KEYWORD = 'require ["imapsieve", "imap4flags"]; addflag "{}";'


async def put(owner: Owner, person: Person, name: str, source: str) -> None:
    """Give the person a script, which is not active."""
    await scripts.put(owner, person.account_id, name, source.encode(), BOUNDS)


async def append(client: Client, mailbox: bytes = b"INBOX", octets: bytes = b"") -> None:
    """Store a message there."""
    octets = octets or mail()
    await client.ok(b'APPEND "%b" {%d+}\r\n%b' % (mailbox, len(octets), octets))


async def flags(owner: Owner, person: Person, name: str = "INBOX") -> list[list[str]]:
    """The keywords of the messages there, `deleted` among them."""
    rows = await owner.fetch(
        "SELECT flags & 8 <> 0, coalesce(keywords, '{}') FROM message JOIN mailbox USING (mailbox_id) "
        "WHERE account_id = $1 AND name = $2 ORDER BY uid",
        person.account_id, name,
    )  # fmt: skip
    return [[*(["deleted"] if is_deleted else []), *keywords] for is_deleted, keywords in rows]


async def queued(owner: Owner) -> list[tuple[str, str]]:
    """(sender, recipient) of what waits in the queue."""
    rows = await owner.fetch(
        "SELECT reverse_path, forward_path FROM outbound_recipient JOIN outbound_message USING (outbound_id) ORDER BY forward_path"
    )
    return [(row[0], row[1]) for row in rows]


@proves(b"IMAPSIEVE=")
async def test_where_scripts_come_from(service: Service, owner: Owner) -> None:
    """IMAPSIEVE tells where ManageSieve is; a script put there runs once a mailbox names it (RFC 6785 §2.1)."""
    async with await service.client() as client:
        (line,) = await client.ok(b"CAPABILITY")
        assert b"IMAPSIEVE=sieve://mail.example.test" in line.split()
        await put(owner, service.person, "mark", KEYWORD.format("marked"))
        await append(client)
        await client.ok(b'SETMETADATA INBOX (%b "mark")' % ENTRY)
        await append(client)
        await client.ok(b"SETMETADATA INBOX (%b NIL)" % ENTRY)
        await append(client)
    assert await flags(owner, service.person) == [[], ["marked"], []]


async def test_strangers_are_not_told_of_scripts(service: Service) -> None:
    """Before the login nothing is told of scripts."""
    async with await Client.connect(service.endpoints["imaps"], service.tls) as client:
        (line,) = await client.ok(b"CAPABILITY")
        assert b"IMAPSIEVE" not in line


async def test_the_servers_script(service: Service, owner: Owner) -> None:
    """It is for all mailboxes of the tenant's accounts that have no annotation of their own; an empty one means none."""
    bob = await add_person(service.context.settings, owner, "bob@example.test")
    await quota.set_administrator(owner, service.person.login, is_granted=True)
    for name, tenant in (("all", None), ("theirs", "example")):
        await global_scripts.put(owner, tenant, name, "library", KEYWORD.format(name).encode())
    await put(owner, service.person, "own", KEYWORD.format("own"))
    async with await service.client() as client:
        await client.ok(b'SETMETADATA "" (%b "all")' % ENTRY)
        await client.ok(b'SETMETADATA Sent (%b "theirs")' % ENTRY)
        await client.ok(b'SETMETADATA Junk (%b "")' % ENTRY)
        await client.ok(b'SETMETADATA Trash (%b "own")' % ENTRY)
        await client.ok(b'SETMETADATA Drafts (%b "nothing")' % ENTRY)
        for mailbox in (b"INBOX", b"Sent", b"Junk", b"Trash", b"Drafts"):
            await append(client, mailbox)
    async with await Client.connect(service.endpoints["imaps"], service.tls) as client:
        await client.login(bob.login)
        await append(client)
    found = [await flags(owner, service.person, name) for name in ("INBOX", "Sent", "Junk", "Trash", "Drafts")]
    assert found == [[["all"]], [["theirs"]], [[]], [["own"]], [[]]]
    assert await flags(owner, bob) == [["all"]]


async def test_a_shared_mailbox_runs_its_owners_script(service: Service, owner: Owner) -> None:
    """Whoever stores mail there: the owner's script runs in the owner's name, and knows who did it."""
    bob = await add_person(service.context.settings, owner, "bob@example.test")
    source = (
        'require ["imapsieve", "environment", "fileinto"]; if environment "imap.user" "{}" {{ fileinto "Archive"; }}'
    )
    await put(owner, bob, "theirs", source.format(service.person.login))
    await put(owner, service.person, "theirs", KEYWORD.format("wrong"))
    async with service.context.pool.acquire() as connection:
        box = await mailboxes.create(connection, bob.account_id, "Open")
        await sharing.set_rights(
            connection, box.mailbox_id, service.person.login, "replace", "lrswi", is_negative=False
        )
    async with await service.client() as client:
        await client.ok(b'SETMETADATA "Other Users/bob@example.test/Open" (%b "theirs")' % ENTRY)
        await append(client, b"Other Users/bob@example.test/Open")
    assert await flags(owner, bob, "Open") == [["deleted"]]
    assert await flags(owner, bob, "Archive") == [[]]


async def test_mail_is_sent_on_and_notified(service: Service, owner: Owner) -> None:
    """redirect sends the message in the owner's name, notify a mail of its own; the message stays, unless it was sent on."""
    await put(
        owner,
        service.person,
        "send",
        'require ["imapsieve", "enotify", "copy", "fcc"]; notify :message "new" :fcc "Sent" "mailto:phone@example.org"; '
        'if header :contains "subject" "copy" { redirect :copy "carol@example.org"; } else { redirect "dave@example.org"; }',
    )
    async with await service.client() as client:
        await client.ok(b'SETMETADATA INBOX (%b "send")' % ENTRY)
        await append(client, octets=mail("copy"))
        await append(client, octets=mail("other"))
    assert await flags(owner, service.person) == [[], ["deleted"]]
    sent = await queued(owner)
    assert ("alice@example.test", "carol@example.org") in sent
    assert ("alice@example.test", "dave@example.org") in sent
    assert [path for _, path in sent].count("phone@example.org") == 2
    assert await flags(owner, service.person, "Sent") == [[], []]


async def test_the_owner_hears_of_mistakes_once(service: Service, owner: Owner) -> None:
    """The command has done its work, the message lies there, and one mail tells of the script's mistake."""
    await put(owner, service.person, "bad", 'require ["imapsieve", "reject"]; reject "no";')
    async with await service.client() as client:
        await client.ok(b'SETMETADATA Archive (%b "bad")' % ENTRY)
        await append(client, b"Archive")
        await append(client, b"Archive")
    assert await flags(owner, service.person, "Archive") == [[], []]
    assert await flags(owner, service.person) == [[]]
    subject = await owner.fetchval(
        "SELECT subject FROM content JOIN message USING (content_id) JOIN mailbox USING (mailbox_id) WHERE name = 'INBOX'"
    )
    assert subject == "Ihre E-Mail-Regeln enthalten einen Fehler"


async def test_no_room_for_copies(service: Service, owner: Owner) -> None:
    """What a script copies counts like any other mail; without room the message lies where it was stored."""
    await put(owner, service.person, "copy", 'require ["imapsieve", "fileinto", "copy"]; fileinto :copy "Archive";')
    await quota.limit_account(owner, service.person.login, None, 1)
    async with await service.client() as client:
        await client.ok(b'SETMETADATA INBOX (%b "copy")' % ENTRY)
        await append(client)
    assert await flags(owner, service.person) == [[]]
    assert await flags(owner, service.person, "Archive") == []


async def test_a_script_rewrites(service: Service, owner: Owner) -> None:
    """A message that a script edits is replaced by what it made of it, with a UID of its own."""
    await put(
        owner,
        service.person,
        "edit",
        'require ["imapsieve", "editheader", "imap4flags"]; addheader "X-New" "yes"; addflag "e";',
    )
    async with await service.client() as client:
        await client.ok(b'SETMETADATA INBOX (%b "edit")' % ENTRY)
        await append(client, octets=mail("edited"))
        await client.ok(b"SELECT INBOX")
        (line,) = await client.ok(b"UID FETCH 1:* (FLAGS BODY.PEEK[])")
    whole = b"X-New: yes\r\n" + mail("edited")
    assert line == b"* 1 FETCH (UID 2 FLAGS (\\Recent e) BODY[] {%d}\r\n%b)" % (len(whole), whole)


async def test_duplicates_of_events(service: Service, owner: Owner) -> None:
    """The duplicate test remembers what it saw, as at delivery."""
    await put(
        owner,
        service.person,
        "once",
        'require ["imapsieve", "duplicate", "imap4flags"]; if duplicate { addflag "again"; }',
    )
    async with await service.client() as client:
        await client.ok(b'SETMETADATA INBOX (%b "once")' % ENTRY)
        await append(client)
        await append(client)
    assert await flags(owner, service.person) == [[], ["again"]]
