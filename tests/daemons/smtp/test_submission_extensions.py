"""What EHLO tells users is tested: one test for each keyword, found by the name in its mark; and parameters that are refused."""

import email
import email.policy
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from config.settings import Settings
from config.submission import Submission
from config.units import Octets, Seconds
from daemons.context import open_context
from tests.conftest import Person
from tests.daemons.proofs import Proofs
from tests.daemons.smtp.conftest import headless, serving
from tests.daemons.smtp.users import SUBMITTED, Client, Users

proves = Proofs[str]()
ALICE, REMOTE = "<alice@example.test>", "<x@elsewhere.example>"
SENDER_OK = b"250 2.1.0 sender ok\r\n"
NON_ASCII = SUBMITTED + "Grüße\r\n".encode()
BINARY = bytes(range(256)) * 40


async def test_every_keyword_is_proven(users: Users, account: Person) -> None:
    """What is told in the clear, in TLS, and after the login, is what the tests here prove."""
    async with await Client.connect(users.endpoints["submission"]) as client:
        clear = {keyword.split()[0] for keyword in await client.greeted()}
        await client.start_tls(users.tls)
        secure = {keyword.split()[0] for keyword in await client.greeted()}
        await client.log_in(account)
        own = {keyword.split()[0] for keyword in await client.greeted()}
    assert clear ^ secure == {"STARTTLS", "REQUIRETLS", "AUTH"}
    assert secure - own == {"AUTH"}
    assert clear | secure | own == proves.tests.keys()


async def terms_of(users: Users, account: Person, parameters: str, message: bytes = SUBMITTED) -> dict[str, Any]:
    """What the queue knows of a message that was sent with these parameters of MAIL."""
    async with await users.logged_in(account) as client:
        answer = await client.send(message, REMOTE, sender=f"{ALICE} {parameters}")
    assert answer.startswith(b"250 "), answer
    (row,) = await users.queue()
    return row


# -- transport ----------------------------------------------------------------------------------------------------------


@proves("STARTTLS")
async def test_starttls(users: Users, account: Person) -> None:
    """What was said in the clear is forgotten, what was sent behind STARTTLS is thrown away (RFC 3207 §4.2)."""
    async with await Client.connect(users.endpoints["submission"]) as client:
        await client.greeted()
        client.say(b"STARTTLS\r\nNOOP\r\n")
        assert await client.hear() == b"220 2.0.0 ready to start TLS\r\n"
        await client.writer.start_tls(users.tls, server_hostname="localhost")
        assert await client.ask(b"MAIL FROM:<>") == b"503 5.5.1 send EHLO first\r\n"
        await client.log_in(account)
        assert await client.ask(f"MAIL FROM:{ALICE}".encode()) == SENDER_OK


@proves("AUTH")
async def test_auth(users: Users, account: Person) -> None:
    """The mechanisms are told in TLS only; each has tests of its own in test_submission_login.py."""
    async with await users.connect() as client:
        assert "AUTH SCRAM-SHA-256-PLUS SCRAM-SHA-256 PLAIN LOGIN" in await client.greeted()
        await client.log_in(account)
        assert await client.ask(f"MAIL FROM:{ALICE} AUTH=e+3Dmc2@example.com".encode()) == SENDER_OK
        await client.ask(b"RSET")
        assert await client.ask(f"MAIL FROM:{ALICE} AUTH=".encode()) == (
            b"501 5.5.4 expected a parameter KEYWORD or KEYWORD=value\r\n"
        )


@proves("PIPELINING")
async def test_pipelining(users: Users, account: Person) -> None:
    """A whole transaction may come at once (RFC 2920)."""
    async with await users.logged_in(account) as client:
        client.say(f"MAIL FROM:{ALICE}\r\nRCPT TO:{ALICE}\r\nRCPT TO:{REMOTE}\r\nDATA\r\n".encode())
        assert [(await client.hear())[:3] for _ in range(4)] == [b"250", b"250", b"250", b"354"]
        client.say(SUBMITTED + b".\r\nQUIT\r\n")
        assert [(await client.hear())[:3] for _ in range(2)] == [b"250", b"221"]
    assert [len(await users.mailbox(account)), len(await users.queue())] == [1, 1]


@proves("ENHANCEDSTATUSCODES")
async def test_status_codes(users: Users, account: Person) -> None:
    """Every reply but those to EHLO, DATA and AUTH has a status code (RFC 2034 §4)."""
    async with await users.logged_in(account) as client:
        for line in (b"NOOP", b"RSET", b"MAIL", b"RCPT", b"BDAT", b"XYZ", b"VRFY x", b"HELP"):
            answer = await client.ask(line)
            assert answer[4:5] == answer[:1]
            assert answer[5:6] == b"."


@proves("SIZE")
async def test_size(settings: Settings, account: Person, users: Users) -> None:
    """Submission has a limit of its own, told and held at MAIL and after the message."""
    changed = msgspec.structs.replace(settings, submission=Submission(size_limit=Octets(500)))
    async with open_context(changed) as context, serving(context) as endpoints:
        limited = Users(context, endpoints, users.tls)
        async with await limited.logged_in(account) as client:
            assert "SIZE 500" in await client.greeted()
            too_big = b"552 5.3.4 message is larger than SIZE allows\r\n"
            assert await client.ask(f"MAIL FROM:{ALICE} SIZE=501".encode()) == too_big
            assert await client.send(SUBMITTED + b"x\r\n" * 200, ALICE) == too_big
            assert (await client.send(SUBMITTED, ALICE, sender=f"{ALICE} SIZE=200")).startswith(b"250 ")


@proves("CHUNKING")
async def test_chunking(users: Users, account: Person) -> None:
    """A message may come in chunks (RFC 3030 §2)."""
    async with await users.logged_in(account) as client:
        await client.ask(f"MAIL FROM:{ALICE}".encode())
        await client.ask(f"RCPT TO:{ALICE}".encode())
        client.say(b"BDAT 40\r\n" + SUBMITTED[:40])
        assert await client.hear() == b"250 2.0.0 40 octets received\r\n"
        client.say(b"BDAT %d LAST\r\n" % (len(SUBMITTED) - 40) + SUBMITTED[40:])
        assert (await client.hear()).startswith(b"250 2.0.0 accepted as ")
    assert [headless(message) for message in await users.mailbox(account)] == [SUBMITTED]


# -- content ------------------------------------------------------------------------------------------------------------


@proves("8BITMIME")
@pytest.mark.parametrize("parameters", ["BODY=8BITMIME", "BODY=7BIT", ""])
async def test_8bitmime(parameters: str, users: Users, account: Person) -> None:
    """The queue knows whether a message has octets above 127, whatever its sender said of it."""
    assert (await terms_of(users, account, parameters, NON_ASCII))["body"] == "8BITMIME"


async def test_7bit(users: Users, account: Person) -> None:
    """A message in ASCII needs nothing of a server, though its sender always says 8BITMIME and SMTPUTF8."""
    row = await terms_of(users, account, "BODY=8BITMIME SMTPUTF8")
    assert (row["body"], row["is_smtputf8"]) == ("7BIT", False)


@proves("SMTPUTF8")
async def test_smtputf8(users: Users, account: Person) -> None:
    """Addresses in UTF-8 need the parameter, and go on with it (RFC 6531 §3.4); the destination is in A-labels."""
    path = "<jörg@Bücher.example>"
    async with await users.logged_in(account) as client:
        needs = b"553 5.6.7 address has non-ASCII characters, which need SMTPUTF8\r\n"
        assert await client.send(SUBMITTED, path) == needs
        await client.ask(b"RSET")
        assert (await client.send(SUBMITTED, path, sender=f"{ALICE} SMTPUTF8")).startswith(b"250 ")
    (row,) = await users.queue()
    assert (row["forward_path"], row["domain"], row["is_smtputf8"]) == (path[1:-1], "xn--bcher-kva.example", True)
    content = await users.context.blobs.message(row["content_id"])
    assert b" with UTF8SMTPSA id " in content


def binary_message(*fields: bytes) -> bytes:
    """A message whose second part is any octets."""
    return (
        SUBMITTED.partition(b"\r\n\r\n")[0]
        + b"\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n"
        + b"".join(field + b"\r\n" for field in fields)
        + b"\r\n--b\r\n\r\ntext\r\n--b\r\nContent-Type: application/octet-stream\r\nContent-Transfer-Encoding: binary\r\n\r\n"
        + BINARY
        + b"\r\n--b--\r\n"
    )


@proves("BINARYMIME")
@pytest.mark.parametrize("size", [0, 2_000_000], ids=["memory", "file"])
async def test_binarymime(size: int, users: Users, account: Person) -> None:
    """Local recipients get binary octets as they are; remote ones get them in base64, which every server takes."""
    message = binary_message(b"Content-Transfer-Encoding: binary", b"X-Pad: " + b"x" * 900 + b"\r\n y" * (size // 3))
    async with await users.logged_in(account) as client:
        answer = await client.send_chunk(message, ALICE, REMOTE, sender=f"{ALICE} BODY=BINARYMIME")
        assert answer.startswith(b"250 2.0.0 accepted as ")
    (stored,) = await users.mailbox(account)
    assert headless(stored) == message
    (row,) = await users.queue()
    assert (row["body"], row["forward_path"]) == ("7BIT", REMOTE[1:-1])
    queued = headless(await users.context.blobs.message(row["content_id"]))
    parsed = as_read(queued)
    assert parsed == ["8bit", "text", BINARY]
    journal = await users.context.pool.fetch("SELECT size_octets FROM journal")
    assert [entry[0] for entry in journal] == [len(message)]
    assert not list(Path(users.context.settings.spool_directory).iterdir())


def as_read(message: bytes) -> list[object]:
    """The message as the standard library reads it: its encoding, its text, its attachment."""
    read = email.message_from_bytes(message, policy=email.policy.SMTP)
    text, attachment = read.iter_parts()
    assert attachment["Content-Transfer-Encoding"] == "base64"
    return [read["Content-Transfer-Encoding"], text.get_content(), attachment.get_content()]


async def test_binary_and_data(users: Users, account: Person) -> None:
    """BINARYMIME goes with BDAT alone (RFC 3030 §3), and what is not announced so must be in lines."""
    async with await users.logged_in(account) as client:
        answer = await client.ask(f"MAIL FROM:{ALICE} BODY=BINARYMIME".encode())
        assert answer == SENDER_OK
        await client.ask(f"RCPT TO:{ALICE}".encode())
        assert await client.ask(b"DATA") == b"503 5.5.1 BINARYMIME needs BDAT\r\n"
        await client.ask(b"RSET")
        bare = b"550 5.6.0 message has a CR or LF outside CRLF\r\n"
        assert await client.send_chunk(binary_message(), ALICE, sender=f"{ALICE} BODY=8BITMIME") == bare


@pytest.mark.parametrize(
    "message",
    [
        SUBMITTED + b"--\nnot in lines\n",
        SUBMITTED.replace(b"\r\n\r\n", b"\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n") + b"a\nb",
        binary_message().replace(b"multipart/mixed", b"multipart/signed"),
        SUBMITTED.replace(b"Subject: hello", b"Subject: he\nllo"),
    ],
    ids=["single part", "encoded", "signed", "header"],
)
async def test_binary_that_cannot_be_encoded(message: bytes, users: Users, account: Person) -> None:
    """What cannot be encoded without breaking it is refused when somebody elsewhere is to get it, and taken otherwise."""
    async with await users.logged_in(account) as client:
        answer = await client.send_chunk(message, REMOTE, sender=f"{ALICE} BODY=BINARYMIME")
        if message.endswith(b"lines\n"):
            assert answer.startswith(b"250 ")  # a body without encoding can be given one
        else:
            assert answer == b"554 5.6.3 binary message cannot be encoded for recipients elsewhere\r\n"
        answer = await client.send_chunk(message, ALICE, sender=f"{ALICE} BODY=BINARYMIME")
        assert answer.startswith(b"250 ")
    (stored,) = await users.mailbox(account)
    assert headless(stored) == message


# -- delivery -----------------------------------------------------------------------------------------------------------


@proves("DSN")
async def test_dsn(users: Users, account: Person, bob: Person) -> None:
    """RET, ENVID, NOTIFY and ORCPT go on by the queue; of local success the sender is told at once (RFC 3461)."""
    async with await users.logged_in(account) as client:
        await client.ask(f"MAIL FROM:{ALICE} RET=HDRS ENVID=QQ+2B314".encode())
        await client.ask(b"RCPT TO:<x@elsewhere.example> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;Carol+2BX@Ivory.Example")
        await client.ask(b"RCPT TO:<y@elsewhere.example> NOTIFY=NEVER")
        await client.ask(b"RCPT TO:<z@elsewhere.example>")
        await client.ask(b"RCPT TO:<bob@example.test> NOTIFY=SUCCESS")
        await client.ask(b"DATA")
        client.say(SUBMITTED + b".\r\n")
        assert (await client.hear()).startswith(b"250 ")
    queue = await users.queue()
    assert {(row["ret"], row["envid"]) for row in queue} == {("HDRS", "QQ+314")}
    assert [(row["notify"], row["orcpt"]) for row in queue] == [
        ("SUCCESS,DELAY", "rfc822;Carol+X@Ivory.Example"),
        ("NEVER", None),
        (None, None),
    ]
    (report,) = await users.mailbox(account)
    assert b"Original-Envelope-Id: QQ+314\r\n" in report
    assert b"Final-Recipient: rfc822; bob@example.test\r\nAction: delivered\r\n" in report
    assert len(await users.mailbox(bob)) == 1


@proves("FUTURERELEASE")
async def test_future_release(users: Users, account: Person) -> None:
    """A message is held back as long as its sender wishes, from everybody (RFC 4865); its time in the queue begins then."""
    async with await users.logged_in(account) as client:
        (keyword,) = [each for each in await client.greeted() if each.startswith("FUTURERELEASE")]
        _, seconds, until = keyword.split()
        assert seconds == str(30 * 86400)
        assert timedelta(days=29) < datetime.fromisoformat(until) - datetime.now(UTC) <= timedelta(days=30)
        assert (await client.send(SUBMITTED, ALICE, REMOTE, sender=f"{ALICE} HOLDFOR=3600")).startswith(b"250 ")
        at = (datetime.now(UTC) + timedelta(days=2)).replace(microsecond=0)
        sender = f"{ALICE} HOLDUNTIL={at:%Y-%m-%dT%H:%M:%S}Z"
        assert (await client.send(SUBMITTED, REMOTE, sender=sender)).startswith(b"250 ")
        assert (await client.send(SUBMITTED, ALICE, sender=f"{ALICE} HOLDFOR=0")).startswith(b"250 ")
    assert len(await users.mailbox(account)) == 1
    own, *remote = await users.queue()
    assert own["forward_path"] == "alice@example.test"
    waits = sorted(row["next_attempt_at"] - row["created_at"] for row in [own, *remote])
    assert all(abs(wait - timedelta(hours=1)) < timedelta(seconds=20) for wait in waits[:2])
    assert abs(waits[2] - timedelta(days=2)) < timedelta(seconds=20)
    lifetime = timedelta(seconds=users.context.settings.relay.lifetime)
    assert all(row["expires_at"] >= row["next_attempt_at"] + lifetime - timedelta(seconds=5) for row in [own, *remote])
    assert [envelope.get("hold_for") for _, _, envelope in await users.journal()] == [3600, None, 0]


async def test_no_future_release(settings: Settings, account: Person, users: Users) -> None:
    """The extension can be turned off; its parameters are then unknown."""
    changed = msgspec.structs.replace(settings, submission=Submission(future_release_limit=Seconds(0)))
    async with (
        open_context(changed) as context,
        serving(context) as endpoints,
        await Users(context, endpoints, users.tls).logged_in(account) as client,
    ):
        assert not any(each.startswith("FUTURERELEASE") for each in await client.greeted())
        answer = await client.ask(f"MAIL FROM:{ALICE} HOLDFOR=1".encode())
        assert answer == b"555 5.5.4 parameter HOLDFOR is not supported\r\n"


@proves("DELIVERBY")
@pytest.mark.parametrize("value", ["120;R", "+120;n", "-5;N", "120;RT"])
async def test_deliver_by(value: str, users: Users, account: Person) -> None:
    """The deadline counts from MAIL, and what is to happen then goes on by the queue (RFC 2852)."""
    row = await terms_of(users, account, f"BY={value}")
    seconds, mode = value.split(";")
    assert row["deliver_by_mode"] == mode.upper()
    assert abs(row["deliver_by"] - row["created_at"] - timedelta(seconds=int(seconds))) < timedelta(seconds=20)


@proves("MT-PRIORITY")
@pytest.mark.parametrize(("wanted", "given"), [(-9, -9), (0, 0), (4, 4), (5, 4), (9, 4)])
async def test_priority(wanted: int, given: int, users: Users, account: Person) -> None:
    """A priority goes on by the queue and in Received; one above what users may have is lowered, and they are told (RFC 6710)."""
    async with await users.logged_in(account) as client:
        assert "MT-PRIORITY MIXER" in await client.greeted()
        answer = await client.ask(f"MAIL FROM:{ALICE} MT-PRIORITY={wanted}".encode())
        assert answer == (SENDER_OK if wanted == given else b"250 2.3.6 4 is the new priority of the message\r\n")
        await client.ask(f"RCPT TO:{REMOTE}".encode())
        await client.ask(b"DATA")
        client.say(SUBMITTED + b".\r\n")
        assert (await client.hear()).startswith(b"250 ")
    (row,) = await users.queue()
    assert row["priority"] == given
    assert b"\r\n\tpriority %d;\r\n" % given in await users.context.blobs.message(row["content_id"])


@proves("REQUIRETLS")
async def test_requiretls(users: Users, account: Person) -> None:
    """The wish goes on by the queue; in the clear it is neither told of nor taken (RFC 8689 §2)."""
    assert (await terms_of(users, account, "REQUIRETLS"))["is_requiretls"] is True
    async with await Client.connect(users.endpoints["smtp"]) as client:
        assert "REQUIRETLS" not in await client.greeted()
        answer = await client.ask(b"MAIL FROM:<a@client.example> REQUIRETLS")
        assert answer == b"555 5.5.4 parameter REQUIRETLS is not supported\r\n"
        await client.start_tls(users.tls)
        assert "REQUIRETLS" in await client.greeted()
        answer = await client.send(SUBMITTED, ALICE, sender="<a@client.example> REQUIRETLS")
        assert answer.startswith(b"250 ")
    assert [envelope.get("requiretls") for *_, envelope in await users.journal()] == [True, True]


@proves("LIMITS")
async def test_limits(settings: Settings, account: Person, users: Users) -> None:
    """As many recipients as RCPTMAX says are taken, and not one more (RFC 9422)."""
    changed = msgspec.structs.replace(settings, submission=Submission(recipient_limit=2))
    async with (
        open_context(changed) as context,
        serving(context) as endpoints,
        await Users(context, endpoints, users.tls).logged_in(account) as client,
    ):
        assert "LIMITS RCPTMAX=2" in await client.greeted()
        await client.ask(f"MAIL FROM:{ALICE}".encode())
        for path in (ALICE, REMOTE):
            assert await client.ask(f"RCPT TO:{path}".encode()) == b"250 2.1.5 recipient ok\r\n"
        answer = await client.ask(b"RCPT TO:<y@elsewhere.example>")
        assert answer == b"452 4.5.3 too many recipients in one transaction\r\n"


@pytest.mark.parametrize(
    ("parameters", "answer"),
    [
        ("HOLDFOR=2592001", "501 5.5.4 message cannot be held back for so long"),
        ("HOLDUNTIL=2999-01-01T00:00:00Z", "501 5.5.4 message cannot be held back for so long"),
        ("HOLDUNTIL=2001-01-01T00:00:00+01:00", "501 5.5.4 HOLDUNTIL is over already"),
        ("HOLDFOR=1 HOLDUNTIL=2999-01-01T00:00:00Z", "501 5.5.4 HOLDFOR and HOLDUNTIL exclude each other"),
        ("HOLDFOR=-1", "501 5.5.4 HOLDFOR: expected 1 to 9 digits"),
        ("HOLDFOR=1234567890", "501 5.5.4 HOLDFOR: expected 1 to 9 digits"),
        ("HOLDUNTIL=2026-12-01", "501 5.5.4 HOLDUNTIL: expected a date and time of RFC 3339"),
        ("HOLDUNTIL=2026-13-01T00:00:00Z", "501 5.5.4 HOLDUNTIL: expected a date and time of RFC 3339"),
        ("BY=0;R", "501 5.5.4 BY: R needs a time that is still to come"),
        ("BY=5", "501 5.5.4 BY: expected seconds;N or seconds;R, with T behind it or without"),
        ("MT-PRIORITY=10", "501 5.5.4 MT-PRIORITY: expected -9 to 9"),
        ("MT-PRIORITY", "501 5.5.4 MT-PRIORITY: expected -9 to 9"),
        ("REQUIRETLS=1", "501 5.5.4 REQUIRETLS: expected no value"),
        ("BODY=8BIT", "501 5.5.4 BODY: expected 7BIT or 8BITMIME"),
        ("BINARYMIME", "555 5.5.4 parameter BINARYMIME is not supported"),
        ("SOLICIT=x", "555 5.5.4 parameter SOLICIT is not supported"),
    ],
)
async def test_refused_parameters(parameters: str, answer: str, users: Users, account: Person) -> None:
    """A parameter with a bad value, or one that nobody told of, is refused with what is wrong about it."""
    async with await users.logged_in(account) as client:
        assert (await client.ask(f"MAIL FROM:{ALICE} {parameters}".encode())).decode() == f"{answer}\r\n"
        assert await client.ask(f"MAIL FROM:{ALICE}".encode()) == SENDER_OK


@pytest.mark.parametrize("parameter", ["AUTH=<>", "HOLDFOR=1", "BY=5;N", "MT-PRIORITY=1"])
async def test_strangers_get_none_of_them(parameter: str, users: Users, account: Person) -> None:
    """What users may ask for nobody else may."""
    async with await Client.connect(users.endpoints["smtp"]) as client:
        await client.greeted()
        answer = await client.ask(f"MAIL FROM:<a@client.example> {parameter}".encode())
        assert answer == f"555 5.5.4 parameter {parameter.partition('=')[0]} is not supported\r\n".encode()
