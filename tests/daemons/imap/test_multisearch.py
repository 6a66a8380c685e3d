"""ESEARCH over mailboxes (RFC 7377): which mailboxes are meant, what is answered for each, and that rights hold."""

from storage import sharing
from tests.conftest import Owner, add_person
from tests.daemons.imap.conftest import Service, mail
from tests.daemons.imap.conversation import Client
from tests.daemons.imap.proofs import proves

MAILBOXES = ("INBOX", "work", "work/a", "work/a/b", "worked", "Kürze")


async def _client(service: Service) -> Client:
    """A session before SELECT, with a message "hit" and one "miss" in each of MAILBOXES."""
    for name in MAILBOXES:
        await service.deliver(mail("hit"), mail("miss"), mailbox=name)
    return await service.client()


def told(lines: list[bytes]) -> dict[bytes, bytes]:
    """By mailbox what was told of it."""
    found = {}
    for line in lines:
        correlator, _, result = line.partition(b") UID ")
        name = correlator.partition(b" MAILBOX ")[2].partition(b" UIDVALIDITY ")[0]
        assert correlator.startswith(b'* ESEARCH (TAG "t" MAILBOX ')
        found[name] = result
    return found


@proves(b"MULTISEARCH")
async def test_multisearch(service: Service) -> None:
    """One answer by UID for each mailbox with hits, named with its UIDVALIDITY (RFC 7377 §2.1)."""
    async with await _client(service) as client:
        lines = await client.ok(
            b"ESEARCH IN (mailboxes (INBOX work none) mailboxes work) RETURN (ALL COUNT) SUBJECT hit"
        )
        assert told(lines) == {b"INBOX": b"ALL 1 COUNT 1", b"work": b"ALL 1 COUNT 1"}
        (status,) = await client.ok(b"STATUS work (UIDVALIDITY)")
        assert lines[1].split(b" UIDVALIDITY ")[1].split(b")")[0] == status.split()[-1].rstrip(b")")
        assert await client.ok(b"ESEARCH IN (personal) RETURN (COUNT) SUBJECT neither") == []


async def test_sources(service: Service) -> None:
    """Each kind of RFC 7377 §2.2 means its mailboxes, and several kinds their union."""
    async with await _client(service) as client:
        await client.ok(b"SUBSCRIBE work/a")
        await client.ok(b"SUBSCRIBE none")
        subtree = {b"work", b"work/a", b"work/a/b"}
        everything = subtree | {b"INBOX", b"worked", b"K&APw-rze"}
        for sources, meant in (
            (b"subtree work", subtree),
            (b"subtree-one work", {b"work", b"work/a"}),
            (b"subscribed", {b"INBOX", b"work/a"}),
            (b"personal", everything),
            (b"inboxes", everything),
            (b'mailboxes "K&APw-rze" subtree work/a', {b"K&APw-rze", b"work/a", b"work/a/b"}),
        ):
            lines = await client.ok(b"ESEARCH IN (" + sources + b") SUBJECT hit")
            assert told(lines) == dict.fromkeys(meant, b"ALL 1"), sources


async def test_the_selected_mailbox(service: Service) -> None:
    """Without sources it is the selected one, where SAVE, "$" and sequence numbers have a meaning (RFC 7377 §2.2)."""
    async with await _client(service) as client:
        for command in (b"ESEARCH ALL", b"ESEARCH IN (selected personal) ALL"):
            *_, tagged = await client.command(command)
            assert tagged.startswith(b"t BAD ")
        await client.ok(b"SELECT work")
        assert told(await client.ok(b"ESEARCH RETURN (SAVE ALL) 2")) == {b"work": b"ALL 2"}
        assert await client.ok(b"SEARCH $") == [b"* SEARCH 2"]
        assert told(await client.ok(b"ESEARCH IN (selected) RETURN (MIN) $")) == {b"work": b"MIN 2"}
        for program in (b"RETURN (SAVE) ALL", b"1", b"NOT $", b"OR ALL UID $"):
            *_, tagged = await client.command(b"ESEARCH IN (selected personal) " + program)
            assert tagged.startswith(b"t BAD "), program
        _, refused, tagged = await client.command(b"ESEARCH RETURN (UPDATE COUNT) ALL")
        assert refused.startswith(b'* NO [NOUPDATE "t"] ')
        assert tagged.startswith(b"t OK ")


async def test_modseq_and_partial(service: Service) -> None:
    """MODSEQ adds the highest of each mailbox, PARTIAL a window of each."""
    async with await _client(service) as client:
        lines = await client.ok(b"ESEARCH IN (mailboxes (INBOX work)) RETURN (PARTIAL 1:1) MODSEQ 1")
        found = told(lines)
        assert found.keys() == {b"INBOX", b"work"}
        assert all(result.startswith(b"PARTIAL (1:1 1) MODSEQ ") for result in found.values())


async def test_rights_hold(service: Service, owner: Owner) -> None:
    """Another's mailbox is searched with the right to read it only, and found by kind only with that to see it (RFC 4314)."""
    bob = await add_person(service.context.settings, owner, "bob@example.test")
    box = await service.mailbox_id("Team")
    await service.deliver(mail("hit"), mailbox="Team")
    name = b'"Other Users/alice@example.test/Team"'
    named, below = b"mailboxes " + name, b'subtree "Other Users"'
    async with await Client.connect(service.endpoints["imaps"], service.tls) as client:
        await client.login(bob.login)
        for rights, seen in (("l", ()), ("r", (named,)), ("lr", (named, below))):
            await sharing.set_rights(owner, box, bob.login, "replace", rights, is_negative=False)
            for source in (named, below, b"personal"):
                lines = await client.ok(b"ESEARCH IN (" + source + b") SUBJECT hit")
                assert told(lines) == ({name: b"ALL 1"} if source in seen else {}), (rights, source)
