"""IMAP4rev2, RFC 9051: what ENABLE IMAP4rev2 changes, and the forms of IMAP4rev1 that are no longer told."""

import unicodedata

from tests.daemons.imap.conftest import Service, mail
from tests.daemons.imap.proofs import proves


@proves(b"IMAP4rev2")
async def test_imap4rev2(service: Service) -> None:
    """After ENABLE IMAP4rev2 nothing is recent, SELECT tells LIST, SEARCH is answered by ESEARCH (RFC 9051 appendix E)."""
    await service.deliver(mail("one"), mail("two"))
    async with await service.client() as client, await service.client() as other:
        (line,) = await client.ok(b"CAPABILITY")
        assert {b"IMAP4rev1", b"IMAP4rev2"} <= set(line.split())
        assert await client.ok(b"ENABLE IMAP4rev2") == [b"* ENABLED IMAP4rev2"]
        *lines, tagged = await client.command(b"SELECT inbox")
        assert tagged.startswith(b"t OK [READ-WRITE] ")
        assert b"* 2 EXISTS" in lines
        assert b'* LIST () "/" INBOX' in lines
        assert not [line for line in lines if b"RECENT" in line.upper() or b"UNSEEN" in line]
        for code in (b"PERMANENTFLAGS", b"UIDNEXT", b"UIDVALIDITY"):
            assert [line for line in lines if line.startswith(b"* OK [" + code)], code
        assert await client.ok(b"FETCH 1:2 (FLAGS)") == [b"* 1 FETCH (FLAGS ())", b"* 2 FETCH (FLAGS ())"]
        assert await client.ok(b"SEARCH SUBJECT two") == [b'* ESEARCH (TAG "t") ALL 2']
        assert await client.ok(b"UID SEARCH UNSEEN") == [b'* ESEARCH (TAG "t") UID ALL 1:2']
        assert await client.ok(b"SEARCH SEEN") == [b'* ESEARCH (TAG "t")']
        assert (await client.command(b"STATUS INBOX (RECENT)"))[-1].startswith(b"t BAD ")
        assert await client.ok(b"STATUS INBOX (MESSAGES DELETED)") == [b"* STATUS INBOX (MESSAGES 2 DELETED 0)"]
        await other.ok(b"SELECT INBOX")
        await other.ok(b"APPEND INBOX {6+}\r\nA: b\r\n")
        assert await client.ok(b"NOOP") == [b"* 3 EXISTS"]
        *lines, tagged = await client.command(b"SELECT Trash")
        assert lines[0].startswith(b"* OK [CLOSED] ")


async def test_forms_of_imap4rev1_are_still_taken(service: Service) -> None:
    """What RFC 9051 has dropped is answered as before: RFC822, RFC822.HEADER, CHECK, LSUB, FETCH FAST (appendix E)."""
    await service.deliver(mail("one"))
    async with await service.client() as client:
        await client.ok(b"ENABLE IMAP4rev2")
        await client.ok(b"SELECT INBOX")
        (line,) = await client.ok(b"FETCH 1 RFC822.HEADER")
        assert line.startswith(b"* 1 FETCH (RFC822.HEADER {")
        (line,) = await client.ok(b"FETCH 1 FAST")
        assert line.startswith(b"* 1 FETCH (FLAGS () INTERNALDATE ")
        await client.ok(b"CHECK")
        assert b'* LSUB () "/" INBOX' in await client.ok(b'LSUB "" *')


async def test_names_side_by_side(service: Service) -> None:
    """One mailbox has its name in modified UTF-7 for one client and in UTF-8 for another (RFC 9051 §5.1)."""
    async with await service.client() as old, await service.client() as new:
        await new.ok(b"ENABLE IMAP4rev2")
        await old.ok(b"CREATE Entw&APw-rfe")
        assert await new.ok(b'LIST "" "Entw*"') == ['* LIST (\\HasNoChildren) "/" "Entwürfe"'.encode()]
        await new.ok('CREATE "Entwürfe/für später"'.encode())
        (line,) = await old.ok(b'LIST "" "Entw&APw-rfe/%"')
        assert line.endswith(b'"Entw&APw-rfe/f&APw-r sp&AOQ-ter"')
        lines = await new.ok('SELECT "Entwürfe"'.encode())
        assert '* LIST () "/" "Entwürfe"'.encode() in lines
        assert await new.ok('STATUS "Entwürfe" (MESSAGES)'.encode()) == ['* STATUS "Entwürfe" (MESSAGES 0)'.encode()]
        assert await old.ok(b"STATUS Entw&APw-rfe (MESSAGES)") == [b"* STATUS Entw&APw-rfe (MESSAGES 0)"]
        (line,) = await new.ok(b'LIST "" "R&APw-be"') or [b""]
        assert line == b""  # "&" is itself in UTF-8
        await new.ok(b"CREATE A&B")
        (line,) = await old.ok(b'LIST "" A*B')
        assert line.endswith(b" A&-B")


async def test_a_name_that_was_composed_is_told(service: Service) -> None:
    """A new name goes into the normal form of Net-Unicode, which is told with the name that was asked for (RFC 9051 §6.3.9.7)."""
    asked = unicodedata.normalize("NFD", "Entwürfe")
    async with await service.client() as client:
        await client.ok(b"ENABLE IMAP4rev2")
        assert await client.ok(f'CREATE "{asked}"'.encode()) == [
            f'* LIST () "/" "Entwürfe" ("OLDNAME" ("{asked}"))'.encode()
        ]
        await client.ok('RENAME "Entwürfe" "Entwürfe/Alt"'.replace("Entwürfe/", "").encode())
        assert await client.ok(f'RENAME Alt "{asked}"'.encode()) == [
            f'* LIST () "/" "Entwürfe" ("OLDNAME" ("{asked}"))'.encode()
        ]
        assert await client.ok('RENAME "Entwürfe" Neu'.encode()) == []
