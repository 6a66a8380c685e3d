"""rspamd and spamd as scorers, the real ones: what they say on our scale, and that their silence costs nothing but time."""

import asyncio
import json
import math
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.spam import Spam as Limits
from config.units import Octets, Seconds
from daemons.context import Context
from daemons.spam import build_spam
from daemons.spam_engines import build_engines
from filters.breaker import ServiceAwayError
from filters.spam import rspamd, spamd
from filters.spam.engines import EngineError, Judgement, Weighed
from filters.subject import Envelope, Subject
from filters.verdict import AddField, Refuse
from protocol.address import AddrSpec
from tests.conftest import new_state
from tests.filters.spam.letters import letter
from tests.spam_engines import RspamdDaemon, SpamdDaemon

GTUBE = letter("XJS*C4JDBQADN1.NSBN3*2IDNEN*GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X\n")


@pytest.fixture(scope="module")
def running_rspamd() -> Iterator[RspamdDaemon]:
    """An rspamd for all tests of this file."""
    directory = new_state()
    daemon = RspamdDaemon(directory)
    daemon.start()
    yield daemon
    daemon.kill()
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(scope="module")
def running_spamd() -> Iterator[SpamdDaemon]:
    """A spamd for all tests of this file."""
    directory = new_state()
    daemon = SpamdDaemon(directory)
    daemon.start()
    yield daemon
    daemon.kill()
    shutil.rmtree(directory, ignore_errors=True)


def subject(message: bytes) -> Subject:
    sender, recipient = AddrSpec("anna", "example.org"), AddrSpec("bert", "example.net")
    return Subject(Envelope("id", "192.0.2.1", "client.example", False, False, sender, (recipient,)), message)


@asynccontextmanager
async def engines(context: Context, **changed: Any) -> AsyncIterator[list[Weighed]]:
    """The engines of these settings."""
    settings = msgspec.structs.replace(context.settings, spam=Limits(**changed))
    yield build_engines(replace(context, settings=settings))


async def test_rspamd_scores(context: Context, running_rspamd: RspamdDaemon) -> None:
    """GTUBE is refused, an innocent letter is not; what made the score is named."""
    async with engines(context, rspamd=running_rspamd.url, builtin=False) as (weighed,):
        refused = await weighed.engine.judge(subject(GTUBE))
        assert refused == Judgement(15.0, ["GTUBE"])
        innocent = await weighed.engine.judge(subject(letter()))
        assert innocent is not None
        assert innocent.points < 15.0
        # It was told the peer, whom no DNS knows; a busy one may not say so in time.
        assert {"RDNS_NONE", "RDNS_DNSFAIL", "HFILTER_HOSTNAME_UNKNOWN"} & set(innocent.tests)
        reason = await weighed.reason(subject(letter()))
        assert reason is not None
        assert reason.name == "rspamd"
        assert reason.en.startswith("rspamd finds ")


async def test_spamd_scores(context: Context, running_spamd: SpamdDaemon) -> None:
    """GTUBE has its thousand points, an innocent letter none; what made the score is named."""
    async with engines(context, spamd=str(running_spamd.socket), builtin=False) as (weighed,):
        refused = await weighed.engine.judge(subject(GTUBE))
        assert refused is not None
        assert refused.points == pytest.approx(1000.0, abs=5.0)
        assert "GTUBE" in refused.tests
        innocent = await weighed.engine.judge(subject(letter()))
        assert innocent is not None
        assert innocent.points < 5.0


async def test_beside_others_each_counts_half(
    context: Context, running_rspamd: RspamdDaemon, running_spamd: SpamdDaemon
) -> None:
    """With more than one scorer their points are halved; a weight that is set is taken as it is."""
    both = {"rspamd": running_rspamd.url, "spamd": str(running_spamd.socket)}
    async with engines(context, **both, spamd_weight=2.0) as weighed:
        reasons = [await each.reason(subject(GTUBE)) for each in weighed]
        assert [reason.points for reason in reasons if reason is not None] == [7.5, pytest.approx(2000.0, abs=10.0)]


async def test_their_word_alone_decides(context: Context, running_rspamd: RspamdDaemon) -> None:
    """Without our own rules what rspamd rejects is refused, and what it finds harmless is not."""
    limits = Limits(builtin=False, rspamd=running_rspamd.url)
    alone = build_spam(replace(context, settings=msgspec.structs.replace(context.settings, spam=limits)))
    refused, accepted = [await alone.check(subject(message)) for message in (GTUBE, letter())]
    (refusal,) = [each for each in refused if isinstance(each, Refuse)]
    assert refusal.reason == "spam score 15.0: rspamd finds GTUBE (+15.0)"
    assert not [each for each in accepted if isinstance(each, Refuse)]
    assert "rspamd" in next(each.value for each in accepted if isinstance(each, AddField))


async def test_large_messages_are_not_sent(context: Context, running_spamd: SpamdDaemon) -> None:
    """Beyond the limit an engine is not asked, and has no reason to add."""
    async with engines(context, spamd=str(running_spamd.socket), engine_size_limit=Octets(1000)) as (weighed,):
        assert await weighed.reason(subject(GTUBE + b"x" * 1000)) is None


async def test_an_engine_that_is_away_is_left_alone(context: Context) -> None:
    """Without an answer the reason says so and counts nothing; after some failures it is not even asked."""
    async with engines(context, spamd="/nonexistent/spamd.sock", rspamd="http://127.0.0.1:9") as weighed:
        for each in weighed:
            for _ in range(context.settings.filtering.breaker_failures):
                with pytest.raises(OSError, match=r"."):
                    await each.engine.judge(subject(GTUBE))
            with pytest.raises(ServiceAwayError):
                await each.engine.judge(subject(GTUBE))
            reason = await each.reason(subject(GTUBE))
            assert reason is not None
            assert (reason.name, reason.points) == (f"{each.engine.name}_unavailable", 0.0)


async def test_an_engine_that_says_nothing_is_not_waited_for(context: Context) -> None:
    """Its time is limited."""
    ended: asyncio.Queue[None] = asyncio.Queue()

    async def hear(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()
        ended.put_nowait(None)

    silent = await asyncio.start_server(hear, "127.0.0.1", 0)
    port = silent.sockets[0].getsockname()[1]
    limits = {"engine_limit": Seconds(0.05), "rspamd": f"http://127.0.0.1:{port}", "spamd": f"127.0.0.1:{port}"}
    async with silent, engines(context, **limits) as weighed:
        for each in weighed:
            with pytest.raises(TimeoutError):
                await each.engine.judge(subject(GTUBE))
            await ended.get()


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"[]",
        b"{}",
        b'{"score": "x", "action": "reject"}',
        b'{"score": NaN, "action": "no action"}',
        b'{"score": 1, "action": "no action", "symbols": [1]}',
        b"\xff",
    ],
)
def test_rspamd_answers_that_are_none(answer: bytes) -> None:
    """What cannot be read is no answer."""
    with pytest.raises(EngineError):
        rspamd.read(answer)


def test_rspamd_scale() -> None:
    """Its threshold for spam is five points here; the weightiest symbols come first, and those without weight not at all."""
    symbols = {"A": {"score": 0.0}, "B": {"score": 1.5}, "C": {"score": -4.0}}
    octets = json.dumps({"score": 12.0, "action": "add header", "symbols": symbols}).encode()
    assert rspamd.read(octets) == Judgement(10.0, ["C", "B"])
    assert rspamd.read(octets, spam_at=12.0).points == 5.0


@pytest.mark.parametrize(
    "response",
    [
        b"",
        b"SPAMD/1.1 76 Bad header line: x\r\n",
        b"SPAMD/1.1 0 EX_OK\r\n\r\n",
        b"SPAMD/1.1 0 EX_OK\r\nSpam: True ; 9.1.1 / 5.0\r\n\r\n",
        b"SPAMD/1.1 0 EX_OK\r\nSpam: True ; 9.1 / 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nSpam: True ; 9.1 / 5.0\r\n\r\n",
    ],
)
def test_spamd_responses_that_are_none(response: bytes) -> None:
    """What has no score that can be compared is no answer."""
    with pytest.raises(EngineError):
        spamd.read(response)


def test_spamd_scale() -> None:
    """Its threshold, whatever it is, is five points here."""
    response = b"SPAMD/1.1 0 EX_OK\r\nContent-length: 5\r\nSpam: False ; 3.0 / 10.0\r\n\r\nA,B_C"
    assert spamd.read(response) == Judgement(1.5, ["A", "B_C"])


def test_nothing_of_a_message_gets_into_a_request() -> None:
    """An address that would begin another field is left out."""
    envelope = Envelope("id", "fe80::1%eth0", "a\r\nRcpt: b", False, False, AddrSpec("ä", "example.org"), ())
    assert rspamd.headers(envelope, "mx.example") == [("IP", "fe80::1"), ("Queue-Id", "id"), ("MTA-Name", "mx.example")]
    assert spamd.request(5, "x\r\nUser: y") == b"SYMBOLS SPAMC/1.5\r\nContent-length: 5\r\n\r\n"


@given(
    st.binary()
    | st.from_regex(rb"SPAMD/1\.1 0 EX_OK\r\nSpam: \w+ ; [-0-9.]{1,9} / [-0-9.]{1,9}\r\n\r\n.*", fullmatch=True)
)
def test_any_response_is_a_score_or_an_error(octets: bytes) -> None:
    """Nothing else comes of what spamd says, and points are numbers."""
    try:
        judged = spamd.read(octets)
    except EngineError:
        return
    assert math.isfinite(judged.points)


_JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["score", "action", "symbols", "A"]), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(st.binary() | _JSON.map(lambda value: json.dumps(value).encode()))
def test_any_answer_is_a_score_or_an_error(octets: bytes) -> None:
    """Nothing else comes of what rspamd says, and points are numbers."""
    try:
        judged = rspamd.read(octets)
    except EngineError:
        return
    assert math.isfinite(judged.points)
