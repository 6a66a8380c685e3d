"""The search index in the database."""

import asyncpg
import pytest

from daemons.context import Context
from storage import search_text
from storage.search_text import UNREADABLE, Indexed
from tests.conftest import Person
from tests.storage.messages_made import mailbox_id, new_message


async def stored(
    context: Context, owner: "asyncpg.Connection[asyncpg.Record]", person: Person, *texts: tuple[str, str, str]
) -> list[int]:
    """Contents with these headers, bodies and words in the index."""
    box = await mailbox_id(owner, person)
    messages = [new_message(person, box, b"Subject: %d\r\n\r\n" % number) for number in range(len(texts))]
    ids = [one.content_id for one in await context.ingest.store(messages)]
    rows = [Indexed(content_id, 1, *text, "preview") for content_id, text in zip(ids, texts, strict=True)]
    async with context.pool.acquire() as connection:
        assert await search_text.store(connection, rows) == len(rows)
        assert await search_text.backlog(connection, most=10) == 0
    return ids


async def test_questions_name_tenant_and_version(
    context: Context, account: Person, owner: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    """A row of another tenant or version counts as missing; an id that is no content does, too."""
    first, second = await stored(context, owner, account, ("A: HAY", "NEEDLE", " x "), ("A: NEEDLE", "HAY", " y "))
    tenant = account.tenant_id
    async with context.pool.acquire() as connection:
        hits = await search_text.containing(connection, tenant, 1, [first, second, 77], "NEEDLE", ["body"])
        assert (hits.found, hits.missing) == ([first], [77])
        hits = await search_text.containing(connection, tenant, 1, [first, second], "NEEDLE", ["header", "body"])
        assert (sorted(hits.found), hits.missing) == ([first, second], [])
        for other in ((tenant + 1, 1), (tenant, 2)):
            hits = await search_text.containing(connection, *other, [first], "NEEDLE", ["body"])
            assert (hits.found, hits.missing) == ([], [first])
            assert await search_text.column(connection, *other, [first], "body") == []
        assert await search_text.column(connection, tenant, 1, [second, 77], "body") == [(second, b"HAY")]
        assert await search_text.previews(connection, tenant, [first, 77]) == {first: "preview"}
        assert await search_text.previews(connection, tenant + 1, [first]) == {}


@pytest.mark.parametrize("needle", ["%", "_", "\\", "'", "a%b", "$4"])
async def test_a_needle_is_no_pattern(
    context: Context, account: Person, owner: "asyncpg.Connection[asyncpg.Record]", needle: str
) -> None:
    """Signs that mean something elsewhere stand for themselves."""
    first, _ = await stored(context, owner, account, ("", f"x{needle}y", ""), ("", "x", ""))
    async with context.pool.acquire() as connection:
        ids = [first, first + 1]
        assert (await search_text.containing(connection, account.tenant_id, 1, ids, needle, ["body"])).found == [first]


async def test_words_are_wanted_all_in_one_of_their_forms(
    context: Context, account: Person, owner: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    """Each word is there in one of its forms, whole."""
    first, second, third = await stored(
        context, owner, account, ("", "", " haus rot \n"), ("", "", " hous rot \n"), ("", "", " haushalt rot \n")
    )
    ids = [first, second, third, 77]
    async with context.pool.acquire() as connection:
        found, missing = await search_text.with_words(
            connection, account.tenant_id, 1, ids, [("haus", "hous"), ("rot",)]
        )
        assert found == {first: " haus rot \n", second: " hous rot \n"}
        assert missing == [77]


async def test_a_field_is_asked_for_by_the_beginning_of_its_line(
    context: Context, account: Person, owner: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    """The name stands at the beginning of a line; the caller looks where the needle is."""
    header, other = "X-A: 1\nX-B: NEEDLE", "Y: X-B: NEEDLE"
    first, second = await stored(context, owner, account, (header, "", ""), (other, "", ""))
    async with context.pool.acquire() as connection:
        found, missing = await search_text.with_field(
            connection, account.tenant_id, 1, [first, second, 77], "X-B", "NEED"
        )
    assert (found, missing) == ({first: header}, [77])


async def test_the_condition_is_told(
    context: Context, account: Person, owner: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    """How many wait and how many cannot be indexed, up to a number."""
    box = await mailbox_id(owner, account)
    ids = [
        one.content_id
        for one in await context.ingest.store([new_message(account, box, b"x\r\n%d" % n) for n in range(5)])
    ]
    async with context.pool.acquire() as connection:
        await search_text.store(connection, [Indexed(content_id, UNREADABLE) for content_id in ids[:2]])
        told = await search_text.condition(connection)
        assert (told.waiting, told.unreadable) == (3, 2)
        assert (await search_text.condition(connection, most=1)).waiting == 1
        await search_text.drop(connection, ids)
        assert (await search_text.condition(connection)).waiting == 0
