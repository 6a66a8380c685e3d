"""Bearer tokens against an issuer that answers over TLS on the loopback."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from joserfc import jwt
from joserfc.errors import SecurityWarning
from joserfc.jwk import OctKey, OKPKey

from config.issuers import Issuer
from daemons.authentication.authenticator import Claimed
from daemons.authentication.issuers import Issuers
from daemons.certificates import Issued
from tests.clock import Clock
from tests.daemons.issuer import StubIssuer, issuing

ALICE = [Claimed("example", "alice@example.test")]


@pytest.fixture
async def stub(certificate: Issued, state: Path) -> AsyncIterator[StubIssuer]:
    """A running issuer."""
    async with issuing(certificate, state) as running:
        yield running


@asynccontextmanager
async def judging(*settings: Issuer, clock: Clock | None = None, cache_entries: int = 10) -> AsyncIterator[Issuers]:
    """Issuers that are closed at the end."""
    issuers = Issuers(settings, cache_entries=cache_entries, clock=clock or Clock())
    try:
        yield issuers
    finally:
        await issuers.close()


async def test_a_good_token(stub: StubIssuer) -> None:
    """A token of a configured issuer, for our audience and of now, tells whose it is; keys are fetched once."""
    async with judging(stub.settings()) as issuers:
        for _ in range(3):
            assert await issuers.claims(stub.token(), None) == ALICE
        assert await issuers.claims(stub.token(aud=["other", "postwerk"]), None) == ALICE
    assert stub.asked == {"/.well-known/openid-configuration": 1, "/keys": 1}


@pytest.mark.parametrize(
    "changes",
    [
        {"aud": "somebody"},
        {"aud": None},
        {"exp": 1},
        {"exp": None},
        {"exp": "never"},
        {"nbf": 9_999_999_999},
        {"iss": "https://elsewhere.test"},
        {"iss": None},
        {"email": None},
        {"email": 7},
        {"email": ""},
        {"email_verified": False},
    ],
    ids=str,
)
async def test_tokens_for_others_or_of_another_time(stub: StubIssuer, changes: dict[str, Any]) -> None:
    """Another audience or issuer, another time, or no login that is verified: the token is for nobody."""
    async with judging(stub.settings()) as issuers:
        assert await issuers.claims(stub.token(**changes), "example") == []


async def test_clocks_may_differ_a_little(stub: StubIssuer) -> None:
    """A token that has just run out is good within the leeway."""
    just_now = stub.claims()["iat"] - 5
    async with judging(stub.settings()) as issuers, judging(stub.settings(leeway=0)) as strict:
        assert await issuers.claims(stub.token(exp=just_now), None) == ALICE
        assert await strict.claims(stub.token(exp=just_now), None) == []


async def test_signatures(stub: StubIssuer) -> None:
    """Nothing but a signature of the issuer's key by an allowed algorithm makes a token good."""
    public = json.dumps(stub.keys[0].as_dict(private=False))
    shared = OctKey.import_key(public)
    forged = jwt.encode({"alg": "HS256", "kid": "first"}, stub.claims(), shared)
    header, payload, signature = stub.token().split(".")
    deep = base64.urlsafe_b64encode(b'{"alg":"ES256","x":%b%b}' % (b"[" * 2000, b"]" * 2000)).decode().rstrip("=")
    unsigned = base64.urlsafe_b64encode(b'{"alg":"none"}').decode().rstrip("=")
    other = stub.new_key("first")
    async with judging(stub.settings()) as issuers:
        for token in (
            forged,
            f"{unsigned}.{payload}.",
            f"{deep}.{payload}.{signature}",
            f"{header}.{payload}.{signature[::-1]}",
            stub.token(other),
            f"{header}.{payload}",
            f"{header}..{signature}",
            f".{payload}.",
            "." * 2,
            "x" * 100_000,
        ):
            assert await issuers.claims(token, None) == []
    async with judging(stub.settings(algorithms=["RS256"])) as issuers:
        assert await issuers.claims(stub.token(), None) == []


async def test_the_old_name_of_a_signature(stub: StubIssuer) -> None:
    """A token signed by "EdDSA", as issuers still call it, is taken where the configuration allows that."""
    key = OKPKey.generate_key("Ed25519", {"kid": "curve"})
    with pytest.warns(SecurityWarning):
        token = jwt.encode({"alg": "EdDSA", "kid": "curve"}, stub.claims(), key, algorithms=["EdDSA"])
    stub.keys.append(key)
    async with judging(stub.settings(algorithms=["EdDSA"])) as issuers, judging(stub.settings()) as strict:
        assert await issuers.claims(token, None) == ALICE
        assert await strict.claims(token, None) == []


async def test_rotated_keys_are_found(stub: StubIssuer) -> None:
    """A token that names a new key makes us ask for the keys, but not more often than the interval says."""
    clock = Clock()
    async with judging(stub.settings(), clock=clock) as issuers:
        assert await issuers.claims(stub.token(), None) == ALICE
        second = stub.new_key("second")
        stub.keys = [second]
        assert await issuers.claims(stub.token(second), None) == []  # asked a moment ago
        clock.now += 30
        assert await issuers.claims(stub.token(second), None) == ALICE
        for number in range(5):
            assert await issuers.claims(stub.token(stub.new_key(f"invented {number}")), None) == []
    assert stub.asked["/keys"] == 2


async def test_keys_outlive_an_issuer_that_is_down(stub: StubIssuer) -> None:
    """Keys that are old are used while nobody answers; without any, no token is good, and later ones are again."""
    clock = Clock()
    async with judging(stub.settings(), clock=clock) as issuers:
        stub.is_down = True
        assert await issuers.claims(stub.token(), None) == []
        stub.is_down = False
        clock.now += 30
        assert await issuers.claims(stub.token(), None) == ALICE
        stub.is_down = True
        clock.now += 7200
        assert await issuers.claims(stub.token(), None) == ALICE


async def test_answers_that_cannot_be_used(stub: StubIssuer) -> None:
    """A description of another issuer, an answer that is too long, a certificate of nobody: no keys, no login."""
    async with judging(stub.settings(certificate_authority="")) as issuers:
        assert await issuers.claims(stub.token(), None) == []
    stub.padding = "x" * 5000
    async with judging(stub.settings(response_limit=4096)) as issuers:
        assert await issuers.claims(stub.token(), None) == []
    stub.described_as = "https://elsewhere.test"
    async with judging(stub.settings()) as issuers:
        assert await issuers.claims(stub.token(), None) == []
    async with judging(stub.settings(keys=f"{stub.url}/keys")) as issuers:
        assert await issuers.claims(stub.token(), None) == ALICE


async def test_an_issuer_names_no_keys_on_our_machine(stub: StubIssuer) -> None:
    """What an issuer elsewhere says makes us ask nobody in the clear, not even on the loopback."""
    asked: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readline())
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server, judging(stub.settings()) as issuers:
        stub.keys_at = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/keys"
        assert await issuers.claims(stub.token(), None) == []
    assert asked == []


async def test_introspection(stub: StubIssuer) -> None:
    """A token that cannot be read is asked about, remembered for a while, and refused when the issuer does not know it."""
    stub.opaque = {
        "good": {"active": True} | stub.claims(iss=None),
        "others": {"active": True} | stub.claims(aud="somebody"),
        "over": {"active": False} | stub.claims(),
    }
    clock = Clock()
    async with judging(stub.settings(), clock=clock) as issuers:
        assert await issuers.claims("good", "example") == ALICE
        assert await issuers.claims("good", "example") == ALICE
        assert stub.asked == {"/introspect": 1}
        for token in ("others", "over", "unknown"):
            assert await issuers.claims(token, "example") == []
        clock.now += 60
        del stub.opaque["good"]
        assert await issuers.claims("good", "example") == []


async def test_introspection_is_for_its_own_tenant(stub: StubIssuer) -> None:
    """Nobody is asked about a token of an account of another tenant, or of none: who is asked could use it."""
    stub.opaque = {"good": {"active": True} | stub.claims()}
    async with judging(stub.settings()) as issuers:
        assert await issuers.claims("good", "other") == []
        assert await issuers.claims("good", None) == []
    assert stub.asked == {}


async def test_what_introspection_said_is_bounded(stub: StubIssuer) -> None:
    """The oldest remembered token makes room for the newest."""
    stub.opaque = {name: {"active": True} | stub.claims() for name in "ab"}
    async with judging(stub.settings(), cache_entries=1) as issuers:
        for name in "abab":
            assert await issuers.claims(name, "example") == ALICE
    assert stub.asked == {"/introspect": 4}


async def test_scopes_and_other_claims(stub: StubIssuer) -> None:
    """A configured scope must be among those of the token; the login is where the configuration says."""
    async with judging(stub.settings(scope="mail", login_claim="upn")) as issuers:
        assert await issuers.claims(stub.token(upn="alice@example.test", scope="openid mail"), None) == ALICE
        assert await issuers.claims(stub.token(upn="alice@example.test", scp=["mail"]), None) == ALICE
        for scope in ("openid", "mailbox", 7, None):
            assert await issuers.claims(stub.token(upn="alice@example.test", scope=scope), None) == []
        assert await issuers.claims(stub.token(scope="mail"), None) == []


async def test_two_tenants_of_one_issuer(stub: StubIssuer) -> None:
    """An issuer that several tenants trust vouches for the tenant whose audience the token has."""
    other = stub.settings(tenant="other", audience=["others"])
    async with judging(stub.settings(), other) as issuers:
        assert await issuers.claims(stub.token(), None) == ALICE
        assert await issuers.claims(stub.token(aud="others"), None) == [Claimed("other", "alice@example.test")]
        assert issuers.hint() == ("", "")


@pytest.mark.parametrize(
    "url", ["http://login.example.org", "ftp://localhost", "localhost", "", "https://", "http://[::"]
)
def test_issuers_need_tls(url: str) -> None:
    """An issuer is reached by TLS, or on this machine."""
    with pytest.raises(ValueError, match="issuer: an https URL is needed"):
        Issuer(tenant="example", issuer=url, audience=["postwerk"])
    assert Issuer(tenant="example", issuer="http://127.0.0.1:8080", audience=["postwerk"]).keys == ""


def test_introspection_needs_credentials() -> None:
    """Whoever asks about tokens has to say who asks."""
    with pytest.raises(ValueError, match="introspection needs client_id"):
        Issuer(tenant="t", issuer="https://a.test", audience=["p"], introspection="https://a.test/introspect")
