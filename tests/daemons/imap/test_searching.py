"""ESEARCH, SEARCHRES, WITHIN, PARTIAL, SORT, THREAD and contexts: what their commands answer, over real connections."""

import dataclasses
from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from config.units import Seconds
from tests.daemons.imap.conftest import Service, mail, running
from tests.daemons.imap.conversation import Client
from tests.daemons.imap.proofs import proves

OLD = datetime(2020, 1, 1, tzinfo=UTC)


def letter(subject: str, sender: str, date: str, *fields: str) -> bytes:
    """A message with a subject, a sender and a date."""
    lines = [f"From: {sender}", f"Subject: {subject}", f"Date: {date}", *fields]
    return ("\r\n".join(lines) + "\r\n\r\nbody\r\n").encode()


async def _selected(service: Service, count: int = 5) -> Client:
    """A session in an INBOX of messages "n1", "n2", …"""
    await service.deliver(*[mail(f"n{number}") for number in range(1, count + 1)])
    client = await service.client()
    await client.ok(b"SELECT INBOX")
    return client


@proves(b"ESEARCH")
async def test_esearch(service: Service) -> None:
    """RETURN asks for the lowest, the highest, the number and the set of what is found (RFC 4731 §3.1)."""
    async with await _selected(service) as client:
        await client.ok(rb"STORE 2,4:5 +FLAGS.SILENT \Seen")
        answer = b'* ESEARCH (TAG "t") '
        assert await client.ok(b"SEARCH RETURN (MIN MAX COUNT ALL) SEEN") == [answer + b"MIN 2 MAX 5 ALL 2,4:5 COUNT 3"]
        assert await client.ok(b"SEARCH RETURN () SEEN") == [answer + b"ALL 2,4:5"]
        assert await client.ok(b"UID SEARCH RETURN (MAX) SEEN") == [answer + b"UID MAX 5"]
        assert await client.ok(b"SEARCH RETURN (MIN COUNT) DRAFT") == [answer + b"COUNT 0"]
        assert await client.ok(b"UID SEARCH RETURN () DRAFT") == [b'* ESEARCH (TAG "t") UID']
        assert await client.ok(b"SEARCH SEEN") == [b"* SEARCH 2 4 5"]


async def test_imap4rev2_answers_with_esearch(service: Service) -> None:
    """Once IMAP4rev2 is enabled there is no SEARCH response any more (RFC 9051 §6.4.4)."""
    await service.deliver(mail("one"))
    async with await service.client() as client:
        await client.ok(b"ENABLE IMAP4rev2")
        await client.ok(b"SELECT INBOX")
        assert await client.ok(b"SEARCH ALL") == [b'* ESEARCH (TAG "t") ALL 1']
        assert await client.ok(b"UID SEARCH ALL") == [b'* ESEARCH (TAG "t") UID ALL 1']


async def test_modseq(service: Service) -> None:
    """MODSEQ as a key turns CONDSTORE on and adds the highest MODSEQ of what is told (RFC 7162 §3.1.5, §3.1.10)."""
    async with await _selected(service, 3) as client:
        (line,) = [line for line in await client.ok(b"SEARCH MODSEQ 1") if b"SEARCH" in line]
        first = int(line.rpartition(b" ")[2][:-1])
        assert line == b"* SEARCH 1 2 3 (MODSEQ %d)" % first
        await client.ok(rb"STORE 2 +FLAGS.SILENT \Seen")
        await client.ok(rb"STORE 1 +FLAGS.SILENT \Seen")
        key = b"MODSEQ %d" % (first + 1)
        answer = b'* ESEARCH (TAG "t") '
        assert await client.ok(b"SEARCH " + key) == [b"* SEARCH 1 2 (MODSEQ %d)" % (first + 2)]
        assert await client.ok(b"SEARCH RETURN (MAX) " + key) == [answer + b"MAX 2 MODSEQ %d" % (first + 1)]
        assert await client.ok(b"SEARCH RETURN () " + key) == [answer + b"ALL 1:2 MODSEQ %d" % (first + 2)]
        assert await client.ok(b"SORT (REVERSE ARRIVAL) UTF-8 " + key) == [b"* SORT 1 2 (MODSEQ %d)" % (first + 2)]
        assert await client.ok(b"SEARCH RETURN (COUNT) MODSEQ %d" % (first + 9)) == [answer + b"COUNT 0"]


@proves(b"SEARCHRES")
async def test_searchres(service: Service) -> None:
    """ "$" is the saved result in every set, and loses what is expunged (RFC 5182 §2.1)."""
    async with await _selected(service) as client:
        assert await client.ok(b"SEARCH $") == [b"* SEARCH"]
        assert await client.ok(b"SEARCH RETURN (SAVE) 2:4") == []
        assert await client.ok(b"FETCH $ UID") == [b"* %d FETCH (UID %d)" % (at, at) for at in (2, 3, 4)]
        assert await client.ok(rb"UID STORE $ +FLAGS.SILENT (\Deleted)") == []
        assert await client.ok(b"SEARCH OR $ 5") == [b"* SEARCH 2 3 4 5"]
        assert await client.ok(rb"STORE 2,4:5 -FLAGS.SILENT (\Deleted)") == []
        assert await client.ok(b"UID EXPUNGE $") == [b"* 3 EXPUNGE"]
        assert await client.ok(b"FETCH $ UID") == [b"* 2 FETCH (UID 2)", b"* 3 FETCH (UID 4)"]
        assert await client.ok(b"UID SEARCH UID $") == [b"* SEARCH 2 4"]
        await client.ok(b"CREATE kept")
        *_, copied = await client.command(b"COPY $ kept")
        assert b" 2,4 1:2]" in copied
        await client.ok(b"UID MOVE $ kept")
        assert await client.ok(b"SEARCH $") == [b"* SEARCH"]
        assert await client.ok(b"FETCH $ UID") == []


@pytest.mark.parametrize(
    ("options", "saved"),
    [
        (b"SAVE MIN", b"2"),
        (b"SAVE MAX", b"5"),
        (b"SAVE MIN MAX", b"2 5"),
        (b"SAVE MIN COUNT", b"2 3 4 5"),
        (b"SAVE ALL", b"2 3 4 5"),
        (b"SAVE PARTIAL 2:3", b"3 4"),
        (b"SAVE MIN PARTIAL -1:-1", b"2 5"),
        (b"SAVE COUNT PARTIAL 2:3", b"2 3 4 5"),
    ],
)
async def test_what_is_saved(service: Service, options: bytes, saved: bytes) -> None:
    """MIN, MAX and PARTIAL alone narrow what is saved (RFC 5182 §2.4, RFC 9394 §3.2)."""
    async with await _selected(service) as client:
        await client.ok(b"SEARCH RETURN (" + options + b") 2:5")
        assert await client.ok(b"SEARCH $") == [b"* SEARCH " + saved]


async def test_saved_result_ends_with_the_mailbox(service: Service) -> None:
    """SELECT empties "$", and a BAD leaves it (RFC 5182 §2.1)."""
    async with await _selected(service) as client:
        await client.ok(b"SEARCH RETURN (SAVE) 1")
        *_, tagged = await client.command(b"SEARCH RETURN (SAVE) NONSENSE")
        assert tagged.startswith(b"t BAD ")
        assert await client.ok(b"SEARCH $") == [b"* SEARCH 1"]
        await client.ok(b"SELECT INBOX")
        assert await client.ok(b"SEARCH $") == [b"* SEARCH"]


@proves(b"WITHIN")
async def test_within(service: Service) -> None:
    """OLDER and YOUNGER compare INTERNALDATE with now, by the second (RFC 5032 §3)."""
    now = datetime.now(UTC)
    await service.deliver(mail("old"), internaldate=now - timedelta(days=2))
    await service.deliver(mail("new"), internaldate=now - timedelta(minutes=5))
    async with await service.client() as client:
        await client.ok(b"SELECT INBOX")
        assert await client.ok(b"SEARCH YOUNGER 86400") == [b"* SEARCH 2"]
        assert await client.ok(b"SEARCH OLDER 86400") == [b"* SEARCH 1"]
        assert await client.ok(b"SEARCH OLDER 60 YOUNGER 864000") == [b"* SEARCH 1 2"]


@proves(b"PARTIAL")
async def test_partial(service: Service) -> None:
    """A window of the result, from its beginning or from its end, NIL where nothing is in it (RFC 9394 §3.1)."""
    async with await _selected(service) as client:
        answer = b'* ESEARCH (TAG "t") UID PARTIAL '
        for asked, told in (
            (b"1:2", b"(1:2 2:3)"),
            (b"3:9", b"(3:9 5)"),
            (b"4:9", b"(4:9 NIL)"),
            (b"-1:-2", b"(-1:-2 3,5)"),
            (b"-2:-9", b"(-2:-9 2:3)"),
            (b"-4:-9", b"(-4:-9 NIL)"),
        ):
            assert await client.ok(b"UID SEARCH RETURN (PARTIAL %b) UID 2:3,5" % asked) == [answer + told]
        *_, tagged = await client.command(b"SEARCH RETURN (PARTIAL 1:2 ALL) ALL")
        assert tagged.startswith(b"t BAD ")
        fetched = await client.ok(b"UID FETCH 1:* (FLAGS) (PARTIAL -1:-2)")
        assert [line.split(b" (")[0] for line in fetched] == [b"* 4 FETCH", b"* 5 FETCH"]


async def test_save_dates_and_object_identifiers(service: Service) -> None:
    """SAVEDBEFORE and its kin ask when a message came into the mailbox, EMAILID and THREADID which one it is."""
    today = datetime.now(UTC).strftime("%d-%b-%Y").encode()
    await service.deliver(mail("one"), mail("two"), internaldate=OLD)
    async with await service.client() as client:
        await client.ok(b"SELECT INBOX")
        for key, found in (
            (b"SAVEDSINCE 1-Jan-2020", b" 1 2"),
            (b"SAVEDBEFORE 2-Jan-2020", b""),
            (b"OR SAVEDON " + today + b" SAVEDSINCE " + today, b" 1 2"),
            (b"BEFORE 2-Jan-2020 SAVEDATESUPPORTED", b" 1 2"),
        ):
            assert await client.ok(b"SEARCH " + key) == [b"* SEARCH" + found]
        for item in (b"EMAILID", b"THREADID"):
            _, line = await client.ok(b"FETCH 1:2 " + item)
            objectid = line.rpartition(b"(")[2].rstrip(b")")
            assert await client.ok(b"SEARCH " + item + b" " + objectid) == [b"* SEARCH 2"]
        assert await client.ok(b"SEARCH EMAILID M0 THREADID x") == [b"* SEARCH"]


async def test_numbers_beyond_the_last_match_nothing(service: Service) -> None:
    """A sequence number that no message has is no error in a search (RFC 9051 §6.4.4)."""
    async with await _selected(service, 2) as client:
        assert await client.ok(b"SEARCH 7") == [b"* SEARCH"]
        assert await client.ok(b"SEARCH NOT 2:9") == [b"* SEARCH 1"]


async def test_gone_messages(service: Service) -> None:
    """What another session has expunged is in no result by number, and the answer says so (RFC 5530 EXPUNGEISSUED)."""
    async with await _selected(service, 4) as client, await service.client() as other:
        await other.ok(b"SELECT INBOX")
        await other.ok(rb"STORE 2 +FLAGS.SILENT \Deleted")
        await other.ok(b"EXPUNGE")
        for command, found in ((b"SEARCH ALL", b"SEARCH"), (b"SORT (ARRIVAL) UTF-8 ALL", b"SORT")):
            answer, *_, tagged = await client.command(command)
            assert answer == b"* " + found + b" 1 3 4"
            assert tagged.startswith(b"t OK [EXPUNGEISSUED] ")
        answer, *_, tagged = await client.command(b"THREAD REFS UTF-8 ALL")
        assert answer == b"* THREAD (1)(3)(4)"
        assert tagged.startswith(b"t OK [EXPUNGEISSUED] ")
        answer, expunged, tagged = await client.command(b"UID SORT (ARRIVAL) UTF-8 ALL")
        assert (answer, expunged) == (b"* SORT 1 3 4", b"* 2 EXPUNGE")
        assert tagged.startswith(b"t OK sorted")


async def _sortable(service: Service) -> Client:
    """A session in an INBOX of four messages that every key sorts otherwise."""
    await service.deliver(
        letter("Re: beta", "Zoe <adam@x.test>", "Thu, 2 Jan 2020 00:00:00 +0000", "To: b@x.test", "Cc: d@x.test"),
        internaldate=OLD + timedelta(days=3),
    )
    await service.deliver(
        letter("alpha " + "x" * 100, "bert@x.test", "Wed, 1 Jan 2020 23:00:00 -0500", "To: a@x.test", "Cc: c@x.test"),
        internaldate=OLD + timedelta(days=2),
    )
    await service.deliver(
        letter("[list] Älpha", '"Ärla" <carl@x.test>', "nonsense", "To: =?utf-8?q?=C3=9F?= <d@x>", "Cc: b@x.test"),
        internaldate=OLD + timedelta(days=1),
    )
    await service.deliver(letter("BETA (fwd)", "dora@x.test", "Wed, 1 Jan 2020 12:00:00 +0000", "To: c@x.test"))
    client = await service.client()
    await client.ok(b"SELECT INBOX")
    return client


@proves(b"SORT")
async def test_sort(service: Service) -> None:
    """Each key of RFC 5256 §3, in both directions, ties in mailbox order, in a search's result."""
    async with await _sortable(service) as client:
        for criteria, order in (
            (b"ARRIVAL", b"3 2 1 4"),
            (b"REVERSE ARRIVAL", b"4 1 2 3"),
            (b"DATE", b"4 1 3 2"),
            (b"FROM", b"1 2 3 4"),
            (b"REVERSE FROM", b"4 3 2 1"),
            (b"TO", b"2 1 4 3"),
            (b"CC", b"4 3 2 1"),
            (b"SIZE", b"4 1 3 2"),
            (b"SUBJECT", b"2 3 1 4"),
            (b"REVERSE SUBJECT", b"1 4 3 2"),
            (b"SUBJECT REVERSE ARRIVAL", b"2 3 4 1"),
        ):
            assert await client.ok(b"SORT (" + criteria + b") UTF-8 ALL") == [b"* SORT " + order], criteria
        assert await client.ok(b"UID SORT (REVERSE DATE) US-ASCII SUBJECT beta") == [b"* SORT 1 4"]
        assert await client.ok(b"SORT (DATE) UTF-8 DELETED") == [b"* SORT"]


@proves(b"SORT=DISPLAY")
async def test_sort_display(service: Service) -> None:
    """DISPLAYFROM and DISPLAYTO sort by what a client shows: the decoded name, else the address (RFC 5957 §3)."""
    async with await _sortable(service) as client:
        assert await client.ok(b"SORT (DISPLAYFROM) UTF-8 ALL") == [b"* SORT 3 2 4 1"]
        assert await client.ok(b"SORT (REVERSE DISPLAYTO) UTF-8 ALL") == [b"* SORT 3 4 1 2"]


@proves(b"ESORT")
async def test_esort(service: Service) -> None:
    """RETURN with SORT: MIN and MAX are the ends of the order, ALL and PARTIAL keep it (RFC 5267 §3.1)."""
    async with await _sortable(service) as client:
        answer = b'* ESEARCH (TAG "t") '
        command = b"SORT RETURN (%b) (DATE) UTF-8 ALL"
        assert await client.ok(command % b"MIN MAX COUNT") == [answer + b"MIN 4 MAX 2 COUNT 4"]
        assert await client.ok(command % b"") == [answer + b"ALL 4,1,3,2"]
        assert await client.ok(b"UID " + command % b"PARTIAL 2:3") == [answer + b"UID PARTIAL (2:3 1,3)"]
        assert await client.ok(command % b"PARTIAL -1:-2") == [answer + b"PARTIAL (-1:-2 3,2)"]
        assert await client.ok(command % b"SAVE MIN") == [answer + b"MIN 4"]
        assert await client.ok(b"SEARCH $") == [b"* SEARCH 4"]


async def test_sort_and_thread_know_no_charset(service: Service) -> None:
    """A charset that is not known is NO [BADCHARSET] (RFC 5256 §3)."""
    async with await _selected(service, 1) as client:
        for command in (b"SORT (DATE) KLINGON ALL", b"UID THREAD REFS KLINGON ALL"):
            (tagged,) = await client.command(command)
            assert tagged.startswith(b"t NO [BADCHARSET ")


async def _threaded(service: Service) -> Client:
    """A session in an INBOX with a conversation, its reply by subject, and two messages that lost their root."""
    await service.deliver(
        letter("one", "a@x", "1 Jan 2020 00:00:00 +0000", "Message-ID: <1@x>"),
        letter("Re: one", "b@x", "3 Jan 2020 00:00:00 +0000", "Message-ID: <2@x>", "References: <1@x>"),
        letter("Re: one", "c@x", "2 Jan 2020 00:00:00 +0000", "Message-ID: <3@x>", "In-Reply-To: <1@x>"),
        letter("lost", "d@x", "4 Jan 2020 00:00:00 +0000", "Message-ID: <4@x>", "References: <none@x>"),
        letter("lost too", "e@x", "5 Jan 2020 00:00:00 +0000", "Message-ID: <5@x>", "References: <none@x>"),
        letter("Fwd: one", "f@x", "6 Jan 2020 00:00:00 +0000", "Message-ID: <6@x>"),
    )
    client = await service.client()
    await client.ok(b"SELECT INBOX")
    return client


@proves(b"THREAD=REFERENCES")
async def test_thread_references(service: Service) -> None:
    """Replies by reference and by subject, siblings by date, and what lost its root without a dummy (RFC 5256 §3)."""
    async with await _threaded(service) as client:
        assert await client.ok(b"THREAD REFERENCES UTF-8 ALL") == [b"* THREAD (1 (3)(2)(6))((4)(5))"]
        assert await client.ok(b"UID THREAD REFERENCES UTF-8 NOT UID 1") == [b"* THREAD ((3)(2)(6))((4)(5))"]
        await client.ok(rb"STORE 1 +FLAGS.SILENT \Deleted")
        await client.ok(b"EXPUNGE")
        assert await client.ok(b"THREAD REFERENCES UTF-8 ALL") == [b"* THREAD ((2)(1)(5))((3)(4))"]
        assert await client.ok(b"UID THREAD REFERENCES UTF-8 ALL") == [b"* THREAD ((3)(2)(6))((4)(5))"]
        assert await client.ok(b"THREAD REFERENCES UTF-8 DELETED") == [b"* THREAD"]


@proves(b"THREAD=ORDEREDSUBJECT")
async def test_thread_ordered_subject(service: Service) -> None:
    """All messages of a subject are children of the first (RFC 5256 §3)."""
    async with await _threaded(service) as client:
        assert await client.ok(b"THREAD ORDEREDSUBJECT UTF-8 ALL") == [b"* THREAD (1 (3)(2)(6))(4)(5)"]


@proves(b"THREAD=REFS")
async def test_thread_refs(service: Service) -> None:
    """References alone, and the thread with the latest arrival last (draft-ietf-morg-inthread §4)."""
    async with await _threaded(service) as client:
        assert await client.ok(b"THREAD REFS UTF-8 ALL") == [b"* THREAD (1 (3)(2))((4)(5))(6)"]
        await service.deliver(
            letter("new", "g@x", "1 Jan 2019 00:00:00 +0000", "References: <1@x>"), internaldate=datetime.now(UTC)
        )
        await client.arrival()
        assert await client.ok(b"THREAD REFS UTF-8 ALL") == [b"* THREAD ((4)(5))(6)(1 (7)(3)(2))"]


async def test_older_contents_are_sorted_all_the_same(service: Service) -> None:
    """A row without stored keys, from before they were stored, gets them from its header fields."""
    async with await _sortable(service) as client:
        async with service.context.pool.acquire() as connection:
            await connection.execute("UPDATE content SET sorting = NULL")
        assert await client.ok(b"SORT (SUBJECT DATE) UTF-8 ALL") == [b"* SORT 2 3 4 1"]
        assert await client.ok(b"THREAD ORDEREDSUBJECT UTF-8 ALL") == [b"* THREAD (4 1)(3)(2)"]


async def test_sorting_follows_the_mailbox(service: Service) -> None:
    """What comes in and goes between two sorts is in its place in the next, with one session's keys kept for another."""
    async with await _sortable(service) as client, await service.client() as other:
        await other.ok(b"SELECT INBOX")
        assert await client.ok(b"SORT (FROM) UTF-8 ALL") == [b"* SORT 1 2 3 4"]
        await service.deliver(letter("x", "aaron@x.test", "1 Jan 2020 00:00:00 +0000"))
        await client.arrival()
        await other.ok(rb"STORE 2 +FLAGS.SILENT \Deleted")
        await other.ok(b"EXPUNGE")
        await client.ok(b"NOOP")
        assert await client.ok(b"UID SORT (FROM) UTF-8 ALL") == [b"* SORT 5 1 3 4"]
        assert await other.ok(b"SORT (FROM) UTF-8 ALL") == [b"* SORT 4 1 2 3"]


async def test_relevancy(service: Service) -> None:
    """Fuzzy keys give each message a score, which RETURN tells and SORT sorts by, the best first (RFC 6203 §4, §5)."""
    await service.deliver(mail("weather", "A storm.\r\n"), mail("storm", "Nothing.\r\n"), mail("other", "Else.\r\n"))
    async with await service.client() as client:
        await client.ok(b"SELECT INBOX")
        (line,) = await client.ok(b"SEARCH RETURN (RELEVANCY ALL) FUZZY TEXT storms")
        head, _, scores = line.partition(b" RELEVANCY ")
        assert head == b'* ESEARCH (TAG "t") ALL 1:2'
        low, high = map(int, scores.strip(b"()").split())
        assert 1 <= low < high <= 100
        assert await client.ok(b"SORT (RELEVANCY) UTF-8 FUZZY TEXT storms") == [b"* SORT 2 1"]
        assert await client.ok(b"SORT (REVERSE RELEVANCY) UTF-8 FUZZY TEXT storms") == [b"* SORT 1 2"]


@pytest.mark.parametrize(
    "command", [b"SEARCH SENTON 1-Jan-2020", b"SORT (SUBJECT) UTF-8 ALL", b"THREAD REFS UTF-8 ALL"]
)
async def test_progress_is_told(service: Service, command: bytes) -> None:
    """While a search waits for long, the client hears that it is still going on (RFC 9585)."""
    settings = msgspec.structs.replace(service.context.settings.imap, progress_interval=Seconds(0.01))
    context = dataclasses.replace(
        service.context, settings=msgspec.structs.replace(service.context.settings, imap=settings)
    )
    await service.deliver(mail("one"))
    async with running(context) as endpoints, await Client.connect(endpoints["imaps"], service.tls) as client:
        await client.login(service.person.login)
        await client.ok(b"SELECT INBOX")
        async with service.context.pool.acquire() as connection, connection.transaction():
            await connection.execute("LOCK TABLE content IN ACCESS EXCLUSIVE MODE")
            client.write(b"t " + command + b"\r\n")
            line = await client.line()
            assert line.startswith(b'* OK [INPROGRESS ("t" NIL NIL)]'), line
        assert (await client.until(b"t"))[-1].startswith(b"t OK ")
