"""Searching texts: what the index answers, what memory answers and what a scan answers is the same, and is right."""

import contextlib
import gc
import random
import re
import ssl
from collections.abc import AsyncIterator

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.search import Search
from config.units import Octets
from daemons.access.imap.flags import FlagTable
from daemons.access.imap.needles import Candidate, Needle, containing
from daemons.access.imap.texts import TextCache, Texts
from daemons.access.imap.view import Rows, View
from daemons.archiver.indexing import Indexer
from daemons.context import Context
from protocol.message import pack, scan
from protocol.message.header import fields
from protocol.message.text import canonical, canonical_text, field_text
from storage import mailboxes
from storage.rows import Mailbox
from tests.conftest import Person
from tests.daemons.imap.conftest import Service, mail, running
from tests.daemons.imap.conversation import Client
from tests.daemons.imap.proofs import proves
from tests.mails import MAILS, as_sent

HEAD = b"Return-Path: <>\r\n"  # what Service.deliver puts on top


@contextlib.asynccontextmanager
async def indexing(service: Service, **changes: object) -> AsyncIterator[Indexer]:
    """An indexer of the service's database."""
    indexer = Indexer(service.context.pool, service.context.blobs, msgspec.structs.replace(Search(), **changes))
    try:
        yield indexer
    finally:
        await indexer.close()


async def index_all(service: Service) -> None:
    """Index what waits."""
    async with indexing(service) as indexer:
        while await indexer.index_batch():
            pass


async def found(client: Client, *criteria: str) -> list[int]:
    """UIDs; each criterion that begins with "=" is sent as a literal."""
    octets = b"UID SEARCH CHARSET UTF-8"
    for criterion in criteria:
        text = criterion[1:].encode()
        octets += b" {%d+}\r\n%s" % (len(text), text) if criterion.startswith("=") else b" " + criterion.encode()
    lines = await client.ok(octets)
    assert lines[0].startswith(b"* SEARCH"), lines
    return [int(uid) for uid in lines[0].split()[2:]]


class Brute:
    """The right answers, by the definition alone."""

    def __init__(self, uids: list[int], originals: list[bytes]) -> None:
        self.uids = uids
        self.texts = [canonical_text(HEAD, octets, scan(octets)) for octets in originals]
        self.fields: list[dict[bytes, str]] = []
        for octets in originals:
            by_name: dict[bytes, list[str]] = {}
            for field in fields(octets[: scan(octets).body_start]):
                by_name.setdefault(field.name.upper(), []).append(canonical(field_text(field.body)))
            self.fields.append({name: "\n".join(lines) for name, lines in by_name.items()})

    def text(self, needle: str) -> list[int]:
        return self._where(any(canonical(needle) in text for text in texts) for texts in self.texts)

    def body(self, needle: str) -> list[int]:
        return self._where(canonical(needle) in texts[1] for texts in self.texts)

    def header(self, name: bytes, needle: str) -> list[int]:
        return self._where(name in named and canonical(needle) in named[name] for named in self.fields)

    def _where(self, matches: object) -> list[int]:
        return [uid for uid, is_match in zip(self.uids, matches, strict=True) if is_match]  # type: ignore[call-overload]


def needles(brute: Brute, count: int) -> list[str]:
    """Pieces of the texts themselves, and of none."""
    chance = random.Random(5051)
    pieces = ["grüße", "GRÜSSE", "the", "\u200b", "qqzzxx", "e\u0301", "한", "invoice", "a=b", "<p>", "&amp;"]
    texts = [text for texts in brute.texts for text in texts if len(text) > 60]
    for _ in range(count):
        text = chance.choice(texts)
        start = chance.randrange(len(text) - 50)
        piece = text[start : start + chance.choice((1, 2, 3, 5, 8, 13, 40))].replace("\0", "")
        pieces.append(chance.choice((piece, piece.lower())))
    return [piece for piece in pieces if piece]


async def test_index_memory_and_scan_give_one_answer(service: Service) -> None:
    """Over all mails of the corpora: nothing indexed, a part, all of it, searched for the first time and again."""
    originals = [as_sent(path) for path in MAILS if path.stat().st_size < 200_000]
    uids = await service.deliver(*originals)
    brute = Brute(uids, originals)
    wanted = needles(brute, 20)
    async with indexing(service, batch_limit=len(uids) // 2) as indexer, await service.client() as client:
        await client.ok(b"SELECT INBOX")
        for step in ("scanned", "half indexed", "indexed", "in memory"):
            if step in ("half indexed", "indexed"):
                await indexer.index_batch()
                await indexer.index_batch()
                async with await service.client() as other:  # no memory of the step before
                    await other.ok(b"SELECT INBOX")
            for needle in wanted[:8] if step == "scanned" else wanted:
                assert await found(client, "TEXT", "=" + needle) == brute.text(needle), (step, needle)
                assert await found(client, "BODY", "=" + needle) == brute.body(needle), (step, needle)
                for name in (b"SUBJECT", b"FROM", b"RECEIVED", b"X-MAILER", b"RETURN-RECEIPT-TO"):
                    told = await found(client, "HEADER", name.decode(), "=" + needle)
                    assert told == brute.header(name, needle), (step, name, needle)
        for name in (b"SUBJECT", b"RECEIVED", b"MIME-VERSION"):
            assert await found(client, "HEADER", name.decode(), '""') == brute.header(name, ""), name


@pytest.mark.parametrize(
    ("body", "needle", "is_there"),
    [
        ("inv<b>oice</b>", "invoice", True),
        ("inv<!-- -->oice", "invoice", False),  # a comment is a space
        ("inv<br>oice", "invoice", False),
        ("&#105;nvoice", "invoice", True),
        ("in&nbsp;voice", "in voice", True),  # decomposed, a space that does not break is a space
        ("inv<", "invoice", False),
        ("<p>in</p>voice", "invoice", False),
        ("x" * 100 + "<i>y</i>", "x" * 100 + "y", True),
        ("x" * 100 + "<i>y</i>", "x" * 100 + "z", False),
    ],
)
def test_markup_hides_no_word_from_a_scan(body: str, needle: str, *, is_there: bool) -> None:
    """What shows quickly that a message has not the text is never wrong about HTML."""
    octets = b"Content-Type: text/html\r\n\r\n<html>" + body.encode() + b"</html>"
    candidate = Candidate(0, b"", octets, pack(scan(octets)))
    assert (containing([candidate], Needle(needle), in_header=False) == {0}) is is_there


LETTERS = st.sampled_from(
    ["a", "B", "ä", "ß", " ", "\n", "<b>", "</b>", "&auml;", "&nbsp;", "<", "\u00aa", "=", "é", "İ"]
)


@given(st.lists(LETTERS, max_size=12), st.lists(LETTERS, min_size=1, max_size=3), st.sampled_from(["plain", "html"]))
def test_a_scan_finds_what_is_in_the_text(body: list[str], needle: list[str], subtype: str) -> None:
    """Whatever the text and the needle, the scan's short cuts change no answer."""
    octets = f"Subject: x\r\nContent-Type: text/{subtype}; charset=utf-8\r\n\r\n{''.join(body)}".encode()
    wanted = canonical("".join(needle)) in canonical_text(b"", octets, scan(octets))[1]
    found = containing([Candidate(7, b"", octets, pack(scan(octets)))], Needle("".join(needle)), in_header=False)
    assert found == ({7} if wanted else set())


def test_memory_finds_what_is_in_the_texts() -> None:
    """Texts that are joined are told apart: no match reaches from one into the next, and each counts once."""
    texts = Texts()
    texts.add([3, 1], [b"AB", b"BA"])
    texts.add([2, 9, 4], [b"ABAB", None, b""])
    assert set().union(*texts.containing(b"AB")) == {3, 2}
    assert set().union(*texts.containing(b"BB")) == set()
    assert set().union(*texts.containing(b"")) == {3, 1, 2, 4}
    assert sorted(texts.unknown([1, 5, 9])) == [5]
    rows = Rows(FlagTable())
    assert not texts.is_complete(rows)
    texts.complete(rows, 0)
    assert texts.is_complete(rows)
    texts.refuse()
    assert texts.is_too_large
    assert list(texts.containing(b"AB")) == []


async def test_memory_is_bounded_and_goes_with_its_view(service: Service) -> None:
    """The least recently used text goes first, and all of a view with the view."""
    cache = TextCache(1000)
    views = [View(service.context.pool, mailbox, Rows(FlagTable()), 0.0) for mailbox in [await _mailbox(service)] * 3]
    for view in views:
        cache.of(view, "FROM").add([1], [b"x" * 350])
        cache.trim()
    assert cache.octets == 900
    assert cache.of(views[0], "FROM").octets == 0
    del view, views
    gc.collect()
    assert cache.octets == 0
    assert repr(cache) == "<TextCache of 0 texts, 0 octets>"


async def _mailbox(service: Service) -> Mailbox:
    async with service.context.pool.acquire() as connection:
        found = await mailboxes.find(connection, service.person.account_id, "INBOX")
    assert found is not None
    return found


async def test_new_and_expunged_messages_are_seen_at_once(service: Service) -> None:
    """A text in memory is brought up to date by what came in, indexed or not, and shows nothing that is gone."""
    await service.deliver(*(mail(f"needle {number}", "hay\r\n") for number in range(5)))
    await index_all(service)
    async with await service.client() as client:
        await client.ok(b"SELECT INBOX")
        for _ in range(3):
            assert await found(client, "TEXT", "NEEDLE") == [1, 2, 3, 4, 5]
            assert await found(client, "SUBJECT", "Needle") == [1, 2, 3, 4, 5]
        await service.deliver(mail("needle 6", "needle\r\n"))
        await client.ok(b"NOOP")
        assert await found(client, "TEXT", "needle") == [1, 2, 3, 4, 5, 6]
        assert await found(client, "BODY", "needle") == [6]
        await client.ok(b"STORE 2 +FLAGS (\\Deleted)")
        await client.ok(b"EXPUNGE")
        await index_all(service)
        for _ in range(2):
            assert await found(client, "TEXT", "needle") == [1, 3, 4, 5, 6]
            assert await found(client, "SUBJECT", '"needle 1"') == []
            assert await found(client, "NOT", "SUBJECT", '"needle 6"') == [1, 3, 4, 5]


async def test_what_is_too_large_for_memory_is_found_all_the_same(
    context: Context, account: Person, client_tls: ssl.SSLContext
) -> None:
    """With a small cache the database is asked each time."""
    imap = msgspec.structs.replace(context.settings.imap, search_cache=Octets(300))
    changed = msgspec.structs.replace(context.settings, imap=imap)
    small = Context(changed, *(getattr(context, name) for name in Context.__slots__[1:]))
    async with running(small) as endpoints:
        service = Service(small, endpoints, account, client_tls)
        await service.deliver(*(mail(f"needle {number}") for number in range(9)))
        await index_all(service)
        async with await service.client() as client:
            await client.ok(b"SELECT INBOX")
            for _ in range(3):
                assert len(await found(client, "TEXT", '"needle 5"')) == 1
                assert len(await found(client, "FROM", "alice")) == 9


async def test_a_content_that_cannot_be_indexed_is_scanned(service: Service) -> None:
    """What the indexer has marked is found by every search."""
    await service.deliver(mail("large", "needle " * 100 + "\r\n"), mail("small", "needle\r\n"))
    async with indexing(service, text_limit=Octets(400)) as indexer:
        assert await indexer.index_batch() == 2
    assert await service.context.pool.fetchval("SELECT count(*) FROM search_text WHERE version = 0") == 1
    async with await service.client() as client:
        await client.ok(b"SELECT INBOX")
        for _ in range(3):
            assert await found(client, "BODY", "needle") == [1, 2]
            assert await found(client, "HEADER", "Message-Id", "large") == [1]


async def test_another_tenants_row_answers_nothing(service: Service) -> None:
    """The index is asked in the name of the tenant: a row that says another one's is not looked at."""
    await service.deliver(mail("ours", "needle\r\n"))
    await index_all(service)
    await service.context.pool.execute("UPDATE search_text SET tenant_id = -1, body = 'WRONG'")
    async with await service.client() as client:
        await client.ok(b"SELECT INBOX")
        for _ in range(3):
            assert await found(client, "BODY", "wrong") == []
            assert await found(client, "BODY", "needle") == [1]


@proves(b"I18NLEVEL=")
async def test_searches_compare_as_unicode_casemap_does(service: Service) -> None:
    """RFC 5255 §4: titlecase and decomposition decide, in each search key, whatever the charset of mail and needle."""
    latin = b"Subject: =?iso-8859-1?q?=C4pfel?=\r\nContent-Type: text/plain; charset=iso-8859-1\r\n\r\n"
    await service.deliver(latin + "Straße für Åsa".encode("latin-1"), mail("ΣΊΣΥΦΟΣ ǅungla", "ＦＵＬＬ ﬃ ½\r\n"))
    async with await service.client() as client:
        await client.ok(b"SELECT INBOX")
        for is_indexed in (False, True, True):
            if is_indexed:
                await index_all(service)
            for needle, uids in {
                "äPFEL": [1], "A\u0308pfel": [1], "apfel": [], "STRAßE": [1], "strasse": [], "a\u030asa": [1],
                "σίσυφος": [2], "ǆungla": [2], "full": [2], "1\u20442": [2],
            }.items():  # fmt: skip
                assert await found(client, "TEXT", "=" + needle) == uids, needle
            octets = "äpfel".encode("latin-1")
            lines = await client.ok(b"SEARCH CHARSET ISO-8859-1 SUBJECT {5+}\r\n" + octets)
            assert lines == [b"* SEARCH 1"]


@pytest.mark.parametrize(
    ("charset", "codec"),
    [("us-ascii", "ascii"), ("utf-8", "utf-8"), ("ISO-8859-15", "iso8859-15"), ("windows-1252", "cp1252"),
     ("ISO-2022-JP", "iso2022_jp"), ("Shift_JIS", "shift_jis"), ("EUC-JP", "euc_jp"), ("GB18030", "gb18030"),
     ("Big5", "big5"), ("KOI8-R", "koi8-r"), ("iso-8859-1", "latin-1")],
)  # fmt: skip
async def test_a_charset_is_known_by_its_name(service: Service, charset: str, codec: str) -> None:
    """The needle is read in the charset that is named, quoted or not, in any case."""
    text = {
        "ascii": "plain",
        "iso2022_jp": "日本",
        "shift_jis": "日本",
        "euc_jp": "日本",
        "gb18030": "中文",
        "big5": "中文",
    }
    wanted = text.get(codec, "Добро" if codec == "koi8-r" else "für")
    await service.deliver(mail("plain", "für 日本 中文 Добро\r\n", "Content-Type: text/plain; charset=utf-8"))
    octets = wanted.encode(codec)
    async with await service.client() as client:
        await client.ok(b"SELECT INBOX")
        for name in (charset, f'"{charset}"', charset.swapcase()):
            line = b"SEARCH CHARSET %s TEXT {%d+}\r\n%s" % (name.encode(), len(octets), octets)
            assert await client.ok(line) == [b"* SEARCH 1"], name


@pytest.mark.parametrize("charset", [b"x-unknown", b"utf-7-not", b"base64", b"rot13", b"idna", b"unicode_escape"])
async def test_an_unknown_charset_is_told_with_a_list_of_known_ones(service: Service, charset: bytes) -> None:
    """RFC 3501 §7.1: NO [BADCHARSET (...)], whose every name works."""
    async with await service.client() as client:
        await client.ok(b"SELECT INBOX")
        (line,) = await client.command(b"SEARCH CHARSET " + charset + b" TEXT x")
        matched = re.match(rb"t NO \[BADCHARSET \(([^()]+)\)\] ", line)
        assert matched is not None, line
        for name in matched[1].split():
            assert await client.ok(b"SEARCH CHARSET " + name + b" ALL") == [b"* SEARCH"]
