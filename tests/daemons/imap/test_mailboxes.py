"""LIST with all its options, STATUS with all its items, and names of every kind, over real connections."""

import json
import time
import unicodedata
from pathlib import Path

import pytest

from protocol.imap import names
from protocol.imap.objectid import mailbox_id
from storage import mailboxes
from tests.daemons.imap.conftest import Service, mail
from tests.daemons.imap.proofs import proves

VECTORS = Path(__file__).parents[2] / "protocol" / "imap" / "names.json"
DEFAULTS = ["Archive", "Drafts", "INBOX", "Junk", "Sent", "Trash"]


async def _make(service: Service, *made: str) -> None:
    async with service.context.pool.acquire() as connection:
        for name in made:
            await mailboxes.create(connection, service.person.account_id, name)


@proves(b"LIST-EXTENDED")
async def test_list_extended(service: Service) -> None:
    r"""Several patterns, selection and return options, \NonExistent and CHILDINFO (RFC 5258)."""
    await _make(service, "foo", "foo/bar", "foo/baz", "deep/a/b")
    async with await service.client() as client:
        for name in DEFAULTS:
            await client.ok(b"UNSUBSCRIBE " + name.encode())
        for wanted in (b"foo/bar", b"deep/a/b", b"gone"):
            await client.ok(b"SUBSCRIBE " + wanted)
        assert await client.ok(b'LIST "" ("foo/*" INBOX) RETURN (SUBSCRIBED)') == [
            rb'* LIST (\HasNoChildren) "/" INBOX',
            rb'* LIST (\Subscribed \HasNoChildren) "/" foo/bar',
            rb'* LIST (\HasNoChildren) "/" foo/baz',
        ]
        assert await client.ok(b'LIST (SUBSCRIBED) "" *') == [
            rb'* LIST (\Subscribed \HasNoChildren) "/" deep/a/b',
            rb'* LIST (\Subscribed \HasNoChildren) "/" foo/bar',
            rb'* LIST (\NonExistent \Subscribed \HasNoChildren) "/" gone',
        ]
        assert await client.ok(b'LIST (SUBSCRIBED RECURSIVEMATCH) "" %') == [
            rb'* LIST (\HasChildren) "/" deep ("CHILDINFO" ("SUBSCRIBED"))',
            rb'* LIST (\HasChildren) "/" foo ("CHILDINFO" ("SUBSCRIBED"))',
            rb'* LIST (\NonExistent \Subscribed \HasNoChildren) "/" gone',
        ]
        assert await client.ok(b'LIST (SPECIAL-USE) "" * RETURN (SPECIAL-USE)') == [
            rb'* LIST (\HasNoChildren \%b) "/" %b' % (name.encode(), name.encode())
            for name in DEFAULTS
            if name != "INBOX"
        ]
        assert len(await client.ok(b'LIST (REMOTE) "" % RETURN (CHILDREN)')) == len([*DEFAULTS, "deep", "foo"])
        for wrong in (b'(RECURSIVEMATCH) "" *', b'(RECURSIVEMATCH REMOTE) "" *', b'(X) "" *', b'"" * RETURN (X)'):
            *_, refused = await client.command(b"LIST " + wrong)
            assert refused.startswith(b"t BAD ")


async def test_recursivematch_tells_of_inferiors_that_do_not_match(service: Service) -> None:
    """A superior is told when what it holds is not told itself, by each level that matches (RFC 5258 §3.5)."""
    await _make(service, "foo2/bar1", "foo2/bar2", "baz2/bar2", "baz2/bar22", "eps2/mamba")
    async with await service.client() as client:
        for name in (b"foo2/bar1", b"foo2/bar2", b"baz2/bar2", b"baz2/bar22", b"eps2", b"eps2/mamba", b"qux2/bar2"):
            await client.ok(b"SUBSCRIBE " + name)
        told = await client.ok(b'LIST (RECURSIVEMATCH SUBSCRIBED) "" "*2"')
        assert told == [
            rb'* LIST (\Subscribed \HasNoChildren) "/" baz2/bar2',
            rb'* LIST (\Subscribed \HasNoChildren) "/" baz2/bar22',
            rb'* LIST (\Subscribed \HasChildren) "/" eps2 ("CHILDINFO" ("SUBSCRIBED"))',
            rb'* LIST (\HasChildren) "/" foo2 ("CHILDINFO" ("SUBSCRIBED"))',
            rb'* LIST (\Subscribed \HasNoChildren) "/" foo2/bar2',
            rb'* LIST (\NonExistent \Subscribed \HasNoChildren) "/" qux2/bar2',
        ]


@proves(b"LIST-STATUS")
async def test_list_status(service: Service) -> None:
    r"""STATUS comes behind each mailbox that can be selected, and behind no other (RFC 5819)."""
    await _make(service, "p/q")
    await service.deliver(mail(), mailbox="p/q")
    async with await service.client() as client:
        await client.ok(b"DELETE p")
        told = await client.ok(b'LIST "" (INBOX p*) RETURN (STATUS (MESSAGES UNSEEN))')
        assert told == [
            rb'* LIST (\HasNoChildren) "/" INBOX',
            b"* STATUS INBOX (MESSAGES 0 UNSEEN 0)",
            rb'* LIST (\Noselect \HasChildren) "/" p',
            rb'* LIST (\HasNoChildren) "/" p/q',
            b"* STATUS p/q (MESSAGES 1 UNSEEN 1)",
        ]
        await client.ok(b"SUBSCRIBE p/q")
        assert await client.ok(b'LIST (SUBSCRIBED RECURSIVEMATCH) "" p RETURN (STATUS (MESSAGES))') == [
            rb'* LIST (\Noselect \HasChildren) "/" p ("CHILDINFO" ("SUBSCRIBED"))'
        ]


@proves(b"STATUS=SIZE")
async def test_status_items(service: Service) -> None:
    r"""STATUS tells sizes, \Deleted messages, identifiers and limits (RFC 8438, RFC 9051 §6.3.11, RFC 9208, RFC 8474)."""
    one, two = mail("one"), mail("two", "longer\r\n" * 9)
    await service.deliver(one)
    await service.deliver(two, flags=r"\Deleted \Seen")
    size_of_one, size_of_two = (len(b"Return-Path: <>\r\n" + octets) for octets in (one, two))
    identifier = mailbox_id(await service.mailbox_id("INBOX"))
    async with await service.client() as client:
        asked = b"SIZE DELETED DELETED-STORAGE HIGHESTMODSEQ MAILBOXID APPENDLIMIT UNSEEN RECENT"
        (line,) = await client.ok(b"STATUS INBOX (%b)" % asked)
        limit = service.context.settings.imap.append_limit
        assert line == (
            b"* STATUS INBOX (SIZE %d DELETED 1 DELETED-STORAGE %d HIGHESTMODSEQ 3 MAILBOXID (%b) APPENDLIMIT %d "
            b"UNSEEN 1 RECENT 2)" % (size_of_one + size_of_two, size_of_two, identifier, limit)
        )
        *_, created = await client.command(b"CREATE new")
        assert created.startswith(b"t OK [MAILBOXID (%b)] " % mailbox_id(await service.mailbox_id("new")))
        before = await client.ok(b"STATUS new (MAILBOXID)")
        await client.ok(b"RENAME new newer")
        assert [line.replace(b"newer", b"new") for line in await client.ok(b"STATUS newer (MAILBOXID)")] == before
        *_, refused = await client.command(b"STATUS INBOX (SIZES)")
        assert refused.startswith(b"t BAD ")


async def test_a_thousand_mailboxes(service: Service) -> None:
    """A hierarchy of a thousand is listed in one statement, with STATUS too, and costs milliseconds of processor time."""
    await _make(service, *(f"top/{year}/{month}" for year in range(40) for month in range(24)))
    async with await service.client() as client:
        await client.ok(b'LIST "" *')  # once to warm statements and caches
        best = 1.0
        for _ in range(5):
            started = time.process_time()
            told = await client.ok(b'LIST "" * RETURN (STATUS (MESSAGES UNSEEN SIZE UIDNEXT))')
            best = min(best, time.process_time() - started)
        assert len(told) == 2 * (40 * 24 + 40 + 1 + len(DEFAULTS))
        assert best < 0.25, f"{best:.3f} s"
        assert len(await client.ok(b'LIST "" top/%')) == 40


@pytest.mark.parametrize("is_utf8", [False, True], ids=["modified UTF-7", "UTF-8"])
async def test_names_of_every_kind(service: Service, is_utf8: bool) -> None:
    """Each name of the vectors that a mailbox may have is created, listed, selected, renamed and deleted, in both encodings."""
    vectors = [vector for vector in json.loads(VECTORS.read_text("utf-8")) if vector["valid"] and vector["name"]]
    odd = [
        "{",
        "}",
        "]",
        '"',
        "\\",
        "\\\\",
        "(",
        ")",
        "%",
        "*",
        "&",
        "~",
        "#",
        "=",
        "nil",
        "NIL",
        " lead",
        "trail ",
        "a\u00a0b",
    ]
    async with await service.client() as client:
        if is_utf8:
            await client.ok(b"ENABLE UTF8=ACCEPT")
        for name in dict.fromkeys([*(vector["name"] for vector in vectors), *odd, "&AOQ-", "ü&AOQ-", "👪/👩‍👩‍👧"]):
            spelled = name.encode() if is_utf8 else names.encode(name)
            literal = b"{%d+}\r\n%b" % (len(spelled), spelled)
            told = unicodedata.normalize("NFC", name).encode() if is_utf8 else spelled  # RFC 9051 §5.1
            *_, created = await client.command(b"CREATE " + literal)
            if any(character < " " for character in name):
                assert created.startswith((b"t NO [CANNOT] ", b"t BAD NUL in"))
                continue
            assert created.startswith(b"t OK "), name
            listed = await client.ok(b'LIST "" ({%d+}\r\n%b)' % (len(told), told))
            assert [line for line in listed if _name_in(line) == told], (name, listed)
            await client.ok(b"SELECT " + literal)
            await client.ok(b"UNSELECT")
            await client.ok(b"RENAME %b renamed" % literal)
            await client.ok(b"RENAME renamed " + literal)
            await client.ok(b"DELETE " + literal)


def _name_in(line: bytes) -> bytes:
    """The mailbox name of a LIST response, unquoted."""
    name = line.split(b' "/" ', 1)[1]
    if name.startswith(b"{"):
        return name.split(b"\r\n", 1)[1]
    return name[1:-1].replace(b'\\"', b'"').replace(b"\\\\", b"\\") if name.startswith(b'"') else name


async def test_both_encodings_name_the_same_mailbox(service: Service) -> None:
    """What one session creates in modified UTF-7, another finds in UTF-8 (RFC 3501 §5.1.3, RFC 9051 §5.1)."""
    async with await service.client() as old, await service.client() as new:
        await new.ok(b"ENABLE IMAP4rev2")
        await old.ok(b"CREATE p&AOQA5A-")
        assert await new.ok('LIST "" "pää"'.encode()) == ['* LIST (\\HasNoChildren) "/" "pää"'.encode()]
        await new.ok('RENAME "pää" "tschüß"'.encode())
        assert await old.ok(b'LIST "" tsch*') == [rb'* LIST (\HasNoChildren) "/" tsch&APwA3w-']


async def test_rename_inbox(service: Service) -> None:
    """RENAME of INBOX moves its messages, leaves it and its inferiors in place (RFC 3501 §6.3.5)."""
    await _make(service, "INBOX/sub")
    await service.deliver(mail("one"), mail("two"))
    async with await service.client() as client, await service.client() as other:
        await other.ok(b"SELECT INBOX")
        await client.ok(b"RENAME inbox old/mail")
        told = await other.ok(b"NOOP")
        assert told == [b"* 2 EXPUNGE", b"* 1 EXPUNGE"]
        assert await client.ok(b'LIST "" (INBOX* old*) RETURN (STATUS (MESSAGES))') == [
            rb'* LIST (\HasChildren) "/" INBOX',
            b"* STATUS INBOX (MESSAGES 0)",
            rb'* LIST (\HasNoChildren) "/" INBOX/sub',
            b"* STATUS INBOX/sub (MESSAGES 0)",
            rb'* LIST (\HasChildren) "/" old',
            b"* STATUS old (MESSAGES 0)",
            rb'* LIST (\HasNoChildren) "/" old/mail',
            b"* STATUS old/mail (MESSAGES 2)",
        ]


async def test_noselect_parents(service: Service) -> None:
    r"""A deleted mailbox with inferiors stays as \Noselect, goes when asked again without them, and can be made anew."""
    await _make(service, "p/q")
    async with await service.client() as client:
        await client.ok(b"DELETE p")
        *_, refused = await client.command(b"SELECT p")
        assert refused.startswith(b"t NO ")
        *_, refused = await client.command(b"DELETE p")
        assert refused.startswith(b"t NO [HASCHILDREN] ")
        await client.ok(b"CREATE p")
        await client.ok(b"SELECT p")
        await client.ok(b"UNSELECT")
        await client.ok(b"DELETE p")
        await client.ok(b"DELETE p/q")
        await client.ok(b"DELETE p")
        assert await client.ok(b'LIST "" p*') == []
