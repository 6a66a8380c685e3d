"""`postwerk transport`."""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from config.loader import dump
from config.settings import Settings
from config.transport import Transport
from storage import transport as storage
from storage.pool import Pool
from tests.daemons.test_cli import Ended, Postwerk, configuration, postwerk
from tests.internet.authority import self_signed
from tests.internet.dns import NameServer, name_server
from tests.internet.mx import mx_server

__all__ = ["configuration", "postwerk"]  # fixtures


@dataclass
class Terminal:
    """Runs commands while the name server of this loop answers."""

    run: Postwerk
    names: NameServer

    async def __call__(self, *arguments: str) -> str:
        """Run `postwerk transport` and so on."""
        return await asyncio.to_thread(self.run, "transport", *arguments)

    async def rows(self, *arguments: str) -> list[dict[str, Any]]:
        """The same, with --json."""
        found: list[dict[str, Any]] = json.loads(await self(*arguments, "--json"))
        return found


@pytest.fixture
async def terminal(postwerk: Postwerk, settings: Settings, configuration: Path) -> AsyncIterator[Terminal]:
    """A terminal of a host that may send to its own loopback."""
    async with name_server() as names:
        made = Transport(resolvers=[names.address], private_networks=["127.0.0.0/8"])
        configuration.write_text(dump(msgspec.structs.replace(settings, transport=made)))
        await asyncio.to_thread(postwerk, "tenant", "add", "example")
        yield Terminal(postwerk, names)


async def test_sources(terminal: Terminal) -> None:
    """Tenants are given addresses of their own, and these are taken away again."""
    assert await terminal.rows("source", "list") == []
    await terminal("source", "set", "example", "--ipv4", "192.0.2.7", "--hostname", "mail.customer.example")
    await terminal("source", "set", "example", "--ipv6", "2001:db8::7")
    assert await terminal.rows("source", "list") == [
        {"tenant": "example", "ipv4": None, "ipv6": "2001:db8::7", "hostname": None}
    ]
    await terminal("source", "reset", "example")
    assert await terminal.rows("source", "list") == []


@pytest.mark.parametrize(
    ("arguments", "code", "complaint"),
    [
        (["source", "set", "nobody", "--ipv4", "192.0.2.7"], os.EX_NOUSER, "no tenant nobody"),
        (["source", "set", "example"], os.EX_USAGE, "give --ipv4"),
        (["source", "set", "example", "--ipv4", "2001:db8::7"], os.EX_USAGE, "no IPv4 address"),
        (["source", "set", "example", "--ipv6", "x"], os.EX_USAGE, "no IPv6 address"),
        (["source", "reset", "example"], os.EX_NOUSER, "no addresses of its own"),
        (["check", "example.net", "--tenant", "nobody"], os.EX_NOUSER, "no tenant nobody"),
        (["check", "absent.example"], os.EX_NOHOST, "5.1.2 the domain absent.example does not exist"),
        (["check", "[10.0.0.1]"], os.EX_NOHOST, "5.4.4 mail is not sent to"),
    ],
)
async def test_refusals(terminal: Terminal, arguments: list[str], code: int, complaint: str) -> None:
    """What cannot be is said in a line, with a code of sysexits.h."""
    with pytest.raises(Ended) as ended:
        await terminal(*arguments)
    assert complaint in ended.value.said
    assert ended.value.code == code


async def test_lookups_that_fail(terminal: Terminal) -> None:
    """What cannot be known now ends with the code for trying again."""
    terminal.names.fail("example.net", "MX")
    with pytest.raises(Ended, match="cannot be looked up now") as ended:
        await terminal("check", "example.net")
    assert ended.value.code == os.EX_TEMPFAIL


async def test_way_to_a_domain(terminal: Terminal, configuration: Path, settings: Settings, tmp_path: Path) -> None:
    """A check shows the hosts, what they must show, and with --connect what they do show."""
    good, other = self_signed("mx.example.net"), self_signed("mx.example.net")
    names = terminal.names
    async with mx_server("mx.example.net", host="127.0.0.1", tls=good.server_context(tmp_path)) as mx:
        made = Transport(resolvers=[names.address], private_networks=["127.0.0.0/8"], port=mx.port)
        configuration.write_text(dump(msgspec.structs.replace(settings, transport=made)))
        names.add("xn--mnchen-3ya.example", "MX", "10 mx.example.net.")
        names.add("mx.example.net", "A", "127.0.0.1")
        names.add(f"_{mx.port}._tcp.mx.example.net", "TLSA", good.tlsa())
        names.secure("example.net", "example")
        (row,) = await terminal.rows("check", "münchen.example", "--connect", "--tenant", "example")
        assert row == {
            "host": "mx.example.net",
            "preference": 10,
            "port": mx.port,
            "addresses": "127.0.0.1",
            "tls": "dane",
            "because": "dane",
            "records": good.tlsa(),
            "found": "TLSv1.3 TLS_AES_256_GCM_SHA384 verified (dane-ee)",
        }
        names.add(f"_{mx.port}._tcp.mx.example.net", "TLSA", other.tlsa())
        (row,) = await terminal.rows("check", "münchen.example", "--connect")
        assert "not authentic" in row["found"]
        assert not mx.received
        assert "mx.example.net" in await terminal("check", "münchen.example")


async def test_what_is_known_of_others(terminal: Terminal, pool: Pool) -> None:
    """Policies that are kept and sessions that were counted are listed."""
    assert await terminal.rows("policies") == await terminal.rows("reports") == []
    at = datetime(2026, 11, 22, 10, tzinfo=UTC)
    await storage.keep_sts_policy(pool, storage.StoredSts("example.net", "1", "enforce", ("mx.example.net",), 60, at))
    kinds = {(at.date(), "example.net", '{"policy_type": "sts"}'): 3, (at.date(), "example.net", '{"failure": "x"}'): 2}
    await storage.count_sessions(pool, kinds)
    (policy,) = await terminal.rows("policies")
    assert (policy["domain"], policy["mode"], policy["mx"]) == ("example.net", "enforce", "mx.example.net")
    (day,) = await terminal.rows("reports")
    assert (day["domain"], day["sessions"], day["failed"], day["sent_at"]) == ("example.net", 5, 2, None)
