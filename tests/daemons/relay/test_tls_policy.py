"""Policies against real TLS sessions, with the openssl program as a second opinion."""

import asyncio
import contextlib
import shutil
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import pytest

from daemons.relay.demands import Demands, TlsaFound, demand
from daemons.relay.tls_policy import TlsFailure, TlsPolicy, TlsResult, handshake_failed, load_anchors
from protocol.dane import Tlsa, usable
from protocol.mta_sts import StsPolicy
from tests.internet.authority import Authority, Certified, self_signed

NAME = "mx.example.net"


@dataclass
class World:
    """Authorities and what they have issued."""

    directory: Path
    certified: dict[str, Certified]
    authority: str  # the root, as a file


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """One root, one authority below it, servers of all kinds."""
    directory = tmp_path_factory.mktemp("tls")
    root = Authority("Root")
    between = Authority("Between", root)
    return World(
        directory,
        {
            "good": between.issue(NAME),
            "wildcard": between.issue("*.example.net"),
            "root": root.own,
            "between": between.own,
            "other name": between.issue("mx.example.org"),
            "expired": between.issue(NAME, starts=timedelta(days=-3), ends=timedelta(days=-1)),
            "early": between.issue(NAME, starts=timedelta(days=1)),
            "self-signed": self_signed(NAME),
            "stranger": Authority("Stranger").issue(NAME),
        },
        root.file(directory),
    )


@contextlib.asynccontextmanager
async def _server(context: ssl.SSLContext) -> AsyncIterator[int]:
    def connected(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0, ssl=context)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def _session(world: World, shown: str, policy: TlsPolicy) -> TlsResult:
    """The result of a session with a server that shows this. Raises TlsFailure."""
    async with _server(world.certified[shown].server_context(world.directory)) as port:
        _, writer = await asyncio.open_connection(
            "127.0.0.1", port, ssl=policy.context(), server_hostname=policy.server_name
        )
        try:
            return policy.check(writer.get_extra_info("ssl_object"))
        finally:
            writer.close()


async def _verdict(world: World, shown: str, policy: TlsPolicy) -> str:
    try:
        return (await _session(world, shown, policy)).verified
    except TlsFailure as failure:
        return failure.kind


VERIFY = TlsPolicy("verify", basis="mta-sts", server_name=NAME, names=(NAME,))


@pytest.mark.parametrize(
    ("shown", "verdict"),
    [
        ("good", "pkix"),
        ("wildcard", "pkix"),
        ("other name", "certificate-host-mismatch"),
        ("expired", "certificate-expired"),
        ("early", "certificate-expired"),
        ("self-signed", "certificate-not-trusted"),
        ("stranger", "certificate-not-trusted"),
    ],
)
async def test_verify(world: World, shown: str, verdict: str) -> None:
    """A certificate has to lead to an authority, be for the host, and be in its time; else the failure says which it was."""
    policy = replace(VERIFY, authority=world.authority)
    assert await _verdict(world, shown, policy) == verdict


async def test_system_authorities_are_the_default(world: World) -> None:
    """Without a file the system's authorities count, which do not know the test's."""
    await load_anchors("")
    assert await _verdict(world, "good", VERIFY) == "certificate-not-trusted"


@pytest.mark.parametrize("mode", ["may", "encrypt"])
async def test_modes_that_verify_nothing(world: World, mode: str) -> None:
    """Opportunistic and mandatory TLS take any certificate, and say that nothing was verified."""
    policy = TlsPolicy("may" if mode == "may" else "encrypt", server_name=NAME)
    for shown in world.certified:
        result = await _session(world, shown, policy)
        assert result.verified == ""
        assert str(result) == f"{result.version} {result.cipher} not verified"


async def test_result_tells_how(world: World) -> None:
    """The text that is stored with an attempt names version, cipher and by what the server is authentic."""
    result = await _session(world, "good", replace(VERIFY, authority=world.authority))
    assert str(result) == "TLSv1.3 TLS_AES_256_GCM_SHA384 verified (pkix)"
    assert str(TlsResult()) == ""


@pytest.mark.parametrize(("shown", "kind"), [("good", None), ("stranger", "certificate-not-trusted")])
async def test_testing_is_never_in_the_way(world: World, shown: str, kind: str | None) -> None:
    """Under MTA-STS's testing mode what would fail is told, and mail goes all the same."""
    policy = replace(VERIFY, authority=world.authority, is_testing=True)
    result = await _session(world, shown, policy)
    assert (result.failure.kind if result.failure else None) == kind
    assert bool(result.verified) is (kind is None)
    assert not policy.is_mandatory
    without = policy.without_tls()
    assert without.failure is not None
    assert without.failure.kind == "starttls-not-supported"


def test_without_tls() -> None:
    """Where TLS is asked for nothing goes without it; where it is not, nothing is wrong."""
    for mode in ("encrypt", "verify", "dane"):
        with pytest.raises(TlsFailure) as caught:
            TlsPolicy(mode).without_tls()
        assert caught.value.kind == "starttls-not-supported"
    assert TlsPolicy().without_tls() == TlsPolicy("none").without_tls() == TlsResult()
    assert not TlsPolicy("none").wants_tls


async def test_minimum_version(world: World) -> None:
    """What is older than the configuration allows is not spoken; the failure is one of the handshake."""
    policy = TlsPolicy(minimum="TLSv1.3", server_name=NAME)
    context = world.certified["good"].server_context(world.directory)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    async with _server(context) as port:
        with pytest.raises((ssl.SSLError, ConnectionResetError)) as caught:  # as the loop tells it
            await asyncio.open_connection("127.0.0.1", port, ssl=policy.context(), server_hostname=NAME)
    failure = handshake_failed(caught.value)
    assert failure.kind == "validation-failure"
    assert "handshake failed" in str(failure)


@pytest.mark.parametrize("cipher", ["ECDHE-ECDSA-AES256-SHA384", "ECDHE-ECDSA-AES128-SHA"])
async def test_old_servers_are_spoken_to(world: World, cipher: str) -> None:
    """Where any TLS is better than none, servers that know nothing newer get it."""
    policy = TlsPolicy(server_name=NAME)
    context = world.certified["good"].server_context(world.directory)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(cipher)
    async with _server(context) as port:
        _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=policy.context(), server_hostname=NAME)
        result = policy.check(writer.get_extra_info("ssl_object"))
        writer.close()
    assert str(result) == f"TLSv1.2 {cipher} not verified"


def _records(world: World, *wanted: tuple[str, int, int, int]) -> list[str]:
    return [world.certified[of].tlsa(usage, selector, kind) for of, usage, selector, kind in wanted]


DANE_CASES = [
    # what the server shows; TLSA records; verdict
    ("good", [("good", 3, 1, 1)], "dane-ee"),
    ("good", [("good", 3, 0, 2)], "dane-ee"),
    ("good", [("good", 3, 0, 0)], "dane-ee"),
    ("good", [("between", 2, 0, 1)], "dane-ta"),
    ("good", [("between", 2, 1, 1)], "dane-ta"),
    ("good", [("root", 2, 1, 2)], "dane-ta"),
    ("good", [("root", 2, 0, 0)], "dane-ta"),
    ("good", [("stranger", 3, 1, 1)], "certificate-not-trusted"),
    ("good", [("stranger", 3, 1, 1), ("good", 3, 1, 1)], "dane-ee"),
    ("good", [("stranger", 3, 1, 1), ("between", 2, 0, 1)], "dane-ta"),
    ("good", [("stranger", 3, 1, 2), ("good", 3, 1, 1)], "certificate-not-trusted"),  # RFC 7671 §9
    ("expired", [("expired", 3, 1, 1)], "dane-ee"),
    ("other name", [("other name", 3, 1, 1)], "dane-ee"),
    ("self-signed", [("self-signed", 3, 1, 1)], "dane-ee"),
    ("expired", [("between", 2, 0, 1)], "certificate-expired"),
    ("other name", [("between", 2, 0, 1)], "certificate-host-mismatch"),
    ("stranger", [("root", 2, 0, 1)], "certificate-not-trusted"),
    ("self-signed", [("good", 3, 1, 1)], "certificate-not-trusted"),
]


@pytest.mark.parametrize(("shown", "wanted", "verdict"), DANE_CASES)
async def test_dane(world: World, shown: str, wanted: list[tuple[str, int, int, int]], verdict: str) -> None:
    """TLSA records decide what a certificate has to be, and openssl's own DANE comes to the same answer."""
    records = [_record(text) for text in _records(world, *wanted)]
    policy = demand(Demands(), NAME, TlsaFound(tuple(records), NAME), ("example.net",))
    assert (policy.mode, policy.is_mandatory, policy.policy_type) == ("dane", True, "tlsa")
    assert await _verdict(world, shown, policy) == verdict
    if shutil.which("openssl") is not None:
        assert await _openssl_agrees(world, shown, wanted) is verdict.startswith("dane")


async def _openssl_agrees(world: World, shown: str, wanted: list[tuple[str, int, int, int]]) -> bool:
    async with _server(world.certified[shown].server_context(world.directory)) as port:
        arguments = ["s_client", "-connect", f"127.0.0.1:{port}", "-dane_tlsa_domain", NAME, "-servername", NAME]
        for text in _records(world, *wanted):
            arguments += ["-dane_tlsa_rrdata", text]
        process = await asyncio.create_subprocess_exec(
            "openssl", *arguments, "-dane_ee_no_namechecks", "-verify_return_error", "-brief",
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        output, _ = await process.communicate()
    return b"Verification: OK" in output and b"DANE TLSA" in output


def test_unusable_records_ask_for_encryption() -> None:
    """Records of which none is usable still say that there is TLS: it is asked for, and nothing can be verified (RFC 7672 §2.2)."""
    policy = demand(Demands(), NAME, TlsaFound((Tlsa(0, 0, 1, b"\0" * 32),), NAME), ())
    assert (policy.mode, policy.tlsa, policy.is_mandatory) == ("dane", (), True)
    assert policy.policy_strings == ("0 0 1 " + "00" * 32,)


async def test_unusable_records_take_any_certificate(world: World) -> None:
    """With such records any certificate does."""
    policy = demand(Demands(), NAME, TlsaFound((Tlsa(1, 1, 1, b"\0" * 32),), NAME), ())
    assert await _verdict(world, "stranger", policy) == ""


STS = StsPolicy("enforce", 86400, (NAME,))


def test_dane_before_mta_sts() -> None:
    """Where there are TLSA records MTA-STS only says which hosts may be used (RFC 8461 §2)."""
    found = TlsaFound((Tlsa(3, 1, 1, b"\0" * 32),), NAME)
    assert demand(Demands(sts=STS), NAME, found, ()).basis == "dane"
    with pytest.raises(TlsFailure):
        demand(Demands(sts=STS), "mx.evil.example", TlsaFound(found.records, "mx.evil.example"), ())


def test_mta_sts() -> None:
    """An enforced policy refuses other hosts and asks the named ones for a certificate; testing refuses nothing."""
    policy = demand(Demands(sts=STS, authority="/a.pem"), NAME, TlsaFound(), ())
    assert (policy.mode, policy.basis, policy.names, policy.authority) == ("verify", "mta-sts", (NAME,), "/a.pem")
    assert (policy.policy_type, policy.policy_strings, policy.mx_patterns) == ("sts", STS.strings, (NAME,))
    with pytest.raises(TlsFailure):
        demand(Demands(sts=STS), "other.example.net", TlsaFound(), ())
    testing = demand(Demands(sts=replace(STS, mode="testing")), "other.example.net", TlsaFound(), ())
    assert testing.is_testing
    assert testing.fault is not None


def test_requiretls_needs_a_proved_name() -> None:
    """With REQUIRETLS the host's name must come from DNSSEC or MTA-STS, and its certificate must be right (RFC 8689 §4.2.1)."""
    with pytest.raises(TlsFailure):
        demand(Demands(is_requiretls=True), NAME, TlsaFound(), ())
    by_dnssec = demand(Demands(is_requiretls=True, is_secure=True), NAME, TlsaFound(), ())
    assert (by_dnssec.mode, by_dnssec.names, by_dnssec.needs_requiretls) == ("verify", (NAME,), True)
    tested = demand(Demands(is_requiretls=True, sts=replace(STS, mode="testing")), NAME, TlsaFound(), ())
    assert (tested.mode, tested.is_testing, tested.is_mandatory) == ("verify", False, True)
    found = TlsaFound((Tlsa(3, 1, 1, b"\0" * 32),), NAME)
    by_dane = demand(Demands(is_requiretls=True, is_secure=True), NAME, found, ())
    assert (by_dane.mode, by_dane.needs_requiretls) == ("dane", True)
    unusable = TlsaFound((Tlsa(0, 0, 1, b"\0" * 32),), NAME)
    assert demand(Demands(is_requiretls=True, is_secure=True), NAME, unusable, ()).mode == "verify"


def test_tls_required_no_puts_policies_out_of_the_way() -> None:
    """A message whose sender wants it delivered in any case goes by opportunistic TLS (RFC 8689 §3)."""
    found = TlsaFound((Tlsa(3, 1, 1, b"\0" * 32),), NAME)
    policy = demand(Demands(ignores_tls=True, sts=STS), "other.example.net", found, ())
    assert (policy.mode, policy.is_mandatory) == ("may", False)


def _record(text: str) -> Tlsa:
    usage, selector, matching_type, association = text.split()
    record = Tlsa(int(usage), int(selector), int(matching_type), bytes.fromhex(association))
    assert usable([record])
    return record
