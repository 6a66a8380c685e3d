"""NOTIFY, RFC 5465: two and three connections, of which some only listen."""

import asyncio

import pytest

from config.settings import Settings
from daemons.context import open_context
from storage import sharing
from tests.conftest import Owner, Person, add_person
from tests.daemons.imap.conftest import Service, mail, running
from tests.daemons.imap.conversation import Client
from tests.daemons.imap.proofs import proves
from tests.sections import with_changes

MESSAGES = b"(MessageNew MessageExpunge)"
ALL_MESSAGES = b"(MessageNew MessageExpunge FlagChange)"


async def other(service: Service, person: Person) -> Client:
    """A connection of somebody else, logged in."""
    client = await Client.connect(service.endpoints["imaps"], service.tls)
    await client.login(person.login)
    return client


async def is_quiet(client: Client) -> bool:
    """Whether nothing was told before the answer to the next command."""
    return await client.ok(b"NOOP") == []


@proves(b"NOTIFY")
async def test_other_mailboxes(service: Service) -> None:
    """What is delivered, expunged or flagged in a mailbox that is not selected is told as STATUS while the client only waits."""
    async with await service.client() as client, await service.client() as writer:
        assert await client.ok(b"NOTIFY SET (personal " + ALL_MESSAGES + b")") == []
        (uid,) = await service.deliver(mail())
        validity = (await writer.ok(b"STATUS INBOX (UIDVALIDITY)"))[0].rsplit(b" ", 1)[1].rstrip(b")")
        status = b"* STATUS INBOX (MESSAGES %d UIDNEXT 2 UIDVALIDITY " + validity + b" UNSEEN %d HIGHESTMODSEQ "
        assert (await client.line()).startswith(status % (1, 1))
        await writer.ok(b"SELECT INBOX")
        await writer.ok(rb"STORE 1 +FLAGS (\Seen \Deleted)")
        assert (await client.line()).startswith(status % (1, 0))
        await writer.ok(b"UID EXPUNGE %d" % uid)
        assert (await client.line()).startswith(status % (0, 0))
        assert await is_quiet(client)


async def test_status_is_told_first(service: Service) -> None:
    """NOTIFY SET STATUS tells all counters before its OK; NONE makes it a snapshot; the first group that fits decides."""
    await service.deliver(mail(), mail())
    async with await service.client() as client:
        told = await client.ok(b"NOTIFY SET STATUS (mailboxes (INBOX none Trash) " + MESSAGES + b")")
        names = [b" ".join(line.split()[:5]) for line in told]
        assert names == [b"* STATUS INBOX (MESSAGES 2", b"* STATUS Trash (MESSAGES 0"]
        told = await client.ok(b"NOTIFY SET STATUS (mailboxes Trash NONE) (subtree (Trash Sent) " + MESSAGES + b")")
        assert [line.split()[2] for line in told] == [b"Sent", b"Trash"]
        await client.ok(b"ENABLE CONDSTORE")
        assert b"HIGHESTMODSEQ" in (await client.ok(b"NOTIFY SET STATUS (mailboxes Sent NONE)"))[0]
        await service.deliver(mail(), mailbox="Trash")
        await client.ok(b"SELECT INBOX")
        assert await client.ok(b"NOTIFY SET STATUS (mailboxes INBOX " + MESSAGES + b")") == []


async def test_selected(service: Service) -> None:
    """With SELECTED everything in the selected mailbox is told at once, new messages with what was asked for."""
    await service.deliver(mail())
    async with await service.client() as client, await service.client() as writer:
        await client.ok(b"SELECT INBOX")
        asked = b"(MessageNew (FLAGS BODY.PEEK[HEADER.FIELDS (SUBJECT)]) MessageExpunge FlagChange)"
        await client.ok(b"NOTIFY SET (SELECTED " + asked + b")")
        await service.deliver(mail("new"))
        assert await client.line() == b"* 2 EXISTS"
        assert await client.line() == b"* 2 RECENT"
        told = b"* 2 FETCH (UID 2 FLAGS (\\Recent) BODY[HEADER.FIELDS (SUBJECT)] {16}\r\nSubject: new\r\n\r\n)"
        assert await client.line() == told
        await writer.ok(b"SELECT INBOX")
        await writer.ok(rb"STORE 2 +FLAGS (\Deleted)")
        assert await client.line() == rb"* 2 FETCH (UID 2 FLAGS (\Deleted \Recent))"
        await writer.ok(b"EXPUNGE")
        assert await client.line() == b"* 2 EXPUNGE"
        answer = await client.command(b"APPEND INBOX {6+}\r\nA: b\r\n")
        new, done = answer[:-1], answer[-1]
        assert new[0] == b"* 2 EXISTS"
        assert not any(b"FETCH" in line for line in new)  # its own
        assert done.startswith(b"t OK [APPENDUID ")


async def test_selected_delayed(service: Service) -> None:
    """With SELECTED-DELAYED new messages are told at once, expunged ones when a command allows it, or in IDLE."""
    await service.deliver(mail(), mail(), mail())
    async with await service.client() as client, await service.client() as writer:
        await client.ok(b"EXAMINE INBOX")
        await client.ok(b"NOTIFY SET (selected-delayed " + ALL_MESSAGES + b")")
        await writer.ok(b"SELECT INBOX")
        await writer.ok(rb"STORE 1 +FLAGS.SILENT \Deleted")
        assert await client.line() == rb"* 1 FETCH (UID 1 FLAGS (\Deleted \Recent))"
        await writer.ok(b"EXPUNGE")
        await service.deliver(mail())
        assert await client.line() == b"* 4 EXISTS"
        assert await client.line() == b"* 4 RECENT"
        assert await client.ok(b"FETCH 4 UID") == [b"* 4 FETCH (UID 4)"]
        assert (await client.ok(b"NOOP"))[0] == b"* 1 EXPUNGE"
        await writer.ok(rb"STORE 1 +FLAGS.SILENT \Deleted")
        assert await client.line() == rb"* 1 FETCH (UID 2 FLAGS (\Deleted \Recent))"
        client.write(b"t IDLE\r\n")
        assert (await client.line()).startswith(b"+ ")
        await writer.ok(b"EXPUNGE")
        assert await client.line() == b"* 1 EXPUNGE"
        client.write(b"DONE\r\n")
        assert (await client.line()).startswith(b"t OK ")


async def test_qresync(service: Service) -> None:
    """With QRESYNC an expunge is told as VANISHED, flags with MODSEQ, and STATUS with HIGHESTMODSEQ."""
    await service.deliver(mail(), mail())
    async with await service.client() as client, await service.client() as writer:
        await client.ok(b"ENABLE QRESYNC")
        await client.ok(b"SELECT INBOX")
        await client.ok(b"NOTIFY SET (selected " + ALL_MESSAGES + b") (personal " + MESSAGES + b")")
        await writer.ok(b"SELECT INBOX")
        await writer.ok(rb"STORE 1 +FLAGS \Deleted")
        assert (await client.line()).startswith(rb"* 1 FETCH (UID 1 FLAGS (\Deleted \Recent) MODSEQ (")
        await writer.ok(b"EXPUNGE")
        assert await client.line() == b"* VANISHED 1"
        await writer.ok(b"COPY 1 Trash")
        assert b" HIGHESTMODSEQ " in await client.line()


async def test_nothing_of_the_selected_mailbox(service: Service) -> None:
    """Without SELECTED nothing is told of the selected mailbox, not even along with answers, until NOTIFY asks for it again."""
    await service.deliver(mail())
    async with await service.client() as client:
        await client.ok(b"SELECT INBOX")
        await client.ok(b"NOTIFY NONE")
        await service.deliver(mail())
        assert await is_quiet(client)
        assert await client.ok(b"UID FETCH 1:* UID") == [b"* 1 FETCH (UID 1)"]
        assert (await client.ok(b"NOTIFY SET (selected " + MESSAGES + b")"))[0] == b"* 2 EXISTS"


async def test_changing_the_selected_mailbox(service: Service) -> None:
    """A mailbox is told as selected while it is, and by STATUS before and afterwards."""
    async with await service.client() as client:
        await client.ok(b"NOTIFY SET (selected " + MESSAGES + b") (mailboxes (INBOX Trash) " + MESSAGES + b")")
        await client.ok(b"SELECT INBOX")
        await service.deliver(mail())
        assert [await client.line(), await client.line()] == [b"* 1 EXISTS", b"* 1 RECENT"]
        await client.ok(b"SELECT Trash")
        await service.deliver(mail())
        assert (await client.line()).startswith(b"* STATUS INBOX (MESSAGES 2 UIDNEXT 3 ")
        await service.deliver(mail(), mailbox="Trash")
        assert [await client.line(), await client.line()] == [b"* 1 EXISTS", b"* 1 RECENT"]
        await client.ok(b"UNSELECT")
        await service.deliver(mail(), mailbox="Trash")
        assert (await client.line()).startswith(b"* STATUS Trash (MESSAGES 2 UIDNEXT 3 ")
        assert await is_quiet(client)


async def test_mailbox_names(service: Service) -> None:
    """Mailboxes that others create, rename or delete are told with all attributes; what the client does itself is not."""
    async with await service.client() as client, await service.client() as writer:
        await client.ok(b"NOTIFY SET (subtree A (MailboxName)) (personal (SubscriptionChange))")
        await writer.ok(b"CREATE A/B/C")
        told = [await client.line() for _ in range(3)]
        assert told == [
            rb'* LIST (\HasChildren) "/" A',
            rb'* LIST (\HasChildren) "/" A/B',
            rb'* LIST (\HasNoChildren) "/" A/B/C',
        ]
        await writer.ok(b"CREATE Z")
        await writer.ok(b"RENAME A/B A/D")
        told = [await client.line() for _ in range(2)]
        assert told == [
            rb'* LIST (\HasChildren) "/" A/D ("OLDNAME" (A/B))',
            rb'* LIST (\HasNoChildren) "/" A/D/C ("OLDNAME" (A/B/C))',
        ]
        await writer.ok(b"DELETE A/D/C")
        assert await client.line() == rb'* LIST (\NonExistent \HasNoChildren) "/" A/D/C'
        await client.ok(b"CREATE A/E/F")
        await client.ok(b"RENAME A/E A/G")
        await client.ok(b"DELETE A/G/F")
        await client.ok(b"SUBSCRIBE A")
        await client.ok(b"UNSUBSCRIBE A")
        assert await is_quiet(client)
        await writer.ok(b"RENAME A/G Y")  # out of what is watched
        assert await client.line() == rb'* LIST (\HasNoChildren) "/" Y ("OLDNAME" (A/G))'


async def test_subscriptions(service: Service) -> None:
    r"""Subscribing and unsubscribing are told with and without \Subscribed; what "subscribed" means follows."""
    async with await service.client() as client, await service.client() as writer:
        await writer.ok(b"UNSUBSCRIBE Trash")
        await client.ok(
            b"NOTIFY SET (subscribed (MessageNew MessageExpunge SubscriptionChange)) (personal (SubscriptionChange))"
        )
        await writer.ok(b"UNSUBSCRIBE Junk")
        assert await client.line() == rb'* LIST (\HasNoChildren \Junk) "/" Junk'
        await writer.ok(b"SUBSCRIBE Trash")
        assert await client.line() == rb'* LIST (\Subscribed \HasNoChildren \Trash) "/" Trash'
        await writer.ok(b"SUBSCRIBE none")
        assert await client.line() == rb'* LIST (\NonExistent \Subscribed \HasNoChildren) "/" none'
        await service.deliver(mail(), mailbox="Junk")
        await service.deliver(mail(), mailbox="Trash")
        assert (await client.line()).startswith(b"* STATUS Trash (MESSAGES 1 ")
        assert await is_quiet(client)


async def test_annotations(service: Service, owner: Owner) -> None:
    """Changed annotations are told by name: the mailboxes' that are watched, and the server's; not one's own doing."""
    bob = await add_person(service.context.settings, owner, "bob@example.test")
    await owner.execute("UPDATE account SET is_administrator = true WHERE login = 'bob@example.test'")
    async with await service.client() as client, await service.client() as writer, await other(service, bob) as admin:
        await client.ok(b"NOTIFY SET (mailboxes INBOX (MailboxMetadataChange)) (personal (ServerMetadataChange))")
        await writer.ok(b'SETMETADATA INBOX (/shared/comment "x" /private/a "y")')
        lines = [await client.line()]
        lines += [] if b"/private/a" in lines[0] and b"/shared/comment" in lines[0] else [await client.line()]
        entries = sorted(word for line in lines for word in line.split()[3:])
        assert entries == [b"/private/a", b"/shared/comment"]
        await writer.ok(b'SETMETADATA Trash (/shared/comment "x")')
        await client.ok(b'SETMETADATA INBOX (/private/a "z")')
        await admin.ok(b'SETMETADATA "" (/private/a "his" /shared/comment "down")')
        assert await client.line() == b'* METADATA "" /shared/comment'
        await writer.ok(b'SETMETADATA "" (/private/a NIL /private/b "x")')
        assert await client.line() == b'* METADATA "" /private/b'
        await writer.ok(b"SETMETADATA Junk (/private/specialuse NIL)")
        await writer.ok(rb'SETMETADATA INBOX (/private/specialuse "\\Junk")')
        assert await client.line() == b"* METADATA INBOX /private/specialuse"
        assert await is_quiet(client)


async def test_annotations_after_enable(service: Service) -> None:
    """After ENABLE METADATA changed annotations are told along with answers and in IDLE (RFC 5464 §4.1), and mail as ever."""
    async with await service.client() as client, await service.client() as writer:
        assert await client.ok(b"ENABLE METADATA") == [b"* ENABLED METADATA"]
        await client.ok(b"SELECT INBOX")
        client.write(b"t IDLE\r\n")
        assert (await client.line()).startswith(b"+ ")
        await writer.ok(b'SETMETADATA Trash (/shared/comment "x")')
        assert await client.line() == b"* METADATA Trash /shared/comment"
        await service.deliver(mail())
        assert [await client.line(), await client.line()] == [b"* 1 EXISTS", b"* 1 RECENT"]
        client.write(b"DONE\r\n")
        assert (await client.line()).startswith(b"t OK ")
        await client.ok(b"NOTIFY NONE")
        await writer.ok(b'SETMETADATA Trash (/shared/comment "y")')
        assert await is_quiet(client)


async def test_modseq_of_new_messages(service: Service) -> None:
    """Asking for MODSEQ of new messages enables CONDSTORE; no attribute sets a flag by being told (RFC 5465 §5.2)."""
    async with await service.client() as client:
        await client.ok(b"SELECT INBOX")
        told = await client.ok(b"NOTIFY SET (selected (MessageNew (MODSEQ BODY[TEXT]) MessageExpunge))")
        assert told[0].startswith(b"* OK [HIGHESTMODSEQ ")
        await service.deliver(mail())
        assert [await client.line(), await client.line()] == [b"* 1 EXISTS", b"* 1 RECENT"]
        assert b" BODY[TEXT] {11}" in await client.line()
        (flags,) = await client.ok(b"UID FETCH 1 FLAGS")
        assert b"Seen" not in flags


async def test_idle_tells_the_same(service: Service) -> None:
    """IDLE tells what NOTIFY asked for, without a selected mailbox, too (RFC 5465 §4)."""
    async with await service.client() as client:
        await client.ok(b"NOTIFY SET (personal " + MESSAGES + b")")
        client.write(b"t IDLE\r\n")
        assert (await client.line()).startswith(b"+ ")
        await service.deliver(mail())
        assert (await client.line()).startswith(b"* STATUS INBOX (MESSAGES 1 ")
        client.write(b"DONE\r\n")
        assert (await client.line()).startswith(b"t OK ")


async def test_rights(service: Service, owner: Owner) -> None:
    """Shared mailboxes are told of while they may be looked up and read; what changes with the rights is told, too."""
    bob = await add_person(service.context.settings, owner, "bob@example.test")
    box = await service.mailbox_id("Team")
    name = b'"Other Users/alice@example.test/Team"'

    async def grant(rights: str) -> None:
        await sharing.set_rights(owner, box, bob.login, "replace", rights, is_negative=False)

    async with await other(service, bob) as client:
        watched = b'(subtree "Other Users" (MailboxName MessageNew MessageExpunge))'
        assert await client.ok(b"NOTIFY SET STATUS " + watched) == []
        await service.deliver(mail(), mailbox="Team")
        await grant("lr")
        assert await client.line() == rb'* LIST (\HasNoChildren) "/" ' + name
        await service.deliver(mail(), mailbox="Team")
        assert (await client.line()).startswith(b"* STATUS " + name + b" (MESSAGES 2 ")
        await grant("l")
        assert await client.line() == rb'* LIST (\NoAccess) "/" ' + name
        await service.deliver(mail(), mailbox="Team")
        await grant("lr")
        assert await client.line() == rb'* LIST (\HasNoChildren) "/" ' + name
        assert (await client.line()).startswith(b"* STATUS " + name + b" (MESSAGES 3 ")
        await grant("")
        assert await client.line() == rb'* LIST (\NonExistent \HasNoChildren) "/" ' + name
        await service.deliver(mail(), mailbox="Team")
        assert await is_quiet(client)
        await grant("l")
        assert await client.line() == rb'* LIST (\Noselect \HasNoChildren) "/" ' + name
        told = await client.ok(b"NOTIFY SET STATUS (mailboxes " + name + b" " + MESSAGES + b")")
        assert told == [rb'* LIST (\NoAccess) "/" ' + name]


async def test_own_messages_are_not_told(service: Service) -> None:
    """APPEND and COPY to a watched mailbox tell its counters only when others have been there as well."""
    await service.deliver(mail(), mail())
    async with await service.client() as client:
        await client.ok(b"NOTIFY SET (mailboxes Trash " + MESSAGES + b")")
        await client.command(b"APPEND Trash {6+}\r\nA: b\r\n")
        await client.ok(b"SELECT INBOX")
        await client.ok(b"COPY 1:2 Trash")
        assert await is_quiet(client)
        await service.deliver(mail(), mailbox="Trash")
        assert (await client.line()).startswith(b"* STATUS Trash (MESSAGES 4 ")


@pytest.mark.parametrize(
    ("asked", "answer"),
    [
        (b"SET (selected (MessageNew))", b"t BAD "),
        (b"SET (selected (MessageExpunge))", b"t BAD "),
        (b"SET (personal (FlagChange))", b"t BAD "),
        (b"SET (personal (AnnotationChange))", b"t BAD "),
        (b"SET (selected (MailboxName))", b"t BAD "),
        (b"SET (selected NONE) (selected-delayed NONE)", b"t BAD "),
        (b"SET (subtree-one A (MailboxName))", b"t BAD "),
        (b"SET", b"t BAD "),
        (b"SET STATUS", b"t BAD "),
        (b"SET (nowhere (MailboxName))", b"t BAD "),
        (b"NONE x", b"t BAD "),
        (
            b"SET (personal (MessageNew MessageExpunge AnnotationChange))",
            b"t NO [BADEVENT (MessageNew MessageExpunge FlagChange MailboxName SubscriptionChange MailboxMetadataChange "
            b"ServerMetadataChange)] ",
        ),
        (b"SET (personal (Thunderstorm))", b"t NO [BADEVENT ("),
    ],
)
async def test_refusals(service: Service, asked: bytes, answer: bytes) -> None:
    """Events that do not go together are BAD, those that do not exist NO with the ones that do (RFC 5465 §3.1, §5)."""
    async with await service.client() as client:
        await client.ok(b"NOTIFY SET (personal " + MESSAGES + b")")
        *told, tagged = await client.command(b"NOTIFY " + asked)
        assert told == []
        assert tagged.startswith(answer)
        await service.deliver(mail())  # what was asked for before stays
        assert (await client.line()).startswith(b"* STATUS INBOX ")


async def test_overflow(settings: Settings, account: Person, service: Service) -> None:
    """More mailboxes than may be watched are refused; when they become more later, nothing is told any more."""
    few = with_changes(settings, imap={"notify_mailboxes": 6})
    async with (
        open_context(few) as context,
        running(context) as endpoints,
        await Client.connect(endpoints["imaps"], service.tls) as client,
        await service.client() as writer,
    ):
        await client.login(account.login)
        await client.ok(b"NOTIFY SET (personal " + MESSAGES + b")")
        await writer.ok(b"CREATE A")
        assert (await client.line()).startswith(b"* OK [NOTIFICATIONOVERFLOW] ")
        await service.deliver(mail())
        assert await is_quiet(client)
        *_, tagged = await client.command(b"NOTIFY SET (personal " + MESSAGES + b")")
        assert tagged.startswith(b"t NO [NOTIFICATIONOVERFLOW] ")
        await client.ok(b"NOTIFY SET (mailboxes INBOX " + MESSAGES + b")")
        await service.deliver(mail())
        assert (await client.line()).startswith(b"* STATUS INBOX (MESSAGES 2 ")


async def test_nothing_is_lost_with_a_connection_to_the_database(service: Service, owner: Owner) -> None:
    """What happens while no notifications come is told when they come again."""
    async with await service.client() as client:
        await client.ok(b"NOTIFY SET (personal (MessageNew MessageExpunge MailboxName MailboxMetadataChange))")
        await owner.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN%'")
        box = await service.mailbox_id("New")
        await owner.execute(
            "INSERT INTO annotation (tenant_id, mailbox_id, entry, value) SELECT tenant_id, mailbox_id, '/shared/comment', 'x' "
            "FROM mailbox WHERE mailbox_id = $1",
            box,
        )
        await service.deliver(mail())
        name, value, status = sorted([await client.line() for _ in range(3)])
        assert name == rb'* LIST (\HasNoChildren) "/" New'
        assert value == b"* METADATA New /shared/comment"
        assert status.startswith(b"* STATUS INBOX (MESSAGES 1 ")


async def test_commands_and_notifications_do_not_mix(service: Service) -> None:
    """Commands sent without waiting, while much is told, get answers that are whole and in order."""
    async with await service.client() as client:
        await client.ok(b"SELECT INBOX")
        await client.ok(
            b"NOTIFY SET (selected (MessageNew (UID) MessageExpunge FlagChange)) (personal " + MESSAGES + b")"
        )
        delivery = asyncio.gather(*(service.deliver(mail(), mailbox=box) for box in ("INBOX", "Trash") * 20))
        for number in range(50):
            client.write(b"c%d UID FETCH 1:* (UID FLAGS)\r\n" % number)
        tagged = [(await client.until(b"c%d" % number))[-1] for number in range(50)]
        assert all(line.startswith(b"c%d OK " % number) for number, line in enumerate(tagged))
        await delivery
        await client.ok(b"NOOP")
        assert len(await client.ok(b"UID FETCH 1:* UID")) == 20


async def test_search_contexts_fetch_what_joins(service: Service) -> None:
    """UPDATE with attributes fetches new messages that join the result, between EXISTS and ADDTO (RFC 5465 §7)."""
    await service.deliver(mail("boss"), mail("other"))
    async with await service.client() as client:
        await client.ok(b"SELECT INBOX")
        asked = b"UID SEARCH RETURN (COUNT UPDATE (UID BODY[HEADER.FIELDS (SUBJECT)])) OR SUBJECT boss FLAGGED"
        assert await client.ok(asked) == [b'* ESEARCH (TAG "t") UID COUNT 1']
        await service.deliver(mail("the boss"), mail("none"))
        told = await client.arrival()
        assert told == [
            b"* 4 EXISTS",
            b"* 4 RECENT",
            b"* 3 FETCH (UID 3 BODY[HEADER.FIELDS (SUBJECT)] {21}\r\nSubject: the boss\r\n\r\n)",
            b'* ESEARCH (TAG "t") UID ADDTO (0 3)',
        ]
        *_, joined = await client.ok(rb"UID STORE 4 +FLAGS.SILENT (\Flagged)")
        assert joined == b'* ESEARCH (TAG "t") UID ADDTO (0 4)'
        assert await client.ok(b"UID FETCH 3 FLAGS") == [rb"* 3 FETCH (UID 3 FLAGS (\Recent))"]
