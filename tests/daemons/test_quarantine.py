"""The quarantine: what lies there, how it is released, and what people are told of it."""

import asyncio
import email
import email.policy
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from typing import Any

import msgspec
import pytest

from config.keeper import Keeper as KeeperSettings
from config.quarantine import Quarantine as Settings
from config.units import Seconds
from daemons.context import Context
from daemons.delivery import prepare
from daemons.keeper.quarantining import Quarantining
from daemons.keeper.service import Keeper
from daemons.quarantine import Quarantines, release
from daemons.releasing import Releasing
from filters.pipeline import Decision, Result, decide
from filters.verdict import Junk, Quarantine
from storage import accounts, quarantine, scripts
from storage.errors import NotFoundError
from storage.quarantine import Kept, Policy, Quarantined, Told
from storage.rows import Placement
from storage.scripts import Bounds
from tests.conftest import Owner, Person, add_person
from tests.daemons.test_keeper import with_keeper
from tests.mails import CORPORA, as_sent
from tests.storage.messages_made import assert_counters_true, mailbox_id

HEAD = (
    b"Return-Path: <bob@example.net>\r\nX-Virus-Status: infected (Eicar)\r\nReceived: from mx by mail.example.test\r\n"
)
ORIGINAL = (
    b"From: =?utf-8?q?B=C3=B6b?= <bob@example.net>\r\nTo: alice@example.test\r\n"
    b"Subject: see https://bank.example/login or www.bank.example\r\n\r\nHello.\r\n"
)
TRACE = "00000000000000aa"
RECEIVED = datetime.now(UTC).replace(microsecond=0) - timedelta(days=2)
RETENTION = 30 * 86400.0


async def put(
    context: Context, person: Person, original: bytes = ORIGINAL, reason: str = "virus: Eicar", **changes: Any
) -> None:
    """Have a message put into quarantine, as delivery does it."""
    facts: dict[str, Any] = {
        "tenant_id": person.tenant_id,
        "account_id": person.account_id,
        "reason": reason,
        "reverse_path": "bob@example.net",
        "forward_path": person.login,
        "trace_id": TRACE,
        "received_at": RECEIVED,
    }
    message = await prepare(person.tenant_id, HEAD, original, [])
    await context.ingest.store([replace(message, effects=[Quarantined(**(facts | changes))])])


async def listed(owner: Owner) -> list[Kept]:
    """What is in quarantine, the oldest first."""
    return list(reversed(await quarantine.list_kept(owner, RETENTION, 100)))


async def inbox(context: Context, owner: Owner, person: Person) -> list[bytes]:
    """What lies in somebody's inbox."""
    rows = await owner.fetch(
        "SELECT content_id FROM message JOIN mailbox USING (mailbox_id) WHERE account_id = $1 AND name = 'INBOX' ORDER BY uid",
        person.account_id,
    )
    return [await context.blobs.message(row["content_id"]) for row in rows]


async def test_a_released_message_is_what_would_have_come(context: Context, owner: Owner, account: Person) -> None:
    """It lies in the inbox octet for octet, with the day it came, unseen and searchable; and it is in quarantine no more."""
    await put(context, account)
    (kept,) = await listed(owner)
    assert (kept.login, kept.subject, kept.reason) == (
        "alice@example.test", "see https://bank.example/login or www.bank.example", "virus: Eicar"
    )  # fmt: skip
    assert not await inbox(context, owner, account)
    await release(context, kept)
    assert await inbox(context, owner, account) == [HEAD + ORIGINAL]
    row = await owner.fetchrow("SELECT flags, internaldate, content_id FROM message")
    assert row is not None
    assert (row["flags"], row["internaldate"]) == (0, RECEIVED)
    assert await owner.fetchval("SELECT true FROM search_waiting WHERE content_id = $1", row["content_id"])
    assert not await listed(owner)
    await assert_counters_true(owner)


@pytest.mark.parametrize("name", ["large-attachment", "nested"])
async def test_large_messages_are_released_whole(context: Context, owner: Owner, account: Person, name: str) -> None:
    """Octets that are stored apart (large attachments) are where they were."""
    original = b"From: a@b\r\nContent-Type: application/octet-stream\r\nContent-Transfer-Encoding: base64\r\n\r\n"
    original += (b"QUFB" * 19 + b"\r\n") * 8000
    if name == "nested":
        original = as_sent(max(CORPORA.rglob("*.eml"), key=lambda path: path.stat().st_size))
    await put(context, account, original)
    await release(context, (await listed(owner))[0])
    assert await inbox(context, owner, account) == [HEAD + original]


async def test_a_message_is_released_once(context: Context, owner: Owner, account: Person) -> None:
    """Who releases at the same moment as somebody else, or after a deletion, delivers nothing."""
    await put(context, account)
    (kept,) = await listed(owner)
    outcomes = await asyncio.gather(*(release(context, kept) for _ in range(5)), return_exceptions=True)
    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["NoneType", *["NotFoundError"] * 4]
    assert len(await inbox(context, owner, account)) == 1
    await put(context, account)
    (kept,) = await listed(owner)
    await quarantine.delete(owner, kept.quarantine_id)
    with pytest.raises(NotFoundError):
        await release(context, kept)
    assert len(await inbox(context, owner, account)) == 1


async def test_the_keeper_leaves_what_is_in_quarantine(context: Context, owner: Owner, account: Person) -> None:
    """A content that only the quarantine refers to stays; when it is deleted, or its owner, the content goes."""
    settings = KeeperSettings(content_grace=Seconds(0))
    keeper = Keeper(settings, context.settings.segments_directory)
    await put(context, account)
    assert (await keeper.round(owner, asyncio.Event())).contents == 0
    await quarantine.delete(owner, (await listed(owner))[0].quarantine_id)
    assert (await keeper.round(owner, asyncio.Event())).contents == 1
    bob = await add_person(context.settings, owner, "bob@example.test")
    await put(context, bob)
    await accounts.remove_account(owner, bob.login)
    assert not await listed(owner)
    assert (await keeper.round(owner, asyncio.Event())).contents == 1


async def test_messages_go_in_time(context: Context, owner: Owner, account: Person) -> None:
    """What waits for longer than configured, or than the tenant wants, is deleted, in portions; the trace says so."""
    context = with_keeper(context, KeeperSettings(batch_limit=2))
    now = datetime.now(UTC)
    for days in (1, 8, 29, 31, 40):
        await put(context, account, received_at=now - timedelta(days=days))
    keeping = Quarantining(context)
    async with context.pool.acquire() as connection:  # with the keeper's rights
        assert (await keeping.round(connection, asyncio.Event())).forgotten == 2
        noted = [note.facts["reason"] for note in context.recorder._waiting if note.kind == "deleted"]
        assert noted == ["its time in quarantine is over"] * 2
        await quarantine.choose(owner, "example", Policy(days=7))
        assert (await keeping.round(connection, asyncio.Event())).forgotten == 2
    (kept,) = await listed(owner)
    assert kept.expires_at == kept.received_at + timedelta(days=7)


async def digests(context: Context, owner: Owner, person: Person) -> list[EmailMessage]:
    """The notices in somebody's inbox."""
    return [
        email.message_from_bytes(octets, policy=email.policy.default) for octets in await inbox(context, owner, person)
    ]


@pytest.mark.parametrize("language", ["de", "en"])
async def test_people_are_told_in_their_language(
    context: Context, owner: Owner, account: Person, language: str
) -> None:
    """The notice names number, sender, subject, reason and how long it is kept, and whom to ask; no link can be followed."""
    await accounts.set_language(owner, "example", language)
    await put(context, account)
    await put(context, account, b"\r\n", reason="DMARC policy of bank.example", reverse_path="")
    numbers = [kept.quarantine_id for kept in await listed(owner)]
    assert (await Quarantining(context).round(owner, asyncio.Event())).told == 1
    (notice,) = await digests(context, owner, account)
    text = notice.get_content().replace("\r\n", "\n")
    assert notice["To"].addresses[0].addr_spec == "alice@example.test"
    assert notice["Auto-Submitted"] == "auto-generated"
    assert "Böb <bob@example.net>" in text
    assert "see https[:]//bank.example/login or www[.]bank.example" in text
    assert "postmaster@mail.example.test" in text
    until = RECEIVED + timedelta(seconds=RETENTION)
    if language == "de":
        assert notice["Subject"] == "2 Nachrichten in Quarantäne"
        assert f"Nr. {numbers[0]}, {RECEIVED:%d.%m.%Y %H:%M} UTC, aufbewahrt bis {until:%d.%m.%Y}" in text
        assert "Grund: Virus: Eicar" in text
        assert "Von: (nichts)\nBetreff: (nichts)\nGrund: DMARC-Richtlinie von bank.example" in text
    else:
        assert notice["Subject"] == "2 messages in quarantine"
        assert f"No. {numbers[0]}, {RECEIVED:%Y-%m-%d %H:%M} UTC, kept until {until:%Y-%m-%d}" in text
        assert "Reason: virus: Eicar" in text
        assert "From: (none)\nSubject: (none)\nReason: DMARC policy of bank.example" in text


async def test_people_are_told_once_and_not_too_often(context: Context, owner: Owner, account: Person) -> None:
    """A second notice comes when the first is a day old, and tells of what is new; rounds without news tell nothing."""
    keeping, stopping = Quarantining(context), asyncio.Event()
    await put(context, account)
    assert (await keeping.round(owner, stopping)).told == 1
    await put(context, account, reason="attachment: evil.exe")
    assert (await keeping.round(owner, stopping)).told == 0  # not so soon
    await owner.execute("UPDATE account SET quarantine_told_at = now() - interval '25 h'")
    assert (await keeping.round(owner, stopping)).told == 1
    first, second = await digests(context, owner, account)
    assert "Eicar" in first.get_content()
    assert "evil.exe" in second.get_content()
    assert "Eicar" not in second.get_content()
    await owner.execute("UPDATE account SET quarantine_told_at = now() - interval '25 h'")
    assert (await keeping.round(owner, stopping)).told == 0


async def test_two_keepers_tell_once(context: Context, owner: Owner, account: Person) -> None:
    """Of two notices of the same messages the second is not stored."""
    await put(context, account)
    (kept,) = await listed(owner)
    told = Told(account.account_id, (kept.quarantine_id,))
    notice = await prepare(account.tenant_id, b"", b"Subject: notice\r\n\r\n", [])
    await context.ingest.store([replace(notice, effects=[told])])
    with pytest.raises(quarantine.AlreadyToldError):
        await context.ingest.store([replace(notice, effects=[told])])
    assert await owner.fetchval("SELECT count(*) FROM content WHERE subject = 'notice'") == 1


async def test_a_tenant_may_want_no_notices(context: Context, owner: Owner, account: Person) -> None:
    """Where notices are off nobody is told; who cannot be told, disabled or without an address, does not stop the others."""
    await quarantine.choose(owner, "example", Policy(notice_seconds=0))
    await put(context, account)
    assert (await Quarantining(context).round(owner, asyncio.Event())).told == 0
    await quarantine.choose(owner, "example", Policy())
    bob = await add_person(context.settings, owner, "bob@example.test")
    await put(context, bob)
    await owner.execute("UPDATE address SET local_part = '' WHERE account_id = $1", account.account_id)
    await put(context, account)
    carol = await add_person(context.settings, owner, "carol@example.test")
    await put(context, carol)
    await owner.execute("UPDATE account SET is_disabled = true WHERE account_id = $1", carol.account_id)
    assert (await Quarantining(context).round(owner, asyncio.Event())).told == 1
    assert len(await inbox(context, owner, bob)) == 1


def decision(**verdicts: Quarantine | Junk) -> Decision:
    """What filters of these names come to."""
    return decide([Result(name, (verdict,), 0.0) for name, verdict in verdicts.items()])


async def test_whose_quarantine_is_junk(context: Context, owner: Owner, account: Person) -> None:
    """Each filter's quarantine is there or in Junk, as the tenant wants; where one of several means it, the reason is its own."""
    quarantines = Quarantines(context)
    forged, infected = Quarantine("DMARC policy of example.net"), Quarantine("virus: Eicar")

    async def placed(**verdicts: Quarantine | Junk) -> tuple[str | None, str | None]:
        found = await quarantines.placed(account.tenant_id, decision(**verdicts))
        return (
            found.quarantine.reason if found.quarantine is not None else None,
            found.junk.reason if found.junk is not None else None,
        )

    assert await placed(spam=Junk("score")) == (None, "score")
    assert await placed(authentication=forged) == (None, forged.reason)  # as configured
    assert await placed(authentication=forged, antivirus=infected) == (infected.reason, None)
    await quarantine.choose(owner, "example", Policy(junk=frozenset({"antivirus"})))
    assert await placed(authentication=forged) == (forged.reason, None)
    assert await placed(antivirus=infected) == (None, infected.reason)
    await quarantine.choose(owner, "example", Policy(junk=frozenset()))
    assert await placed(antivirus=infected) == (infected.reason, None)
    await quarantine.choose(owner, "example", Policy())
    settings = msgspec.structs.replace(context.settings, quarantine=Settings(junk=[]))
    quarantines = Quarantines(replace(context, settings=settings))
    assert await placed(authentication=forged) == (forged.reason, None)


async def test_a_message_goes_to_quarantine_and_inbox_of_two(context: Context, owner: Owner, account: Person) -> None:
    """One content may lie in the quarantine of one account and in the inbox of another."""
    bob = await add_person(context.settings, owner, "bob@example.test")
    box = await mailbox_id(owner, bob)
    message = await prepare(account.tenant_id, HEAD, ORIGINAL, [])
    effect = Quarantined(account.tenant_id, account.account_id, "spam", "", account.login, TRACE, RECEIVED)
    await context.ingest.store([replace(message, placements=[Placement(box)], effects=[effect])])
    assert await inbox(context, owner, bob) == [HEAD + ORIGINAL]
    await release(context, (await listed(owner))[0])
    assert await inbox(context, owner, account) == [HEAD + ORIGINAL]


async def by_rules(context: Context, owner: Owner, account: Person, script: bytes) -> list[str]:
    """Release the one message in quarantine by these rules."""
    await scripts.put(owner, account.account_id, "rules", script, Bounds(10, 1 << 20))
    await scripts.activate(owner, account.account_id, "rules")
    releasing = Releasing(context)
    try:
        return await releasing.release((await listed(owner))[0])
    finally:
        releasing.close()


async def test_rules_may_be_asked(context: Context, owner: Owner, account: Person) -> None:
    """Released by the rules of who gets it a message is filed, sent on and notified of, and is in quarantine no more."""
    await put(context, account)
    script = b'require ["fileinto", "copy"]; redirect :copy "carol@example.org"; fileinto "Archive";'
    done = await by_rules(context, owner, account, script)
    assert "filed into 'Archive'" in done
    row = await owner.fetchrow("SELECT name, content_id FROM message JOIN mailbox USING (mailbox_id)")
    assert row is not None
    assert row["name"] == "Archive"
    assert await context.blobs.message(row["content_id"]) == HEAD + ORIGINAL
    assert await owner.fetchval("SELECT forward_path FROM outbound_recipient") == "carol@example.org"
    assert not await listed(owner)
    await assert_counters_true(owner)


async def test_rules_see_the_envelope_of_what_is_released(context: Context, owner: Owner, account: Person) -> None:
    """From whom, who logged in, to whom, and to whom first: as they would have seen it without the quarantine."""
    await put(context, account, sender_login="bob@example.test", orcpt="rfc822;team@example.test")
    script = (
        b'require "envelope"; if allof (envelope :is "auth" "bob@example.test", '
        b'envelope :is "from" "bob@example.net", envelope :is "to" "alice@example.test", '
        b'envelope :is "orig_to" "team@example.test") { discard; }'
    )
    assert await by_rules(context, owner, account, script) == ["discarded"]


@pytest.mark.parametrize(
    ("script", "count"), [(b"discard;", 0), (b"keep;", 1), (b'require "reject"; reject "No.";', 0)]
)
async def test_rules_may_want_nothing_of_it(
    context: Context, owner: Owner, account: Person, script: bytes, count: int
) -> None:
    """What a rule discards or rejects is nowhere afterwards; no rule decides twice."""
    await put(context, account)
    kept = (await listed(owner))[0]
    await by_rules(context, owner, account, script)
    assert len(await inbox(context, owner, account)) == count
    assert not await listed(owner)
    releasing = Releasing(context)
    with pytest.raises(NotFoundError):
        await releasing.release(kept)
    releasing.close()
    assert len(await inbox(context, owner, account)) == count
