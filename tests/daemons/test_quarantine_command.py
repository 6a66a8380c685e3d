"""`postwerk quarantine`."""

import json
import os
from typing import Any

import pytest

from config.settings import Settings
from daemons.context import Context
from storage import traces
from storage.pool import reported
from tests.conftest import Person
from tests.daemons.test_cli import Ended, Postwerk, configuration, populated, postwerk
from tests.daemons.test_quarantine import HEAD, ORIGINAL, TRACE, put
from tests.daemons.test_queue_command import within

__all__ = ["configuration", "populated", "postwerk"]  # fixtures


async def alice(context: Context) -> Person:
    """The account of the populated database."""
    row = await context.pool.fetchrow("SELECT tenant_id, account_id, login FROM account WHERE login LIKE 'alice@%'")
    assert row is not None
    return Person(row[0], row[1], row[2], "")


@pytest.fixture
def filled(populated: Postwerk, settings: Settings) -> Postwerk:
    """Two messages to alice: a virus, and one that fails DMARC."""

    async def fill(context: Context) -> None:
        person = await alice(context)
        await put(context, person)
        await put(context, person, b"Subject: \x1b[31mred\r\n\r\n", reason="DMARC policy of bank.example")

    within(settings, fill)
    return populated


def rows(postwerk: Postwerk, *arguments: str) -> list[dict[str, Any]]:
    """The list, the oldest first."""
    found: list[dict[str, Any]] = json.loads(postwerk("quarantine", "list", *arguments, "--json"))
    return found[::-1]


def kinds(settings: Settings) -> list[str]:
    """What the trace has of the messages."""

    async def read(context: Context) -> list[str]:
        async with reported():
            return [note.kind for one in await traces.by_id(context.pool, context.keys, TRACE) for note in one.notes]

    found: list[str] = within(settings, read)
    return found


def test_list(filled: Postwerk) -> None:
    """A list for people, without what could harm a terminal, and one for programs; of a tenant or an account alone."""
    text = filled("quarantine", "list")
    assert "virus: Eicar" in text
    assert "\x1b" not in text
    assert [row["reason"] for row in rows(filled)] == ["virus: Eicar", "DMARC policy of bank.example"]
    assert "header_cache" not in rows(filled)[0]
    login = rows(filled)[0]["login"]
    assert len(rows(filled, "--account", login.upper())) == 2
    assert rows(filled, "--tenant", "nobody") == []


def test_show(filled: Postwerk) -> None:
    """Why it is there and its header for people, the octets for who wants those."""
    number = str(rows(filled)[0]["number"])
    text = filled("quarantine", "show", number)
    assert "reason: virus: Eicar\n" in text
    assert "X-Virus-Status: infected (Eicar)\n" in text
    assert "Hello." not in text
    assert filled("quarantine", "show", number, "--message").encode() == HEAD + ORIGINAL
    assert json.loads(filled("quarantine", "show", number, "--json"))["number"] == int(number)
    assert "\x1b" not in filled("quarantine", "show", str(rows(filled)[1]["number"]))
    with pytest.raises(Ended, match="no message 99 in quarantine") as ended:
        filled("quarantine", "show", "99")
    assert ended.value.code == os.EX_NOUSER


def test_release(filled: Postwerk, settings: Settings) -> None:
    """A released message is in the inbox, out of the list, and in the trace with who did it."""
    number, other = (row["number"] for row in rows(filled))
    assert "delivered to" in filled("quarantine", "release", str(number))
    assert [row["number"] for row in rows(filled)] == [other]
    assert kinds(settings) == ["stored", "released"]
    with pytest.raises(Ended, match=f"no message {number} in quarantine"):
        filled("quarantine", "release", str(number))
    assert filled("quarantine", "release", str(other), "--rules").startswith(f"{other} ")

    async def stored(context: Context) -> int:
        count: int = await context.pool.fetchval("SELECT count(*) FROM message")
        return count

    assert within(settings, stored) == 2


def test_delete(filled: Postwerk, settings: Settings) -> None:
    """Nothing is deleted by mistake; what is deleted is gone, and the trace says by whom and why."""
    numbers = [str(row["number"]) for row in rows(filled)]
    with pytest.raises(Ended, match="--yes"):
        filled("quarantine", "delete", *numbers)
    filled("quarantine", "delete", *numbers, "--yes", "--reason", "spam")
    assert rows(filled) == []
    assert kinds(settings) == ["deleted", "deleted"]


def test_policy(filled: Postwerk) -> None:
    """A tenant's wishes are shown beside the configuration, changed one by one, and taken back."""
    tenant = rows(filled)[0]["tenant"]
    show = ("quarantine", "policy", tenant)
    assert (
        filled(*show) == "junk: authentication, as configured\nkeep: 30 d, as configured\nnotice: 1 d, as configured\n"
    )
    filled(*show, "--junk", "authentication,mime")
    filled(*show, "--keep", "7")
    assert filled(*show, "--notice", "off") == "junk: authentication, mime\nkeep: 7 d\nnotice: off\n"
    changed = filled(*show, "--junk", "none", "--keep", "default", "--notice", "6 h")
    assert changed == "junk: none\nkeep: 30 d, as configured\nnotice: 6 h\n"
    for wrong in (("--junk", "nonsense"), ("--keep", "0"), ("--notice", "often")):
        with pytest.raises(Ended) as ended:
            filled(*show, *wrong)
        assert ended.value.code == os.EX_USAGE
    with pytest.raises(Ended, match="no tenant nobody"):
        filled("quarantine", "policy", "nobody")
