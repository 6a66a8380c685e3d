"""What clients that keep account of changes are told: ENABLE, CONDSTORE, QRESYNC (RFC 7162), UIDONLY (RFC 9586), UIDBATCHES."""

import asyncpg

from tests.daemons.imap.conftest import Service, mail
from tests.daemons.imap.conversation import Client
from tests.daemons.imap.proofs import proves


async def enabled(service: Service, *tokens: bytes) -> Client:
    """A client that has enabled these."""
    client = await service.client()
    await client.ok(b"ENABLE " + b" ".join(tokens))
    return client


async def _selected(client: Client, command: bytes = b"SELECT INBOX") -> dict[bytes, int]:
    """Numbers of the response codes of SELECT."""
    codes = {}
    for line in await client.ok(command):
        if line.startswith(b"* OK ["):
            name, _, value = line[6 : line.index(b"]")].partition(b" ")
            if value.isdigit():
                codes[name] = int(value)
    return codes


async def _modseq(client: Client, uid: int) -> int:
    (line,) = await client.ok(b"UID FETCH %d MODSEQ" % uid)
    return int(line.rpartition(b"(")[2].rstrip(b")"))


@proves(b"CONDSTORE")
async def test_condstore(service: Service) -> None:
    """A conditional STORE leaves what has changed since, says which, and tells the new MODSEQ of the rest (RFC 7162 §3.1.3)."""
    await service.deliver(mail("one"), mail("two"), mail("three"))
    async with await service.client() as first, await service.client() as second:
        since = (await _selected(first, b"SELECT INBOX (CONDSTORE)"))[b"HIGHESTMODSEQ"]
        await _selected(second)
        await second.ok(b"STORE 2 +FLAGS (\\Flagged)")
        *lines, tagged = await first.command(b"STORE 1:3 (UNCHANGEDSINCE %d) +FLAGS.SILENT (\\Seen)" % since)
        assert tagged.startswith(b"t OK [MODIFIED 2] ")
        assert [line.split(b" (")[0] for line in lines] == [b"* 1 FETCH", b"* 3 FETCH", b"* 2 FETCH"]
        assert lines[0] == b"* 1 FETCH (MODSEQ (%d))" % (since + 2)
        assert lines[2] == b"* 2 FETCH (UID 2 FLAGS (\\Flagged \\Recent) MODSEQ (%d))" % (since + 1)
        *_, tagged = await first.command(b"UID STORE 1 (UNCHANGEDSINCE 0) FLAGS ()")
        assert tagged.startswith(b"t OK [MODIFIED 1] ")


async def test_condstore_comes_with_what_needs_it(service: Service) -> None:
    """A FETCH of MODSEQ turns CONDSTORE on: HIGHESTMODSEQ is told, and MODSEQ with every change from then on (RFC 7162 §3.1)."""
    await service.deliver(mail("one"), mail("two"))
    async with await service.client() as client:
        highest = (await _selected(client))[b"HIGHESTMODSEQ"]
        assert await client.ok(b"STORE 1 FLAGS.SILENT (\\Seen)") == []
        told, fetched = await client.ok(b"FETCH 2 (UID MODSEQ)")
        assert told.startswith(b"* OK [HIGHESTMODSEQ %d] " % (highest + 1))
        assert fetched == b"* 2 FETCH (UID 2 MODSEQ (%d))" % highest
        assert await client.ok(b"STORE 1 FLAGS.SILENT ()") == [b"* 1 FETCH (MODSEQ (%d))" % (highest + 2)]
        (line,) = await client.ok(b"UID FETCH 2 RFC822.TEXT")
        assert b"FLAGS (\\Seen \\Recent) MODSEQ (%d) RFC822.TEXT {" % (highest + 3) in line


async def test_changedsince(service: Service) -> None:
    """FETCH with CHANGEDSINCE gives what has a greater MODSEQ, and tells that (RFC 7162 §3.1.4.1)."""
    await service.deliver(*[mail(f"m{number}") for number in range(9)])
    async with await enabled(service, b"CONDSTORE") as client:
        since = (await _selected(client))[b"HIGHESTMODSEQ"]
        await client.ok(b"STORE 3,5,7 +FLAGS.SILENT (\\Seen)")
        lines = await client.ok(b"UID FETCH 1:6 (FLAGS) (CHANGEDSINCE %d)" % since)
        assert lines == [
            b"* %d FETCH (UID %d FLAGS (\\Seen \\Recent) MODSEQ (%d))" % (uid, uid, since + 1) for uid in (3, 5)
        ]
        assert await client.ok(b"FETCH 1:* FLAGS (CHANGEDSINCE %d)" % (since + 1)) == []


async def test_select_shows_what_was_committed_before_it(service: Service) -> None:
    """A delivery that was answered is in the next SELECT, however late its notification comes."""
    async with await service.client() as client:
        for count in range(1, 21):
            await service.deliver(mail(f"m{count}"))
            lines = await client.ok(b"SELECT INBOX")
            assert [line for line in lines if line.endswith(b" EXISTS")] == [b"* %d EXISTS" % count]
            await client.ok(b"UNSELECT")


@proves(b"QRESYNC")
async def test_qresync(service: Service) -> None:
    """A client that comes back is told what has vanished and what has changed (RFC 7162 §3.2.5)."""
    await service.deliver(*[mail(f"m{number}") for number in range(10)])
    async with await enabled(service, b"QRESYNC") as client, await service.client() as other:
        codes = await _selected(client)
        await client.ok(b"UNSELECT")
        await other.ok(b"SELECT INBOX")
        await other.ok(b"STORE 2:3,7 +FLAGS.SILENT (\\Deleted)")
        await other.ok(b"EXPUNGE")
        await other.ok(b"UID STORE 5 +FLAGS.SILENT (\\Flagged)")
        await service.deliver(mail("new"))
        lines = await client.ok(b"SELECT INBOX (QRESYNC (%d %d))" % (codes[b"UIDVALIDITY"], codes[b"HIGHESTMODSEQ"]))
        assert b"* 8 EXISTS" in lines
        highest = codes[b"HIGHESTMODSEQ"]
        assert lines[-3:] == [
            b"* VANISHED (EARLIER) 2:3,7",
            b"* 3 FETCH (UID 5 FLAGS (\\Flagged) MODSEQ (%d))" % (highest + 3),
            b"* 8 FETCH (UID 11 FLAGS (\\Recent) MODSEQ (%d))" % (highest + 4),
        ]
        known = b"SELECT INBOX (QRESYNC (%d %d 1:6))" % (codes[b"UIDVALIDITY"], highest)
        lines = await client.ok(known)
        assert lines[0].startswith(b"* OK [CLOSED] ")
        assert [line for line in lines if b"VANISHED" in line or b"FETCH" in line] == [
            b"* VANISHED (EARLIER) 2:3",
            b"* 3 FETCH (UID 5 FLAGS (\\Flagged) MODSEQ (%d))" % (highest + 3),
        ]
        other_life = b"SELECT INBOX (QRESYNC (%d %d))" % (codes[b"UIDVALIDITY"] + 1, highest)
        assert not [line for line in await client.ok(other_life) if b"VANISHED" in line or b"FETCH" in line]


async def test_qresync_of_a_trimmed_past(service: Service, owner: "asyncpg.Connection[asyncpg.Record]") -> None:
    """Where expunges are no longer remembered, every UID that is not there has vanished, but for those proven to be known."""
    await service.deliver(*[mail(f"m{number}") for number in range(10)])
    async with await enabled(service, b"QRESYNC") as client:
        codes = await _selected(client)
        await client.ok(b"STORE 2,5,9 +FLAGS.SILENT (\\Deleted)")
        await client.ok(b"EXPUNGE")
        await client.ok(b"CLOSE")
        await owner.execute("DELETE FROM expunged")
        await owner.execute("UPDATE mailbox SET expunged_forgotten = highestmodseq")

        async def vanished(parameters: bytes) -> list[bytes]:
            head = b"SELECT INBOX (QRESYNC (%d %d" % (codes[b"UIDVALIDITY"], codes[b"HIGHESTMODSEQ"])
            lines = await client.ok(head + parameters + b"))")
            return [line.removeprefix(b"* VANISHED (EARLIER) ") for line in lines if b"VANISHED" in line]

        assert await vanished(b"") == [b"2,5,9"]
        assert await vanished(b" 1:4") == [b"2"]
        # the client holds 1,3,4,6 as numbers 1 to 4 already, and 7,8,9,10 behind: 6 is the last that both agree upon
        assert await vanished(b" (1:4 1,3:4,6)") == [b"9"]
        assert await vanished(b" (1,6,7 1,8,9)") == [b"9"]
        assert await vanished(b" (1:2 1:2)") == [b"2,5,9"]
        assert (await client.command(b"SELECT INBOX (QRESYNC (1 1 (1:2 5)))"))[-1].startswith(b"t BAD ")


async def test_vanished_while_selected(service: Service) -> None:
    """With QRESYNC an expunge is told as VANISHED, and HIGHESTMODSEQ in the tagged answer (RFC 7162 §3.2.7, §3.2.10)."""
    await service.deliver(*[mail(f"m{number}") for number in range(6)])
    async with await enabled(service, b"QRESYNC") as client, await service.client() as other:
        highest = (await _selected(client))[b"HIGHESTMODSEQ"]
        await other.ok(b"SELECT INBOX")
        await other.ok(b"STORE 2 +FLAGS.SILENT (\\Deleted)")
        await other.ok(b"EXPUNGE")
        told = await client.ok(b"FETCH 2 (UID FLAGS)")
        assert not [line for line in told if b"VANISHED" in line]  # not while numbers are in use
        assert b"* VANISHED 2" in await client.ok(b"NOOP")
        await client.ok(b"UID STORE 4,6 +FLAGS.SILENT (\\Deleted)")
        *lines, tagged = await client.command(b"UID EXPUNGE 3:6")
        assert lines == [b"* VANISHED 4,6"]
        assert tagged.startswith(b"t OK [HIGHESTMODSEQ %d] " % (highest + 4))
        *lines, tagged = await client.command(b"MOVE 1 Trash")
        assert lines[0].startswith(b"* OK [COPYUID ")
        assert lines[1:] == [b"* VANISHED 1"]
        assert tagged.startswith(b"t OK [HIGHESTMODSEQ %d] " % (highest + 5))
        assert (await client.command(b"EXPUNGE"))[-1].startswith(b"t OK nothing")


async def test_fetch_vanished(service: Service) -> None:
    """UID FETCH with VANISHED tells what is gone of its set, before what has changed (RFC 7162 §3.2.6)."""
    await service.deliver(*[mail(f"m{number}") for number in range(6)])
    async with await enabled(service, b"QRESYNC") as client, await service.client() as plain:
        since = (await _selected(client))[b"HIGHESTMODSEQ"]
        await client.ok(b"STORE 2,5,6 +FLAGS.SILENT (\\Deleted)")
        await client.ok(b"EXPUNGE")
        await client.ok(b"UID STORE 3 +FLAGS.SILENT (\\Seen)")
        lines = await client.ok(b"UID FETCH 1:* (FLAGS) (CHANGEDSINCE %d VANISHED)" % since)
        assert lines == [
            b"* VANISHED (EARLIER) 2,5:6",
            b"* 2 FETCH (UID 3 FLAGS (\\Seen \\Recent) MODSEQ (%d))" % (since + 3),
        ]
        assert await client.ok(b"UID FETCH 1:4 (FLAGS) (CHANGEDSINCE %d VANISHED)" % (since + 3)) == []
        for command in (b"UID FETCH 1 FLAGS (VANISHED)", b"FETCH 1 FLAGS (CHANGEDSINCE 1 VANISHED)"):
            assert (await client.command(command))[-1].startswith(b"t BAD ")
        await plain.ok(b"SELECT INBOX")
        assert (await plain.command(b"UID FETCH 1 FLAGS (CHANGEDSINCE 1 VANISHED)"))[-1].startswith(b"t BAD ")
        assert (await plain.command(b"SELECT INBOX (QRESYNC (1 1))"))[-1].startswith(b"t BAD ")


async def test_enable(service: Service) -> None:
    """ENABLE tells what it has turned on, and passes over what nobody knows; only before a mailbox is selected (RFC 5161 §3.1)."""
    async with await service.client() as client:
        assert await client.ok(b"ENABLE X-NOTHING") == [b"* ENABLED"]
        assert await client.ok(b"ENABLE condstore X-NOTHING") == [b"* ENABLED CONDSTORE"]
        await client.ok(b"SELECT INBOX")
        assert (await client.command(b"ENABLE QRESYNC"))[-1].startswith(b"t BAD ")


@proves(b"UIDONLY")
async def test_uidonly(service: Service) -> None:
    """After ENABLE UIDONLY no message sequence number is told or taken (RFC 9586)."""
    await service.deliver(*[mail(f"m{number}") for number in range(4)])
    async with await enabled(service, b"UIDONLY") as client, await service.client() as other:
        assert not [line for line in await client.ok(b"SELECT INBOX") if b"UNSEEN" in line]
        await other.ok(b"SELECT INBOX")
        await other.ok(b"STORE 1 +FLAGS.SILENT (\\Deleted)")
        await other.ok(b"EXPUNGE")
        await other.ok(b"UID STORE 3 +FLAGS.SILENT (\\Flagged)")
        assert await client.ok(b"NOOP") == [b"* VANISHED 1", b"* 3 UIDFETCH (FLAGS (\\Flagged \\Recent))"]
        assert await client.ok(b"UID FETCH 2,4 (FLAGS)") == [
            b"* 2 UIDFETCH (FLAGS (\\Recent))",
            b"* 4 UIDFETCH (FLAGS (\\Recent))",
        ]
        assert await client.ok(b"UID FETCH 2 UID") == [b"* 2 UIDFETCH (UID 2)"]
        assert await client.ok(b"UID FETCH 2 BODY.PEEK[]<0.5>") == [b"* 2 UIDFETCH (BODY[]<0> {5}\r\nRetur)"]
        assert await client.ok(b"UID STORE 2 FLAGS (\\Seen)") == [b"* 2 UIDFETCH (FLAGS (\\Seen \\Recent))"]
        for command in (
            b"FETCH 1 FLAGS",
            b"STORE 1 FLAGS ()",
            b"COPY 1 Trash",
            b"MOVE 1 Trash",
            b"SEARCH ALL",
            b"UID SEARCH OR 1 SEEN",
        ):
            assert (await client.command(command))[-1].startswith(b"t BAD [UIDREQUIRED] "), command
        moved = await client.ok(b"UID MOVE 2 Trash")
        assert moved[1:] == [b"* VANISHED 2"]


@proves(b"UIDBATCHES")
async def test_uidbatches(service: Service) -> None:
    """UIDBATCHES gives UID ranges side by side, each with so many messages, from the newest down to UID 1."""
    await service.deliver(*[mail(f"m{number}") for number in range(1203)])
    async with await service.client() as client:
        await client.ok(b"SELECT INBOX")
        await client.ok(b"UID STORE 100 +FLAGS.SILENT (\\Deleted)")
        await client.ok(b"EXPUNGE")
        assert await client.ok(b"UIDBATCHES 500") == [b'* UIDBATCHES (TAG "t") 1203:704,703:204,203:1']
        assert await client.ok(b"UIDBATCHES 601 2:3") == [b'* UIDBATCHES (TAG "t") 602:1']
        assert await client.ok(b"UIDBATCHES 500 4:9") == [b'* UIDBATCHES (TAG "t")']
        assert (await client.command(b"UIDBATCHES 499"))[-1].startswith(b"t NO [TOOFEW] ")
        assert (await client.command(b"UIDBATCHES 500 3:2"))[-1].startswith(b"t BAD [CLIENTBUG] ")
        await client.ok(b"SELECT Trash")
        assert await client.ok(b"UIDBATCHES 500") == [b'* UIDBATCHES (TAG "t")']


async def test_partial_fetch(service: Service) -> None:
    """UID FETCH with PARTIAL gives the n-th to the m-th of its set, from either end (RFC 9394 §3.3)."""
    await service.deliver(*[mail(f"m{number}") for number in range(9)])
    async with await service.client() as client:
        await client.ok(b"SELECT INBOX")

        async def uids(command: bytes) -> list[int]:
            return [int(line.split()[1]) for line in await client.ok(command)]

        assert await uids(b"UID FETCH 1:3,6:* UID (PARTIAL 3:5)") == [3, 6, 7]
        assert await uids(b"UID FETCH 1:3,6:* UID (PARTIAL -1:-2)") == [8, 9]
        assert await uids(b"UID FETCH 1:3,6:* UID (PARTIAL -6:-100)") == [1, 2]
        assert await uids(b"UID FETCH 1:3,6:* UID (PARTIAL 8:9)") == []
        assert (await client.command(b"FETCH 1:* UID (PARTIAL 1:2)"))[-1].startswith(b"t BAD ")
