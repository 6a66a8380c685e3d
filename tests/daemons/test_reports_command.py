"""`postwerk reports`."""

import asyncio
import json
import os
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address

import asyncpg
import pytest

from config.settings import Settings
from storage import reports
from storage.reports import Bounce, DmarcReport, DmarcSource, Source, TlsFailure, TlsReport
from tests.daemons.test_cli import Ended, Postwerk, configuration, populated, postwerk

__all__ = ["configuration", "populated", "postwerk"]  # fixtures

NOW = datetime.now(UTC).replace(microsecond=0)
DETAILS = '{"reasons":["other: list"],"authentications":[{"method":"spf","domain":"example.net","result":"fail"}]}'
DMARC = DmarcReport(
    "example.test", "Big Mail", "dmarc@big.example", "1", NOW - timedelta(days=2), NOW - timedelta(days=1), "none", "none", "r",
    "r", None, False, [], 3,
    [
        DmarcSource(ip_address("192.0.2.1"), 3, "none", "pass", "pass", "example.test", "", "", DETAILS),
        DmarcSource(None, 2, "none", "fail", "fail", "example.test", "", "", DETAILS),
    ],
    NOW,
)  # fmt: skip
TLS = TlsReport(
    "example.test", "Big Mail", "tls@big.example", "1", 0, NOW - timedelta(days=2), NOW - timedelta(days=1), "sts",
    ["version: STSv1"], ["mx.example.test"], 90, 10,
    [TlsFailure("certificate-expired", 10, ip_address("2001:db8::1"), "mx.example.test", "", None, "", "old")],
    NOW,
)  # fmt: skip
BOUNCE = Bounce(
    "status",
    "zoe@example.net",
    "failed",
    "5.1.1",
    550,
    "unknown-mailbox",
    True,
    "550 5.1.1 no",
    None,
    None,
    None,
    None,
    NOW,
)


@pytest.fixture
def filled(populated: Postwerk, settings: Settings) -> Postwerk:
    """With one report of each kind in alice's watched INBOX."""
    populated("reports", "watch", "Alice@example.test")

    async def fill() -> None:
        connection = await asyncpg.connect(settings.database.dsn)
        row = await connection.fetchrow("SELECT mailbox_id, tenant_id, next_uid FROM report_source")
        assert row is not None
        await reports.keep(connection, Source(row[0], row[1], row[2], 2), 2, [DMARC, TLS, BOUNCE], unreadable=1)
        await connection.close()

    asyncio.run(fill())
    return populated


def test_sources(filled: Postwerk) -> None:
    """Watched mailboxes are listed with what was found in them, and are watched no more on demand."""
    assert json.loads(filled("reports", "sources", "--json")) == [
        {
            "tenant": "example",
            "login": "alice@example.test",
            "mailbox": "INBOX",
            "taken": 3,
            "unreadable": 1,
            "waiting": 0,
        }
    ]
    filled("reports", "unwatch", "alice@example.test")
    assert json.loads(filled("reports", "sources", "--json")) == []


def test_dmarc(filled: Postwerk) -> None:
    """Reports and their sources are shown as tables and as JSON."""
    (row,) = json.loads(filled("reports", "dmarc", "--failed", "--domain", "Example.test", "--json"))
    assert (row["organization"], row["messages"], row["passed"], row["failed"]) == ("Big Mail", 5, 3, 2)
    assert "Big Mail" in filled("reports", "dmarc")
    assert json.loads(filled("reports", "dmarc", "--tenant", "other", "--json")) == []
    first, second = json.loads(filled("reports", "dmarc-sources", str(row["id"]), "--json"))
    assert (first["address"], first["messages"], first["reasons"]) == ("192.0.2.1", 3, ["other: list"])
    assert (second["address"], second["authentications"][0]["result"]) == (None, "fail")
    assert "spf=fail(example.net)" in filled("reports", "dmarc-sources", str(row["id"]))


def test_tls(filled: Postwerk) -> None:
    """Reports and their failures are shown as tables and as JSON."""
    (row,) = json.loads(filled("reports", "tls", "--failed", "--json"))
    assert (row["domain"], row["successes"], row["failures"], row["result_types"]) == (
        "example.test",
        90,
        10,
        "certificate-expired",
    )
    (failure,) = json.loads(filled("reports", "tls-failures", str(row["id"]), "--json"))
    assert (failure["source"], failure["reason"]) == ("2001:db8::1", "old")
    assert "certificate-expired" in filled("reports", "tls-failures", str(row["id"]))


def test_bounces(filled: Postwerk) -> None:
    """Bounces are shown with the reason; JSON has the server's words, too."""
    (row,) = json.loads(filled("reports", "bounces", "--hard", "--domain", "example.net", "--days", "1", "--json"))
    assert (row["address"], row["reason"], row["diagnostic"]) == ("zoe@example.net", "unknown-mailbox", "550 5.1.1 no")
    assert "unknown-mailbox" in filled("reports", "bounces")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["watch", "x@example.test"], "no mailbox INBOX of x@example.test"),
        (["watch", "alice@example.test", "--mailbox", "Nowhere"], "no mailbox Nowhere of alice@example.test"),
        (["unwatch", "alice@example.test"], "is not watched"),
    ],
)
def test_refusals(populated: Postwerk, arguments: list[str], complaint: str) -> None:
    """A mailbox that is not there is said in a line, with a code of sysexits.h."""
    with pytest.raises(Ended, match=complaint) as ended:
        populated("reports", *arguments)
    assert ended.value.code == os.EX_NOUSER


def test_reports_that_were_sent(populated: Postwerk, settings: Settings) -> None:
    """What was counted for DMARC reports of ours is shown by day and domain, with what became of the report."""
    assert json.loads(populated("reports", "dmarc-sent", "--json")) == []

    async def fill() -> None:
        connection = await asyncpg.connect(settings.database.dsn)
        kind = '{"dkim": "fail", "spf": "fail"}'
        await connection.execute("INSERT INTO dmarc_outcome VALUES ('2026-11-21', 'example.net', '', $1, 7)", kind)
        await connection.execute(
            "INSERT INTO dmarc_report_sent VALUES ('example.net', '2026-11-21', now(), now(), 'sent by mail, id 1')"
        )
        await connection.close()

    asyncio.run(fill())
    (row,) = json.loads(populated("reports", "dmarc-sent", "--json"))
    assert (row["day"], row["domain"], row["messages"], row["failed"]) == ("2026-11-21", "example.net", 7, 7)
    assert row["outcome"] == "sent by mail, id 1"
