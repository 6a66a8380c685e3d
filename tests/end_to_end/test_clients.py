"""Clients of other makers against the running suite: command-line tools and libraries that people use.

A tool that is not installed skips its test, loudly; under CI=true it fails instead.
"""

import imaplib
import poplib
from pathlib import Path

import aioimaplib
import pytest

from bench.suite import Suite
from bench.system import Account
from tests.end_to_end.suite import bodies
from tests.end_to_end.tools import Tool, as_wire, send, written


@pytest.mark.parametrize("options", [[], ["--tls"], ["--pipeline"], ["--tls", "--pipeline", "--add-header", "X-A: 1"]])
def test_swaks_smtp(suite: Suite, account: Account, tool: Tool, options: list[str]) -> None:
    """swaks delivers over SMTP, in the clear and over STARTTLS, with and without pipelining."""
    host, port = suite.endpoint("smtp")
    sender = ["--to", account.login, "--from", "swaks@sender.test", "--body", "sent by swaks"]
    tool("swaks", "--server", host, "--port", str(port), *sender, *options)
    (body,) = bodies(suite, account)
    assert b"sent by swaks" in body
    assert body.startswith(b"Return-Path: <swaks@sender.test>\r\n")


def test_swaks_lmtp(suite: Suite, account: Account, tool: Tool) -> None:
    """swaks delivers over LMTP."""
    host, port = suite.endpoint("lmtp")
    sender = ["--to", account.login, "--from", "swaks@sender.test"]
    tool("swaks", "--protocol", "LMTP", "--server", host, "--port", str(port), *sender)
    assert len(bodies(suite, account)) == 1


def test_swaks_sees_refusals(suite: Suite, tool: Tool) -> None:
    """swaks shows an unknown recipient as 550 5.1.1 and relaying as 550 5.7.1, and ends with its code for no recipient."""
    host, port = suite.endpoint("smtp")
    for recipient, reply in (("nobody@example.test", "550 5.1.1"), ("someone@elsewhere.test", "550 5.7.1")):
        said = tool("swaks", "--server", host, "--port", str(port), "--to", recipient, accepted=(24,))
        assert reply in said


def test_curl(suite: Suite, account: Account, tool: Tool, tmp_path: Path) -> None:
    """curl sends over SMTP with STARTTLS, and lists, searches and fetches over imaps and pop3s."""
    original = b"Subject: by curl\r\n\r\nuploaded\r\n"
    (tmp_path / "mail").write_bytes(original)
    authority = ["--silent", "--show-error", "--fail", "--cacert", suite.endpoints["ca"]]
    envelope = [
        "--mail-from",
        "curl@sender.test",
        "--mail-rcpt",
        account.login,
        "--upload-file",
        str(tmp_path / "mail"),
    ]
    tool("curl", *authority, "--ssl-reqd", f"smtp://localhost:{suite.endpoint('smtp')[1]}/client.test", *envelope)
    access = [*authority, "--user", f"{account.login}:{account.password}"]
    imaps = f"imaps://localhost:{suite.endpoint('imaps')[1]}"
    assert "INBOX" in tool("curl", *access, f"{imaps}/")
    assert "SEARCH 1" in tool("curl", *access, f"{imaps}/INBOX?SUBJECT%20curl")
    tool("curl", *access, f"{imaps}/INBOX;UID=1", "--output", str(tmp_path / "fetched"))
    assert (tmp_path / "fetched").read_bytes().endswith(original)
    tool("curl", *access, f"pop3s://localhost:{suite.endpoint('pop3s')[1]}/1", "--output", str(tmp_path / "popped"))
    assert (tmp_path / "popped").read_bytes().endswith(original)
    tool("curl", *access, f"{imaps}/Drafts", "--upload-file", str(tmp_path / "mail"))
    assert bodies(suite, account, "Drafts") == [original]


@pytest.mark.parametrize("protocol", ["imap", "pop3"])
def test_fetchmail(suite: Suite, account: Account, tool: Tool, tmp_path: Path, protocol: str) -> None:
    """fetchmail takes all mails over IMAP and over POP3, and leaves the mailbox empty."""
    originals = send(suite, account, 20)
    port = suite.endpoint(f"{protocol}s")[1]
    text = (
        f'poll localhost protocol {protocol} port {port} auth password user "{account.login}" password '
        f'"{account.password}" ssl sslcertck sslcertfile "{suite.endpoints["ca"]}" no rewrite\n'
        f"mda \"cat >> {tmp_path}/box; printf '\\n====\\n' >> {tmp_path}/box\" fetchall\n"
    )
    configuration = written(tmp_path / "fetchmailrc", text)
    options = ["--fetchmailrc", str(configuration), "--pidfile", str(tmp_path / "pid"), "--invisible", "--nosyslog"]
    tool("fetchmail", *options, home=tmp_path)
    box = (tmp_path / "box").read_bytes()
    assert box.count(b"\n====\n") == len(originals)
    for octets in originals:
        assert octets.replace(b"\r\n", b"\n").partition(b"\n\n")[2].rstrip() in box
    assert not bodies(suite, account)


_GETMAILRC = """
[retriever]
type = Simple{kind}SSLRetriever
server = localhost
port = {port}
username = {login}
password = {password}
ca_certs = {authority}

[destination]
type = MDA_external
path = /bin/sh
arguments = ("-c", "cat > {home}/mail.$$")
allow_root_commands = true

[options]
delete = true
delivered_to = false
received = false
read_all = true
message_log_syslog = false
verbose = 1
"""


@pytest.mark.parametrize("kind", ["IMAP", "POP3"])
def test_getmail(suite: Suite, account: Account, tool: Tool, tmp_path: Path, kind: str) -> None:
    """getmail takes all mails over IMAP and over POP3, and deletes them at the end."""
    originals = send(suite, account, 20)
    tool("getmail", "--version")
    values = {
        "login": account.login,
        "password": account.password,
        "home": tmp_path,
        "authority": suite.endpoints["ca"],
    }
    text = _GETMAILRC.format(**values, kind=kind, port=suite.endpoint(f"{kind.lower()}s")[1])
    written(tmp_path / "getmailrc", text)
    tool("getmail", "--getmaildir", str(tmp_path), "--rcfile", "getmailrc", home=tmp_path)
    files = [path.read_bytes() for path in tmp_path.glob("mail.*")]
    found = sorted(as_wire(octets).partition(b"\r\n\r\n")[2] for octets in files)
    assert found == sorted(octets.partition(b"\r\n\r\n")[2] for octets in originals)
    assert not bodies(suite, account)


def test_imaplib(suite: Suite, account: Account) -> None:
    """Python's imaplib works through a session: STARTTLS, append, search, flags, copy, expunge, mailboxes."""
    with imaplib.IMAP4("localhost", suite.endpoint("imap")[1]) as client:
        client.starttls(suite.tls())
        client.login(account.login, account.password)
        assert client.create("Projects/2026")[0] == "OK"
        original = b"From: <a@sender.test>\r\nSubject: one\r\n\r\nbody\r\n"
        assert client.append("INBOX", r"(\Seen)", "", original)[0] == "OK"
        assert client.select("INBOX") == ("OK", [b"1"])
        assert client.uid("SEARCH", "SUBJECT", "one") == ("OK", [b"1"])
        _, fetched = client.fetch("1", "(FLAGS BODY.PEEK[])")
        assert isinstance(fetched[0], tuple)
        assert fetched[0][1] == original
        assert client.uid("COPY", "1", "Projects/2026")[0] == "OK"
        assert client.store("1", "+FLAGS", r"(\Deleted)")[0] == "OK"
        assert client.expunge() == ("OK", [b"1"])
        assert client.status("Projects/2026", "(MESSAGES)")[1] == [b"Projects/2026 (MESSAGES 1)"]
        assert any(b"Projects/2026" in line for line in client.list()[1] if isinstance(line, bytes))
        assert client.rename("Projects/2026", "Projects/old")[0] == "OK"
        assert client.delete("Projects/old")[0] == "OK"


def test_poplib(suite: Suite, account: Account) -> None:
    """Python's poplib works through a session with STLS; what it deletes is gone after QUIT only."""
    originals = send(suite, account, 3)
    client = poplib.POP3("localhost", suite.endpoint("pop3")[1])
    client.stls(suite.tls())
    client.user(account.login)
    client.pass_(account.password)
    assert client.stat()[0] == 3
    identities = client.uidl()[1]
    _, lines, _ = client.retr(2)
    assert (b"\r\n".join(lines) + b"\r\n").endswith(originals[1])
    client.dele(1)
    assert len(client.list()[1]) == 2
    assert len(bodies(suite, account)) == 3
    client.quit()
    again = poplib.POP3_SSL("localhost", suite.endpoint("pop3s")[1], context=suite.tls())
    again.user(account.login)
    again.pass_(account.password)
    assert [line.split()[1] for line in again.uidl()[1]] == [line.split()[1] for line in identities[1:]]
    again.quit()


async def test_aioimaplib_idle(suite: Suite, account: Account) -> None:
    """aioimaplib sees a mail that another process takes in while it idles."""
    client = aioimaplib.IMAP4_SSL("localhost", suite.endpoint("imaps")[1], ssl_context=suite.tls())
    await client.wait_hello_from_server()
    await client.login(account.login, account.password)
    await client.select("INBOX")
    idle = await client.idle_start(timeout=60)
    send(suite, account, 1)
    pushed: list[bytes] = []
    while not any(line.endswith(b"EXISTS") for line in pushed):
        pushed += await client.wait_server_push(30)
    client.idle_done()
    await idle
    assert b"1 EXISTS" in pushed
    await client.logout()
