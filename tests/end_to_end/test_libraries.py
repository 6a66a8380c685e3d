"""Client libraries of other makers, whose parsers take our answers: IMAPClient, aioimaplib, Ruby's net-imap."""

import json
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path

import aioimaplib
import imapclient
import pytest

from bench.suite import Suite
from bench.system import Account
from tests.end_to_end.tools import Tool, fill, numbered, send, subject, word

_UMLAUTS = "Entwürfe/Größe № 1"


@pytest.fixture
def client(suite: Suite, account: Account) -> Iterator[imapclient.IMAPClient]:
    """IMAPClient, logged in."""
    with imapclient.IMAPClient("localhost", port=suite.endpoint("imaps")[1], ssl_context=suite.tls()) as opened:
        opened.login(account.login, account.password)
        yield opened


def test_imapclient_messages(suite: Suite, account: Account, client: imapclient.IMAPClient) -> None:
    """IMAPClient searches, sorts, threads, fetches what is structured, sets flags, copies, moves, and expunges by UID."""
    fill(suite, account, "INBOX", numbered(60))
    selected = client.select_folder("INBOX")
    assert selected[b"EXISTS"] == 60
    assert client.search(["BODY", word(7)]) == [8, 58]
    assert client.search(["SUBJECT", "größe № 3."], "UTF-8") == [4]
    assert client.sort(["REVERSE DATE"])[:3] == [60, 59, 58]
    assert client.thread() == tuple((uid,) for uid in range(1, 61))
    first = client.fetch([1], ["ENVELOPE", "BODYSTRUCTURE", "INTERNALDATE", "RFC822.SIZE", "BODY.PEEK[]"])[1]
    envelope = first[b"ENVELOPE"]
    assert envelope.date == datetime(2026, 1, 1, tzinfo=UTC).astimezone().replace(tzinfo=None)
    assert (envelope.from_[0].mailbox, envelope.message_id) == (b"sender0", b"<0.numbered@sender.test>")
    assert first[b"BODYSTRUCTURE"].is_multipart
    assert first[b"RFC822.SIZE"] == len(first[b"BODY[]"]) == len(numbered(1)[0])
    client.add_flags([1, 2], [imapclient.SEEN, "$Important"])
    assert set(client.get_flags([2])[2]) == {imapclient.SEEN, b"$Important", imapclient.RECENT}
    assert client.search(["UNSEEN", "SINCE", date(2020, 1, 1)]) == list(range(3, 61))
    client.create_folder(_UMLAUTS)
    client.copy([1, 2], _UMLAUTS)
    client.move([3], _UMLAUTS)
    client.delete_messages([4, 5])
    client.uid_expunge([4])
    assert client.folder_status("INBOX", ["MESSAGES", "UNSEEN"]) == {b"MESSAGES": 58, b"UNSEEN": 56}
    assert client.folder_status(_UMLAUTS, ["MESSAGES", "UIDNEXT"]) == {b"MESSAGES": 3, b"UIDNEXT": 4}
    client.select_folder(_UMLAUTS, readonly=True)
    assert set(client.get_flags([1])[1]) >= {imapclient.SEEN, b"$Important"}
    modseq = client.fetch([3], ["MODSEQ"])[3][b"MODSEQ"][0]
    assert client.fetch([1, 2, 3], ["FLAGS"], [f"CHANGEDSINCE {modseq}"]) == {}


def test_imapclient_mailboxes(suite: Suite, account: Account, client: imapclient.IMAPClient) -> None:
    """IMAPClient reads names, namespaces, special uses, rights and quotas, and hears of a delivery while it idles."""
    client.create_folder(_UMLAUTS)
    client.subscribe_folder(_UMLAUTS)
    assert _UMLAUTS in {name for _, _, name in client.list_folders()}
    assert _UMLAUTS in {name for _, _, name in client.list_sub_folders()}
    client.rename_folder(_UMLAUTS, "日本語")
    assert {"日本語", "INBOX"} <= {name for _, _, name in client.list_folders()}
    assert client.namespace().personal == (("", "/"),)
    assert client.find_special_folder(imapclient.imapclient.SENT) == "Sent"
    client.setacl("Archive", account.login, "lrswipkxtea")
    assert [who for who, _ in client.getacl("Archive")] == [account.login.encode()]
    suite.command("quota", "set", account.login, "--messages", "500", "--size", "1M")
    roots, quotas = client.get_quota_root("INBOX")
    assert {(quota.resource, quota.limit) for quota in quotas} == {("STORAGE", 1024), ("MESSAGE", 500)}
    assert {quota.quota_root for quota in quotas} == set(roots.quota_roots)
    assert b"APPENDUID" in client.append("Drafts", numbered(1)[0], [imapclient.DRAFT])
    client.select_folder("INBOX")
    client.idle()
    send(suite, account, 1)
    told: list[object] = []
    while (1, b"EXISTS") not in told:
        event = client.idle_check(30)
        assert event, told
        told += event
    client.idle_done()
    client.delete_folder("日本語")
    assert not client.folder_exists("日本語")


async def test_aioimaplib_two_sessions(suite: Suite, account: Account) -> None:
    """aioimaplib, twice in one mailbox: what one session does, the other is told; searches, fetches and moves by UID."""
    fill(suite, account, "INBOX", numbered(30))
    one, two = [
        aioimaplib.IMAP4_SSL("localhost", suite.endpoint("imaps")[1], ssl_context=suite.tls()) for _ in range(2)
    ]
    for session in (one, two):
        await session.wait_hello_from_server()
        assert (await session.login(account.login, account.password)).result == "OK"
        assert (await session.select("INBOX")).result == "OK"
    found = await one.uid_search(f"BODY {word(7)}")
    assert found.lines[0].split()[-1] == b"8"
    assert (await one.uid("store", "8", r"+FLAGS.SILENT (\Flagged)")).result == "OK"
    assert any(b"FLAGS" in line and rb"\Flagged" in line for line in (await two.noop()).lines)
    assert (await one.uid("move", "8", "Archive")).result == "OK"
    assert b"8 EXPUNGE" in (await two.noop()).lines
    fetched = await two.uid("fetch", "9", "(UID BODY.PEEK[])")
    assert bytes(numbered(9)[8]) in [bytes(line) for line in fetched.lines]
    for session in (one, two):
        await session.logout()


def test_net_imap(suite: Suite, account: Account, tool: Tool) -> None:
    """Ruby's net-imap parses what it asks for in a session: structures, threads, orders, codes, rights, quotas, names."""
    fill(suite, account, "INBOX", numbered(60))
    suite.command("quota", "set", account.login, "--messages", "500")
    script = str(Path(__file__).with_name("session.rb"))
    access = [str(suite.endpoint("imaps")[1]), suite.endpoints["ca"], account.login, account.password]
    told = json.loads(tool("ruby", script, *access, word(7)).splitlines()[0])
    assert told["count"] == told["threads"] == 60
    assert [text for text in told["subjects"] if not text.startswith("=?")] == [
        subject(number) for number in range(60) if number % 3
    ]
    assert told["parts"] == [2 if number % 5 == 0 else 1 for number in range(60)]
    assert told["exact"]
    assert set(told["flags"]) >= {"Seen", "$Important"}
    assert (told["found"], told["sorted"], told["copied"], told["from"]) == ([8, 58], 60, "COPYUID", "sender0")
    assert (told["status"]["MESSAGES"], told["status"]["UIDNEXT"]) == (1, 2)
    assert {"Entwürfe", "Entwürfe/Größe", "INBOX"} <= set(told["mailboxes"])
    assert told["quota"] == ["Net::IMAP::MailboxQuotaRoot", "Net::IMAP::MailboxQuota"]
    assert [who for who, _ in told["acl"]] == [account.login]
