"""Notifications over HTTP: what web servers and SMS gateways are asked, what their answers mean, and who may not be asked."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from config.notifier import Gateway, Notifier
from config.transport import Transport
from config.units import Seconds
from daemons.context import Context
from daemons.relay.notices import Notices
from daemons.relay.resolver import Resolver
from storage import notifying
from storage.notifying import Kind, Queued
from storage.rows import Placement
from tests.conftest import Owner, Person
from tests.internet.authority import Authority
from tests.internet.dns import NameServer, name_server
from tests.internet.https import Page, WebServer, web_server
from tests.storage.messages_made import mailbox_id, new_message

HOST = "hooks.example.net"
TRACE = "00000000000000aa"
FACTS = {"id": "1f", "text": "Neue Post: 50 % & mehr"}


@dataclass
class Stage:
    """A web server, a DNS that names it, and an account whose notifications it gets."""

    context: Context
    owner: Owner
    person: Person
    names: NameServer
    pages: WebServer
    authority: str

    def url(self, path: str = "/hook") -> str:
        """An address of the server."""
        return f"https://{HOST}:{self.pages.port}{path}"

    def configure(self, **notifier: Any) -> None:
        """Change the section [notifier]. The loopback is no forbidden network, unless a test says so."""
        made: dict[str, Any] = {
            "private_networks": ["127.0.0.0/8"],
            "authority": self.authority,
            "retry_waits": [Seconds(0.02)],
            "timeout": Seconds(10),
        }
        settings = msgspec.structs.replace(self.context.settings, notifier=Notifier(**(made | notifier)))
        self.context = replace(self.context, settings=settings)

    async def queue(
        self, target: str, kind: Kind = "web", *, lifetime: float = 60.0, limit: int = 100, **options: Any
    ) -> None:
        """Have a message stored that is notified of."""
        effect = Queued(
            account_id=self.person.account_id,
            kind=kind,
            limit=limit,
            target=target,
            facts=json.dumps(FACTS),
            trace_id=TRACE,
            expires_at=datetime.now(UTC) + timedelta(seconds=lifetime),
            **options,
        )
        message = new_message(self.person, await mailbox_id(self.owner, self.person), b"Subject: x\r\n\r\n")
        await self.context.ingest.store([replace(message, effects=[effect])])

    @asynccontextmanager
    async def sending(self) -> AsyncIterator[Notices]:
        """As much of a relay process as sends notifications."""
        resolver, stopping = Resolver(self.context.settings.transport), asyncio.Event()
        notices = Notices(self.context, resolver)
        task = asyncio.create_task(notices.run(stopping))
        try:
            yield notices
        finally:
            stopping.set()
            await task
            await resolver.close()

    async def until(self, condition: str) -> None:
        """Wait until a condition of SQL holds."""
        async with asyncio.timeout(20):
            while not await self.owner.fetchval(f"SELECT {condition}"):
                await asyncio.sleep(0.01)

    async def ended(self) -> tuple[str, str]:
        """Send until the one notification ends: its state, and the reply that is kept."""
        async with self.sending():
            await self.until("state <> 'waiting' FROM notification")
        row = await self.owner.fetchrow("SELECT state, last_reply FROM notification")
        assert row is not None
        return row["state"], row["last_reply"]


@pytest.fixture
async def stage(context: Context, owner: Owner, account: Person, tmp_path: Path) -> AsyncIterator[Stage]:
    """A running server with nothing to say."""
    authority = Authority()
    tls = authority.issue(HOST, "127.0.0.1").server_context(tmp_path)
    async with name_server() as names, web_server(tls) as pages:
        names.add(HOST, "A", "127.0.0.1")
        transport = Transport(resolvers=[names.address], private_networks=["127.0.0.0/8"])
        context = replace(context, settings=msgspec.structs.replace(context.settings, transport=transport))
        opened = Stage(context, owner, account, names, pages, authority.file(tmp_path))
        opened.configure()
        yield opened


@contextmanager
def notes(stage: Stage) -> Iterator[list[dict[str, object]]]:
    """What the trace is told meanwhile."""
    found: list[dict[str, object]] = []
    yield found
    found += [dict(note.facts) for note in stage.context.recorder._waiting if note.kind == "notified"]


async def test_a_webhook_is_told_once(stage: Stage) -> None:
    """The server gets the facts as JSON, with a key that is the same for the same notification, and no second time."""
    stage.pages.pages[HOST, "/hook"] = Page(b"thanks")
    await stage.queue(stage.url())
    with notes(stage) as noted:
        assert await stage.ended() == ("sent", "status 200")
    (asked,) = stage.pages.requests
    assert (asked.method, asked.target, asked.headers["Content-Type"]) == ("POST", "/hook", "application/json")
    assert asked.headers["Idempotency-Key"] == "1f"
    assert json.loads(asked.body) == FACTS
    assert noted == [{"method": "web", "outcome": "sent", "target": HOST, "reply": "status 200"}]
    assert await stage.owner.fetchval("SELECT facts FROM notification") is None  # nobody needs it any more


async def test_what_a_server_cannot_take_now_is_sent_again(stage: Stage) -> None:
    """A server that is busy or failing is asked again, until it takes it."""
    page = stage.pages.pages[HOST, "/hook"] = Page(status=503)
    await stage.queue(stage.url())
    async with stage.sending():
        await stage.until("attempts >= 4 FROM notification")  # counted before it is asked: three were answered
        page.status = 204
        await stage.until("state = 'sent' FROM notification")
    assert len(stage.pages.requests) >= 4
    assert {asked.headers["Idempotency-Key"] for asked in stage.pages.requests} == {"1f"}


@pytest.mark.parametrize("status", [301, 400, 401, 404, 410])
async def test_what_a_server_refuses_is_not_sent_again(stage: Stage, status: int) -> None:
    """An answer that will not be another one ends it; a redirect is one: it might lead anywhere."""
    stage.pages.pages[HOST, "/hook"] = Page(status=status, location=stage.url("/elsewhere") if status == 301 else "")
    await stage.queue(stage.url())
    assert await stage.ended() == ("failed", f"status {status}")
    assert len(stage.pages.requests) == 1


async def test_a_notification_is_given_up_in_time(stage: Stage) -> None:
    """What cannot be sent within its lifetime is tried once more at its end, and no more."""
    stage.pages.pages[HOST, "/hook"] = Page(status=500)
    stage.configure(retry_waits=[Seconds(3600)])
    await stage.queue(stage.url())
    async with stage.sending():
        await stage.until("last_reply = 'status 500' FROM notification")
    assert await stage.owner.fetchval("SELECT next_attempt_at = expires_at FROM notification")
    await stage.owner.execute("UPDATE notification SET next_attempt_at = now(), expires_at = now()")
    assert await stage.ended() == ("failed", "given up: status 500")
    assert len(stage.pages.requests) == 2


async def test_a_server_may_ask_for_more_time(stage: Stage) -> None:
    """Retry-After makes a wait longer, never shorter."""
    stage.pages.pages[HOST, "/hook"] = Page(status=429, retry_after="1800")
    await stage.queue(stage.url(), lifetime=7200)
    async with stage.sending():
        await stage.until("last_reply = 'status 429' FROM notification")
    assert await stage.owner.fetchval("SELECT next_attempt_at > now() + interval '25 min' FROM notification")


@pytest.mark.parametrize(
    "target",
    [
        "https://{host}:{port}/hook",
        "https://127.0.0.1:{port}/hook",
        "https://127.1:{port}/hook",
        "https://2130706433:{port}/hook",
        "https://[::ffff:127.0.0.1]:{port}/hook",
        "http://{host}:{port}/hook",
    ],
)
async def test_users_cannot_reach_into_our_networks(stage: Stage, target: str) -> None:
    """A script's URL leads to no address that is not public, however it is spelled, even where gateways may go there."""
    stage.configure(private_networks=[])
    await stage.queue(target.format(host=HOST, port=stage.pages.port), lifetime=0.2)
    state, reply = await stage.ended()
    assert (state, reply.partition(":")[0]) == ("failed", "given up")
    assert not stage.pages.requests


async def test_one_dead_server_holds_up_nobody_else(stage: Stage) -> None:
    """So many requests of one account are under way at most; those of others go on meanwhile."""
    gate = asyncio.Event()
    stage.pages.pages[HOST, "/dead"] = Page(gate=gate)
    stage.pages.pages[HOST, "/hook"] = Page()
    stage.configure(account_at_once=2)
    for _ in range(5):
        await stage.queue(stage.url("/dead"))
    other = await stage.owner.fetchval(
        "INSERT INTO account (tenant_id, login, password_hash) VALUES ($1, 'bob@example.test', '') RETURNING account_id",
        stage.person.tenant_id,
    )
    async with stage.sending():
        await stage.until("count(*) = 2 FROM notification WHERE attempts = 1")
        await stage.owner.execute(
            "INSERT INTO notification (tenant_id, account_id, kind, target, facts, trace_id, expires_at) "
            "VALUES ($1, $2, 'web', $3, '{\"id\": \"2\"}', $4, now() + interval '1 h')",
            stage.person.tenant_id, other, stage.url(), TRACE,
        )  # fmt: skip
        await stage.owner.execute(f"SELECT pg_notify('{notifying.CHANNEL}', '')")
        await stage.until(f"state = 'sent' FROM notification WHERE account_id = {other}")
        assert stage.pages.asked[HOST, "/dead"] == 2
        gate.set()
        await stage.until("count(*) = 6 FROM notification WHERE state = 'sent'")


async def test_what_a_dead_process_held_is_sent_by_another(stage: Stage) -> None:
    """A lease ends by time; who comes back late settles nothing."""
    stage.pages.pages[HOST, "/hook"] = Page()
    await stage.queue(stage.url())
    async with stage.context.pool.acquire() as connection:
        (held,) = await notifying.lease(connection, 5, lease_seconds=0, busy=[], per_account=5)
    assert await stage.ended() == ("sent", "status 200")
    async with stage.context.pool.acquire() as connection:
        assert not await notifying.sent(connection, held, "too late", 75)
    assert await stage.owner.fetchval("SELECT sum(cost) FROM notification_count") == 0


@pytest.mark.parametrize(
    ("gateway", "expected"),
    [
        (
            {"body": '{"recipients": ["$digits"], "text": "$text"}', "headers": {"Authorization": "Bearer $secret"}},
            ("POST", "/send", b'{"recipients": ["491701234567"], "text": "Neue Post: 50 % & mehr"}', "Bearer s3cret"),
        ),
        (
            {
                "media_type": "application/x-www-form-urlencoded",
                "body": "To=$to&Body=$text&key=$secret",
                "headers": {"Authorization": "none"},
            },
            ("POST", "/send", b"To=%2B491701234567&Body=Neue%20Post%3A%2050%20%25%20%26%20mehr&key=s3cret", "none"),
        ),
        (
            {"method": "GET", "path": "/send?to=$to&message=$text&id=$id", "headers": {"Authorization": "none"}},
            ("GET", "/send?to=%2B491701234567&message=Neue%20Post:%2050%20%25%20%26%20mehr&id=1f", b"", "none"),
        ),
    ],
    ids=["json", "form", "query"],
)
async def test_gateways_are_asked_as_they_want(
    stage: Stage, tmp_path: Path, gateway: dict[str, Any], expected: tuple[str, str, bytes, str]
) -> None:
    """JSON, a form or a query: the template is filled in, each value escaped for its place, the secret from its file."""
    secret = tmp_path / "secret"
    secret.write_text("s3cret\n")
    stage.pages.pages[HOST, "/send"] = Page(b"OK")
    url = stage.url(gateway.pop("path", "/send"))
    stage.configure(gateways=[Gateway(url=url, secret_file=str(secret), price=75, **gateway)])
    await stage.queue("+491701234567", "sms", parts=2)
    assert await stage.ended() == ("sent", "status 200: OK")
    (asked,) = stage.pages.requests
    assert (asked.method, asked.target, asked.body, asked.headers["Authorization"]) == expected
    (count,) = await stage.owner.fetch("SELECT queued, sent, parts, cost FROM notification_count WHERE kind = 'sms'")
    assert tuple(count) == (1, 1, 2, 150)


async def test_a_gateway_may_refuse_in_its_words(stage: Stage) -> None:
    """Where a gateway tells failures with a status of success, its words decide, and nothing is charged."""
    stage.pages.pages[HOST, "/send"] = Page(b"ERROR 30: no credit")
    stage.configure(gateways=[Gateway(url=stage.url("/send"), accepted="^OK", price=75)])
    await stage.queue("+491701234567", "sms")
    assert await stage.ended() == ("failed", "not accepted: status 200: ERROR 30: no credit")
    assert await stage.owner.fetchval("SELECT cost FROM notification_count") == 0


async def test_plain_http_stays_in_our_networks(stage: Stage) -> None:
    """A gateway may be asked without TLS in networks of our own, and nowhere else."""
    async with web_server(None) as plain:
        plain.pages[HOST, "/send"] = Page()
        gateway = Gateway(url=f"http://{HOST}:{plain.port}/send")
        stage.configure(gateways=[gateway])
        await stage.queue("+491701234567", "sms")
        assert await stage.ended() == ("sent", "status 200")
        await stage.owner.execute("DELETE FROM notification")
        stage.names.add(HOST, "A", "203.0.113.5", ttl=0)
        transport = msgspec.structs.replace(stage.context.settings.transport, private_networks=["10.0.0.0/8"])
        stage.context = replace(
            stage.context, settings=msgspec.structs.replace(stage.context.settings, transport=transport)
        )
        await stage.queue("+491701234567", "sms", lifetime=0.2)
        assert (await stage.ended())[0] == "failed"
        assert len(plain.requests) == 1


async def test_a_limit_holds_between_processes(stage: Stage) -> None:
    """What goes beyond an account's limit of the day is not queued; the messages themselves are stored all the same."""
    box = await mailbox_id(stage.owner, stage.person)
    effects = [
        Queued(stage.person.account_id, "sms", 3, f"+4917012345{number:02}", "{}", TRACE, datetime.now(UTC))
        for number in range(8)
    ]
    messages = [
        replace(new_message(stage.person, box, b"x"), placements=[Placement(box)], effects=[each]) for each in effects
    ]
    await asyncio.gather(*(stage.context.ingest.store([each]) for each in messages))
    assert await stage.owner.fetchval("SELECT count(*) FROM notification") == 3
    assert await stage.owner.fetchval("SELECT count(*) FROM message") == 8
    await notifying.set_limit(stage.owner, stage.person.login, "sms", 4)
    await stage.context.ingest.store(messages[:1])
    await stage.context.ingest.store(messages[1:2])
    assert await stage.owner.fetchval("SELECT count(*) FROM notification") == 4
