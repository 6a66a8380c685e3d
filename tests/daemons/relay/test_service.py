"""The relay as a process of the suite: ready at once, quiet while nothing waits, counted."""

import asyncio
import ssl

from prometheus_client import REGISTRY

from daemons.certificates import Issued
from daemons.context import Context
from daemons.relay import service
from daemons.relay.leasing import look
from storage.traces import by_id
from tests.daemons.relay.world import World


async def test_the_relay_is_ready_at_once_and_ends_when_told(context: Context) -> None:
    """An empty queue is no reason to wait: nothing waits, so nothing is due, and the end comes at once."""
    assert await look(context.pool) == float("inf")
    assert REGISTRY.get_sample_value("postwerk_outbound_waiting") == 0
    stopping, is_ready = asyncio.Event(), asyncio.Event()
    running = asyncio.create_task(service.serve(context, stopping, lambda _: is_ready.set()))
    async with asyncio.timeout(30):
        await is_ready.wait()
        stopping.set()
        await running


async def test_what_waits_is_counted(world: World) -> None:
    """The gauge has the recipients that wait, and the next look is when the first of them is due."""
    await world.queue("a@example.net", "b@example.net")
    await world.owner.execute("DELETE FROM outbound_wake")
    await world.owner.execute("UPDATE outbound_recipient SET next_attempt_at = now() + interval '20 seconds'")
    await world.owner.execute(
        "INSERT INTO outbound_wake (sender, urgency, due_at)"
        " SELECT sender, urgency, next_attempt_at FROM outbound_recipient LIMIT 1"
    )
    assert 10 < await look(world.context.pool) <= 20
    assert REGISTRY.get_sample_value("postwerk_outbound_waiting") == 2


async def test_outcomes_are_counted_and_traced(world: World, certificate: Issued) -> None:
    """Each attempt shows in the metrics, and in the delivery trace with the server's reply and the state of TLS."""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate.certificate, certificate.key)
    mx = await world.mx("example.net", greylists=True, tls=tls)
    before = REGISTRY.get_sample_value("postwerk_relay_outcomes_total", {"outcome": "deferred"}) or 0.0
    trace_id = await world.queue("bob@example.net")
    world.start()
    await world.until_done()
    await world.stop()
    assert REGISTRY.get_sample_value("postwerk_relay_outcomes_total", {"outcome": "deferred"}) == before + 1
    await world.context.recorder.flush()
    (trace,) = await by_id(world.context.pool, world.context.keys, trace_id)
    first, second, end = trace.notes
    assert (first.kind, first.facts["outcome"], first.facts["reply"]) == (
        "attempt",
        "deferred",
        "450 4.7.1 greylisted, come again",
    )
    assert first.facts["next_attempt_at"]
    for attempt in (first, second):
        assert attempt.facts["tls"].startswith("TLSv1.3 TLS_")
        assert attempt.facts["tls"].endswith("not verified")
    assert (second.kind, second.facts["host"], second.facts["address"]) == ("attempt", mx.name, mx.host)
    assert (end.kind, end.facts["reply"]) == ("delivered", "250 2.0.0 taken")
