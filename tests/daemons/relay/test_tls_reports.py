"""Reports of TLS: counted, kept, sent. RFC 8460."""

import email.policy
import gzip
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email import message_from_bytes
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from config.transport import Transport
from config.units import Seconds
from daemons import daily_reports
from daemons.relay.reach import Reach
from daemons.relay.resolver import Resolver
from daemons.relay.tls_policy import TlsFailure, TlsPolicy, TlsResult
from daemons.relay.tls_reports import TlsReports
from daemons.relay.web import Web
from protocol.address import AddrSpec
from storage import transport
from storage.pool import Pool
from tests.conftest import Owner
from tests.internet.authority import Authority
from tests.internet.dns import NameServer, name_server
from tests.internet.https import Page, WebServer, web_server

DOMAIN = "example.net"
STS = TlsPolicy(
    "verify", policy_type="sts", policy_strings=("version: STSv1", "mode: enforce"), mx_patterns=("mx.example.net",)
)
GOOD = TlsResult("TLSv1.3", "TLS_AES_256_GCM_SHA384", "pkix")


@dataclass
class Stage:
    """A domain that wants reports, and a clock that is set by hand. Mails are kept in `sent` in place of a queue."""

    names: NameServer
    pages: WebServer
    pool: Pool
    authority: str
    sent: list[tuple[AddrSpec, AddrSpec, bytes]] = field(default_factory=list)
    is_sending: bool = True
    now: datetime = datetime(2026, 11, 22, 12, tzinfo=UTC)

    async def send(self, author: AddrSpec, to: AddrSpec, octets: bytes, _: str) -> bool:
        """What a process does with a mail."""
        if self.is_sending:
            self.sent.append((author, to, octets))
        return self.is_sending

    def want(self, *places: str) -> None:
        """The record that asks for reports."""
        self.names.add(f"_smtp._tls.{DOMAIN}", "TXT", f'"v=TLSRPTv1; rua={",".join(places)}"', ttl=0)

    @asynccontextmanager
    async def process(self, **changes: Any) -> AsyncIterator[TlsReports]:
        """As much of a relay process as reports."""
        given: dict[str, Any] = {
            "resolvers": [self.names.address],
            "resolver_timeout": Seconds(10),
            "private_networks": ["127.0.0.0/8"],
            "report_from": "tls-reports@example.test",
            "report_organization": "Example",
            "report_authority": self.authority,
        }
        settings = Transport(**given | changes)
        resolver = Resolver(settings, lambda: self.now.timestamp())
        web = Web(resolver, Reach(settings), timeout=settings.report_timeout, authority=settings.report_authority)
        try:
            yield TlsReports(settings, "mail.example.test", self.pool, resolver, web, self.send, lambda: self.now)
        finally:
            await web.close()
            await resolver.close()

    def mails(self) -> list[dict[str, Any]]:
        """The reports in the mails that were sent."""
        return [_read(octets) for _, _, octets in self.sent]


def _read(octets: bytes) -> dict[str, Any]:
    (attached,) = message_from_bytes(octets, policy=email.policy.default).iter_attachments()
    report: dict[str, Any] = json.loads(gzip.decompress(attached.get_content()))
    return report


@pytest.fixture
async def stage(pool: Pool, tmp_path: Path) -> AsyncIterator[Stage]:
    """A domain that wants its reports by mail."""
    authority = Authority()
    context = authority.issue("reports.example.net").server_context(tmp_path)
    async with name_server() as names, web_server(context) as pages:
        names.add("reports.example.net", "A", "127.0.0.1")
        opened = Stage(names, pages, pool, authority.file(tmp_path))
        opened.want("mailto:reports@example.net")
        yield opened


async def test_who_wants_reports(stage: Stage) -> None:
    """Reports are for domains that ask for them, if the configuration names who sends them."""
    async with stage.process() as reports:
        assert await reports.wanted(DOMAIN)
        assert not await reports.wanted("other.example")
        stage.names.fail(f"_smtp._tls.{DOMAIN}", "TXT")
        stage.now += timedelta(minutes=1)
        assert not await reports.wanted(DOMAIN)
    async with stage.process(report_from="") as reports:
        assert not reports.is_on
        assert not await reports.wanted(DOMAIN)


async def test_day_is_reported_by_mail(stage: Stage) -> None:
    """Sessions of a day, counted in several processes, come to the domain in one report after the day is over."""
    expired = TlsFailure("certificate-expired", "the server is not authentic")
    async with stage.process() as first, stage.process() as second:
        for reports in (first, second, second):
            reports.note(DOMAIN, STS, GOOD, host="mx.example.net", address="192.0.2.1")
            reports.note(DOMAIN, STS, expired, host="mx.example.net", address="192.0.2.1", source="192.0.2.9")
        second.note(DOMAIN, TlsPolicy(), TlsResult(), host="old.example.net", address="192.0.2.2")
        second.note_failure(DOMAIN, "dnssec-invalid", "bogus", TlsPolicy(policy_type="tlsa"), "mx2.example.net")
        await first.flush()
        await second.flush()
        assert await first.send_due() == 0
        stage.now += timedelta(days=1)
        assert await first.send_due() == 1
        assert await second.send_due() == 0
    ((author, to, octets),) = stage.sent
    assert (str(author), str(to)) == ("tls-reports@example.test", "reports@example.net")
    assert b"\r\nTLS-Required: No\r\n" in octets
    report = _read(octets)
    assert report["organization-name"] == "Example"
    assert report["contact-info"] == "tls-reports@example.test"
    assert report["date-range"] == {"start-datetime": "2026-11-22T00:00:00Z", "end-datetime": "2026-11-22T23:59:59Z"}
    policies = {policy["policy"]["policy-type"]: policy for policy in report["policies"]}
    assert policies.keys() == {"sts", "no-policy-found", "tlsa"}
    sts = policies["sts"]
    assert sts["policy"]["policy-domain"] == DOMAIN
    assert sts["policy"]["mx-host"] == ["mx.example.net"]
    assert sts["summary"] == {"total-successful-session-count": 3, "total-failure-session-count": 3}
    assert sts["failure-details"] == [
        {
            "result-type": "certificate-expired",
            "sending-mta-ip": "192.0.2.9",
            "receiving-mx-hostname": "mx.example.net",
            "receiving-ip": "192.0.2.1",
            "failed-session-count": 3,
            "failure-reason-code": "the server is not authentic",
        }
    ]
    assert policies["no-policy-found"]["failure-details"][0]["result-type"] == "starttls-not-supported"
    assert policies["tlsa"]["failure-details"][0]["receiving-mx-hostname"] == "mx2.example.net"


async def test_testing_mode_counts_as_failure(stage: Stage) -> None:
    """What testing mode let pass is a failure in the report: that is what testing is for (RFC 8461 §5)."""
    failure = TlsFailure("certificate-not-trusted", "no")
    async with stage.process() as reports:
        reports.note(DOMAIN, STS, TlsResult("TLSv1.3", "X", "", failure), host="mx.example.net")
        await reports.flush()
        stage.now += timedelta(days=1)
        await reports.send_due()
    (report,) = stage.mails()
    assert report["policies"][0]["summary"] == {"total-successful-session-count": 0, "total-failure-session-count": 1}


async def test_reports_by_https(stage: Stage) -> None:
    """A domain can have its reports posted, compressed, with their media type; several places each get theirs."""
    place = f"https://reports.example.net:{stage.pages.port}/v1"
    stage.pages.pages["reports.example.net", "/v1"] = Page(status=201)
    stage.want(place, "mailto:reports@example.net", "mailto:broken")
    async with stage.process() as reports:
        reports.note(DOMAIN, STS, GOOD)
        await reports.flush()
        stage.now += timedelta(days=1)
        assert await reports.send_due() == 1
    ((path, media_type, body),) = stage.pages.posted
    assert (path, media_type) == ("/v1", "application/tlsrpt+gzip")
    assert json.loads(gzip.decompress(body)) == stage.mails()[0]


async def test_report_that_nobody_takes_is_tried_again(stage: Stage, owner: Owner) -> None:
    """A report that could not be handed in is tried again later, for two days; then it is given up."""
    place = f"https://reports.example.net:{stage.pages.port}/v1"
    stage.want(place)
    async with stage.process() as reports:
        reports.note(DOMAIN, STS, GOOD)
        await reports.flush()
        stage.now += timedelta(days=1)
        assert await reports.send_due() == 0
        assert len(stage.pages.posted) == 1
        assert await reports.send_due() == 0
        assert len(stage.pages.posted) == 1  # not at once
        await owner.execute("UPDATE tls_report_sent SET claimed_until = now() - interval '1 second'")
        stage.now += timedelta(days=2)
        assert await reports.send_due() == 0
        assert len(stage.pages.posted) == 2
        await owner.execute("UPDATE tls_report_sent SET claimed_until = now() - interval '1 second'")
        assert await reports.send_due() == 0
        assert len(stage.pages.posted) == 2
    (row,) = await transport.list_reports(owner)
    assert (row.domain, row.sessions, row.failed, row.outcome) == (DOMAIN, 1, 0, "https: status 404")


@pytest.mark.parametrize(
    "place", ["https://127.0.0.1/v1", "https://[::1]/", "https://10.0.0.1/", "https://inside.example.net/"]
)
async def test_reports_do_not_lead_into_our_network(stage: Stage, owner: Owner, place: str) -> None:
    """A place inside our own network is not connected to, by name or address."""
    stage.names.add("inside.example.net", "A", "127.0.0.1")
    stage.want(place)
    async with stage.process(private_networks=[]) as reports:
        reports.note(DOMAIN, STS, GOOD)
        await reports.flush()
        stage.now += timedelta(days=3)
        assert await reports.send_due() == 0
    (row,) = await transport.list_reports(owner)
    assert row.outcome is not None
    assert row.outcome.startswith("https: ")


async def test_domain_that_wants_none_any_more(stage: Stage) -> None:
    """Where nobody asks any more the day is done without a report."""
    async with stage.process() as reports:
        reports.note(DOMAIN, STS, GOOD)
        await reports.flush()
        stage.names.remove(f"_smtp._tls.{DOMAIN}")
        stage.now += timedelta(days=1)
        assert await reports.send_due() == 0
        assert await reports.send_due() == 0
    assert not stage.sent


async def test_report_of_a_process_that_died(stage: Stage, owner: Owner) -> None:
    """A report that somebody began and did not finish goes to another process after a while, and not before."""
    async with stage.process() as reports:
        reports.note(DOMAIN, STS, GOOD)
        await reports.flush()
        stage.now += timedelta(days=1)
        claimed = await transport.REPORTS.claim(stage.pool, stage.now, 10, claim_seconds=60, spread_seconds=1)
        assert claimed == [(datetime(2026, 11, 22).date(), DOMAIN)]
        assert await reports.send_due() == 0
        await owner.execute("UPDATE tls_report_sent SET claimed_until = now() - interval '1 second'")
        assert await reports.send_due() == 1


async def test_reports_are_spread_over_the_night(stage: Stage) -> None:
    """Each domain has its own moment within four hours after midnight (RFC 8460 §4.1)."""
    async with stage.process() as reports:
        for number in range(40):
            reports.note(f"d{number}.example", STS, GOOD)
        await reports.flush()
        stage.now = datetime(2026, 11, 23, tzinfo=UTC)
        claimed = []
        for _ in range(5):
            claimed.append(
                len(
                    await transport.REPORTS.claim(stage.pool, stage.now, 100, claim_seconds=60, spread_seconds=4 * 3600)
                )
            )
            stage.now += timedelta(hours=1)
    assert sum(claimed) == 40
    assert max(claimed) < 25
    assert claimed[0] < 5


async def test_counts_survive_a_database_that_refuses(
    stage: Stage, owner: Owner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What cannot be kept now is kept with the next try, and memory stays bounded meanwhile."""
    monkeypatch.setattr(daily_reports, "_KINDS_LIMIT", 3)
    async with stage.process() as reports:
        reports.note(DOMAIN, STS, GOOD)
        await owner.execute("REVOKE INSERT ON tls_session FROM postwerk_daemon")
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await reports.flush()
        reports.note(DOMAIN, STS, GOOD)
        await owner.execute("GRANT INSERT ON tls_session TO postwerk_daemon")
        await reports.flush()
        await reports.flush()
        for number in range(5):
            reports.note(f"d{number}.example", STS, GOOD)
        await reports.flush()
    counted = await stage.pool.fetch("SELECT domain, sessions FROM tls_session ORDER BY domain")
    assert [tuple(row) for row in counted] == [
        ("d2.example", 1),
        ("d3.example", 1),
        ("d4.example", 1),
        (DOMAIN, 2),
    ]


async def test_reasons_are_plain(stage: Stage) -> None:
    """Whatever strangers put into names and errors, it can be stored and read."""
    failure = TlsFailure("validation-failure", "a\0b\ud800ä\r\nc")
    async with stage.process() as reports:
        reports.note(DOMAIN, STS, failure, host="mx\0.example.net")
        await reports.flush()
        stage.now += timedelta(days=1)
        await reports.send_due()
    (report,) = stage.mails()
    (details,) = report["policies"][0]["failure-details"]
    assert (details["failure-reason-code"], details["receiving-mx-hostname"]) == ("a?b????c", "mx?.example.net")


async def test_old_counts_and_policies_are_forgotten(stage: Stage, owner: Owner) -> None:
    """Counts and reports are removed at their age, policies that age after they ended."""
    stored = transport.StoredSts(
        "old.example", "1", "enforce", ("mx.old.example",), 60, datetime.now(UTC) - timedelta(days=2)
    )
    await transport.keep_sts_policy(stage.pool, stored)
    lasting = transport.StoredSts("new.example", "1", "enforce", (), 30 * 86400, datetime.now(UTC) - timedelta(days=2))
    await transport.keep_sts_policy(stage.pool, lasting)
    async with stage.process() as reports:
        stage.now = datetime.now(UTC) - timedelta(days=2)
        reports.note(DOMAIN, STS, GOOD)
        await reports.flush()
        stage.now = datetime.now(UTC) - timedelta(days=1)
        await reports.send_due()
        stage.now = datetime.now(UTC)
        reports.note(DOMAIN, STS, GOOD)
        await reports.flush()
    async with stage.pool.acquire() as connection:
        await transport.forget_transport(connection, older_than_seconds=86400)
    assert await owner.fetchval("SELECT count(*) FROM tls_session") == 1
    assert await owner.fetchval("SELECT count(*) FROM tls_report_sent") == 0
    assert [policy.domain for policy in await transport.list_sts_policies(owner)] == ["new.example"]
