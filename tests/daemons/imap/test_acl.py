r"""Shared mailboxes over real connections: access control lists, rights in every command, teams, and a \Seen of one's own."""

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from config.settings import Settings
from storage import accounts, sharing, teams
from storage.blobs.keys import KeyRing
from tests.conftest import Owner, Person, add_person
from tests.daemons.imap.conftest import Service, mail
from tests.daemons.imap.conversation import Client
from tests.daemons.imap.proofs import proves


@dataclass
class Two:
    """Alice, whose mailboxes these are, and Bob, each with a connection."""

    service: Service
    owner: Owner
    bob: Person
    alices: Client
    bobs: Client

    async def box(self, rights: str, name: str = "box", *messages: str) -> str:
        """A mailbox of Alice with messages (flags each), on which Bob has these rights; the name that Bob knows."""
        mailbox_id = await self.service.mailbox_id(name)
        for flags in messages:
            await self.service.deliver(mail(), mailbox=name, flags=flags)
        await self.alices.ok(f'SETACL {name} {self.bob.login} "{rights}"'.encode())
        assert mailbox_id
        return f'"Other Users/{self.service.person.login}/{name}"'

    async def refused(self, command: str, code: str) -> None:
        """Bob's command is answered NO with that code."""
        *_, answer = await self.bobs.command(command.encode())
        assert answer.startswith(f"t NO [{code}]".encode()), (command, answer)

    async def client(self, login: str) -> Client:
        """One more connection."""
        client = await Client.connect(self.service.endpoints["imaps"], self.service.tls)
        await client.login(login)
        return client


@pytest.fixture
async def two(service: Service, settings: Settings, owner: Owner) -> AsyncIterator[Two]:
    """Alice and Bob, logged in."""
    bob = await add_person(settings, owner, "bob@example.test")
    async with await service.client() as alices:
        made = Two(service, owner, bob, alices, await Client.connect(service.endpoints["imaps"], service.tls))
        async with made.bobs:
            await made.bobs.login(bob.login)
            yield made


@proves(b"ACL")
async def test_acl(two: Two) -> None:
    """Lists are set, changed, read and deleted; negative and virtual rights are as RFC 4314 has them."""
    alices, bob = two.alices, two.bob.login.encode()
    own = b"alice@example.test lrswipkxteacd"
    await alices.ok(b"CREATE box")
    assert await alices.ok(b"GETACL box") == [b"* ACL box " + own]
    await alices.ok(b"SETACL box %b lrd" % bob)
    assert await alices.ok(b"GETACL box") == [b"* ACL box %b %b lrted" % (own, bob)]
    await alices.ok(b"SETACL box %b +ci" % bob)
    await alices.ok(b"SETACL box %b -e" % bob)
    await alices.ok(b"SETACL box anyone lrs")
    await alices.ok(b"SETACL box -%b i" % bob)
    (line,) = await alices.ok(b"GETACL box")
    assert line == b"* ACL box %b anyone lrs %b lrikxtcd -%b i" % (own, bob, bob)
    name = f'"Other Users/{two.service.person.login}/box"'.encode()
    assert await two.bobs.ok(b"MYRIGHTS " + name) == [b"* MYRIGHTS %b lrskxtcd" % name]
    await alices.ok(b"DELETEACL box " + bob)
    await alices.ok(b"DELETEACL box -" + bob)
    assert await alices.ok(b"GETACL box") == [b"* ACL box %b anyone lrs" % own]
    assert await alices.ok(b"LISTRIGHTS box " + bob) == [b'* LISTRIGHTS box %b "" l r s w i p k x t e a c d' % bob]
    assert await alices.ok(b"LISTRIGHTS box Alice@example.test") == [
        b"* LISTRIGHTS box Alice@example.test lrswipkxteacd"
    ]
    for wrong in (b"SETACL box %b lrQ" % bob, b"SETACL box %b q" % bob, b'SETACL box "" lr', b'SETACL box "-" lr'):
        *_, refused = await alices.command(wrong)
        assert refused.startswith(b"t BAD "), wrong
    for wrong in (
        b"SETACL box nobody@example.test lr",
        b"SETACL box alice@example.test lr",
        b"DELETEACL box alice@example.test",
    ):
        *_, refused = await alices.command(wrong)
        assert refused.startswith(b"t NO [CANNOT] "), wrong


@proves(b"RIGHTS=")
async def test_rights_capability(two: Two) -> None:
    """The rights beyond RFC 2086 are announced: exactly those that MYRIGHTS can tell (RFC 4314 §2.2)."""
    (line,) = await two.alices.ok(b"CAPABILITY")
    (token,) = [token for token in line.split() if token.startswith(b"RIGHTS=")]
    (mine,) = await two.alices.ok(b"MYRIGHTS INBOX")
    assert set(token.removeprefix(b"RIGHTS=")) == set(mine.split()[-1]) - set(b"lrswipacd")


@proves(b"LIST-MYRIGHTS")
async def test_list_myrights(two: Two) -> None:
    """LIST tells rights with each mailbox (RFC 8440)."""
    name = (await two.box("lr")).encode()
    told = await two.bobs.ok(b'LIST "" ("Other Users/%/%" INBOX) RETURN (MYRIGHTS)')
    assert told == [
        rb'* LIST (\HasNoChildren) "/" INBOX',
        b"* MYRIGHTS INBOX lrswipkxteacd",
        rb'* LIST (\HasNoChildren) "/" ' + name,
        b"* MYRIGHTS %b lr" % name,
    ]


async def test_roots_of_namespaces_show_when_they_hold_something(two: Two) -> None:
    """The levels above a visible mailbox are told to a "%" only, as names that do not exist (RFC 3501 §6.3.8, RFC 4314 §4)."""
    assert [line for line in await two.bobs.ok(b'LIST "" %') if b"Other" in line] == []
    name = (await two.box("lr", "deep/box")).encode()
    assert [line for line in await two.bobs.ok(b'LIST "" %') if b"Other" in line] == [
        rb'* LIST (\Noselect \HasChildren) "/" "Other Users"'
    ]
    assert await two.bobs.ok(b'LIST "Other Users/" (% %/%) RETURN (CHILDREN)') == [
        rb'* LIST (\NonExistent \HasChildren) "/" "Other Users/alice@example.test"',
        rb'* LIST (\NonExistent \HasChildren) "/" "Other Users/alice@example.test/deep"',
    ]
    assert await two.bobs.ok(b'LIST "" Other*') == [rb'* LIST (\HasNoChildren) "/" ' + name]


async def test_what_may_not_be_looked_up_does_not_exist(two: Two) -> None:
    """Without "l" every command answers as for a name that no mailbox has, with it as for a lack of rights (RFC 4314 §6)."""
    name, nothing = await two.box(""), '"Other Users/alice@example.test/nothing"'
    commands = ["SELECT {}", "STATUS {} (MESSAGES)", "GETACL {}", "MYRIGHTS {}", "LISTRIGHTS {} anyone", "DELETE {}"]
    commands += ["SETACL {} anyone lr", "DELETEACL {} anyone", "RENAME {} x", "CREATE {}"]
    for command in commands:
        answers = [await two.bobs.command(command.format(each).encode()) for each in (name, nothing)]
        assert answers[0] == answers[1], command
        assert answers[0][-1].startswith(b"t NO [NONEXISTENT] "), command
    await two.alices.ok(b"SETACL box bob@example.test l")
    for command in commands:
        if "MYRIGHTS" not in command and "CREATE" not in command:
            await two.refused(command.format(name), "NOPERM")
    assert await two.bobs.ok(f'LIST "" {name} RETURN (STATUS (MESSAGES))'.encode()) == [
        rb'* LIST (\Noselect \HasNoChildren) "/" ' + name.encode()
    ]


async def test_select_by_rights(two: Two) -> None:
    """SELECT says READ-ONLY and PERMANENTFLAGS by rights (RFC 4314 §5.1.1, §5.2)."""
    for rights, code, flags in (
        ("lr", b"READ-ONLY", b""),
        ("lrs", b"READ-WRITE", rb"\Seen"),
        ("lri", b"READ-WRITE", b""),
        ("lrw", b"READ-WRITE", rb"\Answered \Flagged \Draft \*"),
        ("lrte", b"READ-WRITE", rb"\Deleted"),
    ):
        name = await two.box(rights)
        *told, selected = await two.bobs.command(f"SELECT {name}".encode())
        assert selected.startswith(b"t OK [%b]" % code), rights
        assert any(line.startswith(b"* OK [PERMANENTFLAGS (%b)]" % flags) for line in told), (rights, told)


async def test_store_by_rights(two: Two) -> None:
    """STORE changes the flags that may be changed, and fails when there is none among those named (RFC 4314 §4)."""
    name = await two.box("lrs", "box", r"\Flagged Kept")
    await two.bobs.ok(f"SELECT {name}".encode())
    assert await two.bobs.ok(rb"STORE 1 +FLAGS (\Seen \Deleted \Answered Word)") == [
        rb"* 1 FETCH (FLAGS (\Seen \Flagged \Recent Kept))"
    ]
    await two.refused(r"STORE 1 FLAGS (\Draft)", "NOPERM")
    assert await two.bobs.ok(rb"STORE 1 FLAGS ()") == [rb"* 1 FETCH (FLAGS (\Flagged \Recent Kept))"]
    await two.refused(r"STORE 1 +FLAGS (\Deleted)", "NOPERM")
    await two.refused(r"STORE 1 -FLAGS (Kept)", "NOPERM")
    await two.refused("EXPUNGE", "NOPERM")
    await two.refused("UID EXPUNGE 1", "NOPERM")
    await two.refused("MOVE 1 INBOX", "NOPERM")
    await two.bobs.ok(b"COPY 1 INBOX")
    await two.bobs.ok(b"EXAMINE INBOX")
    assert await two.bobs.ok(b"FETCH 1 FLAGS") == [rb"* 1 FETCH (FLAGS (\Flagged \Recent Kept))"]


async def test_fetch_and_close_by_rights(two: Two) -> None:
    r"""Without "s" a FETCH sets no \Seen, without "e" a CLOSE expunges nothing, and neither fails (RFC 4314 §4)."""
    name = await two.box("lrw", "box", r"\Deleted")
    await two.bobs.ok(f"SELECT {name}".encode())
    assert b"Seen" not in b"".join(await two.bobs.ok(b"FETCH 1 (FLAGS BODY[TEXT])"))
    await two.bobs.ok(b"CLOSE")
    assert await two.alices.ok(b"STATUS box (MESSAGES UNSEEN)") == [b"* STATUS box (MESSAGES 1 UNSEEN 1)"]
    await two.alices.ok(b"SETACL box bob@example.test lre")
    await two.bobs.ok(f"SELECT {name}".encode())
    await two.bobs.ok(b"CLOSE")
    assert await two.alices.ok(b"STATUS box (MESSAGES)") == [b"* STATUS box (MESSAGES 0)"]


async def test_append_and_copy_by_rights(two: Two) -> None:
    """With "i" messages come in, with those of their flags that the rights allow (RFC 4314 §4, the example of COPY)."""
    name = await two.box("lr")
    await two.service.deliver(mail(), mailbox="src")
    await two.refused(f"APPEND {name} {{6+}}\r\nA: b\r\n", "NOPERM")
    await two.bobs.ok(rb"APPEND INBOX (\Seen \Deleted \Flagged Word) {6+}" + b"\r\nA: b\r\n")
    await two.bobs.ok(b"SELECT INBOX")
    await two.refused(f"COPY 1 {name}", "NOPERM")
    for rights, kept in (("lri", b""), ("lriw", rb"\Flagged Word"), ("lrist", rb"\Seen \Deleted")):
        await two.alices.ok(f"SETACL box bob@example.test {rights}".encode())
        await two.bobs.ok(f"COPY 1 {name}".encode())
        await two.bobs.ok(f"APPEND {name} (\\Seen \\Deleted \\Flagged Word) {{6+}}\r\nA: b\r\n".encode())
        await two.alices.ok(b"EXAMINE box")
        for line in (await two.alices.ok(b"FETCH 1:* FLAGS"))[-2:]:
            flags = line.split(b"FLAGS (")[1].removesuffix(b"))").replace(rb"\Recent", b"").split()
            assert flags == kept.split(), (rights, line)
        await two.alices.ok(b"UNSELECT")
    await two.refused('MOVE 1 "Other Users/alice@example.test/nothing"', "TRYCREATE")


async def test_create_rename_delete_by_rights(two: Two) -> None:
    """CREATE needs "k" above, DELETE "x", RENAME both; what is new inherits, and nothing changes its owner (RFC 4314 §4)."""
    name = (await two.box("lr")).strip('"')
    await two.refused(f'CREATE "{name}/new"', "NOPERM")
    await two.alices.ok(b"SETACL box bob@example.test lrk")
    await two.bobs.ok(f'CREATE "{name}/new/one"'.encode())
    assert await two.bobs.ok(f'MYRIGHTS "{name}/new/one"'.encode()) == [f'* MYRIGHTS "{name}/new/one" lrkc'.encode()]
    await two.refused(f'DELETE "{name}/new/one"', "NOPERM")
    await two.refused(f'RENAME "{name}/new/one" "{name}/two"', "NOPERM")
    await two.alices.ok(b"SETACL box/new/one bob@example.test lrkxa")
    await two.bobs.ok(f'RENAME "{name}/new/one" "{name}/two"'.encode())
    assert await two.bobs.ok(f'MYRIGHTS "{name}/two"'.encode()) == [f'* MYRIGHTS "{name}/two" lrkxac'.encode()]
    await two.refused(f'RENAME "{name}/two" mine', "CANNOT")
    await two.refused(f'RENAME Sent "{name}/sent"', "CANNOT")
    await two.bobs.ok(f'SETACL "{name}/two" anyone lr'.encode())
    await two.bobs.ok(f'DELETE "{name}/two"'.encode())
    await two.refused('CREATE "Other Users/alice@example.test/top"', "NONEXISTENT")
    await two.alices.ok(b"SETACL INBOX bob@example.test lkx")
    await two.bobs.ok(b'CREATE "Other Users/alice@example.test/top"')
    assert b"\r\n".join(await two.alices.ok(b'LIST "" (top box/*)')) == (
        b'* LIST (\\HasNoChildren) "/" box/new\r\n* LIST (\\HasNoChildren) "/" top'
    )
    await two.refused('DELETE "Other Users/alice@example.test/INBOX"', "CANNOT")
    await two.refused('RENAME "Other Users/alice@example.test/INBOX" "Other Users/alice@example.test/x"', "CANNOT")


async def test_subscriptions_to_mailboxes_of_others(two: Two) -> None:
    r"""A mailbox of another can be subscribed; when it may be looked up no more, it is \NonExistent (RFC 5258 §3.1)."""
    name = (await two.box("lr")).encode()
    await two.bobs.ok(b"SUBSCRIBE " + name)
    assert await two.bobs.ok(b'LIST (SUBSCRIBED) "Other Users/" *') == [
        rb'* LIST (\Subscribed \HasNoChildren) "/" ' + name
    ]
    await two.alices.ok(b"DELETEACL box bob@example.test")
    assert await two.bobs.ok(b'LIST (SUBSCRIBED) "Other Users/" *') == [
        rb'* LIST (\NonExistent \Subscribed \HasNoChildren) "/" ' + name
    ]


async def test_rights_that_change_during_a_session(two: Two) -> None:
    """Withdrawn rights are told and hold at the next command; without "r" the session ends (RFC 4314 §5.1.1)."""
    name = await two.box("lrsw", "box", "")
    await two.bobs.ok(f"SELECT {name}".encode())
    await two.bobs.ok(rb"STORE 1 +FLAGS.SILENT (\Flagged)")
    await two.alices.ok(b"SETACL box bob@example.test lr")
    *told, refused = await two.bobs.command(rb"STORE 1 -FLAGS (\Flagged)")
    assert refused.startswith(b"t NO [NOPERM] ")
    assert [line for line in told if line.startswith((b"* FLAGS", b"* OK"))][1:] == [
        b"* OK [PERMANENTFLAGS ()] flags that stay",
        b"* OK [READ-ONLY] rights on this mailbox have changed",
    ]
    await two.alices.ok(b"SETACL box bob@example.test lrt")
    assert b"* OK [READ-WRITE] rights on this mailbox have changed" in await two.bobs.ok(b"NOOP")
    await two.alices.ok(b"DELETEACL box bob@example.test")
    told = await two.bobs.command(b"FETCH 1 FLAGS")
    assert told[0].startswith(b"* BYE ")
    assert b"FETCH" not in b"".join(told)


async def test_rights_withdrawn_by_another_process_end_idle(two: Two) -> None:
    """A list that changes in the database, by whomever, reaches a session in IDLE."""
    name = await two.box("lr", "box", "")
    await two.bobs.ok(f"SELECT {name}".encode())
    two.bobs.write(b"i IDLE\r\n")
    assert (await two.bobs.line()).startswith(b"+ ")
    mailbox_id = await two.service.mailbox_id("box")
    await sharing.remove_rights(two.owner, mailbox_id, two.bob.login, is_negative=False)
    assert (await two.bobs.line()).startswith(b"* BYE ")


async def test_team_mailboxes(two: Two) -> None:
    r"""Who has rights on a team's mailboxes finds them below Shared, each member with a \Seen of its own."""
    await teams.add_team(two.owner, "example", "info@example.test", "Info")
    for login in ("bob@example.test", "alice@example.test"):
        await teams.grant(two.owner, "info@example.test", login, "lrswitek")
    recipient = await two.service.context.directory.resolve("info", "example.test")
    assert recipient is not None
    for client in (two.alices, two.bobs):
        assert await client.ok(b'LIST "" Shared/*') == [rb'* LIST (\HasNoChildren) "/" Shared/Info/INBOX']
        await client.ok(b"APPEND Shared/Info/INBOX {6+}\r\nA: b\r\n")
        await client.ok(b"SELECT Shared/Info/INBOX")
    await two.alices.ok(b"NOOP")
    await two.bobs.ok(rb"STORE 1 +FLAGS (\Seen \Flagged)")
    assert await two.alices.ok(b"NOOP") == [rb"* 1 FETCH (UID 1 FLAGS (\Flagged \Recent))"]
    assert await two.bobs.ok(b"SEARCH UNSEEN") == [b"* SEARCH 2"]
    assert await two.alices.ok(b"SEARCH UNSEEN") == [b"* SEARCH 1 2"]
    assert await two.bobs.ok(b"STATUS Shared/Info/INBOX (UNSEEN)") == [b"* STATUS Shared/Info/INBOX (UNSEEN 1)"]
    assert await two.alices.ok(b'LIST "" Shared/* RETURN (STATUS (UNSEEN MESSAGES))') == [
        rb'* LIST (\HasNoChildren) "/" Shared/Info/INBOX',
        b"* STATUS Shared/Info/INBOX (UNSEEN 2 MESSAGES 2)",
    ]
    await two.bobs.ok(rb"APPEND Shared/Info/INBOX (\Seen) {6+}" + b"\r\nA: b\r\n")
    assert await two.bobs.ok(b"STATUS Shared/Info/INBOX (UNSEEN)") == [b"* STATUS Shared/Info/INBOX (UNSEEN 1)"]
    assert b"* STATUS Shared/Info/INBOX (UNSEEN 3)" in await two.alices.ok(b"STATUS Shared/Info/INBOX (UNSEEN)")
    await two.bobs.ok(b"CREATE Shared/Info/Done")
    await two.bobs.ok(b"MOVE 1 Shared/Info/Done")
    await two.bobs.ok(b"SELECT Shared/Info/Done")
    assert await two.bobs.ok(b"FETCH 1 FLAGS") == [rb"* 1 FETCH (FLAGS (\Seen \Flagged \Recent))"]
    await two.alices.ok(b"SELECT Shared/Info/Done")
    assert await two.alices.ok(b"FETCH 1 FLAGS") == [rb"* 1 FETCH (FLAGS (\Flagged))"]
    with contextlib.suppress(ConnectionError):
        stranger = await Client.connect(two.service.endpoints["imaps"], two.service.tls)
        *_, refused = await stranger.command(b'LOGIN info@example.test "!"')
        assert refused.startswith(b"t NO [AUTHENTICATIONFAILED] ")
        await stranger.close()


async def test_rights_hold_beyond_the_selected_mailbox(two: Two) -> None:
    """A search of many mailboxes, notifications and CATENATE reach nothing that may not be read."""
    await two.box("lr", "open", "")
    secret = (await two.box("l", "secret", "")).encode()
    inside = b'"Other Users/alice@example.test/open"'
    found = await two.bobs.ok(b'ESEARCH IN (subtree "Other Users") ALL')
    assert [inside in line for line in found] == [True]
    await two.refused('GETQUOTAROOT "Other Users/alice@example.test/secret"', "NOPERM")
    code = secret.decode().strip('"').replace(" ", "%20")
    *_, refused = await two.bobs.command(f'APPEND INBOX CATENATE (URL "/{code}/;UID=1")'.encode())
    assert refused.startswith(b"t NO ")
    await two.bobs.ok(b"NOTIFY SET (mailboxes (%b %b) (MessageNew MessageExpunge))" % (inside, secret))
    await two.service.deliver(mail(), mailbox="secret")
    await two.service.deliver(mail(), mailbox="open")
    told = await two.bobs.line()
    assert told.startswith(b"* STATUS " + inside)


async def test_seen_of_ones_own_alone_is_no_write_access(two: Two) -> None:
    r"""Where \Seen is each viewer's own, "s" alone gives READ-ONLY, and \Seen can be stored all the same (RFC 4314 §5.2)."""
    name = await two.box("lrs", "box", "")
    await sharing.share_seen(two.owner, await two.service.mailbox_id("box"), is_shared=False)
    *told, selected = await two.bobs.command(f"SELECT {name}".encode())
    assert selected.startswith(b"t OK [READ-ONLY] ")
    assert any(rb"[PERMANENTFLAGS (\Seen)]" in line for line in told)
    assert await two.bobs.ok(rb"STORE 1 +FLAGS.SILENT (\Seen)") == []
    await two.alices.ok(b"SELECT box")
    assert await two.alices.ok(b"SEARCH SEEN") == [b"* SEARCH"]


async def test_changes_of_a_viewers_seen_have_modseqs(two: Two) -> None:
    r"""CONDSTORE works with a \Seen of one's own: other sessions of the viewer learn of it, those of others do not (RFC 7162)."""
    name = await two.box("lrs", "box", "", "")
    await sharing.share_seen(two.owner, await two.service.mailbox_id("box"), is_shared=False)
    async with await two.client(two.bob.login) as again:
        for client, box in ((two.bobs, name), (again, name), (two.alices, "box")):
            told = await client.ok(f"SELECT {box} (CONDSTORE)".encode())
        (since,) = [line.split()[3][:-1] for line in told if b"HIGHESTMODSEQ" in line]
        (stored,) = await two.bobs.ok(rb"STORE 2 (UNCHANGEDSINCE %b) +FLAGS.SILENT (\Seen)" % since)
        assert stored.startswith(b"* 2 FETCH (MODSEQ (")
        (changed,) = await again.ok(b"NOOP")
        assert rb"FLAGS (\Seen" in changed
        assert await two.alices.ok(b"NOOP") == []
        *_, modified = await two.bobs.command(rb"STORE 2 (UNCHANGEDSINCE %b) -FLAGS.SILENT (\Seen)" % since)
        assert b"[MODIFIED 2]" in modified
        found = await again.ok(b"FETCH 1:* (FLAGS) (CHANGEDSINCE %b)" % since)
        assert len(found) == 1


async def test_tenants_never_meet(two: Two, settings: Settings) -> None:
    """What is open to anyone is open to the tenant; another's people find nothing, under whatever name."""
    wrapped = KeyRing(settings.master_key_file).new_tenant_key()
    await accounts.add_tenant(two.owner, "elsewhere", wrapped)
    await accounts.add_domain(two.owner, "elsewhere", "elsewhere.test")
    hashed = await two.owner.fetchval("SELECT password_hash FROM account WHERE login = $1", two.bob.login)
    await accounts.add_account(two.owner, "elsewhere", "mallory@elsewhere.test", hashed)
    await teams.add_team(two.owner, "example", "info@example.test", "Info")
    await teams.grant(two.owner, "info@example.test", "anyone", "lrswipkxtea")
    name = await two.box("lr")
    await two.alices.ok(b"SETACL box anyone lrswipkxtea")
    assert len(await two.bobs.ok(b'LIST "" (Other* Shared*)')) == 2
    async with await two.client("mallory@elsewhere.test") as mallory:
        assert await mallory.ok(b'LIST "" (Other* Shared*)') == []
        for each in (name, "Shared/Info/INBOX"):
            for command in (
                "SELECT {}",
                "STATUS {} (MESSAGES)",
                "MYRIGHTS {}",
                "GETACL {}",
                "DELETE {}",
                "SETACL {} anyone lr",
            ):
                *_, refused = await mallory.command(command.format(each).encode())
                assert refused.startswith(b"t NO [NONEXISTENT] "), command
        *_, refused = await two.alices.command(b"SETACL box mallory@elsewhere.test lr")
        assert refused.startswith(b"t NO [CANNOT] ")


async def test_rights_withdrawn_hold_for_replace_and_relative_urls(two: Two) -> None:
    """REPLACE removes and CATENATE reads nothing of a selected mailbox on which the right was withdrawn a moment ago."""
    name = await two.box("lrte", "box", "")
    await two.bobs.ok(f"SELECT {name}".encode())
    await two.alices.ok(b"SETACL box bob@example.test lr")
    await two.refused("REPLACE 1 INBOX {6+}\r\nA: b\r\n", "NOPERM")
    assert await two.alices.ok(b"STATUS box (MESSAGES)") == [b"* STATUS box (MESSAGES 1)"]
    await two.alices.ok(b"SETACL box bob@example.test l")
    *told, refused = await two.bobs.command(b'APPEND INBOX CATENATE (URL "/;UID=1")')
    assert told[0].startswith(b"* BYE ")
    assert refused.startswith(b"t NO [NOPERM] ")


async def test_uids_are_told_to_readers_only(two: Two) -> None:
    """Who may place messages in a mailbox and not read it gets neither APPENDUID nor COPYUID (RFC 4315 §3)."""
    name = await two.box("li", "drop")
    for command in (f"APPEND {name} {{6+}}\r\nA: b\r\n", "APPEND INBOX {6+}\r\nA: b\r\n", "SELECT INBOX"):
        *_, placed = await two.bobs.command(command.encode())
        assert placed.startswith(b"t OK ")
    *_, copied = await two.bobs.command(f"COPY 1 {name}".encode())
    assert copied == b"t OK copied"
    assert await two.bobs.ok(f"MOVE 1 {name}".encode()) == [b"* 1 EXPUNGE"]
    assert await two.alices.ok(b"STATUS drop (MESSAGES)") == [b"* STATUS drop (MESSAGES 3)"]


async def test_readers_leave_recent_to_the_owner(two: Two) -> None:
    r"""A session that may change nothing takes no \Recent away from those that may (RFC 3501 §2.3.2)."""
    name = await two.box("lr", "box", "")
    told = await two.bobs.ok(f"SELECT {name}".encode())
    assert b"* 1 RECENT" in told
    assert b"* 1 RECENT" in await two.alices.ok(b"SELECT box")


async def test_nobody_makes_names_that_the_owner_cannot_say(two: Two) -> None:
    """In the mailboxes of another no name is made or changed to one that means something else to its owner."""
    name = await two.box("lrkx", "INBOX")
    root = name.removesuffix('INBOX"')
    await two.bobs.ok(f'CREATE {root}box"'.encode())
    for impossible in ("Shared/x", "Other Users/x", "inbox", "Inbox/x"):
        await two.refused(f'CREATE {root}{impossible}"', "CANNOT")
        await two.refused(f'RENAME {root}box" {root}{impossible}"', "CANNOT")


async def test_a_message_is_stored_once_although_its_seen_is_not(two: Two) -> None:
    r"""When the database goes away behind the message, APPEND has succeeded: who is told otherwise sends it again."""
    name = await two.box("lris")
    await sharing.share_seen(two.owner, await two.service.mailbox_id("box"), is_shared=False)
    await two.owner.execute(
        "CREATE FUNCTION go_away() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE EXCEPTION 'going' USING ERRCODE = 'admin_shutdown'; END $$"
    )
    await two.owner.execute("CREATE TRIGGER going BEFORE INSERT ON viewer_seen FOR EACH ROW EXECUTE FUNCTION go_away()")
    await two.bobs.ok(f"APPEND {name} (\\Seen) {{6+}}\r\nA: b\r\n".encode())
    assert await two.bobs.ok(f"STATUS {name} (MESSAGES UNSEEN)".encode()) == [
        f"* STATUS {name} (MESSAGES 1 UNSEEN 1)".encode()
    ]
