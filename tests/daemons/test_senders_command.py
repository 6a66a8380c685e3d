"""`postwerk senders`, `postwerk tenant greylisting` and `postwerk dnslists`."""

import asyncio
import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from config.dnslists import DnsList, DnsLists
from config.loader import dump
from config.settings import Settings
from config.transport import Transport
from tests.daemons.test_cli import Ended, Postwerk, configuration, populated, postwerk
from tests.internet.dns import NameServer, name_server

__all__ = ["configuration", "populated", "postwerk"]  # fixtures

ALICE = ("--account", "alice@example.test")
TENANT = ("--tenant", "example")


def test_lists(populated: Postwerk) -> None:
    """Entries are added in their normal form, replaced, shown and removed, those of the account apart from the tenant's."""
    populated("senders", "block", "Spam.Example", *TENANT, "--note", "since March")
    populated("senders", "block", "Friend@Spam.Example", *ALICE)
    populated("senders", "allow", "friend@spam.example", *ALICE)
    populated("senders", "block", "192.0.2.7/24", *ALICE)
    rows = json.loads(populated("senders", "list", "--json"))
    assert [(row["account"], row["pattern"], row["standing"], row["note"]) for row in rows] == [
        (None, "spam.example", "blocked", "since March"),
        ("alice@example.test", "192.0.2.0/24", "blocked", ""),
        ("alice@example.test", "friend@spam.example", "allowed", ""),
    ]
    assert {row["tenant"] for row in rows} == {"example"}
    assert len(json.loads(populated("senders", "list", *ALICE, "--json"))) == 2
    assert "since March" in populated("senders", "list", *TENANT)
    assert "allowed: the account has allowed friend@spam.example" in populated(
        "senders", "check", "friend@spam.example", *ALICE
    )
    assert "blocked: its tenant has blocked spam.example" in populated("senders", "check", "x@a.spam.example", *ALICE)
    assert "blocked" in populated("senders", "check", "x@else.example", *ALICE, "--peer", "192.0.2.99")
    populated("senders", "remove", "SPAM.example", *TENANT)
    assert "not listed" in populated("senders", "check", "x@spam.example", *ALICE)


@pytest.mark.parametrize(
    ("arguments", "code", "complaint"),
    [
        (["senders", "block", "a@b.example"], os.EX_USAGE, "whose list"),
        (["senders", "block", "a@b.example", *ALICE, *TENANT], os.EX_USAGE, "whose list"),
        (["senders", "block", "*@*", *ALICE], os.EX_USAGE, "fits everything"),
        (["senders", "allow", "a@b.example", "--account", "x@example.test"], os.EX_NOUSER, "no account x@example.test"),
        (["senders", "allow", "a@b.example", "--tenant", "nobody"], os.EX_NOUSER, "no tenant nobody"),
        (["senders", "remove", "a@b.example", *ALICE], os.EX_NOUSER, "not on the list"),
        (["senders", "check", "b.example", *ALICE], os.EX_USAGE, "not an address"),
        (["senders", "check", "a@b.example", *ALICE, "--peer", "x"], os.EX_USAGE, "not an IP address"),
        (["tenant", "greylisting", "nobody"], os.EX_NOUSER, "no tenant nobody"),
        (["dnslists", "check", "example.net"], os.EX_USAGE, "not an IP address"),
    ],
)
def test_refusals(populated: Postwerk, arguments: list[str], code: int, complaint: str) -> None:
    """What cannot be is said in a line, with a code of sysexits.h."""
    with pytest.raises(Ended, match=complaint) as ended:
        populated(*arguments)
    assert ended.value.code == code


def test_greylisting(populated: Postwerk) -> None:
    """A tenant's choice is set, shown, and given back to the configuration."""
    assert populated("tenant", "greylisting", "example") == "off, as configured\n"
    assert populated("tenant", "greylisting", "example", "on") == "on\n"
    assert populated("tenant", "greylisting", "example", "off") == "off\n"
    assert populated("tenant", "greylisting", "example", "default") == "off, as configured\n"


@pytest.fixture
def names() -> Iterator[NameServer]:
    """A name server beside the command, which has a loop of its own."""
    ready, stopping, servers = threading.Event(), asyncio.Event(), []
    loop = asyncio.new_event_loop()

    async def serve() -> None:
        async with name_server() as server:
            servers.append(server)
            ready.set()
            await stopping.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()))
    thread.start()
    ready.wait(10)
    yield servers[0]
    loop.call_soon_threadsafe(stopping.set)
    thread.join(10)
    loop.close()


def test_dns_lists(populated: Postwerk, settings: Settings, configuration: Path, names: NameServer) -> None:
    """Each list is looked at: whether it is in order, and whether it has the host."""
    for zone in ("sound.example", "all.example"):
        names.add(f"2.0.0.127.{zone}", "A", "127.0.0.2")
    names.add("1.0.0.127.all.example", "A", "127.0.0.2")
    names.add("9.2.0.192.sound.example", "A", "127.0.0.3")
    zones = ("sound.example", "all.example", "none.example")
    lists = DnsLists(lists=[DnsList(zone=zone, points=1) for zone in zones])
    transport = Transport(resolvers=[names.address])
    configuration.write_text(dump(msgspec.structs.replace(settings, dnslists=lists, transport=transport)))
    found = {row["zone"]: row["result"] for row in json.loads(populated("dnslists", "check", "192.0.2.9", "--json"))}
    assert found == {
        "sound.example": "listed",
        "all.example": "it lists everything",
        "none.example": "it lists nothing, not even its test entries",
    }
    assert "not listed" in populated("dnslists", "check")
