"""The relay from the queue to other servers, through the test internet: what arrives, what waits, what is given back."""

from tests.daemons.relay.world import ORIGINAL, World


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
