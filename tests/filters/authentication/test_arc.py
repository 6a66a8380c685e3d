"""ARC: the validation suite of RFC 8617's authors, chains of others, and what must break a chain."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from filters.authentication import arc
from filters.authentication.message import SignedMessage
from filters.authentication.results import ArcResult
from filters.subject import Envelope, Subject
from tests.filters.authentication.names import Names
from tests.filters.authentication.test_dkim import KEYS, RECOVERED, names_of, vector
from tests.mails import CORPORA, as_sent

VECTORS = Path(__file__).parent / "vectors"
SUITE = json.loads((VECTORS / "arc-draft-validation-tests.json").read_text("utf-8"))
CASES = [
    pytest.param(scenario.get("txt-records") or {}, case, id=f"{scenario['description']}: {name}")
    for scenario in SUITE
    for name, case in scenario["tests"].items()
]
NOW = 1_700_000_000


def signed(octets: bytes) -> SignedMessage:
    """As the filter sees it."""
    envelope = Envelope("0" * 16, "192.0.2.1", "mail.example.net", True, False, None, ())
    return SignedMessage(Subject(envelope, octets).header, octets)


async def verify(names: Names, octets: bytes) -> ArcResult:
    """The result of a message."""
    message = signed(octets)
    return await arc.verify(names, message, arc.read(message, at=NOW))


@pytest.mark.parametrize(("records", "case"), CASES)
async def test_suite(records: Mapping[str, str], case: Mapping[str, Any]) -> None:
    """The validation suite passes."""
    names = Names()
    for name, text in records.items():
        names.text(name, text)
    octets = case["message"].replace("\r\n", "\n").replace("\n", "\r\n").encode()
    found = await verify(names, octets)
    # Two cases want no result at all: the seal says that the chain had failed before. RFC 8617 §5.2 (step 2) has "fail" for it.
    assert found.result == (case["cv"].lower() or "fail"), found.reason


MAILAUTH = {"arc-pass": (2, 1), "arc-pass2": (2, 1), "authtest": (1, 1), "bimi": (1, 1), "zbimi": (1, 1)}


@pytest.mark.parametrize("name", MAILAUTH)
async def test_chains_of_mailauth(name: str) -> None:
    """Chains in the mails of mailauth are whole, with all hops, and since the first one nobody has changed them."""
    found = await verify(names_of(KEYS), as_sent(CORPORA / "mailauth-postalsys" / f"{name}.eml"))
    assert (found.result, len(found.sets), found.oldest_pass) == ("pass", *MAILAUTH[name])
    assert set(found.sealers) == {"google.com"}
    assert "dkim=pass" in found.sets[0].authentication_results


@pytest.mark.parametrize("name", ["arc-001", "arc-002"])
async def test_chains_of_mail_auth(name: str) -> None:
    """The chains of mail-auth, which bring their keys along, are whole."""
    names, octets = vector(name)
    assert (await verify(names, octets)).result == "pass"


async def test_chains_of_spamassassin() -> None:
    """Of SpamAssassin's two mails the one has a chain that holds, the other has none."""
    names = names_of({"t0768._domainkey.sa-test.spamassassin.org": RECOVERED["ok01"]})
    for name, result in (("ok01", "pass"), ("ko01", "none")):
        octets = as_sent(CORPORA / "spamassassin-tdata" / "t" / "data" / "dkim" / "arc" / f"{name}.eml")
        assert (await verify(names, octets)).result == result


CHAIN = CORPORA / "mailauth-postalsys" / "arc-pass.eml"


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        (b"\r\n\r\n", b"\r\n\r\nMore.\r\n", "message signature 2: the body was changed"),
        (b"ARC-Authentication-Results: i=1;", b"ARC-Authentication-Results: i=1; x=y;", "seal 2: the signature does"),
        (b"ARC-Seal: i=2;", b"ARC-Seal: i=3;", "not all sets are whole"),
        (b"ARC-Seal: i=2;", b"ARC-Seal: i=1;", "instance 1 is there twice"),
        (b"ARC-Seal: i=2;", b"ARC-Seal: i=51;", "an instance that cannot be"),
        (b"ARC-Seal: i=2;", b"ARC-Seal:", "an instance that cannot be"),
        (b"cv=pass", b"cv=none", "seal 2 says cv=none"),
    ],
)
async def test_broken_chains(old: bytes, new: bytes, reason: str) -> None:
    """RFC 8617 §5.2: whatever is changed in a chain, or in the message since its last hop, breaks it."""
    octets = as_sent(CHAIN)
    assert old in octets
    found = await verify(names_of(KEYS), octets.replace(old, new, 1))
    assert found.result == "fail"
    assert reason in found.reason
    assert not found.sets


async def test_silent_dns() -> None:
    """A chain whose keys cannot be had is not whole."""
    names = names_of(KEYS)
    names.is_silent = True
    assert (await verify(names, as_sent(CHAIN))).result == "fail"


async def test_no_chain() -> None:
    """RFC 8617 §5.2: a message without the fields has no chain."""
    assert (await verify(Names(), b"From: a@example.net\r\n\r\n")).result == "none"


async def test_longest_chain() -> None:
    """RFC 8617 §4.2.1: more than fifty hops are no chain, and cost nothing."""
    names = Names()
    fields = b"".join(b"ARC-Seal: i=%d;\r\n" % (number + 1) for number in range(5000))
    assert (await verify(names, fields + b"\r\n")).result == "fail"
    assert not names.asked


@given(st.lists(st.sampled_from([1, 2, 3, 0, 51, 999]), max_size=8), st.binary(max_size=30))
async def test_any_fields(instances: list[int], rest: bytes) -> None:
    """Any ARC fields give a result."""
    names = [b"ARC-Seal", b"ARC-Message-Signature", b"ARC-Authentication-Results"]
    rest = rest.replace(b"\n", b"").replace(b"\r", b"")
    lines = [b"%s: i=%d; %s\r\n" % (names[place % 3], each, rest) for place, each in enumerate(instances)]
    found = await verify(Names(), b"".join(lines) + b"\r\n")
    assert found.result == ("fail" if instances else "none")
