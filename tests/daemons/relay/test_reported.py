"""Reports from the refusal of another server to the sender's inbox and on: who can read them, and where they end."""

import email

from flufl.bounce import all_failures

from daemons.archiver.reports import ReportReader
from protocol.message.bounces import classify
from storage import report_listing, reports
from storage.report_listing import Wanted
from tests.daemons.relay.world import ORIGINAL, World


async def test_others_read_the_report(world: World) -> None:
    """The report on a refusal is in the inbox; flufl.bounce and our own parser find the recipient and the server's words."""
    mx = await world.mx("example.net", unknown={"nobody@example.net"})
    await world.queue("nobody@example.net", envid="batch 7")
    world.start()
    await world.until_done()
    (report,) = await world.inbox()
    assert all_failures(email.message_from_bytes(report)) == (frozenset(), frozenset({b"nobody@example.net"}))
    found = classify(report)
    assert found is not None
    assert (found.envid, found.message_id) == ("batch 7", "<1@example.test>")
    (one,) = found.recipients
    assert (one.address, one.action, str(one.status), one.code, one.is_hard) == (
        "nobody@example.net",
        "failed",
        "5.1.1",
        550,
        True,
    )
    assert (one.diagnostic, one.remote_mta) == ("550 5.1.1 no such user", mx.name)


async def test_others_read_the_warning(world: World) -> None:
    """A delay is told once and read as one: the recipient has not failed."""
    mx = await world.mx("example.net")
    mx.faults["RCPT"] = ["450 4.2.2 mailbox full"] * 3
    await world.queue("bob@example.net")
    world.start(delay_report_after=0.01)
    await world.until_done()
    (report,) = await world.inbox()
    assert all_failures(email.message_from_bytes(report)) == (frozenset({b"bob@example.net"}), frozenset())
    found = classify(report)
    assert found is not None
    assert [(one.action, one.is_temporary, one.is_hard, one.reason) for one in found.recipients] == [
        ("delayed", True, False, "full")
    ]


async def test_a_report_that_is_refused_ends_there(world: World) -> None:
    """A report to a sender elsewhere goes out with the null sender; refused, it makes no other one, and a record is kept."""
    await world.mx("example.net", unknown={"nobody@example.net"})
    elsewhere = await world.mx("elsewhere.example", unknown={"carol@elsewhere.example"})
    await world.queue("nobody@example.net", reverse_path="carol@elsewhere.example", account_id=None)
    world.start()
    await world.until("count(*) = 2 AND bool_and(state = 'failed') FROM outbound_recipient")
    assert (elsewhere.verbs["MAIL"], elsewhere.received) == (1, [])
    assert await world.inbox() == []
    await world.context.recorder.flush()
    senders = await world.owner.fetch("SELECT reverse_path FROM outbound_message ORDER BY outbound_id")
    assert [row["reverse_path"] for row in senders] == ["carol@elsewhere.example", ""]


async def test_a_report_reaches_a_sender_elsewhere(world: World) -> None:
    """What arrives there is the report, with the null sender and a body that the other side can read."""
    await world.mx("example.net", unknown={"nobody@example.net"})
    elsewhere = await world.mx("elsewhere.example")
    await world.queue("nobody@example.net", reverse_path="carol@elsewhere.example", account_id=None, ret="FULL")
    world.start()
    await world.until("count(*) = 2 FROM outbound_recipient WHERE state <> 'waiting'")
    (message,) = elsewhere.received
    assert (message.reverse_path, message.forward_paths) == ("", ["carol@elsewhere.example"])
    assert all_failures(email.message_from_bytes(message.content)) == (frozenset(), frozenset({b"nobody@example.net"}))
    assert ORIGINAL in message.content


async def test_a_list_learns_of_dead_addresses(world: World) -> None:
    """Reports in an inbox that is watched become rows: the addresses that a list should strike."""
    await world.mx("example.net", unknown={"old@example.net", "gone@example.net"})
    await reports.watch(world.owner, world.person.login, "INBOX")
    await world.queue("old@example.net", "bob@example.net", "gone@example.net")
    world.start()
    rows = await world.until_done()
    assert await ReportReader(world.context).read_batch()
    wanted = Wanted("example", "example.net", rows[0]["finished_at"].replace(year=2000), bad_only=True)
    found = await report_listing.list_bounces(world.owner, wanted)
    assert sorted(row.address for row in found) == ["gone@example.net", "old@example.net"]
    assert {row.message_id for row in found} == {"<1@example.test>"}
