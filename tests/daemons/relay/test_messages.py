"""What becomes of messages that ask for something: UTF-8, 8 bits, TLS, a deadline, reports; and of those that go nowhere."""

import asyncio
import ssl
from datetime import UTC, datetime, timedelta

import pytest

from config.routes import Route
from daemons.certificates import Issued
from daemons.context import Context
from protocol.message import scan
from protocol.message.transfer import decode
from storage import outbound_changes
from storage.outbound_listing import Selection
from tests.conftest import Owner, Person, add_person
from tests.daemons.relay.world import HEAD, ORIGINAL, World, open_world

UMLAUTS = b"From: alice@example.test\r\nSubject: x\r\n\r\ngr\xc3\xbc\xc3\x9fe\r\n"


@pytest.fixture
def tls(certificate: Issued) -> ssl.SSLContext:
    """What a server with a certificate of the tests' own authority offers."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate.certificate, certificate.key)
    return context


# Content


async def test_internationalized_mail_needs_smtputf8(world: World) -> None:
    """An address that is not ASCII fails with 5.6.7 at a server without SMTPUTF8, and arrives as it is at one with it."""
    knows, knows_not = await world.mx("example.net"), await world.mx("example.org")
    knows_not.offers -= {"SMTPUTF8"}
    await world.queue("grüße@example.net", "grüße@example.org", is_smtputf8=True, body="8BITMIME", original=UMLAUTS)
    world.start()
    rows = await world.until_done()
    assert [row["state"] for row in rows] == ["delivered", "failed"]
    assert rows[1]["last_reply"].startswith("553 5.6.7")
    assert knows.received[0].forward_paths == ["grüße@example.net"]
    assert "SMTPUTF8" in knows.received[0].mail_parameters
    assert knows_not.verbs["MAIL"] == 0
    (report,) = await world.inbox()
    assert b"\r\nStatus: 5.6.7\r\n" in report
    assert b"553 5.6.7" in report


async def test_smtputf8_is_left_out_where_nothing_needs_it(world: World) -> None:
    """A transaction that announced SMTPUTF8 with nothing but ASCII in envelope and header goes to any server."""
    mx = await world.mx("example.net")
    mx.offers -= {"SMTPUTF8"}
    await world.queue("bob@example.net", is_smtputf8=True, original=UMLAUTS)
    world.start()
    assert (await world.until_done())[0]["state"] == "delivered"


async def test_8_bits_are_encoded_for_a_server_without_8bitmime(world: World) -> None:
    """The content is quoted-printable there and as it was elsewhere; both say the same."""
    old, modern = await world.mx("example.net"), await world.mx("example.org")
    old.offers -= {"8BITMIME", "SMTPUTF8"}
    await world.queue("bob@example.net", "bob@example.org", original=UMLAUTS, body="8BITMIME")
    world.start()
    await world.until_done()
    assert modern.received[0].content.endswith(UMLAUTS)
    assert modern.received[0].mail_parameters["BODY"] == "8BITMIME"
    content = old.received[0].content
    part = scan(content)
    assert content.isascii()
    assert "BODY" not in old.received[0].mail_parameters
    assert decode(content[part.body_start : part.end], part.encoding) == "grüße\r\n".encode()


async def test_binary_content_arrives_octet_for_octet_or_encoded(world: World) -> None:
    """BDAT with BODY=BINARYMIME where the server takes it, base64 where it does not."""
    binary = bytes(range(256))
    original = b"MIME-Version: 1.0\r\nContent-Type: image/png\r\nContent-Transfer-Encoding: binary\r\n\r\n" + binary
    takes, takes_not = await world.mx("example.net"), await world.mx("example.org")
    takes.offers |= {"BINARYMIME", "CHUNKING"}
    await world.queue("bob@example.net", "bob@example.org", original=original, body="BINARYMIME")
    world.start()
    assert {row["state"] for row in await world.until_done()} == {"delivered"}
    assert takes.received[0].content.endswith(original)
    assert takes.received[0].mail_parameters["BODY"] == "BINARYMIME"
    content = takes_not.received[0].content
    part = scan(content)
    assert decode(content[part.body_start : part.end], part.encoding) == binary


async def test_what_cannot_be_encoded_is_given_back(world: World) -> None:
    """A signed message with 8 bits would not verify any more: 5.6.3, to the sender."""
    signed = b"Content-Type: multipart/signed; boundary=b\r\n\r\n--b\r\n\r\n\xe4\r\n--b--\r\n"
    mx = await world.mx("example.net")
    mx.offers -= {"8BITMIME", "SMTPUTF8"}
    await world.queue("bob@example.net", original=signed, body="8BITMIME")
    world.start()
    (row,) = await world.until_done()
    assert (row["state"], mx.received) == ("failed", [])
    assert "5.6.3" in row["last_reply"]


async def test_content_that_cannot_be_read_waits(world: World) -> None:
    """A damaged blob is our trouble: the recipient waits, and no destination is blamed."""
    mx = await world.mx("example.net")
    await world.queue("bob@example.net")
    await world.owner.execute("UPDATE blob SET wrapped_key = decode(repeat('00', 60), 'hex')")
    world.start(retry_waits=[60.0])
    await world.until("count(*) = 1 FROM outbound_attempt")
    (row,) = await world.rows()
    assert (row["state"], mx.received) == ("waiting", [])
    assert row["last_reply"].startswith("451 4.3.0")


@pytest.mark.parametrize("table", ["content", "domain"])
async def test_a_database_that_is_away_costs_no_attempt(world: World, table: str) -> None:
    """While the database cannot be asked, recipients wait, here and elsewhere; when it is back they are served at once."""
    mx = await world.mx("example.net")
    await world.queue("bob@example.net", world.person.login)
    blocked = f"FROM pg_locks WHERE relation = '{table}'::regclass AND NOT granted"
    async with world.owner.transaction(), asyncio.timeout(20):
        await world.owner.execute(f"LOCK TABLE {table}")
        world.start(retry_waits=[3600.0])
        ended = 0
        while ended < 4:  # one reads ahead, and is no delivery yet
            ended += len(await world.owner.fetch(f"SELECT pg_terminate_backend(pid) {blocked}"))
            await asyncio.sleep(0.01)
    rows = await world.until_done()
    assert [(row["state"], row["tries"]) for row in rows] == [("delivered", 1)] * 2
    assert (len(mx.received), len(await world.inbox()), len(await world.attempts())) == (1, 1, 2)


# TLS


async def test_tls_is_used_where_it_is_offered(world: World, tls: ssl.SSLContext) -> None:
    """A server with a certificate of an unknown authority gets the mail in TLS, one without STARTTLS in the clear."""
    secure, plain = await world.mx("example.net", tls=tls), await world.mx("example.org")
    await world.queue("bob@example.net", "bob@example.org")
    world.start()
    await world.until_done()
    assert secure.received[0].tls == "TLSv1.3"
    assert plain.received[0].tls is None
    told = {row["host"].split()[0]: row["tls"] for row in await world.attempts()}
    assert told[secure.name].startswith("TLSv1.3 TLS_AES")
    assert told[secure.name].endswith("not verified")
    assert told[plain.name] == ""


async def test_a_message_that_requires_tls_is_given_back_without_it(world: World, tls: ssl.SSLContext) -> None:
    """REQUIRETLS (RFC 8689): nothing of the message reaches a server that cannot prove itself or does not promise the same."""
    plain, secure = await world.mx("example.net"), await world.mx("example.org", tls=tls)
    await world.queue("bob@example.net", "bob@example.org", is_requiretls=True, lifetime=timedelta(seconds=1))
    world.start(retry_waits=[0.4])
    rows = await world.until_done()
    assert [row["state"] for row in rows] == ["failed", "failed"]
    assert plain.received == secure.received == []


# Time


async def test_delivery_is_given_up_when_the_lifetime_is_over(world: World) -> None:
    """The last attempt is made at the end; then the message goes back with 5.4.7 and the server's last word."""
    mx = await world.mx("example.net", greylists=False)
    mx.faults["RCPT"] = ["450 4.2.1 busy"] * 100
    await world.queue("bob@example.net", lifetime=timedelta(seconds=4))
    ends_at = await world.owner.fetchval("SELECT expires_at FROM outbound_message")
    world.start(retry_waits=[0.3, 60.0])
    (row,) = await world.until_done()
    assert row["state"] == "failed"
    tried = [attempt["tried_at"] for attempt in await world.attempts()]
    assert [at >= ends_at for at in tried] == [False, False, True]
    (report,) = await world.inbox()
    assert b"Status: 5.4.7" in report
    assert b"450 4.2.1 busy" in report


async def test_a_delay_is_told_once(world: World) -> None:
    """The sender hears of a delay when it has lasted long enough, once, and then of nothing more until the end."""
    mx = await world.mx("example.net")
    mx.faults["RCPT"] = ["450 4.2.1 busy"] * 4
    await world.queue("bob@example.net")
    world.start(delay_report_after=0.1)
    await world.until_done()
    (report,) = await world.inbox()
    assert b"Action: delayed" in report
    assert b"Will-Retry-Until: " in report
    assert len(mx.received) == 1


async def test_deliver_by_is_told_to_servers_and_kept(world: World) -> None:
    """What is left of the time goes along; in mode R a message that is late is given back, in mode N its sender is told."""
    knows, knows_not = await world.mx("example.net"), await world.mx("example.org")
    knows.offers.add("DELIVERBY")
    late = await world.mx("late.example.org")
    late.faults["MAIL"] = ["451 4.3.2 later"] * 100
    by = datetime.now(UTC) + timedelta(seconds=100)
    soon = datetime.now(UTC) + timedelta(seconds=1)
    await world.queue("bob@example.net", "bob@example.org", deliver_by=by, deliver_by_mode="R")
    await world.queue("r@late.example.org", deliver_by=soon, deliver_by_mode="R", reverse_path="")
    await world.queue("n@late.example.org", deliver_by=soon, deliver_by_mode="N", lifetime=timedelta(seconds=6))
    world.start(retry_waits=[0.3], destination_failures=100)
    rows = await world.until_done()
    assert [row["state"] for row in rows] == ["delivered", "failed", "failed", "failed"]
    seconds, _, mode = knows.received[0].mail_parameters["BY"].partition(";")
    assert 80 <= int(seconds) <= 100
    assert mode == "R"
    assert rows[1]["last_reply"].startswith("550 5.3.3")
    assert knows_not.verbs["MAIL"] == 0
    reports = b"".join(await world.inbox())
    assert reports.count(b"Action: delayed") == 1
    assert reports.count(b"Action: failed") == 2


async def test_a_deadline_that_nobody_watches_any_more_is_told_of(world: World) -> None:
    """Mode N: the sender hears of a server without DELIVERBY, and with T of every one, unless NOTIFY is NEVER (RFC 2852 §4.1.4)."""
    knows, knows_not = await world.mx("example.net"), await world.mx("example.org")
    knows.offers.add("DELIVERBY")
    by = datetime.now(UTC) + timedelta(seconds=100)
    await world.queue("untold@example.net", "told@example.org", deliver_by=by, deliver_by_mode="N")
    await world.queue("traced@example.net", deliver_by=by, deliver_by_mode="RT")
    await world.queue("never@example.org", deliver_by=by, deliver_by_mode="NT", notify=("NEVER",))
    world.start()
    assert {row["state"] for row in await world.until_done()} == {"delivered"}
    reports = b"".join(await world.inbox())
    assert reports.count(b"Action: relayed") == reports.count(b"\r\nDeliver-By-Date: ") == 2
    for path in (b"told@example.org", b"traced@example.net"):
        assert b"Final-Recipient: rfc822; " + path + b"\r\n" in reports
    modes = {each.forward_paths[0]: each.mail_parameters.get("BY", "").rpartition(";")[2] for each in knows.received}
    assert modes == {"untold@example.net": "N", "traced@example.net": "RT"}
    assert len(knows_not.received) == 2


async def test_a_message_is_released_when_its_time_has_come(world: World) -> None:
    """FUTURERELEASE: nothing leaves before, and a relay that sleeps wakes up for it."""
    mx = await world.mx("example.net")
    release_at = datetime.now(UTC) + timedelta(seconds=1)
    arrived_at: list[datetime] = []
    mx.on_received = lambda _: arrived_at.append(datetime.now(UTC))
    await world.queue("bob@example.net", release_at=release_at)
    world.start(poll=3600.0)
    await mx.wait(1)
    assert arrived_at[0] >= release_at


async def test_urgent_mail_goes_first(world: World) -> None:
    """MT-PRIORITY: of what waits at a destination the most urgent goes first, and the server is told."""
    mx = await world.mx("example.net")
    mx.offers.add("MT-PRIORITY")
    for priority in (0, -3, 4, 9):
        await world.queue(f"p{priority + 10}@example.net", priority=priority)
    world.start(destination_connection_limit=1)
    await world.until_done()
    told = [message.mail_parameters.get("MT-PRIORITY") for message in mx.received]
    assert told.index("-3") == 3
    assert told[:2] in (["9", "4"], ["4", "9"])


# Reports


async def test_success_is_reported_where_the_server_does_not(world: World) -> None:
    """NOTIFY=SUCCESS: `relayed` from us at a server without DSN; a server with it takes the request along."""
    knows, knows_not = await world.mx("example.net"), await world.mx("example.org")
    knows_not.offers -= {"DSN"}
    await world.queue("bob@example.net", "bob@example.org", notify=("SUCCESS",))
    world.start()
    await world.until_done()
    assert knows.received[0].rcpt_parameters == [{"NOTIFY": "SUCCESS"}]
    (report,) = await world.inbox()
    assert b"Action: relayed" in report
    assert b"bob@example.org" in report
    assert b"bob@example.net" not in report.split(b"message/delivery-status")[1].split(b"--=_")[0]


async def test_failures_of_bounces_end_there(world: World) -> None:
    """Mail with a null reverse path that cannot be delivered is dropped with a record: no report on a report."""
    await world.mx("example.net", unknown={"nobody@example.net"})
    await world.queue("nobody@example.net", reverse_path="", account_id=None)
    world.start()
    (row,) = await world.until_done()
    assert (row["state"], row["last_reply"]) == ("failed", "550 5.1.1 no such user")
    assert await world.inbox() == []
    assert await world.owner.fetchval("SELECT count(*) FROM outbound_message") == 1


async def test_one_report_tells_of_recipients_that_fail_together(world: World) -> None:
    """A message refused as a whole makes one report, however many recipients it has."""
    mx = await world.mx("example.net")
    mx.faults["DOT"] = ["554 5.7.1 no"]
    await world.queue(*(f"r{number}@example.net" for number in range(5)))
    world.start()
    await world.until_done()
    (report,) = await world.inbox()
    assert report.count(b"Final-Recipient: ") == 5


# Ways


async def test_domains_that_take_no_mail_are_told_at_once(world: World) -> None:
    """Null MX is 5.1.10, a domain that does not exist 5.1.2; a name server that fails is waited for."""
    world.names.add("example.net", "MX", "0 .")
    world.names.fail("example.com", "MX")
    await world.queue("bob@example.net", "bob@nowhere.example.org", "bob@example.com")
    world.start(retry_waits=[60.0])
    rows = await world.until_done(2)
    assert [row["state"] for row in rows] == ["failed", "failed", "waiting"]
    assert "5.1.10" in rows[0]["last_reply"]
    assert "5.1.2" in rows[1]["last_reply"]
    await world.until("count(*) = 3 FROM outbound_attempt")
    assert "4.4.3" in (await world.rows())[2]["last_reply"]


async def test_the_loopback_is_no_destination_unless_configured(
    context: Context, account: Person, owner: Owner
) -> None:
    """A domain that points at our own network is given back, and nothing connects there."""
    async with open_world(context, account, owner, private_networks=[]) as world:
        mx = await world.mx("example.net")
        await world.queue("bob@example.net", lifetime=timedelta(seconds=1))
        world.start(retry_waits=[0.4])
        (row,) = await world.until_done()
    assert (row["state"], mx.sessions) == ("failed", 0)


async def test_a_smarthost_gets_mail_of_all_domains_over_one_connection(
    context: Context, account: Person, owner: Owner, tls: ssl.SSLContext
) -> None:
    """A configured route with a login: authenticated in TLS, shared between domains, one transaction for each."""
    async with open_world(context, account, owner) as world:
        mx = await world.mx("smarthost.example.net", tls=tls, logins={"us": "secret"})
        password = world.context.settings.run_directory / "password"
        password.write_text("secret\n")
        route = Route(host=mx.host, port=mx.port, tls="encrypt", login="us", password_file=str(password))
        world.configure(routes=[route])
        await world.queue("bob@example.net", "bob@example.org")
        world.start(destination_connection_limit=1)
        rows = await world.until_done()
    assert {row["state"] for row in rows} == {"delivered"}
    assert [(message.login, message.session, len(message.forward_paths)) for message in mx.received] == [
        ("us", 1, 1)
    ] * 2


async def test_our_own_recipients_are_delivered_here(world: World) -> None:
    """What was held or waited for its time reaches local mailboxes in one transaction with the end of the wait, with its report."""
    bob = await add_person(world.context.settings, world.owner, "bob@example.test")
    await world.queue("bob@example.test", "nobody@example.test", notify=("SUCCESS", "FAILURE"), held_reason="by hand")
    world.start()
    await asyncio.sleep(0.2)
    assert await world.inbox(bob) == []
    await outbound_changes.release(world.owner, Selection(state="held"))
    rows = await world.until_done()
    assert [row["state"] for row in rows] == ["delivered", "failed"]
    (message,) = await world.inbox(bob)
    assert message == HEAD + ORIGINAL
    reports = sorted(report.split(b"Action: ")[1].split(b"\r\n")[0] for report in await world.inbox())
    assert reports == [b"delivered", b"failed"]
    assert await world.owner.fetchval("SELECT count(*) FROM journal WHERE direction = 'in'") == 0


async def test_tls_required_no_passes_a_policy_in_the_way(world: World, tls: ssl.SSLContext) -> None:
    """RFC 8689 §3: a message that says "TLS-Required: No" is delivered although no server proves itself; others wait."""
    mx = await world.mx("example.net", tls=tls)

    world.names.secure("example.net")
    world.names.add(f"_{world.port}._tcp.{mx.name}", "TLSA", "3 1 1 " + "00" * 32)
    await world.queue("bob@example.net")
    await world.queue("bob@example.net", original=b"TLS-Required: No\r\n" + ORIGINAL)
    world.start(retry_waits=[60.0])
    await world.until("count(*) = 2 FROM outbound_attempt")
    assert await world.states() == ["waiting", "delivered"]
    assert mx.received[0].content.endswith(b"TLS-Required: No\r\n" + ORIGINAL)
