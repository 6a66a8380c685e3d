"""SPF: the test suite of RFC 7208, and what our way of running pyspf adds to it."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from ipaddress import IPv6Address
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from filters.authentication import spf
from filters.authentication.results import SpfResult
from protocol.address import AddrSpec
from tests.filters.authentication.names import Names

SUITE = json.loads((Path(__file__).parent / "vectors" / "rfc7208-tests.json").read_text("utf-8"))
CASES = [
    pytest.param(scenario["zonedata"], case, id=f"{scenario['description']}: {name}")
    for scenario in SUITE
    for name, case in scenario["tests"].items()
]


def zone(records: Mapping[str, Sequence[Any]]) -> Names:
    """The suite's form of a zone: SPF records are TXT records as well, unless TXT is given, or said to be none."""
    names = Names()
    for name, entries in records.items():
        found: dict[str, list[Any] | None] = {}
        for entry in entries:
            if entry == "TIMEOUT":
                found |= {kind: None for kind in ("A", "AAAA", "MX", "PTR", "TXT") if kind not in found}
                continue
            ((kind, value),) = entry.items()
            if value == "TIMEOUT":
                found[kind] = None
            elif value != "NONE":
                found[kind] = [*(found.get(kind) or []), _value(kind, value)]
        if "TXT" not in found and "SPF" in found and {"TXT": "NONE"} not in entries:
            found["TXT"] = found["SPF"]
        for kind, values in found.items():
            names.add(_pointed(name), kind, values)
    return names


def _value(kind: str, value: Any) -> object:
    if kind in ("TXT", "SPF"):
        pieces = [value] if isinstance(value, str) else value
        return "".join(pieces).encode("utf-8" if all(piece.isascii() for piece in pieces) else "latin-1")
    if kind == "MX":
        return value[0], value[1]
    return value


def _pointed(name: str) -> str:
    """Names of the reverse tree as the address that they stand for."""
    labels = name.lower().split(".")
    if name.lower().endswith(".in-addr.arpa"):
        return ".".join(reversed(labels[:4]))
    if name.lower().endswith(".ip6.arpa"):
        return str(IPv6Address(int("".join(reversed(labels[:32])), 16)))
    return name


async def check(names: Names, peer: str, helo: str, sender: str = "") -> SpfResult:
    """As a receiver does."""
    reverse_path = None
    if sender:
        local, _, domain = sender.rpartition("@")
        reverse_path = AddrSpec(local, domain)
    return await spf.check_sender(names, peer, helo, reverse_path, receiver="mx.example.test")


@pytest.mark.parametrize(("records", "case"), CASES)
async def test_suite(records: Mapping[str, Sequence[Any]], case: Mapping[str, Any]) -> None:
    """The suite of RFC 7208 passes, explanations included."""
    found = await check(zone(records), case["host"], case["helo"], case["mailfrom"])
    wanted = case["result"] if isinstance(case["result"], list) else [case["result"]]
    assert found.result in wanted, f"{found}: {case.get('comment') or case.get('description')}"
    if found.result == "fail" and "explanation" in case:
        assert found.explanation == ("" if case["explanation"] == "DEFAULT" else case["explanation"])


async def test_questions_are_asked_once_each() -> None:
    """However often pyspf runs, each question goes to the DNS once, and nothing is asked that the result does not need."""
    names = Names({("mx.example.net", "A"): ["192.0.2.1"], ("example.net", "MX"): [(10, "mx.example.net")]})
    names.text("example.net", "v=spf1 mx a:other.example.net exp=why.example.net -all")
    found = await check(names, "192.0.2.1", "mail.example.net", "alice@example.net")
    assert (found.result, found.domain, found.scope, found.reason) == ("pass", "example.net", "mfrom", "mx")
    assert names.asked == {("example.net", "TXT"): 1, ("example.net", "MX"): 1, ("mx.example.net", "A"): 1}


async def test_explanation_is_looked_up_for_a_fail() -> None:
    """RFC 7208 §6.2: the domain's own words come with a fail, and need no lookup otherwise."""
    names = Names()
    names.text("example.net", "v=spf1 ip4:192.0.2.1 exp=why.%{d} -all")
    names.text("why.example.net", "%{i} may not send for %{d}")
    failed = await check(names, "192.0.2.2", "mail.example.net", "alice@example.net")
    assert (failed.result, failed.explanation) == ("fail", "192.0.2.2 may not send for example.net")
    assert (await check(names, "192.0.2.1", "mail.example.net", "alice@example.net")).explanation == ""
    assert names.asked["why.example.net", "TXT"] == 1


async def test_explanations_that_cannot_be_had_change_nothing() -> None:
    """RFC 7208 §6.2: an explanation that cannot be known leaves a plain fail."""
    names = Names({("why.example.net", "TXT"): None})
    names.text("example.net", "v=spf1 exp=why.example.net -all")
    found = await check(names, "192.0.2.2", "mail.example.net", "alice@example.net")
    assert (found.result, found.explanation) == ("fail", "")


async def test_addresses_of_exchangers_are_learnt_together() -> None:
    """The hosts of an MX record are asked about at the same time, for all of them will be needed."""
    names = _Waiting(Names({("example.net", "MX"): [(number, f"mx{number}.example.net") for number in range(10)]}))
    names.text("example.net", "v=spf1 mx -all")
    for number in range(10):
        names.add(f"mx{number}.example.net", "A", [f"192.0.2.{number}"])
    assert (await check(names, "192.0.2.9", "mail.example.net", "alice@example.net")).result == "pass"
    assert names.most_at_once == 10


class _Waiting(Names):
    """Counts how many ask for addresses at the same time."""

    def __init__(self, names: Names) -> None:
        super().__init__(names.records)
        self.at_once = self.most_at_once = 0

    async def family(self, name: str, kind: Any) -> list[str]:
        self.at_once += 1
        self.most_at_once = max(self.at_once, self.most_at_once)
        await asyncio.sleep(0)
        self.at_once -= 1
        return await super().family(name, kind)


async def test_checks_run_side_by_side() -> None:
    """Checks that wait for different answers do not disturb each other."""
    names = _Waiting(Names())
    for number in range(20):
        names.text(f"{number}.example.net", f"v=spf1 a:host.example.net ip4:192.0.2.{number} -all")
    checks = [check(names, "192.0.2.7", "mail.example.net", f"alice@{number}.example.net") for number in range(20)]
    results = [found.result for found in await asyncio.gather(*checks)]
    assert [number for number, result in enumerate(results) if result == "pass"] == [7]
    assert names.most_at_once > 1


async def test_local_part_with_an_at_sign() -> None:
    """The domain is that of the address, whatever its quoted local part holds."""
    names = Names()
    names.text("example.net", "v=spf1 exists:%{l}.example.net -all")
    names.text("evil.example", "v=spf1 +all")
    names.add("a@evil.example.example.net", "A", ["127.0.0.1"])
    found = await check(names, "192.0.2.1", "mail.example.net", "a@evil.example@example.net")
    assert (found.result, found.domain) == ("pass", "example.net")


@pytest.mark.parametrize("helo", ["localhost", "[192.0.2.1]", "", "a..b", "x" * 300, "x.\0", "bücher.example"])
async def test_helo_of_any_kind(helo: str) -> None:
    """RFC 7208 §2.4: with a null reverse path the HELO name is checked, and one that is none gives no result."""
    found = await check(Names(), "192.0.2.1", helo)
    assert (found.result, found.scope) == ("none", "helo")


async def test_domain_in_another_script() -> None:
    """A domain in U-labels is looked up by its A-labels."""
    names = Names()
    names.text("xn--bcher-kva.example", "v=spf1 -all")
    found = await check(names, "192.0.2.1", "mail.example.net", "alice@bücher.example")
    assert (found.result, found.domain) == ("fail", "xn--bcher-kva.example")


async def test_mapped_address() -> None:
    """An IPv4 address that a socket shows as IPv6 is an IPv4 address."""
    names = Names()
    names.text("example.net", "v=spf1 ip4:192.0.2.1 -all")
    assert (await check(names, "::ffff:192.0.2.1", "mail.example.net", "alice@example.net")).result == "pass"


async def test_silent_dns() -> None:
    """What the DNS does not answer is a temporary error."""
    names = Names({("example.net", "TXT"): None})
    assert (await check(names, "192.0.2.1", "mail.example.net", "alice@example.net")).result == "temperror"


async def test_check_that_takes_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """RFC 7208 §4.6.4: a check has a time limit, whatever the DNS does."""

    class Never(Names):
        async def texts(self, name: str) -> list[bytes]:
            await asyncio.Event().wait()
            return []

    monkeypatch.setattr(spf, "LIMIT_SECONDS", 0.01)
    found = await check(Never(), "192.0.2.1", "mail.example.net", "alice@example.net")
    assert (found.result, found.reason) == ("temperror", "took too long")


async def test_limit_of_questions() -> None:
    """A record within all limits of RFC 7208 §4.6.4 is evaluated with less than our limit of questions."""
    names = Names({("example.net", "MX"): [(number, f"mx{number}.example.net") for number in range(10)]})
    terms = " ".join(f"mx:m{number}.example.net" for number in range(10))
    names.text("example.net", f"v=spf1 {terms} -all")
    for mechanism in range(10):
        hosts = [(host, f"h{mechanism}-{host}.example.net") for host in range(10)]
        names.add(f"m{mechanism}.example.net", "MX", hosts)
        for _, name in hosts:
            names.add(name, "A", ["192.0.2.1"])
    assert (await check(names, "192.0.2.2", "mail.example.net", "alice@example.net")).result == "fail"
    assert 100 < names.asked.total() < spf.QUESTIONS


_TERMS = st.sampled_from([
    *("all", "a", "mx", "ptr", "-all", "~all", "?a/24", "mx//64", "a:%{d}", "include:example.net", "exists:%{i}.x.y"),
    *("include:b.example.net", "redirect=b.example.net", "exp=%{l1r-}.c.d", "ip4:192.0.2.0/24", "ip6:::1", "x=%{"),
    *("redirect=%{p}", "a:%{h}", "include:", "ip4:1.2.3.4/33", "exists:%{s}", "%", "=", "a:b..c", "é", "\x00"),
])  # fmt: skip


@given(st.lists(_TERMS, max_size=12), st.lists(_TERMS, max_size=12), st.text(max_size=20), st.text(max_size=20))
async def test_any_record(first: list[str], second: list[str], local_part: str, helo: str) -> None:
    """Any record gives one of the seven results, with less questions than the limit, and never an exception."""
    names = Names({("example.net", "A"): ["192.0.2.1"], ("b.example.net", "MX"): [(0, ""), (1, "example.net")]})
    names.text("example.net", " ".join(["v=spf1", *first]))
    names.text("b.example.net", " ".join(["v=spf1", *second]))
    names.add("192.0.2.9", "PTR", ["example.net", "b.example.net"])
    reverse_path = AddrSpec(local_part, "example.net")
    found = await spf.check_sender(names, "192.0.2.9", helo, reverse_path, receiver="mx.example.test")
    assert found.result in ("none", "neutral", "pass", "fail", "softfail", "temperror", "permerror")
    assert found.reason.isascii()
    assert found.explanation.isprintable()
    assert names.asked.total() <= spf.QUESTIONS + 10


@given(st.binary(max_size=300))
async def test_any_text(text: bytes) -> None:
    """Any octets behind v=spf1 give a result."""
    names = Names({("example.net", "TXT"): [b"v=spf1 " + text]})
    found = await check(names, "2001:db8::1", "mail.example.net", "alice@example.net")
    assert found.result != "none"
