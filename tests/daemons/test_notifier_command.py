"""`postwerk notifier`."""

import json
import os
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from config.loader import dump
from config.notifier import Gateway, Notifier
from config.settings import Settings
from config.transport import Transport
from daemons.context import Context
from daemons.delivery import prepare
from storage import notifying
from storage.notifying import Queued
from tests.daemons.test_cli import Ended, Postwerk, configuration, populated, postwerk
from tests.daemons.test_quarantine_command import alice
from tests.daemons.test_queue_command import within
from tests.end_to_end.test_notifier_crash import gateway

__all__ = ["configuration", "populated", "postwerk"]  # fixtures

HOOK = "https://hooks.example.net/services/secret"


@pytest.fixture
def filled(populated: Postwerk, settings: Settings) -> Postwerk:
    """A webhook of alice that waits, and an SMS that was sent as two parts for 0.15."""

    async def fill(context: Context) -> None:
        person, expires_at = await alice(context), datetime.now(UTC) + timedelta(hours=1)
        sms = Queued(person.account_id, "sms", 9, "+491701234567", "{}", "00000000000000aa", expires_at, parts=2)
        web = Queued(person.account_id, "web", 9, HOOK, "{}", "00000000000000ab", expires_at)
        message = await prepare(person.tenant_id, b"", b"Subject: x\r\n\r\n", [])
        await context.ingest.store([replace(message, effects=[sms])])
        async with context.pool.acquire() as connection:
            (leased,) = await notifying.lease(connection, 9, lease_seconds=60, busy=[], per_account=9)
            await notifying.sent(connection, leased, "status 200", 150)
        await context.ingest.store([replace(message, effects=[web])])

    within(settings, fill)
    return populated


def test_list(filled: Postwerk) -> None:
    """What waits and what ended, without the part of a webhook's address that is as good as a password."""
    text = filled("notifier", "list")
    assert "hooks.example.net" in text
    assert "services" not in text
    rows = json.loads(filled("notifier", "list", "--json"))
    assert [(row["kind"], row["target"], row["state"]) for row in rows] == [
        ("web", "hooks.example.net", "waiting"),
        ("sms", "+491701234567", "sent"),
    ]


def test_costs(filled: Postwerk) -> None:
    """What an account caused in a month, and what that cost, after the account is gone, too."""
    login = json.loads(filled("notifier", "list", "--json"))[0]["login"]
    for is_removed in (False, True):
        if is_removed:
            filled("account", "remove", login, "--yes")
        rows = json.loads(filled("notifier", "costs", "--json"))
        assert [(row["kind"], row["queued"], row["sent"], row["parts"], row["cost"]) for row in rows] == [
            ("sms", 1, 1, 2, 150),
            ("web", 1, 0, 0, 0),
        ]
        assert {row["login"] for row in rows} == {login}
    assert "0.150" in filled("notifier", "costs")
    assert json.loads(filled("notifier", "costs", "2020-12", "--json")) == []
    with pytest.raises(Ended, match="no month"):
        filled("notifier", "costs", "yesterday")


def test_limits(filled: Postwerk) -> None:
    """Limits of an account's own are set, listed and taken back."""
    login = json.loads(filled("notifier", "list", "--json"))[0]["login"]
    filled("notifier", "limit", login, "--sms", "0", "--web", "7")
    rows = json.loads(filled("notifier", "limit", "--json"))
    assert [(row["kind"], row["per_day"]) for row in rows] == [("sms", 0), ("web", 7)]
    filled("notifier", "limit", login, "--sms", "default")
    assert [row["kind"] for row in json.loads(filled("notifier", "limit", "--json"))] == ["web"]
    with pytest.raises(Ended) as ended:
        filled("notifier", "limit", login)
    assert ended.value.code == os.EX_USAGE
    with pytest.raises(Ended) as ended:
        filled("notifier", "limit", "nobody@example.test", "--sms", "1")
    assert ended.value.code == os.EX_NOUSER
    with pytest.raises(Ended):
        filled("notifier", "limit", login, "--sms", "many")


def test_test(populated: Postwerk, configuration: Path, settings: Settings) -> None:
    """A gateway can be tried out: what it answers is shown, and nothing is counted."""
    with gateway() as (port, taken):
        notifier = Notifier(gateways=[Gateway(url=f"http://127.0.0.1:{port}/", prefixes=["+49"])])
        transport = Transport(private_networks=["127.0.0.0/8"])
        configuration.write_text(dump(msgspec.structs.replace(settings, notifier=notifier, transport=transport)))
        assert populated("notifier", "test", "+49 170 1234567", "Hallo") == "sent: status 200\n"
        assert taken == [{"to": "+491701234567", "text": "Hallo"}]
    with pytest.raises(Ended) as ended:
        populated("notifier", "test", "+491701234567")
    assert ended.value.code == os.EX_UNAVAILABLE
    with pytest.raises(Ended, match="nothing can be sent there"):
        populated("notifier", "test", "+431234567")
    assert json.loads(populated("notifier", "costs", "--json")) == []
