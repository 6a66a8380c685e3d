"""The relay from the queue to other servers, through the test internet: what arrives, what waits, what is given back."""

from config.units import Octets
from tests.daemons.relay.world import ORIGINAL, World
from tests.internet.mx import Fault


async def test_a_message_arrives_as_it_was_accepted(world: World) -> None:
    """The server gets trace fields without Return-Path and the octets as accepted; the queue keeps its reply and address."""
    mx = await world.mx("example.net")
    await world.queue("bob@example.net")
    world.start()
    (row,) = await world.until_done()
    (message,) = mx.received
    assert (message.reverse_path, message.forward_paths) == ("alice@example.test", ["bob@example.net"])
    assert message.content.endswith(ORIGINAL)
    assert message.content.startswith(b"Received: ")
    assert (row["state"], row["last_reply"], row["tries"]) == ("delivered", "250 2.0.0 taken", 1)
    (attempt,) = await world.attempts()
    assert attempt["host"] == f"{mx.name} [{mx.host}]"


async def test_recipients_of_one_domain_share_a_transaction(world: World) -> None:
    """One message to many recipients is sent once for each domain, with their DSN parameters."""
    net, org = await world.mx("example.net"), await world.mx("example.org")
    await world.queue(
        "a@example.net", "b@example.net", "c@example.org", notify=("FAILURE", "DELAY"), envid="x", ret="HDRS"
    )
    world.start()
    await world.until_done()
    assert [message.forward_paths for message in net.received] == [["a@example.net", "b@example.net"]]
    assert [message.forward_paths for message in org.received] == [["c@example.org"]]
    (message,) = net.received
    assert message.mail_parameters["ENVID"] == "x"
    assert message.mail_parameters["RET"] == "HDRS"
    assert [parameters["NOTIFY"] for parameters in message.rcpt_parameters] == ["FAILURE,DELAY"] * 2


async def test_a_connection_is_used_again(world: World) -> None:
    """Messages that wait for one destination go over the connections that there are."""
    mx = await world.mx("example.net")
    for number in range(20):
        await world.queue(f"bob{number}@example.net")
    world.start(destination_connection_limit=1)
    await world.until_done()
    assert (len(mx.received), mx.sessions, mx.verbs["QUIT"]) == (20, 1, 0)
    await world.stop()
    assert mx.verbs["QUIT"] == 1


async def test_a_connection_carries_so_many_messages(world: World) -> None:
    """After connection_message_limit messages, or those that the server's MAILMAX allows, a connection is closed properly."""
    mx = await world.mx("example.net")
    limited = await world.mx("example.org")
    limited.offers.add("LIMITS MAILMAX=2")
    for number in range(6):
        await world.queue(f"bob{number}@example.net", f"bob{number}@example.org")
    world.start(destination_connection_limit=1, connection_message_limit=3)
    await world.until_done()
    assert [message.session for message in mx.received] == [1, 1, 1, 2, 2, 2]
    assert [message.session for message in limited.received] == [1, 1, 2, 2, 3, 3]


async def test_greylisting_is_waited_for(world: World) -> None:
    """A recipient deferred with 450 is tried again by the schedule; the reply is kept with the attempt."""
    mx = await world.mx("example.net", greylists=True)
    await world.queue("bob@example.net")
    world.start()
    (row,) = await world.until_done()
    assert (row["state"], row["tries"], len(mx.received)) == ("delivered", 2, 1)
    first, second = await world.attempts()
    assert (first["state"], first["reply"]) == ("waiting", "450 4.7.1 greylisted, come again")
    assert second["state"] == "delivered"


async def test_recipients_of_one_message_have_outcomes_of_their_own(world: World) -> None:
    """One is delivered, one refused for good and reported, one deferred and tried again."""
    mx = await world.mx("example.net", unknown={"nobody@example.net"})
    mx.faults["RCPT"] = [None, "450 4.2.0 busy"]
    await world.queue("bob@example.net", "late@example.net", "nobody@example.net")
    world.start(retry_waits=[0.05])
    rows = await world.until_done()
    assert [row["state"] for row in rows] == ["delivered", "delivered", "failed"]
    assert rows[2]["last_reply"] == "550 5.1.1 no such user"
    assert [message.forward_paths for message in mx.received] == [["bob@example.net"], ["late@example.net"]]
    (report,) = await world.inbox()
    assert b"Final-Recipient: rfc822; nobody@example.net" in report
    assert b"Diagnostic-Code: smtp; 550 5.1.1 no such user" in report
    assert b"late@" not in report


async def test_421_in_mid_session_costs_a_connection_and_no_attempt(world: World) -> None:
    """A server that closes a session after some messages gets the rest over a fresh one, at once."""
    mx = await world.mx("example.net", message_limit=2)
    for number in range(5):
        await world.queue(f"bob{number}@example.net")
    world.start(destination_connection_limit=1, retry_waits=[60.0])
    rows = await world.until_done()
    assert [row["tries"] for row in rows] == [1] * 5
    assert [message.session for message in mx.received] == [1, 1, 2, 2, 3]


async def test_421_to_mail_in_mid_session_goes_again(world: World) -> None:
    """421 as the reply to a later MAIL is about the session; as the reply to the first it is about us, and deferred."""
    mx = await world.mx("example.net")
    mx.faults["MAIL"] = [None, "421 4.7.0 enough"]
    await world.queue("a@example.net")
    await world.queue("b@example.net")
    world.start(destination_connection_limit=1, retry_waits=[60.0])
    assert [row["tries"] for row in await world.until_done()] == [1, 1]
    assert (len(mx.received), mx.sessions) == (2, 2)
    mx.faults["MAIL"] = ["421 4.7.0 enough"]
    await world.stop()
    await world.queue("c@example.net")
    world.start(retry_waits=[60.0])
    await world.until("count(*) = 3 FROM outbound_attempt")
    assert (await world.rows())[2]["last_reply"] == "421 4.7.0 enough"


async def test_a_slow_server_is_borne_with(world: World) -> None:
    """Replies that come one octet at a time are replies."""
    mx = await world.mx("example.net")
    for verb in ("EHLO", "MAIL", "RCPT", "DATA"):
        mx.faults[verb] = [Fault.DRIP]
    await world.queue("bob@example.net")
    world.start()
    assert (await world.until_done())[0]["tries"] == 1


async def test_a_server_that_says_nothing_is_left_in_time(world: World) -> None:
    """After the command's time limit the recipient is deferred with 4.4.2, and others are served meanwhile."""
    mx, other = await world.mx("example.net"), await world.mx("example.org")
    mx.faults["MAIL"] = [Fault.HANG]
    await world.queue("bob@example.net")
    await world.queue("bob@example.org")
    world.start(command_timeout=0.5)
    await other.wait(1)
    rows = await world.until_done()
    assert [row["state"] for row in rows] == ["delivered", "delivered"]
    first = next(row for row in await world.attempts() if row["recipient_id"] == rows[0]["recipient_id"])
    assert first["state"] == "waiting"
    assert "4.4.2" in first["reply"]


async def test_a_connection_lost_behind_the_dot_may_make_a_duplicate(world: World) -> None:
    """What the server may have taken is sent again: twice at most here, and never lost (RFC 1047)."""
    mx = await world.mx("example.net")
    mx.faults["DOT"] = [Fault.KEEP_AND_DROP]
    await world.queue("bob@example.net")
    world.start()
    (row,) = await world.until_done()
    assert (row["state"], row["tries"], len(mx.received)) == ("delivered", 2, 2)
    assert mx.received[0].content == mx.received[1].content


async def test_a_connection_lost_before_the_end_makes_none(world: World) -> None:
    """A session that ends before the message does leaves nothing behind; the message goes again."""
    mx = await world.mx("example.net")
    mx.faults["DATA"] = [Fault.DROP]
    await world.queue("bob@example.net")
    world.start()
    (row,) = await world.until_done()
    assert (row["state"], row["tries"], len(mx.received)) == ("delivered", 2, 1)


async def test_limits_of_recipients_are_kept_to(world: World) -> None:
    """What a server defers as too many follows in the next transactions at once, whether or not the limit was told."""
    told, silent = await world.mx("example.net", recipient_limit=3), await world.mx("example.org", recipient_limit=3)
    told.offers.add("LIMITS RCPTMAX=3")
    await world.queue(*(f"r{number}@{domain}" for number in range(8) for domain in ("example.net", "example.org")))
    world.start(destination_connection_limit=1, retry_waits=[60.0])
    rows = await world.until_done()
    assert {(row["state"], row["tries"]) for row in rows} == {("delivered", 1)}
    for mx in (told, silent):
        assert sorted(len(message.forward_paths) for message in mx.received) == [2, 3, 3]
    assert told.verbs["RCPT"] == 8


async def test_our_own_limit_of_recipients(world: World) -> None:
    """A message to more recipients than a transaction may have goes in several."""
    mx = await world.mx("example.net")
    await world.queue(*(f"r{number}@example.net" for number in range(5)))
    world.start(transaction_recipient_limit=2)
    await world.until_done()
    assert sorted(len(message.forward_paths) for message in mx.received) == [1, 2, 2]


async def test_a_message_too_large_for_the_server_is_given_back(world: World) -> None:
    """SIZE tells it before anything is sent, 552 behind the content otherwise; the sender hears of both."""
    small, late = await world.mx("example.net", size_limit=100), await world.mx("example.org")
    small.offers = {"SIZE"}
    late.offers -= {"SIZE"}
    late.faults["DOT"] = ["552 5.3.4 too big"]
    await world.queue("bob@example.net", "bob@example.org")
    world.start()
    rows = await world.until_done()
    assert [row["state"] for row in rows] == ["failed", "failed"]
    assert rows[0]["last_reply"].startswith("552 5.3.4")
    assert rows[1]["last_reply"] == "552 5.3.4 too big"
    assert small.verbs["MAIL"] == 0
    assert len(await world.inbox()) == 2


async def test_a_large_message_is_streamed(world: World) -> None:
    """A message larger than what is held in memory arrives whole, with its attachment from a blob of its own."""
    mx = await world.mx("example.net")
    chunked = await world.mx("example.org")
    chunked.offers.add("CHUNKING")
    original = ORIGINAL + b"".join(b"%076d\r\n" % number for number in range(20_000))
    await world.queue("bob@example.net", "bob@example.org", original=original)
    world.start(buffer_limit=Octets(100_000))
    await world.until_done()
    assert mx.received[0].content.endswith(original)
    assert chunked.received[0].content.endswith(original)
    assert chunked.received[0].is_chunked
