"""`postwerk dkim`: keys, the records to publish, and what the DNS shows of them."""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path

import dns.rdatatype
import dns.zone
import msgspec
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key

from config.dkim import Dkim
from config.loader import dump
from config.settings import Settings
from config.transport import Transport
from tests.daemons.test_cli import Ended, Postwerk, configuration, populated, postwerk
from tests.internet.dns import NameServer, name_server

__all__ = ["configuration", "populated", "postwerk"]  # fixtures


@pytest.fixture
async def names(settings: Settings, state: Path) -> AsyncIterator[NameServer]:
    """A name server that the configuration file of the test names."""
    async with name_server() as server:
        changed = msgspec.structs.replace(
            settings,
            transport=Transport(resolvers=[server.address]),
            dkim=Dkim(delegation_zone="dkim.provider.example"),
        )
        (state / "postwerk.toml").write_text(dump(changed))
        yield server


@pytest.fixture
async def command(populated: Postwerk, names: NameServer) -> "Command":
    """Commands that run while the name server answers."""
    return Command(populated)


class Command:
    """`postwerk dkim …` in a thread: the loop of the test serves the DNS."""

    def __init__(self, postwerk: Postwerk) -> None:
        self._postwerk = postwerk

    async def __call__(self, *arguments: str) -> str:
        """What it prints. Raises Ended."""
        return await asyncio.to_thread(self._postwerk, "dkim", *arguments)

    async def rows(self, *arguments: str) -> list[dict[str, object]]:
        """What it prints as JSON."""
        found: list[dict[str, object]] = json.loads(await self(*arguments, "--json"))
        return found


def publish(names: NameServer, zone_file: str) -> int:
    """Load printed lines into the name server, as an operator loads them into a zone. Returns how many."""
    lines = [line for line in zone_file.splitlines() if not line.startswith(";")]
    zone = dns.zone.from_text("\n".join(lines), ".", relativize=False, check_origin=False)
    for name, node in zone.nodes.items():
        for rdataset in node:
            names.add(
                name.to_text(), dns.rdatatype.to_text(rdataset.rdtype), *(record.to_text() for record in rdataset)
            )
    return len(lines)


async def test_from_key_to_signature(command: Command, names: NameServer) -> None:
    """`add` prints records that load into a zone; `check` fails before they are there, then lets the keys sign; `list` shows it."""
    printed = await command("add", "Example.Test")
    with pytest.raises(Ended, match=r"^1:"):
        await command("check", "example.test")
    assert publish(names, printed) == 2
    shown = await command.rows("check", "example.test")
    assert [(row["algorithm"], row["is_right"], row["record"]) for row in shown] == [
        ("rsa-sha256", True, "right"),
        ("ed25519-sha256", True, "right"),
    ]
    assert {row["state"] for row in await command.rows("list")} == {"active"}
    assert {row["state"] for row in await command.rows("list", "example.test")} == {"active"}
    assert await command("records") == printed


async def test_rotation_by_hand(command: Command, names: NameServer) -> None:
    """`rotate` makes successors, which do not sign until they are activated; then the old keys are retired, and removed."""
    publish(names, await command("add", "example.test"))
    await command("check")
    old = {str(row["selector"]) for row in await command.rows("list")}
    printed = await command("rotate", "example.test")
    with pytest.raises(Ended, match="waits to be seen"):
        await command("rotate", "example.test")
    new = {str(row["selector"]) for row in await command.rows("list")} - old
    assert len(new) == 2
    for selector in new:
        with pytest.raises(Ended, match="is not right: missing"):
            await command("activate", "example.test", selector)
    publish(names, printed)
    for selector in new:
        await command("activate", "example.test", selector)
    states = {str(row["selector"]): row["state"] for row in await command.rows("list")}
    assert states == dict.fromkeys(old, "retired") | dict.fromkeys(new, "active")
    await command("check")
    for selector in old:
        await command("remove", "example.test", selector, "--yes")
    assert {str(row["selector"]) for row in await command.rows("list")} == new
    for selector in new:
        await command("remove", "example.test", selector, "--yes")
    assert {row["state"] for row in await command.rows("list")} == {"retired"}


async def test_delegation(command: Command, names: NameServer) -> None:
    """The customer's CNAMEs and our zone's TXT records are told apart; `check` says which of them is missing."""
    await command("add", "example.test", "--delegated")
    records = await command.rows("records", "example.test")
    assert [(row["kind"], row["is_ours"]) for row in records] == [("CNAME", False)] * 4 + [("TXT", True)] * 2
    ours = await command("records", "--zone")
    assert ours.startswith("; in our delegation zone:\n")
    assert publish(names, ours) == 2
    with pytest.raises(Ended, match=r"^1:"):
        await command("check")
    publish(names, await command("records", "example.test"))
    assert {row["is_right"] for row in await command.rows("check")} == {True}
    names.remove("pw2r._domainkey.example.test")
    with pytest.raises(Ended, match=r"^1:"):  # no key uses it yet: the next one will
        await command("check")


async def test_a_key_that_exists_already(command: Command, names: NameServer, state: Path) -> None:
    """A key of another signer goes on under its selector."""
    key = generate_private_key(65537, 2048)
    file = state / "mail.private"
    file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
        )
    )
    publish(names, await command("add", "example.test", "--key", str(file), "--selector", "Mail"))
    await command("check")
    [row] = await command.rows("list")
    assert (row["selector"], row["algorithm"], row["state"]) == ("mail", "rsa-sha256", "active")
    await command("add", "example.test")
    assert len(await command.rows("list")) == 2
    file.write_text("nonsense")
    with pytest.raises(Ended, match=r"mail\.private"):
        await command("add", "example.test", "--key", str(file), "--selector", "other")


@pytest.mark.parametrize(
    ("arguments", "code", "complaint"),
    [
        (["add", "elsewhere.test"], os.EX_NOUSER, r"elsewhere\.test"),
        (["add", "example.test", "--selector", "x"], os.EX_USAGE, "go together"),
        (["rotate", "example.test"], os.EX_NOUSER, "has no keys"),
        (["activate", "example.test", "x"], os.EX_NOUSER, "has no key x"),
        (["remove", "example.test", "x", "--yes"], os.EX_NOUSER, "has no key x"),
        (["remove", "example.test", "x"], os.EX_USAGE, "--yes"),
    ],
)
async def test_refusals(command: Command, arguments: list[str], code: int, complaint: str) -> None:
    """What cannot be is said in a line, with a code of sysexits.h."""
    with pytest.raises(Ended, match=complaint) as ended:
        await command(*arguments)
    assert ended.value.code == code


async def test_keys_there_are_kept(command: Command) -> None:
    """A domain that has keys gets no others by accident; a resolver that does not answer changes nothing."""
    await command("add", "example.test")
    with pytest.raises(Ended, match="has keys already"):
        await command("add", "example.test")
    rows = await command.rows("list")
    assert [row["state"] for row in rows] == ["published", "published"]
    await command("activate", "example.test", str(rows[0]["selector"]), "--unchecked")
    assert [row["state"] for row in await command.rows("list")] == ["active", "published"]
