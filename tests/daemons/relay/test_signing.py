"""The signer of the relay: whose keys sign, what independent verifiers say, and that large messages hold nobody up."""

import asyncio
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec
import pytest

from config.units import Octets
from daemons.context import Context
from daemons.relay.signing import Signer
from daemons.signing_keys import add_new_key
from storage import accounts, signing
from storage.errors import NotFoundError
from storage.rows import ContentFacts, NewMessage
from tests.conftest import Owner, Person
from tests.daemons.relay.signatures import (
    ALGORITHMS,
    TODAY,
    dkimpy_verifies,
    make_keys,
    needs_mail_dkim,
    pieces_of,
    publish,
    verify,
)
from tests.hearing import until_heard
from tests.internet.dns import name_server
from tests.mails import CORPORA, as_sent

FACTS = ContentFacts(b"()", b"()", b"\x90", b"", None, None, "", ())
MAIL = b"From: Alice <alice@%s>\r\nTo: bob@example.org\r\nSubject: x\r\n\r\nHello,\r\n\r\n  world.\r\n"


@contextmanager
def signer_of(context: Context) -> Iterator[Signer]:
    """A signer for one test."""
    signer = Signer(context)
    yield signer
    signer.close()


def domains(fields: bytes) -> list[tuple[bytes, bytes]]:
    """(a=, d=) of the signatures."""
    return re.findall(rb"(?s) a=([^;]*);.*?\sd=([^;]*);", fields)


@needs_mail_dkim
@pytest.mark.parametrize(
    "name",
    ["mimekit-dkim/gmail.msg", "nodemailer-mailparser/nodemailer.eml", "webklex-php-imap/issue-275.eml", ""],
)
async def test_mail_dkim_verifies_what_we_sign(context: Context, owner: Owner, account: Person, name: str) -> None:
    """Signed mail verifies with Mail::DKIM, which shares no line with us, by the records that we print for the DNS."""
    message = (
        MAIL % b"example.test"
        if not name
        else b"From: alice@example.test\r\n"
        + re.sub(rb"(?im)^(From|Sender|DKIM-Signature):.*\r\n(?:[ \t].*\r\n)*", b"", as_sent(CORPORA / name))
    )
    await make_keys(context, owner, "example.test")
    async with name_server() as names:
        await publish(names, context, owner, "example.test")
        with signer_of(context) as signer:
            fields = await signer.fields(account.tenant_id, pieces_of(message), account_id=1)
        assert "rsa-sha256 pass" in await verify(names, fields + message)
        assert "rsa-sha256 pass" not in await verify(names, fields + message + b"P.S.\r\n")


async def test_stock_dkimpy_verifies_by_the_printed_records(context: Context, owner: Owner, account: Person) -> None:
    """Both signatures verify with dkimpy, which gets the keys from the records that we print for the DNS."""
    await make_keys(context, owner, "example.test")
    message = MAIL % b"example.test"
    with signer_of(context) as signer:
        fields = await signer.fields(account.tenant_id, pieces_of(message, 11), account_id=account.account_id)
    async with name_server() as names:
        assert dkimpy_verifies(await publish(names, context, owner, "example.test"), fields + message)


async def test_the_author_decides(context: Context, owner: Owner, account: Person) -> None:
    """The domain of From signs if it is the tenant's, or one above it; nobody else's domain does, and no missing key."""
    await accounts.add_domain(owner, "example", "müller.test")
    other = await accounts.add_tenant(owner, "other", context.keys.new_tenant_key())
    await accounts.add_domain(owner, "other", "other.test")
    for domain in ("example.test", "müller.test", "other.test"):
        await make_keys(context, owner, domain)
    rsa, ed25519 = (name.encode() for name in ALGORITHMS)
    expected: dict[bytes, bytes | None] = {
        b"From: a@example.test": b"example.test",
        b"From: A <a@Example.TEST>": b"example.test",
        b"From: a@news.eu.example.test": b"example.test",
        "From: a@müller.test".encode(): b"xn--mller-kva.test",
        b"From: a@xn--mller-kva.test": b"xn--mller-kva.test",
        b"From: a@other.test, b@example.test": b"example.test",
        b"From: a@elsewhere.test\r\nSender: b@example.test": b"example.test",
        b"From: a@other.test": None,
        b"From: a@test": None,
        b"From: a@example.test.elsewhere.test": None,
        b"From: nobody": None,
        b"Subject: x": None,
    }
    with signer_of(context) as signer:
        for header, author in expected.items():
            fields = await signer.fields(account.tenant_id, pieces_of(header + b"\r\n\r\nx\r\n"), account_id=1)
            assert domains(fields) == ([(rsa, author), (ed25519, author)] if author else []), header
        fields = await signer.fields(other, pieces_of(b"From: a@example.test\r\n\r\n"), account_id=1)
        assert fields == b""


async def test_our_own_name_is_signed_for_everybody(context: Context, owner: Owner, account: Person) -> None:
    """Reports in the host's name are signed by its domain, whichever tenant they are about; other names of that domain are not."""
    other = await accounts.add_tenant(owner, "other", context.keys.new_tenant_key())
    await make_keys(context, owner, "example.test")
    with signer_of(context) as signer:
        report = b"From: MAILER-DAEMON@mail.example.test\r\n\r\n"
        assert b" d=example.test;" in await signer.fields(other, pieces_of(report), account_id=None)
        assert await signer.fields(other, pieces_of(b"From: a@example.test\r\n\r\n"), account_id=1) == b""


async def test_only_active_keys_sign(context: Context, owner: Owner, account: Person) -> None:
    """A published key does not sign yet, an activated one does at once, in place of the one before, a destroyed one no more."""
    await make_keys(context, owner, "example.test", is_active=False)
    message = MAIL % b"example.test"
    with signer_of(context) as signer:

        async def selectors() -> list[str]:
            fields = await signer.fields(account.tenant_id, pieces_of(message), account_id=1)
            return re.findall(r"\ss=([^;]*);", fields.decode())

        async def until(expected: list[str]) -> None:
            async with asyncio.timeout(20):
                while await selectors() != expected:
                    await asyncio.sleep(0)

        assert await selectors() == []
        rsa, ed25519 = await signing.list_keys(owner, "example.test")
        await signing.activate(owner, rsa.key_id)
        await until(["pw20261122r"])
        await signing.activate(owner, ed25519.key_id)
        await until(["pw20261122r", "pw20261122e"])
        await add_new_key(
            owner,
            context.keys,
            context.settings.dkim,
            "example.test",
            "rsa-sha256",
            is_delegated=False,
            today=TODAY,
        )
        successor = (await signing.list_keys(owner, "example.test"))[-1]
        await signing.activate(owner, successor.key_id)
        await until(["pw20261122r2", "pw20261122e"])
        await signing.retire(owner, ed25519.key_id)
        await until(["pw20261122r2"])
    assert await owner.fetchval("SELECT count(*) FROM dkim_key WHERE wrapped_key IS NOT NULL") == 1


async def test_a_content_is_signed_once(context: Context, owner: Owner, account: Person) -> None:
    """The signature of a stored message is over its original octets, and made once for many destinations."""
    await make_keys(context, owner, "example.test")
    message = MAIL % b"example.test" + b"line\r\n" * 40_000
    await context.ingest.store([NewMessage(account.tenant_id, b"Received: x\r\n", message, FACTS, [])])
    content_id = await owner.fetchval("SELECT content_id FROM content")
    with signer_of(context) as signer:
        await until_heard(context)  # of the keys: it begins anew then
        made = await asyncio.gather(
            *(signer.content_fields(account.tenant_id, content_id, account.account_id) for _ in range(5))
        )
        assert made[0]
        assert made == [made[0]] * 5
        assert await signer.content_fields(account.tenant_id, content_id, account.account_id) is made[0]
        whole = await signer.fields(account.tenant_id, pieces_of(message), account_id=1)
        assert re.findall(rb"bh=[^;]*", whole) == re.findall(rb"bh=[^;]*", made[0])


async def test_a_large_message_does_not_hold_up_the_loop(context: Context, owner: Owner, account: Person) -> None:
    """While tens of megabytes are hashed, the loop goes on turning: what it is kept waiting for is a fraction of the work."""
    await make_keys(context, owner, "example.test")
    message = MAIL % b"example.test" + b"The quick brown  fox jumps over \t the lazy dog. \r\n" * 600_000  # 29 MB
    turns, longest, done = 0, 0.0, asyncio.Event()

    async def turn() -> None:
        nonlocal turns, longest
        while not done.is_set():
            start = time.process_time()  # what else runs on this machine does not count
            await asyncio.sleep(0.001)
            longest, turns = max(longest, time.process_time() - start), turns + 1

    with signer_of(context) as signer:
        await signer.fields(account.tenant_id, pieces_of(MAIL % b"example.test"), account_id=1)  # keys are known
        turning = asyncio.create_task(turn())
        start = time.process_time()
        fields = await signer.fields(account.tenant_id, pieces_of(message), account_id=1)
        taken = time.process_time() - start
        done.set()
        await turning
    assert fields
    assert turns > 20
    assert longest < max(taken / 3, 0.1), f"{longest:.3f} s of {taken:.3f} s in {turns} turns"


async def test_small_pieces_are_gathered(context: Context, owner: Owner, account: Person) -> None:
    """A message in many small pieces gives the same signature as whole, whatever the limit for the loop."""
    await make_keys(context, owner, "example.test")
    message = MAIL % b"example.test" + b"a  b \r\n" * 5000
    settings = msgspec.structs.replace(
        context.settings, dkim=msgspec.structs.replace(context.settings.dkim, inline_limit=Octets(100))
    )
    small = Context(settings, *(getattr(context, name) for name in Context.__slots__[1:]))
    hashes = []
    for which, size in ((context, 1 << 20), (context, 50), (small, 70)):
        with signer_of(which) as signer:
            hashes.append(
                re.findall(rb"bh=[^;]*", await signer.fields(account.tenant_id, pieces_of(message, size), account_id=1))
            )
    assert hashes[0]
    assert hashes == [hashes[0]] * 3


async def test_what_cannot_be_signed_leaves_unsigned(context: Context, owner: Owner, account: Person) -> None:
    """A message that is one endless header section is sent as it is."""
    await make_keys(context, owner, "example.test")
    with signer_of(context) as signer:
        assert (
            await signer.fields(
                account.tenant_id, pieces_of(b"From: a@example.test\r\nX: " + b"a" * (3 << 20)), account_id=1
            )
            == b""
        )


async def test_what_is_passed_on_is_not_signed(context: Context, owner: Owner, account: Person) -> None:
    """A message that nobody here submitted and that came from elsewhere may say anything in From; our own reports are signed."""
    await make_keys(context, owner, "example.test")
    message, received = MAIL % b"example.test", b"Received: from elsewhere by us\r\n"
    with signer_of(context) as signer:

        async def is_signed(account_id: int | None, head: bytes, original: bytes) -> bool:
            fields = await signer.fields(account.tenant_id, pieces_of(original), account_id=account_id, head=head)
            return fields != b""

        assert await is_signed(account.account_id, received, message)
        assert await is_signed(account.account_id, b"", received + message)
        assert await is_signed(None, b"Return-Path: <>\r\n", message)
        assert not await is_signed(None, b"Return-Path: <>\r\n" + received, message)
        assert not await is_signed(None, b"", received + message)
        assert not await is_signed(None, b"", received + message + b"line\r\n" * 40_000)
        stored = NewMessage(account.tenant_id, received, message, FACTS, [])
        await context.ingest.store([stored])
        content_id = await owner.fetchval("SELECT content_id FROM content")
        assert await signer.content_fields(account.tenant_id, content_id, account.account_id)
        assert not await signer.content_fields(account.tenant_id, content_id, None)


async def test_a_lost_message_is_told_to_who_waits(context: Context, owner: Owner, account: Person) -> None:
    """A content that does not exist fails for everybody who asks, each time, and leaves nothing behind."""
    with signer_of(context) as signer:
        for _ in range(2):
            asked = [signer.content_fields(account.tenant_id, 12345, account.account_id) for _ in range(3)]
            found = await asyncio.gather(*asked, return_exceptions=True)
            assert [type(each) for each in found] == [NotFoundError] * 3
        waiting = asyncio.create_task(signer.content_fields(account.tenant_id, 12345, account.account_id))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        with pytest.raises(NotFoundError):
            await signer.content_fields(account.tenant_id, 12345, account.account_id)
