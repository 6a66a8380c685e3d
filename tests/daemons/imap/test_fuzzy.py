"""SEARCH=FUZZY, RFC 6203."""

from typing import Any

import pytest

from tests import documents_made as made
from tests.daemons.imap.conftest import Service, mail
from tests.daemons.imap.proofs import proves
from tests.daemons.imap.test_texts import found, index_all

MAILS = {
    "subject": mail("Offene Rechnungen", "nichts\r\n"),
    "body": mail("Mahnung", "Ihre Rechnung ist noch offen, Herr Müller.\r\n"),
    "attached": made.carrying("scan-4711.pdf", made.pdf("Die Rechnung des Monats"), subject="Anlage"),
    "nothing": mail("Gruß", "Abrechnen kann man immer\r\n"),
}


@proves(b"SEARCH=FUZZY")
async def test_fuzzy_finds_forms_of_words_and_attachments(service: Service) -> None:
    """Stems match in subject, text and attachment, substrings do not; RELEVANCY tells how well, and sorts (RFC 6203 §4, §5)."""
    await service.deliver(*MAILS.values())
    await index_all(service)
    async with await service.client() as client:
        await client.ok(b"SELECT INBOX")
        assert await found(client, "FUZZY", "TEXT", "rechnung") == [1, 2, 3]
        assert await found(client, "TEXT", "rechnung") == [1, 2]
        lines = await client.ok(b"UID SEARCH RETURN (RELEVANCY ALL) FUZZY TEXT rechnungen")
        assert lines == [b'* ESEARCH (TAG "t") UID ALL 1:3 RELEVANCY (100 60 30)']
        assert await client.ok(b"UID SORT (REVERSE RELEVANCY) UTF-8 FUZZY TEXT rechnung") == [b"* SORT 3 2 1"]
        assert await client.ok(b"UID SORT (RELEVANCY) UTF-8 FUZZY TEXT rechnung") == [b"* SORT 1 2 3"]


@pytest.mark.parametrize(
    ("criteria", "uids"),
    [
        ("FUZZY TEXT mueller", [2]),
        ('FUZZY TEXT "offen rechnung"', [1, 2]),  # all words
        ("FUZZY SUBJECT rechnung", [1]),
        ("FUZZY BODY rechnung", [2, 3]),
        ("FUZZY BODY 4711", [3]),  # the name of an attachment
        ("FUZZY FROM ALICE", [1, 2, 3, 4]),
        ("FUZZY TO bobs", [1, 2, 3, 4]),
        ("FUZZY TEXT rechnung SUBJECT mahnung", [2]),
        ("FUZZY (TEXT rechnung SUBJECT mahnungen)", [2]),
        ("FUZZY OR SUBJECT rechnung SUBJECT mahnungen", [1, 2]),
        ("FUZZY NOT TEXT rechnung", [4]),
        ("NOT FUZZY TEXT rechnung", [4]),
        ("FUZZY UID 2:3", [2, 3]),  # nothing to be fuzzy about
        ("FUZZY HEADER Message-ID Mahn", [2]),
        ('FUZZY TEXT "!?"', []),  # no word: exactly as it is
        ("FUZZY TEXT unknown", []),
    ],
)
@pytest.mark.parametrize("is_indexed", [True, False])
async def test_fuzzy_of_each_key(service: Service, criteria: str, uids: list[int], *, is_indexed: bool) -> None:
    """FUZZY reaches into the keys it stands before; without the index all but attachments is found."""
    await service.deliver(*MAILS.values())
    if is_indexed:
        await index_all(service)
    elif 3 in uids and ("rechnung" in criteria or "4711" in criteria):
        uids = [uid for uid in uids if uid != 3]
    elif "NOT" in criteria:
        uids = [3, *uids]
    async with await service.client() as client:
        await client.ok(b"SELECT INBOX")
        assert await found(client, criteria) == uids


@pytest.mark.parametrize("name", ["docx", "xlsx", "pptx", "odt", "pdf", "rtf"])
async def test_text_of_documents_is_found(service: Service, name: str) -> None:
    """Office files, OpenDocument and PDF are read by the indexer."""
    octets: dict[str, Any] = {name: getattr(made, name)("Jahresabschlüsse")}
    await service.deliver(made.carrying(f"file.{name}", octets[name]))
    await index_all(service)
    async with await service.client() as client:
        await client.ok(b"SELECT INBOX")
        assert await found(client, "FUZZY", "TEXT", "=Jahresabschlüsse") == [1]
        assert await found(client, "TEXT", "=Jahresabschlüsse") == []
