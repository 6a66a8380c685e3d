"""Who is served next, and how much a destination gets: back-off, dead destinations, fairness, fallback, drain, leases."""

import asyncio
import itertools
import socket
from datetime import timedelta

import pytest

from daemons.relay.destinations import Destination
from daemons.relay.dispatcher import Dispatcher
from daemons.relay.parcel import Parcel
from daemons.relay.route import Host, Route
from daemons.relay.turns import Turns
from storage import outbound, outbound_changes
from storage.outbound import Leased
from storage.outbound_listing import Selection
from tests.conftest import add_person
from tests.daemons.relay.test_schedule import leased
from tests.daemons.relay.world import World, quick
from tests.internet.mx import Fault, Received, mx_server


def _has_ipv6() -> bool:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


async def test_a_dead_destination_is_probed_by_one(world: World) -> None:
    """When no server answers, a few attempts are made, then one for each pause; the other recipients wait all the same."""
    mx = await world.mx("example.net")
    mx.faults["GREETING"] = itertools.repeat("421 4.3.2 closed")
    for number in range(40):
        await world.queue(f"r{number}@example.net")
    world.start(retry_waits=[0.3], destination_connection_limit=5, destination_pause=2.0, destination_pause_limit=2.0)
    await world.until("min(tries) >= 2 FROM outbound_recipient")
    assert mx.sessions <= 12
    assert mx.most_sessions <= 5
    assert {row["last_reply"] for row in await world.rows()} == {"421 4.3.2 closed"}
    mx.faults.clear()
    await world.until_done()
    assert len(mx.received) == 40


async def test_a_destination_without_a_server_does_not_delay_others(world: World) -> None:
    """Hundreds of recipients of an unreachable destination wait with 4.4.1 while a letter elsewhere goes at once."""
    mx = await world.mx("example.net")
    world.point("example.org", {"gone.example.org": 10})
    world.names.add("gone.example.org", "A", "127.9.9.9")
    await world.queue(*(f"r{number}@example.org" for number in range(300)))
    await world.queue("bob@example.net")
    world.start(retry_waits=[60.0], recipient_limit=100)
    await mx.wait(1)
    await world.until("count(*) FILTER (WHERE tries = 1) = 301 FROM outbound_recipient")
    assert "4.4.1" in (await world.rows())[0]["last_reply"]


async def test_a_server_that_has_enough_gets_fewer_connections(world: World) -> None:
    """421 at the greeting of a further connection narrows the window; what was to go over it waits for the others."""
    mx = await world.mx("example.net")
    most = 2

    class Greetings:
        def __iter__(self) -> "Greetings":
            return self

        def __next__(self) -> str | None:
            return "421 4.7.0 too many connections" if mx.open_sessions > most else None

    mx.faults["GREETING"] = Greetings()
    for number in range(60):
        await world.queue(f"r{number}@example.net")
    world.start(retry_waits=[60.0])
    rows = await world.until_done()
    assert {(row["state"], row["tries"]) for row in rows} == {("delivered", 1)}
    assert mx.sessions < 40


async def test_the_window_opens_with_success(world: World) -> None:
    """A destination that takes messages gets more connections, up to the limit."""
    mx = await world.mx("example.net")
    mx.gates["DOT"] = asyncio.Event()
    for number in range(40):
        await world.queue(f"r{number}@example.net")
    world.start(destination_connection_start=2, destination_connection_limit=6)
    async with asyncio.timeout(30):
        while mx.verbs["DATA"] < 2:
            await asyncio.sleep(0.01)
    assert mx.open_sessions == 2
    mx.gates["DOT"].set()
    await world.until_done()
    assert 2 < mx.most_sessions <= 6


async def test_a_mailing_does_not_delay_a_letter(world: World) -> None:
    """With hundreds of messages of one sender waiting for a busy server, another sender's comes among the next ones."""
    mx = await world.mx("example.net")
    carol = await add_person(world.context.settings, world.owner, "carol@example.test")
    for number in range(200):
        await world.queue(f"r{number}@example.net")
    arrived: list[str] = []
    gate = mx.gates["MAIL"] = asyncio.Event()
    gate.set()

    def count(message: Received) -> None:
        arrived.append(message.reverse_path)
        if len(arrived) == 20:
            gate.clear()

    mx.on_received = count
    world.start(destination_connection_limit=1, recipient_limit=40, batch_limit=20)
    await mx.wait(20)
    await world.queue("bob@example.net", account_id=carol.account_id, reverse_path=carol.login)
    gate.set()
    await mx.wait(100)
    assert carol.login in arrived[20:100]  # what is held goes first, and what is being leased when the letter comes


async def test_a_letter_passes_a_mailing_to_slow_servers(world: World) -> None:
    """Connections of one sender leave some for others, however many of them hang."""
    carol = await add_person(world.context.settings, world.owner, "carol@example.test")
    for number in range(12):
        slow = await world.mx(f"slow{number}.example.org")
        slow.faults["EHLO"] = itertools.repeat(Fault.HANG)
        slow.faults["HELO"] = itertools.repeat(Fault.HANG)
        await world.queue(f"bob@slow{number}.example.org")
    mx = await world.mx("example.net")
    world.start(connection_limit=8, command_timeout=60.0, drain_time=0.1)
    await asyncio.sleep(0.2)
    await world.queue("bob@example.net", account_id=carol.account_id, reverse_path=carol.login)
    await mx.wait(1)


async def test_the_next_address_and_the_next_host_are_tried(world: World) -> None:
    """An IPv6 address that nobody answers at, and an exchanger that is down, cost no attempt."""
    second = await world.mx("example.net", preference=20)
    world.names.add("first.example.net", "AAAA", "::1")
    world.names.add("first.example.net", "A", "127.9.9.9")
    world.point("example.net", {"first.example.net": 10, second.name: 20})
    both = await world.mx("example.org")
    world.names.add(both.name, "AAAA", "::1")
    await world.queue("bob@example.net", "bob@example.org")
    world.start()
    rows = await world.until_done()
    assert [row["tries"] for row in rows] == [1, 1]
    assert len(second.received) == len(both.received) == 1


@pytest.mark.skipif(not _has_ipv6(), reason="this machine's loopback has no IPv6")
async def test_ipv6_and_ipv4(world: World) -> None:
    """A host with addresses of both families is reached by IPv6, and by IPv4 when nobody answers there any more."""
    by_ipv4 = await world.mx("example.net")
    world.names.add(by_ipv4.name, "AAAA", "::1")
    async with mx_server(by_ipv4.name, host="::1", port=world.port) as by_ipv6:
        await world.queue("bob@example.net")
        world.start()
        await by_ipv6.wait(1)
        await world.until_done()
    await world.queue("carol@example.net")
    await by_ipv4.wait(1)
    rows = await world.until_done()
    assert [row["tries"] for row in rows] == [1, 1]
    assert [row["host"] for row in await world.attempts()] == [
        f"{by_ipv4.name} [::1]",
        f"{by_ipv4.name} [{by_ipv4.host}]",
    ]


async def test_the_next_host_is_tried_when_one_refuses_service(world: World) -> None:
    """421 and 554 at the greeting are the host's word, not the domain's."""
    hosts = [await world.mx("example.net") for _ in range(3)]
    world.point("example.net", {mx.name: 10 * number for number, mx in enumerate(hosts, 1)})
    hosts[0].faults["GREETING"] = itertools.repeat("421 4.3.2 closed")
    hosts[1].faults["GREETING"] = itertools.repeat("554 5.3.2 no service")
    await world.queue("bob@example.net")
    world.start()
    assert (await world.until_done())[0]["tries"] == 1
    assert [len(mx.received) for mx in hosts] == [0, 0, 1]


async def test_what_runs_ends_and_the_rest_is_given_back(world: World) -> None:
    """On SIGTERM a message on its way is finished and settled; what has not begun is due again at once, without a try."""
    mx = await world.mx("example.net")
    mx.gates["DOT"] = asyncio.Event()
    for number in range(10):
        await world.queue(f"r{number}@example.net")
    world.start(destination_connection_limit=1)
    async with asyncio.timeout(30):
        while not mx.verbs["DATA"]:
            await asyncio.sleep(0.01)
    stopping = asyncio.create_task(world.stop())
    await world.until("count(*) FILTER (WHERE leased_by IS NULL) = 9 FROM outbound_recipient")
    mx.gates["DOT"].set()
    await stopping
    rows = await world.rows()
    assert sorted(row["state"] for row in rows) == ["delivered"] + ["waiting"] * 9
    assert sum(row["tries"] for row in rows) == 1
    assert await world.owner.fetchval(
        "SELECT max(next_attempt_at) <= now() FROM outbound_recipient WHERE state = 'waiting'"
    )
    world.start()
    await world.until_done()
    assert len(mx.received) == 10


async def test_what_does_not_end_in_time_is_cut_off(world: World) -> None:
    """A server that hangs does not hold up the end: its recipients are given back."""
    mx = await world.mx("example.net")
    mx.faults["DOT"] = [Fault.HANG]
    await world.queue("bob@example.net")
    world.start(drain_time=0.1)
    async with asyncio.timeout(30):
        while not mx.verbs["DATA"]:
            await asyncio.sleep(0.01)
    await world.stop()
    (row,) = await world.rows()
    assert (row["state"], row["leased_by"]) == ("waiting", None)


async def test_a_lease_of_a_dead_process_returns_by_time(world: World) -> None:
    """What somebody leased who never came back is delivered when his lease is over."""
    mx = await world.mx("example.net")
    await world.queue("bob@example.net")
    async with world.context.pool.acquire() as connection:
        assert len(await outbound.lease(connection, 10, lease_seconds=1.0, leased_by="dead")) == 1
    world.start(poll=0.2)
    (row,) = await world.until_done()
    assert (row["attempts"], row["tries"], len(mx.received)) == (2, 1, 1)


async def test_leases_are_renewed(world: World) -> None:
    """A delivery that takes longer than a lease stays this process's, and no other one begins it."""
    mx = await world.mx("example.net")
    mx.gates["DOT"] = asyncio.Event()
    await world.queue("bob@example.net")
    world.start(lease=3.0, poll=0.1)
    world.start(lease=3.0, poll=0.1)
    async with asyncio.timeout(30):
        while not mx.verbs["DATA"]:
            await asyncio.sleep(0.01)
        (begun,) = await world.rows()
        while (await world.rows())[0]["next_attempt_at"] < begun["next_attempt_at"] + timedelta(seconds=3):
            await asyncio.sleep(0.01)  # until it has been renewed behind its first end
    mx.gates["DOT"].set()
    (row,) = await world.until_done()
    assert (row["attempts"], len(mx.received)) == (1, 1)


async def test_a_lost_lease_is_not_settled_by_its_loser(world: World) -> None:
    """What was taken from a process by hand in the middle of a delivery stays as it was put, and nothing is done twice."""
    mx = await world.mx("example.net")
    mx.gates["DOT"] = asyncio.Event()
    await world.queue("bob@example.net")
    world.start(poll=60.0)
    async with asyncio.timeout(30):
        while not mx.verbs["DATA"]:
            await asyncio.sleep(0.01)
    await world.owner.execute("UPDATE outbound_recipient SET attempts = attempts + 1, leased_by = 'somebody else'")
    mx.gates["DOT"].set()
    await mx.wait(1)
    await world.stop()
    (row,) = await world.rows()
    assert (row["state"], row["leased_by"], row["tries"]) == ("waiting", "somebody else", 0)


async def test_several_processes_share_a_queue(world: World) -> None:
    """Each message arrives once, whoever sends it."""
    mx = await world.mx("example.net")
    for number in range(60):
        await world.queue(f"r{number}@example.net")
    for _ in range(3):
        world.start(batch_limit=5)
    await world.until_done()
    assert sorted(message.forward_paths[0] for message in mx.received) == sorted(f"r{n}@example.net" for n in range(60))


async def test_a_retry_by_hand_goes_at_once(world: World) -> None:
    """What waits for its next attempt is woken by `queue retry`."""
    mx = await world.mx("example.net", greylists=True)
    await world.queue("bob@example.net")
    world.start(retry_waits=[3600.0], poll=60.0)
    await world.until("count(*) = 1 FROM outbound_attempt")
    await outbound_changes.retry(world.owner, Selection(domain="example.net"))
    assert (await world.until_done())[0]["state"] == "delivered"
    assert len(mx.received) == 1


async def test_mail_queued_later_wakes_the_relay(world: World) -> None:
    """A relay that sleeps is told of new mail, and does not wait for its poll."""
    mx = await world.mx("example.net")
    world.start(poll=3600.0)
    await asyncio.sleep(0.3)
    await world.queue("bob@example.net")
    await mx.wait(1)


async def test_the_relay_outlives_its_database_connections(world: World) -> None:
    """Connections that die while outcomes are settled cost neither a message nor a duplicate."""
    mx = await world.mx("example.net")
    for number in range(100):
        await world.queue(f"r{number}@example.net")
    kill = (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND usename IS NOT NULL"
    )
    kill += " AND datname = current_database() AND backend_type = 'client backend'"
    killed = asyncio.Event()
    mx.on_received = lambda _: killed.set() if len(mx.received) == 20 else None
    world.start()
    await killed.wait()
    await world.owner.fetch(kill)
    await world.until_done()
    assert len(mx.received) == 100


async def test_work_is_not_given_to_a_connection_that_gives_up_waiting() -> None:
    """A connection whose idle time has just ended gets nothing any more; what comes in that moment opens another one."""
    carried: list[Parcel] = []

    async def find_route(_: Leased) -> Route:
        return Route((Host("mx.example.net", ("192.0.2.1",)),))

    async def carry(dispatcher: Dispatcher, destination: Destination, parcel: Parcel) -> None:
        carried.append(parcel)
        if len(carried) == 1:
            assert await dispatcher.next_parcel(destination) is None

    async def nothing(*_: object) -> None:
        pass

    dispatcher = Dispatcher(quick(connection_idle_time=60.0), find_route, nothing, nothing, carry)
    first, second = leased(recipient_id=1), leased(recipient_id=2, outbound_id=2)
    route = await find_route(first)
    dispatcher.enqueue([first], route)
    (destination,) = dispatcher.destinations
    while not destination.sleepers:
        await asyncio.sleep(0)
    destination.sleepers[0].cancel()  # as the end of the time does
    dispatcher.enqueue([second], route)
    while len(carried) < 2:
        await asyncio.sleep(0)
    assert carried[1].leased == [second]
    await dispatcher.ended()


@pytest.mark.parametrize("is_idle", [True, False], ids=["idle", "about to be idle"])
async def test_idle_connections_make_room_for_another_destination(is_idle: bool) -> None:
    """A sender that has its share of the connections gets one for a new destination as soon as one of them is idle."""
    carried: list[Parcel] = []

    async def find_route(_: Leased) -> Route:
        return Route((Host("mx.example.net", ("192.0.2.1",)),))

    async def carry(dispatcher: Dispatcher, destination: Destination, parcel: Parcel) -> None:
        work: Parcel | None = parcel
        while work is not None:
            carried.append(work)
            work = await dispatcher.next_parcel(destination)

    async def nothing(*_: object) -> None:
        pass

    settings = quick(connection_limit=4, destination_connection_start=3, connection_idle_time=60.0)
    dispatcher = Dispatcher(settings, find_route, nothing, nothing, carry)
    for number in range(3):  # of four: the last one is kept for other senders
        dispatcher.enqueue([leased(recipient_id=number, outbound_id=number)], await find_route(leased()))
    (destination,) = dispatcher.destinations
    while is_idle and len(destination.sleepers) < 3:
        await asyncio.sleep(0)
    elsewhere = leased(recipient_id=3, outbound_id=3, domain="example.org")
    dispatcher.enqueue([elsewhere], Route((Host("mx.example.org", ("192.0.2.2",)),)))
    async with asyncio.timeout(30):
        while len(carried) < 4:
            await asyncio.sleep(0)
    assert carried[-1].leased == [elsewhere]
    assert len(destination.sleepers) == 2
    await dispatcher.drain()
    await dispatcher.ended()


def test_turns_go_round() -> None:
    """Parties take turns, each in order of priority and arrival; what is put back is first."""
    turns: Turns[int] = Turns()
    for number in range(3):
        turns.add("a", number)
    turns.add("b", 10)
    turns.add("b", 11, priority=5)
    taken = turns.take()
    assert taken == ("a", 0)
    assert turns.take() == ("b", 11)
    turns.put_back("b", 11)
    assert [turns.take() for _ in range(5)] == [("b", 11), ("a", 1), ("b", 10), ("a", 2), None]
    assert len(turns) == 0


def test_turns_pass_over_who_may_not() -> None:
    """Parties that may have no turn now keep their place and their work."""
    turns: Turns[int] = Turns()
    for party in ("a", "b"):
        turns.add(party, 1)
    assert turns.take(lambda party: party == "b") == ("b", 1)
    assert turns.take(lambda party: party == "b") is None
    assert turns.take() == ("a", 1)


@pytest.mark.parametrize("count", [1, 50])
def test_turns_are_emptied(count: int) -> None:
    """clear() gives everything once."""
    turns: Turns[int] = Turns()
    for number in range(count):
        turns.add(number % 3, number)
    assert sorted(turns.clear()) == list(range(count))
    assert turns.party() is None
