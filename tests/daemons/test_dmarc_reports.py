"""Aggregate reports of DMARC: counted, kept, sent; read again by our own reader of others' reports. RFC 9990."""

import asyncio
import gzip
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email import message_from_bytes, policy
from typing import Any

import asyncpg
import pytest

from config.authenticity import Authenticity
from daemons import daily_reports, dmarc_reports
from daemons.dmarc_reports import DmarcReports
from filters.authentication.checker import Authentication, Rules
from filters.subject import Envelope, Subject
from protocol.address import AddrSpec
from protocol.reports.dmarc import AggregateReport
from protocol.reports.mail import read
from storage import dmarc
from storage.pool import Pool
from tests.conftest import Owner
from tests.filters.authentication.names import Names
from tests.filters.authentication.test_dkim import RECORD, sign

MAIL = b"From: Alice <alice@mail.example.net>\r\nTo: bob@example.org\r\nSubject: Hi\r\n\r\nHi.\r\n"


@dataclass
class Stage:
    """example.net wants reports. Mails are kept in `sent` in place of a queue, and the clock is set by hand."""

    pool: Pool
    names: Names = field(default_factory=Names)
    now: datetime = datetime(2026, 11, 22, 12, tzinfo=UTC)
    sent: list[tuple[AddrSpec, AddrSpec, bytes]] = field(default_factory=list)
    is_sending: bool = True

    def __post_init__(self) -> None:
        self.want("mailto:reports@example.net")
        self.names.text("example.net", "v=spf1 ip4:192.0.2.1 -all")
        self.names.add("mail.example.net", "A", ["192.0.2.1"])
        self.names.text("one._domainkey.example.net", RECORD)

    def want(self, *places: str, policy: str = "p=quarantine; sp=reject; np=none") -> None:
        """The record that asks for reports."""
        self.names.text("_dmarc.example.net", f"v=DMARC1; {policy}; rua={','.join(places)}")

    async def send(self, author: AddrSpec, to: AddrSpec, octets: bytes, _: str) -> bool:
        """What a process does with a mail."""
        if self.is_sending:
            self.sent.append((author, to, octets))
        return self.is_sending

    @asynccontextmanager
    async def process(self, **changes: Any) -> AsyncIterator[DmarcReports]:
        """As much of a process as reports."""
        given = {"report_from": "dmarc@example.test", "report_organization": "Example & Co"} | changes
        settings = Authenticity(**given)
        reports = DmarcReports(settings, "mx.example.test", self.pool, self.names, self.send, lambda: self.now)
        yield reports
        await reports.close()

    async def arrive(
        self,
        reports: DmarcReports,
        octets: bytes = MAIL,
        *,
        peer: str = "192.0.2.1",
        times: int = 1,
        sender: str = "example.net",
    ) -> None:
        """Mail comes in."""
        for number in range(times):
            path = AddrSpec("alice", sender) if sender else None
            envelope = Envelope(f"{number:016}", peer, "mail.example.net", True, False, path, ())
            checker = Authentication(Rules("mx.example.test"), self.names, note=reports.note)
            await checker.check(Subject(envelope, octets))

    def reports(self) -> list[AggregateReport]:
        """The reports in the mails that were sent, as others read them."""
        found = []
        for _, _, octets in self.sent:
            mail = read(octets)
            assert not mail.problems
            found += [report for report in mail.reports if isinstance(report, AggregateReport)]
        return found


@pytest.fixture
def stage(pool: Pool) -> Stage:
    """A domain that wants reports."""
    return Stage(pool)


async def test_day_is_reported(stage: Stage) -> None:
    """Mail of a day, counted in several processes, comes to the domain in one report after the day is over."""
    async with stage.process() as one, stage.process() as two:
        await stage.arrive(one, times=2)
        await stage.arrive(two, times=1)
        await stage.arrive(two, sign(MAIL), peer="2001:db8::9", sender="", times=1)
        await stage.arrive(one, peer="::ffff:192.0.2.9", times=3)
        await one.flush()
        await two.flush()
        assert await one.send_due() == 0
        stage.now += timedelta(days=1)
        assert [await one.send_due(), await two.send_due()] == [1, 0]
    ((author, to, _),) = stage.sent
    assert (str(author), str(to)) == ("dmarc@example.test", "reports@example.net")
    (report,) = stage.reports()
    assert (report.domain, report.organization, report.email) == ("example.net", "Example & Co", "dmarc@example.test")
    assert (report.policy, report.subdomain_policy, report.nonexistent_policy) == ("quarantine", "reject", "none")
    assert (report.begins_at, report.ends_at.isoformat()) == (
        datetime(2026, 11, 22, tzinfo=UTC),
        "2026-11-22T23:59:59+00:00",
    )
    signed, passed, failed = sorted(report.sources, key=lambda source: (source.count, source.disposition))
    assert (str(failed.address), failed.count, failed.disposition, failed.spf, failed.dkim) == (
        "192.0.2.9",
        3,
        "reject",
        "fail",
        "fail",
    )
    assert (str(passed.address), passed.count, passed.disposition, passed.spf) == ("192.0.2.1", 3, "pass", "pass")
    assert (passed.header_from, passed.envelope_from) == ("mail.example.net", "example.net")
    assert (signed.dkim, signed.envelope_from) == ("pass", "")
    told = {(each.method, each.domain, each.result, each.selector or each.scope) for each in signed.authentications}
    assert ("dkim", "example.net", "pass", "one") in told
    assert ("spf", "mail.example.net", "none", "helo") in told
    assert not any("alice" in text or "bob" in text for text in (str(report),))


async def test_mail_with_a_report(stage: Stage) -> None:
    """RFC 9990 §3.5: the mail has the report as a gzip file with the name, and the subject, that receivers sort by."""
    async with stage.process() as reports:
        await stage.arrive(reports)
        await reports.flush()
        stage.now += timedelta(days=1)
        await reports.send_due()
    mail = message_from_bytes(stage.sent[0][2], policy=policy.default)
    (attached,) = mail.iter_attachments()
    report_id = mail["Subject"].partition("Report-ID: <")[2].rstrip(">")
    assert mail["Subject"] == f"Report Domain: example.net Submitter: example.test Report-ID: <{report_id}>"
    assert attached.get_content_type() == "application/gzip"
    assert attached.get_filename() == f"example.test!example.net!1795305600!1795391999!{report_id}.xml.gz"
    assert b'<feedback xmlns="urn:ietf:params:xml:ns:dmarc-2.0">' in gzip.decompress(attached.get_content())
    assert mail["Auto-Submitted"] == "auto-generated"


async def test_who_is_not_counted(stage: Stage, owner: Owner) -> None:
    """Nothing is counted for domains that ask for nothing, for sockets of this host, or when no reports are sent."""
    async with stage.process() as reports:
        await stage.arrive(reports, peer="/run/lmtp")
        stage.names.text("_dmarc.example.net", "v=DMARC1; p=none")
        await stage.arrive(reports)
        await stage.arrive(reports, b"From: a@other.example\r\n\r\n")
    stage.want("mailto:reports@example.net")
    async with stage.process(report_from="") as reports:
        assert not reports.is_on
        await stage.arrive(reports)
        assert await reports.send_due() == 0
    assert await dmarc.list_sent(owner) == []


@pytest.mark.parametrize(
    ("place", "record", "is_sent"),
    [
        ("mailto:reports@sub.example.net", "", True),  # the same organization
        ("mailto:reports@collector.example", "v=DMARC1", True),
        ("mailto:reports@collector.example", "v=DMARC1; rua=mailto:x@collector.example", True),
        ("mailto:reports@collector.example", "", False),
        ("mailto:reports@collector.example", "nothing", False),
        ("mailto:nonsense", "", False),
    ],
)
async def test_receivers_elsewhere(stage: Stage, owner: Owner, place: str, record: str, is_sent: bool) -> None:
    """RFC 9990 §4: reports go outside the organization only where a record there says that they are welcome."""
    stage.want(place)
    if record:
        stage.names.text("example.net._report._dmarc.collector.example", record)
    async with stage.process() as reports:
        await stage.arrive(reports)
        stage.want(place)
        await reports.flush()
        stage.now += timedelta(days=1)
        assert await reports.send_due() == int(is_sent)
        assert await reports.send_due() == 0
    assert len(stage.sent) == int(is_sent)
    rows = await dmarc.list_sent(owner)
    assert [row.sent_at is not None for row in rows] == ([True] if "nonsense" not in place else [])


async def test_two_policies_of_a_day(stage: Stage) -> None:
    """A domain that changes its policy gets a report for each of them."""
    async with stage.process() as reports:
        await stage.arrive(reports)
        stage.want("mailto:reports@example.net", policy="p=reject; t=y; adkim=s")
        await stage.arrive(reports, peer="192.0.2.9")
        await reports.flush()
        stage.now += timedelta(days=1)
        assert await reports.send_due() == 1
    first, second = sorted(stage.reports(), key=lambda report: report.policy)
    assert (first.policy, first.is_test, second.policy, second.is_test, second.adkim) == (
        "quarantine",
        False,
        "reject",
        True,
        "s",
    )
    assert first.report_id != second.report_id
    assert [source.reasons for source in second.sources] == [("policy_test_mode: t=y",)]


async def test_report_that_cannot_be_sent(stage: Stage, owner: Owner) -> None:
    """What cannot be sent now is tried again later, by whoever comes, and given up after two days."""
    async with stage.process() as reports:
        await stage.arrive(reports)
        await reports.flush()
        stage.now += timedelta(days=1)
        stage.is_sending = False
        assert await reports.send_due() == 0
        stage.is_sending = True
        assert await reports.send_due() == 0  # somebody has claimed it
        await owner.execute("UPDATE dmarc_report_sent SET claimed_until = now() - interval '1 second'")
        stage.names.is_silent = True
        assert await reports.send_due() == 0
        stage.names.is_silent = False
        await owner.execute("UPDATE dmarc_report_sent SET claimed_until = now() - interval '1 second'")
        assert await reports.send_due() == 1
        stage.is_sending = False
        await stage.arrive(reports)
        await reports.flush()
        stage.now += timedelta(days=4)
        assert await reports.send_due() == 0
    outcomes = [row.outcome for row in await dmarc.list_sent(owner)]
    assert outcomes[0] == "mail: cannot be sent"
    assert outcomes[1] is not None
    assert outcomes[1].startswith("sent by mail, id ")


async def test_counts_survive_a_database_that_is_away(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, owner: Owner
) -> None:
    """What could not be kept is kept by the next try; the count is right."""
    async with stage.process() as reports:
        await stage.arrive(reports)
        await owner.execute("ALTER TABLE dmarc_outcome RENAME TO gone")
        with pytest.raises(asyncpg.PostgresError):
            await reports.flush()
        await owner.execute("ALTER TABLE gone RENAME TO dmarc_outcome")
        await stage.arrive(reports)
    assert [(row.messages, row.failed) for row in await dmarc.list_sent(owner)] == [(2, 0)]


async def test_counts_come_to_the_database_by_themselves(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, owner: Owner
) -> None:
    """Nobody has to tell a process to keep its counts."""
    monkeypatch.setattr(daily_reports, "FLUSH_SECONDS", 0.0)
    async with stage.process() as reports:
        await stage.arrive(reports)
        async with asyncio.timeout(30):
            while not await dmarc.list_sent(owner):
                await asyncio.sleep(0)


async def test_memory_is_bounded(stage: Stage, monkeypatch: pytest.MonkeyPatch, owner: Owner) -> None:
    """Mail of very many kinds fills no memory, and a report of very many sources says what it leaves out."""
    monkeypatch.setattr(daily_reports, "_KINDS_LIMIT", 3)
    monkeypatch.setattr(dmarc_reports, "_SOURCES_LIMIT", 2)
    async with stage.process() as reports:
        for number in range(5):
            await stage.arrive(reports, peer=f"192.0.2.{number}")
        await reports.flush()
        stage.now += timedelta(days=1)
        await reports.send_due()
    (report,) = stage.reports()
    assert len(report.sources) == 2
    assert report.errors == ("sources with few messages are left out",)
    assert (await dmarc.list_sent(owner))[0].messages == 3


async def test_old_counts_go(stage: Stage, owner: Owner) -> None:
    """The keeper removes counts and reports of the age that is configured."""
    async with stage.process() as reports:
        await stage.arrive(reports)
    await owner.execute("UPDATE dmarc_outcome SET day = current_date - 40")
    assert await dmarc.forget_dmarc(owner, older_than_seconds=50 * 86400) == 0
    assert await dmarc.forget_dmarc(owner, older_than_seconds=30 * 86400) == 1
