"""Mail programs of other makers send through the running suite: with TLS and a login, to people here and elsewhere.

A tool that is not installed skips its test, loudly; under CI=true it fails instead.
"""

import itertools
import json
import smtplib
import ssl
from collections.abc import Callable
from email.message import EmailMessage
from email.policy import SMTP
from pathlib import Path

import pytest

from bench.suite import Suite
from bench.system import Account
from tests.end_to_end.suite import bodies
from tests.end_to_end.test_mutt import _run as run_in_terminal
from tests.end_to_end.tools import Tool, must_have, written

_numbers = itertools.count(1)

NewAccount = Callable[[], Account]


@pytest.fixture
def elsewhere() -> str:
    """An address that nobody has: `.invalid` is in no DNS (RFC 2606 §2)."""
    return f"somebody{next(_numbers)}@elsewhere.invalid"


def queued(suite: Suite, forward_path: str) -> list[dict[str, object]]:
    """What the queue has, or had, for a recipient elsewhere."""
    found: list[dict[str, object]] = []
    for status in ("waiting", "failed"):
        found += json.loads(suite.command("queue", "list", "--to", forward_path, "--status", status, "--json"))
    return found


def check(suite: Suite, sender: Account, receiver: Account, elsewhere: str, text: bytes) -> None:
    """The message is with the one who is here, in the sender's name and over TLS with a login, and queued for the other."""
    (body,) = bodies(suite, receiver)
    head, _, rest = body.partition(b"\r\nReceived: ")
    assert head == f"Return-Path: <{sender.login}>".encode()
    assert b" with ESMTPSA id " in rest
    assert b"127.0.0.1" not in rest.partition(b";")[0]
    assert text in rest
    assert rest.count(b"\r\nMessage-ID: ") + rest.count(b"\r\nMessage-Id: ") == 1
    (row,) = queued(suite, elsewhere)
    assert row["reverse_path"] == sender.login


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN"])
@pytest.mark.parametrize(("listener", "option"), [("submission", "--tls"), ("submissions", "--tls-on-connect")])
def test_swaks(
    suite: Suite, new_account: NewAccount, elsewhere: str, tool: Tool, listener: str, option: str, mechanism: str
) -> None:
    """swaks logs in and sends, with STARTTLS and in TLS from the start."""
    sender, receiver = new_account(), new_account()
    server = ["--server", "localhost", "--port", str(suite.endpoint(listener)[1]), option]
    server += ["--tls-verify", "--tls-ca-path", suite.endpoints["ca"]]
    login = ["--auth", mechanism, "--auth-user", sender.login, "--auth-password", sender.password]
    paths = ["--from", sender.login, "--to", f"{receiver.login},{elsewhere}"]
    tool("swaks", *server, *login, *paths, "--body", "sent by swaks")
    check(suite, sender, receiver, elsewhere, b"sent by swaks")


def test_swaks_sees_refusals(suite: Suite, new_account: NewAccount, tool: Tool) -> None:
    """swaks shows what keeps a stranger from sending: the missing login, the wrong password, the name of another."""
    sender, receiver = new_account(), new_account()
    server = ["--server", "localhost", "--port", str(suite.endpoint("submission")[1]), "--to", receiver.login]
    secure = ["--tls", "--tls-verify", "--tls-ca-path", suite.endpoints["ca"]]
    login = ["--auth", "PLAIN", "--auth-user", sender.login, "--auth-password"]
    own = ["--from", sender.login]
    assert "530 5.7.0 send STARTTLS first" in tool("swaks", *server, *own, accepted=(23,))
    assert "530 5.7.0 log in first" in tool("swaks", *server, *own, *secure, accepted=(23,))
    assert "535 5.7.8" in tool("swaks", *server, *own, *secure, *login, "wrong", accepted=(28,))
    right = [*server, *secure, *login, sender.password]
    assert "550 5.7.1" in tool("swaks", *right, "--from", receiver.login, accepted=(23,))
    assert "550 5.7.1" in tool("swaks", *right, *own, "--header", f"From: {receiver.login}", accepted=(26,))
    assert bodies(suite, receiver) == []


@pytest.mark.parametrize("mechanism", ["plain", "login", "scram-sha-256"])
@pytest.mark.parametrize(("listener", "starttls"), [("submission", "on"), ("submissions", "off")])
def test_msmtp(
    suite: Suite, new_account: NewAccount, elsewhere: str, tmp_path: Path, listener: str, starttls: str, mechanism: str
) -> None:
    """msmtp logs in and sends what it reads, Bcc included, which it takes out; SCRAM by another's implementation."""
    must_have("msmtp")
    sender, receiver = new_account(), new_account()
    configuration = written(
        tmp_path / "msmtprc",
        "account default\n"
        f"host localhost\nport {suite.endpoint(listener)[1]}\ntls on\ntls_starttls {starttls}\n"
        f"tls_trust_file {suite.endpoints['ca']}\nauth {mechanism}\nuser {sender.login}\n"
        f"password {sender.password}\nfrom {sender.login}\n",
    )
    mail = f"From: {sender.login}\nTo: {receiver.login}\nBcc: {elsewhere}\nSubject: by msmtp\n\nsent by msmtp\n"
    suite_input = written(tmp_path / "mail", mail)
    command = f"msmtp -C '{configuration}' --read-recipients --read-envelope-from < '{suite_input}'"
    run_in_terminal(["sh", "-c", command], tmp_path)
    check(suite, sender, receiver, elsewhere, b"sent by msmtp")
    (body,) = bodies(suite, receiver)
    assert elsewhere.encode() not in body


@pytest.mark.parametrize(("listener", "scheme"), [("submission", "smtp"), ("submissions", "smtps")])
@pytest.mark.parametrize("program", ["mutt", "neomutt"])
def test_mutt(
    suite: Suite, new_account: NewAccount, elsewhere: str, tmp_path: Path, program: str, listener: str, scheme: str
) -> None:
    """Mutt and NeoMutt send by their own SMTP. Mutt's own copy in Sent takes the place of ours; NeoMutt in a script stores none."""
    must_have(program)
    sender, receiver = new_account(), new_account()
    suite.command("account", "copy-sent", sender.login, "on")
    user = sender.login.replace("@", "%40")
    rc = f"""
        set charset = utf-8
        set from = "{sender.login}"
        set realname = "Größe"
        set use_envelope_from = yes
        set envelope_from_address = "{sender.login}"
        set smtp_url = "{scheme}://{user}@localhost:{suite.endpoint(listener)[1]}/"
        set smtp_pass = "{sender.password}"
        set smtp_authenticators = "plain"
        set ssl_force_tls = yes
        set ssl_starttls = yes
        set ssl_ca_certificates_file = "{suite.endpoints["ca"]}"
        set certificate_file = "{suite.endpoints["ca"]}"
        set imap_user = "{sender.login}"
        set imap_pass = "{sender.password}"
        set folder = "imaps://localhost:{suite.endpoint("imaps")[1]}/"
        set record = "=Sent"
        set copy = yes
    """
    configuration = written(tmp_path / "muttrc", rc)
    text = written(tmp_path / "text", f"sent by {program}, größer\n")
    recipients = f"-b '{elsewhere}' -- '{receiver.login}'"
    run_in_terminal(["sh", "-c", f"{program} -F '{configuration}' -s 'Grüße' {recipients} < '{text}'"], tmp_path)
    check(suite, sender, receiver, elsewhere, f"sent by {program}".encode())
    (copy,) = bodies(suite, sender, "Sent")
    assert copy.startswith(b"Return-Path: ") is (program == "neomutt")  # only ours has trace fields
    assert f"sent by {program}".encode() in copy


def open_client(listener: str, port: int, tls: ssl.SSLContext) -> smtplib.SMTP:
    """smtplib's client, in TLS."""
    if listener == "submissions":
        return smtplib.SMTP_SSL("localhost", port, timeout=60, context=tls)
    client = smtplib.SMTP("localhost", port, timeout=60)
    client.starttls(context=tls)
    return client


@pytest.mark.parametrize("listener", ["submission", "submissions"])
def test_smtplib(suite: Suite, new_account: NewAccount, elsewhere: str, listener: str) -> None:
    """Python's smtplib logs in and sends, refusals and addresses in UTF-8 among it."""
    sender, receiver = new_account(), new_account()
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = sender.login, receiver.login, "Grüße"
    message.set_content("sent by smtplib, größer\n")
    port = suite.endpoint(listener)[1]
    with open_client(listener, port, suite.tls()) as client:
        client.login(sender.login, sender.password)
        refused = client.send_message(message, to_addrs=[receiver.login, elsewhere, "nobody@example.test"])
        assert {path: answer[0] for path, answer in refused.items()} == {"nobody@example.test": 550}
        with pytest.raises(smtplib.SMTPSenderRefused) as caught:
            client.sendmail(receiver.login, [elsewhere], b"From: x\r\n\r\n")
        assert caught.value.smtp_code == 550
    check(suite, sender, receiver, elsewhere, b"sent by smtplib")
    international = f"jörg.{elsewhere}"
    with smtplib.SMTP_SSL("localhost", suite.endpoint("submissions")[1], context=suite.tls()) as client:
        client.login(sender.login, sender.password)
        options_of_mail = ["SMTPUTF8", "BODY=8BITMIME"]
        client.sendmail(sender.login, [international], message.as_bytes(policy=SMTP), options_of_mail)
    assert len(queued(suite, international)) == 1
