"""A full database of the version before the filter pipeline, after the migrations: scripts, lessons and the queue go on."""

import asyncio
import smtplib

import msgspec

from config.database import Database
from config.settings import Settings
from config.smtp import Smtp
from daemons.context import Context, open_context
from daemons.keeper.expiry import Expiry
from daemons.keeper.quarantining import Quarantining
from daemons.keeper.service import Keeper
from daemons.spam_lessons import Lessons
from storage import forwards, mailboxes, messages, spam
from storage.embedded import Cluster
from storage.migrate import migrate, migrations
from storage.pool import Connection
from tests.conftest import Owner, Person, add_person
from tests.daemons.smtp.conftest import Intake, headless, serving
from tests.daemons.smtp.filed import deliver, queue, rules
from tests.filters.spam.letters import letter
from tests.upgrading import copy_back, earlier_database

_VERSION = 23  # migrations: those of this version are 0024 and what follows


def _send(place: tuple[str, int], recipient: str, message: bytes) -> None:
    with smtplib.SMTP(*place, local_hostname="client.example", timeout=20) as client:
        client.sendmail("anna@example.org", [recipient], message)


async def _clear(context: Context, connection: Connection) -> None:
    """All that the keeper does in an hour, with no respect for what is young."""
    never = asyncio.Event()
    limits = msgspec.structs.replace(context.settings.keeper, content_grace=0, segment_grace=0, queue_memory=0)
    await Keeper(limits, context.settings.segments_directory).round(connection, never)
    await Expiry(context.settings).round(connection, never)
    await Quarantining(context).round(connection, never)
    await Lessons(context).learn_waiting(connection)


async def test_a_full_database_of_the_version_before(
    intake: Intake, settings: Settings, owner: Owner, account: Person, database: str, cluster: Cluster
) -> None:
    """Old mail is there, an old script files new mail, what was learned counts, and what was queued is still to be sent."""
    bob = await add_person(settings, owner, "bob@example.test")
    await rules(owner, account, 'if header :contains "subject" "report" { fileinto :create "Reports"; }')
    await forwards.set_forward(owner, bob.login, ["bob@elsewhere.example"], keeps=True)
    letters = [letter(Subject=subject) for subject in ("first report", "second", "third report")]
    for octets in letters[:2]:
        assert (await deliver(intake, account.login, bob.login, message=octets))[0].startswith(b"250")
    queued = [row["forward_path"] for row in await queue(intake)]
    assert queued == ["bob@elsewhere.example"] * 2
    taught = spam.Whose(account.tenant_id, account.account_id)
    assert await spam.learn(owner, taught, b"d" * 32, [1, 2, 3], is_spam=True, version=1)
    async with earlier_database(cluster, _VERSION) as dsn:
        await copy_back(database, dsn)
        assert await migrate(dsn) == [migration.name for migration in migrations()[_VERSION:]]
        own = msgspec.structs.replace(
            settings, database=Database(dsn=dsn, owner_dsn=dsn, pool_size=4), smtp=Smtp(filters=["lists", "mime"])
        )
        async with open_context(own) as context, context.pool.acquire() as connection:
            async with serving(context) as endpoints:
                await asyncio.to_thread(_send, endpoints["smtp"], account.login, letters[2])
            await _clear(context, connection)
            for name, expected in (("INBOX", letters[1:2]), ("Reports", letters[::2])):
                mailbox = await mailboxes.find(connection, account.account_id, name)
                assert mailbox is not None
                _, rows = await messages.snapshot(connection, mailbox.mailbox_id)
                assert [headless(await context.blobs.message(row.content_id)) for row in rows] == expected
            learned = (await spam.counts(context.pool, taught, [1, 2, 3]))[-1]
            assert learned.counts == {1: (1, 0), 2: (1, 0), 3: (1, 0)}
            waiting = await connection.fetch("SELECT forward_path FROM outbound_recipient WHERE state = 'waiting'")
            assert [row[0] for row in waiting] == queued
