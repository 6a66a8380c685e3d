"""The envelope stage as clients meet it: who is refused at the greeting and at RCPT, for whom, and what the trace says of it."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from prometheus_client import REGISTRY

from config.authenticity import Authenticity
from config.dnslists import DnsList, DnsLists
from config.envelope import Envelope, Greylisting, PolicyService, Rates
from config.transport import Transport
from config.units import Seconds
from daemons.envelope import build_policing
from daemons.filtering import build_pipeline
from daemons.smtp.policing import Policing
from storage import greylist, listed_senders, spam_standing
from storage.accounts import add_account, add_address, add_domain, add_tenant
from storage.blobs.keys import KeyRing
from storage.errors import StorageError
from storage.notifications import LISTED
from storage.spam_standing import Standing
from storage.traces import Wanted, by_id, search
from tests.conftest import Owner, Person
from tests.daemons.smtp.conftest import MESSAGE, Intake
from tests.daemons.smtp.memory import MemoryClient
from tests.daemons.test_policy_service import listening
from tests.internet.dns import NameServer, name_server

GREY = b"450 4.7.1 greylisted"


@pytest.fixture
async def names() -> AsyncIterator[NameServer]:
    """A DNS that knows nothing yet."""
    async with name_server() as server:
        yield server


def policing(intake: Intake, names: NameServer | None = None, **sections: Any) -> Policing:
    """What sessions ask under other settings, with the block and allow lists."""
    if names is not None:
        sections["transport"] = Transport(resolvers=[names.address], resolver_timeout=Seconds(10))
    settings = intake.context.settings
    smtp = msgspec.structs.replace(settings.smtp, filters=["lists"])
    return build_policing(replace(intake.context, settings=msgspec.structs.replace(settings, smtp=smtp, **sections)))


async def rcpt(
    intake: Intake,
    asked: Policing,
    *,
    sender: str = "sender@client.example",
    recipient: str = "alice@example.test",
    peer: str = "192.0.2.1",
    is_lmtp: bool = False,
) -> bytes:
    """The reply to RCPT in a session of its own; the transaction is over then."""
    client = await intake.greeted(peer=peer, policing=asked, is_lmtp=is_lmtp)
    await client.ask(f"MAIL FROM:<{sender}>".encode(), 1)
    answer = await client.ask(f"RCPT TO:<{recipient}>".encode(), 1)
    await client.ask(b"QUIT", 1)
    return answer


async def deliver(client: MemoryClient, *recipients: str) -> bytes:
    """The reply to a message."""
    await client.ask(b"MAIL FROM:<sender@client.example>", 1)
    for recipient in recipients or ("alice@example.test",):
        assert (await client.ask(f"RCPT TO:<{recipient}>".encode(), 1)).startswith(b"250 ")
    await client.ask(b"DATA", 1)
    return await client.ask(MESSAGE + b".", 1)


async def refusals(intake: Intake, person: Person) -> list[dict[str, Any]]:
    """What the trace of the person's tenant has of refused recipients, the oldest first."""
    await intake.context.recorder.flush()
    now = datetime.now(UTC)
    wanted = Wanted(now - timedelta(hours=1), now + timedelta(hours=1), recipient="example.test")
    found = [each async for each in search(intake.context.pool, intake.context.keys, person.tenant_id, wanted)]
    notes = [note for each in reversed(found) for note in each.notes if note.kind == "refused"]
    return [dict(note.facts) for note in notes]


async def listed(owner: Owner, pattern: str, *, login: str | None = None, is_allowed: bool = False) -> None:
    """Put a pattern on alice's list, or on her tenant's."""
    whose = await listed_senders.owner_of(owner, tenant=None if login else "example", login=login)
    await listed_senders.add(owner, whose, pattern, is_allowed=is_allowed)


# -- connections ------------------------------------------------------------------------------------------------------


async def test_a_denied_network_may_not_connect(intake: Intake) -> None:
    """It reads 554 in place of the greeting; its neighbour is greeted."""
    asked = policing(intake, envelope=Envelope(denied_networks=["192.0.2.0/28"]))
    client = intake.connect(peer="192.0.2.1", policing=asked)
    assert (await client.hear(1)).startswith(b"554 5.7.1 ")
    assert (await intake.connect(peer="192.0.2.17", policing=asked).hear(1)).startswith(b"220 ")


async def test_connections_of_a_network_are_limited(intake: Intake) -> None:
    """One too many within the hour is sent away; another network is not."""
    asked = policing(intake, rates=Rates(connections=2))
    answers = [await intake.connect(peer=f"192.0.2.{n}", policing=asked).hear(1) for n in range(3)]
    assert [answer[:3] for answer in answers] == [b"220", b"220", b"421"]
    assert (await intake.connect(peer="198.51.100.1", policing=asked).hear(1)).startswith(b"220 ")


async def test_limits_hold_for_all_processes_together(intake: Intake) -> None:
    """What one process has counted, another one knows."""
    settings = Rates(messages=3)
    processes = [policing(intake, rates=settings) for _ in range(2)]
    answers = [await rcpt(intake, processes[n % 2]) for n in range(4)]
    assert [answer[:9] for answer in answers] == [b"250 2.1.5"] * 3 + [b"450 4.7.1"]


async def test_senders_have_their_own_rate(intake: Intake) -> None:
    """One sender who is over it does not stop the others of the network, nor himself elsewhere: names can be forged."""
    asked = policing(intake, rates=Rates(sender_recipients=1))
    assert (await rcpt(intake, asked)).startswith(b"250 ")
    assert await rcpt(intake, asked) == b"450 4.7.1 too much mail from this sender, try again later\r\n"
    assert (await rcpt(intake, asked, sender="other@client.example")).startswith(b"250 ")
    assert (await rcpt(intake, asked, peer="198.51.100.1")).startswith(b"250 ")


async def test_who_looks_for_addresses_is_sent_away(intake: Intake) -> None:
    """After so many unknown recipients the connection ends, and the network gets no other."""
    asked = policing(intake, rates=Rates(unknown_recipients=2))
    client = await intake.greeted(policing=asked)
    await client.ask(b"MAIL FROM:<sender@client.example>", 1)
    for _ in range(2):
        assert (await client.ask(b"RCPT TO:<nobody@example.test>", 1)).startswith(b"550 5.1.1 ")
    assert (await client.ask(b"RCPT TO:<nobody@example.test>", 1)).startswith(b"421 4.7.0 ")
    assert (await intake.connect(policing=asked).hear(1)).startswith(b"421 4.7.0 too many unknown recipients")
    assert (await intake.connect(peer="198.51.100.1", policing=asked).hear(1)).startswith(b"220 ")


# -- hosts and senders ------------------------------------------------------------------------------------------------


async def test_nobody_else_has_our_name(intake: Intake) -> None:
    """A host that greets with our name is refused at RCPT, however it is written."""
    client = intake.connect(policing=policing(intake))
    await client.hear(1)
    await client.ask(b"EHLO Mail.Example.TEST", 10)
    await client.ask(b"MAIL FROM:<sender@client.example>", 1)
    assert (await client.ask(b"RCPT TO:<alice@example.test>", 1)).startswith(b"550 5.7.1 your host calls itself")


def lists(*entries: DnsList, refuse_at: float = 0, time_limit: float = 10) -> dict[str, Any]:
    """The section [dnslists], and what sound lists have in the DNS."""
    return {"dnslists": DnsLists(lists=list(entries), refuse_at=refuse_at, time_limit=Seconds(time_limit))}


def sound(names: NameServer, zone: str) -> None:
    """The test entry that every list has (RFC 5782 §5)."""
    names.add(f"2.0.0.127.{zone}", "A", "127.0.0.2")


async def test_listed_hosts_are_refused(intake: Intake, account: Person, names: NameServer) -> None:
    """Points of all lists are summed; from refuse_at on the host is refused, and is told by which lists."""
    for zone, points in (("a.example", 2.0), ("b.example", 2.0), ("good.example", -1.5)):
        sound(names, zone)
        names.add(f"1.2.0.192.{zone}", "A", "127.0.0.4")
        names.add(f"9.2.0.192.{zone}", "A", "127.0.0.4") if points > 0 else None
    weights = lists(
        DnsList(zone="a.example", points=2), DnsList(zone="b.example", points=2), DnsList(zone="good.example", points=-1.5),
        refuse_at=4,
    )  # fmt: skip
    asked = policing(intake, names, **weights)
    assert (await rcpt(intake, asked, peer="192.0.2.1")).startswith(b"250 ")  # 2.5 points
    answer = await rcpt(intake, asked, peer="192.0.2.9")
    assert answer == b"550 5.7.1 mail from your host is not accepted: listed by a.example, b.example\r\n"
    assert (await rcpt(intake, asked, peer="192.0.2.10")).startswith(b"250 ")
    (refused,) = await refusals(intake, account)
    assert refused["forward_paths"] == ["alice@example.test"]
    assert refused["reverse_path"] == "sender@client.example"
    assert refused["reply"].startswith("550 5.7.1 ")
    assert refused["reason"] == "4 points of DNS lists"
    assert refused["peer"] == "192.0.2.9"


async def test_postmaster_hears_everybody(intake: Intake, account: Person, owner: Owner, names: NameServer) -> None:
    """Who is refused for all others can still write to postmaster and abuse."""
    sound(names, "a.example")
    names.add("1.2.0.192.a.example", "A", "127.0.0.2")
    asked = policing(intake, names, **lists(DnsList(zone="a.example", points=5), refuse_at=5))
    assert (await rcpt(intake, asked)).startswith(b"550 5.7.1 ")
    await add_address(owner, "abuse@example.test", account.login)
    assert (await rcpt(intake, asked, recipient="Abuse@example.test")).startswith(b"250 ")


async def test_points_reach_the_message(intake: Intake, account: Person, names: NameServer) -> None:
    """What does not refuse is part of the spam score, once, and the message and its trace say so."""
    sound(names, "a.example")
    names.add("1.2.0.192.a.example", "A", "127.0.0.2")
    asked = policing(intake, names, **lists(DnsList(zone="a.example", points=2.5)))
    checked = []
    for peer in ("192.0.2.1", "192.0.2.2"):
        limited = intake.limited(build_pipeline(intake.context, ["spam"]))
        answer = await deliver(await intake.greeted(peer=peer, **limited, policing=asked))
        await intake.context.recorder.flush()
        (found,) = await by_id(intake.context.pool, intake.context.keys, answer.split()[-1].decode())
        checked += [note.facts for note in found.notes if note.kind == "checked"]
    assert checked[0]["score"] == pytest.approx(checked[1]["score"] + 2.5)
    assert "dnslists: +2.5 (listed by a.example)" in checked[0]["verdicts"]
    inbox = [message.decode() for message in await intake.inbox(account)]
    assert ["listed by a.example" in message for message in inbox] == [True, False]


async def test_dns_that_is_away_refuses_nobody(intake: Intake, names: NameServer) -> None:
    """A list that gives no answer says nothing."""
    names.is_down = True
    asked = policing(intake, names, **lists(DnsList(zone="a.example", points=5), refuse_at=5, time_limit=1))
    assert (await rcpt(intake, asked)).startswith(b"250 ")


async def test_spf_fail_is_refused_where_that_is_wanted(intake: Intake, names: NameServer) -> None:
    """With spf_fail = "reject" the sender's domain is asked at MAIL; its own explanation is passed on."""
    names.add("client.example", "TXT", '"v=spf1 ip4:198.51.100.0/24 exp=why.client.example -all"')
    names.add("why.client.example", "TXT", '"only from our own hosts"')
    filters = Envelope(filters=["spf"], spf_fail="reject")
    asked = policing(intake, names, envelope=filters)
    client = await intake.greeted(policing=asked)
    await client.ask(b"MAIL FROM:<sender@client.example>", 1)
    answer = await client.ask(b"RCPT TO:<alice@example.test>", 2)
    assert answer.startswith(b"550-5.7.23 SPF: client.example does not let your host send for it\r\n")
    assert answer.endswith(b"550 5.7.23 client.example explains: only from our own hosts\r\n")
    assert (await rcpt(intake, asked, peer="198.51.100.7")).startswith(b"250 ")
    lenient = policing(intake, names, envelope=Envelope(filters=["spf"]))
    assert (await rcpt(intake, lenient)).startswith(b"250 ")


# -- lists ------------------------------------------------------------------------------------------------------------


async def test_a_blocked_sender_is_refused_for_who_blocks_him(
    intake: Intake, account: Person, bob: Person, owner: Owner
) -> None:
    """At RCPT already: the one recipient gets nothing, the other gets the message, and the trace has both."""
    await listed(owner, "client.example", login=account.login)
    client = await intake.greeted(policing=policing(intake))
    await client.ask(b"MAIL FROM:<sender@client.example>", 1)
    answer = await client.ask(b"RCPT TO:<alice@example.test>", 1)
    assert answer == b"550 5.7.1 the recipient does not accept mail from this sender\r\n"
    assert (await client.ask(b"RCPT TO:<bob@example.test>", 1)).startswith(b"250 ")
    await client.ask(b"DATA", 1)
    accepted = await client.ask(MESSAGE + b".", 1)
    assert accepted.startswith(b"250 ")
    assert await intake.originals(bob) == [MESSAGE]
    assert await intake.inbox(account) == []
    await intake.context.recorder.flush()
    (found,) = await by_id(intake.context.pool, intake.context.keys, accepted.split()[-1].decode())
    (refused,) = [note.facts for note in found.notes if note.kind == "refused"]
    assert refused["forward_paths"] == ["alice@example.test"]
    assert refused["reason"] == "the account has blocked client.example"


async def test_a_change_of_the_list_counts_at_once(intake: Intake, account: Person, owner: Owner) -> None:
    """What was blocked a moment ago is let in when the entry is gone, in a process that knew it."""
    asked = policing(intake)
    await listed(owner, "192.0.2.0/24")
    assert (await rcpt(intake, asked)).startswith(b"550 5.7.1 ")
    whose = await listed_senders.owner_of(owner, tenant="example")
    changed = asyncio.Event()
    end = intake.context.changes.on(LISTED, changed.set)
    changed.clear()
    assert await listed_senders.remove(owner, whose, "192.0.2.0/24")
    await changed.wait()
    end()
    assert (await rcpt(intake, asked)).startswith(b"250 ")


async def test_who_is_allowed_is_heard_whatever_lists_say(
    intake: Intake, account: Person, bob: Person, owner: Owner, names: NameServer
) -> None:
    """For the recipient who has allowed the network nothing is refused or put off; for the other one it is."""
    sound(names, "a.example")
    names.add("1.2.0.192.a.example", "A", "127.0.0.2")
    await listed(owner, "192.0.2.1/32", login=account.login, is_allowed=True)
    grey = Greylisting(enabled=True)
    asked = policing(intake, names, greylisting=grey, **lists(DnsList(zone="a.example", points=5), refuse_at=5))
    assert (await rcpt(intake, asked, recipient="bob@example.test")).startswith(b"550 5.7.1 ")
    assert (await rcpt(intake, asked)).startswith(b"250 ")


async def test_an_allowed_sender_needs_spf(intake: Intake, account: Person, owner: Owner, names: NameServer) -> None:
    """The name alone opens nothing: the sender's domain must let the host send."""
    await listed(owner, "sender@client.example", login=account.login, is_allowed=True)
    asked = policing(intake, names, greylisting=Greylisting(enabled=True))
    assert (await rcpt(intake, asked, peer="198.51.100.1")).startswith(GREY)
    names.add("client.example", "TXT", '"v=spf1 ip4:192.0.2.1 -all"')
    again = policing(intake, names, greylisting=Greylisting(enabled=True))
    assert (await rcpt(intake, again, peer="198.51.100.1")).startswith(GREY)
    assert (await rcpt(intake, again, peer="192.0.2.1")).startswith(b"250 ")


async def test_a_blocked_sender_waits_for_an_allowed_author(intake: Intake, account: Person, owner: Owner) -> None:
    """Where a more exact entry could still allow the author, the message is let come before it is decided."""
    await listed(owner, "client.example", login=account.login)
    await listed(owner, "friend@home.example", login=account.login, is_allowed=True)
    assert (await rcpt(intake, policing(intake))).startswith(b"250 ")


# -- greylisting ------------------------------------------------------------------------------------------------------


async def earlier(owner: Owner, seconds: float) -> None:
    """Let everything that greylisting remembers have happened so much earlier."""
    await owner.execute(
        "UPDATE greylist SET first_at = first_at - make_interval(secs => $1), seen_at = seen_at - make_interval(secs => $1)",
        seconds,
    )


async def test_greylisting_is_off_until_somebody_wants_it(intake: Intake, owner: Owner) -> None:
    """A tenant turns it on for itself, and it counts from the next recipient on; the first try is put off."""
    asked = policing(intake)
    assert (await rcpt(intake, asked)).startswith(b"250 ")
    await greylist.choose(owner, "example", True)
    assert (await rcpt(intake, policing(intake))).startswith(GREY)
    await greylist.choose(owner, "example", False)
    on = policing(intake, greylisting=Greylisting(enabled=True))
    assert (await rcpt(intake, on)).startswith(b"250 ")


async def test_who_tries_again_in_time_is_let_in(intake: Intake, account: Person, owner: Owner) -> None:
    """Not too soon, not too late; from a neighbouring host, too. The trace has the refusals."""
    asked = policing(intake, greylisting=Greylisting(enabled=True))
    assert (await rcpt(intake, asked)).startswith(GREY)
    assert (await rcpt(intake, asked)).startswith(GREY)
    await earlier(owner, 200)
    assert (await rcpt(intake, asked, peer="192.0.2.77")).startswith(b"250 ")
    assert (await rcpt(intake, asked)).startswith(b"250 ")
    assert (await rcpt(intake, asked, peer="198.51.100.1")).startswith(GREY)
    await earlier(owner, 3 * 86400)
    assert (await rcpt(intake, asked, peer="198.51.100.1")).startswith(GREY)  # a first try again
    assert len(await refusals(intake, account)) == 4


async def test_networks_that_try_again_are_learned(intake: Intake, bob: Person, owner: Owner) -> None:
    """After two letters that were tried again nothing of the network is put off; for another tenant it is a stranger."""
    asked = policing(intake, greylisting=Greylisting(enabled=True))
    for number in ("one", "two"):
        assert (await rcpt(intake, asked, sender=f"{number}@client.example")).startswith(GREY)
        await earlier(owner, 200)
        assert (await rcpt(intake, asked, sender=f"{number}@client.example")).startswith(b"250 ")
    assert (await rcpt(intake, asked, sender="other@elsewhere.example")).startswith(b"250 ")
    assert (await rcpt(intake, asked, recipient="bob@example.test")).startswith(b"250 ")
    await add_tenant(owner, "second", KeyRing(intake.context.settings.master_key_file).new_tenant_key())
    await add_domain(owner, "second", "second.test")
    await add_account(owner, "second", "carol@second.test", "x")
    assert (await rcpt(intake, asked, recipient="carol@second.test")).startswith(GREY)


async def test_learned_networks_are_forgotten_in_time(intake: Intake, owner: Owner) -> None:
    """Who has not written for the time of the memory is a stranger again."""
    asked = policing(intake, greylisting=Greylisting(enabled=True, learned_after=1))
    assert (await rcpt(intake, asked)).startswith(GREY)
    await earlier(owner, 200)
    assert (await rcpt(intake, asked)).startswith(b"250 ")
    assert (await rcpt(intake, asked, sender="other@client.example")).startswith(b"250 ")
    await earlier(owner, 37 * 86400)
    fresh = policing(intake, greylisting=Greylisting(enabled=True, learned_after=1))
    assert (await rcpt(intake, fresh, sender="third@client.example")).startswith(GREY)
    assert (await rcpt(intake, fresh)).startswith(GREY)


async def test_a_proven_domain_is_learned_whatever_its_hosts(intake: Intake, owner: Owner, names: NameServer) -> None:
    """A large sender's second try from another network counts, when SPF says that both are his."""
    names.add("client.example", "TXT", '"v=spf1 ip4:192.0.2.0/24 ip4:198.51.100.0/24 -all"')
    filters = Envelope(filters=["spf", "greylisting"])
    asked = policing(intake, names, envelope=filters, greylisting=Greylisting(enabled=True))
    assert (await rcpt(intake, asked)).startswith(GREY)
    await earlier(owner, 200)
    assert (await rcpt(intake, asked, peer="198.51.100.1")).startswith(b"250 ")


async def test_answers_are_not_put_off(intake: Intake, account: Person, owner: Owner) -> None:
    """Who was written to may answer at once, to who wrote; in another's name, or to somebody else, he is a stranger."""
    asked = policing(intake, greylisting=Greylisting(enabled=True))
    await spam_standing.count(owner, [(account.account_id, "sender@client.example", Standing(answered=1))])
    assert (await rcpt(intake, asked, sender="Sender@Client.example")).startswith(b"250 ")
    assert (await rcpt(intake, asked, sender="other@client.example")).startswith(GREY)


async def test_hosts_of_good_lists_are_not_put_off(intake: Intake, names: NameServer) -> None:
    """A list of good senders spares its hosts the wait."""
    sound(names, "good.example")
    names.add("1.2.0.192.good.example", "A", "127.0.0.2")
    grey = Greylisting(enabled=True)
    asked = policing(intake, names, greylisting=grey, **lists(DnsList(zone="good.example", points=-1)))
    assert (await rcpt(intake, asked)).startswith(b"250 ")
    assert (await rcpt(intake, asked, peer="192.0.2.2")).startswith(GREY)


async def test_varying_senders_are_one(intake: Intake, owner: Owner) -> None:
    """A list that writes the recipient and the number of the message into its sender is known by its second letter."""
    asked = policing(intake, greylisting=Greylisting(enabled=True))
    assert (await rcpt(intake, asked, sender="list-17+alice=example.test@client.example")).startswith(GREY)
    await earlier(owner, 200)
    assert (await rcpt(intake, asked, sender="list-18+alice=example.test@client.example")).startswith(b"250 ")


async def test_refused_recipients_are_not_without_end(intake: Intake) -> None:
    """They count as recipients of the transaction: who is put off a thousand times is told that it is enough."""
    asked = policing(intake, greylisting=Greylisting(enabled=True))
    client = await intake.greeted(**intake.limited(recipient_limit=3), policing=asked)
    await client.ask(b"MAIL FROM:<sender@client.example>", 1)
    said = [await client.ask(b"RCPT TO:<alice+%d@example.test>" % number, 1) for number in range(4)]
    assert [answer[:9] for answer in said] == [b"450 4.7.1"] * 3 + [b"452 4.5.3"]


async def test_the_memory_has_digests_only(intake: Intake, owner: Owner) -> None:
    """Nobody reads in the database who wrote to whom."""
    await rcpt(intake, policing(intake, greylisting=Greylisting(enabled=True), rates=Rates(messages=1)))
    rows = await owner.fetch("SELECT key FROM greylist UNION ALL SELECT key FROM rate")
    assert rows
    assert all(len(row["key"]) == 16 for row in rows)


# -- whom it does not concern -----------------------------------------------------------------------------------------


async def test_trusted_networks_and_local_delivery_are_not_asked(intake: Intake) -> None:
    """Networks of the operator's own are not put off, nor is a relay in front of this host, nor LMTP."""
    relays = Authenticity(forwarders=["203.0.113.0/24"])
    grey = Greylisting(enabled=True)
    asked = policing(intake, trusted_networks=["192.0.2.0/24"], authenticity=relays, greylisting=grey)
    assert (await rcpt(intake, asked)).startswith(b"250 ")
    assert (await rcpt(intake, asked, peer="203.0.113.5")).startswith(b"250 ")
    assert (await rcpt(intake, asked, peer="198.51.100.1")).startswith(GREY)
    assert (await rcpt(intake, asked, peer="198.51.100.1", is_lmtp=True)).startswith(b"250 ")


async def test_unknown_recipients_are_in_the_trace_of_their_domain(intake: Intake, account: Person) -> None:
    """Who asks why a letter did not arrive finds the address that does not exist."""
    client = await intake.greeted()
    await client.ask(b"MAIL FROM:<sender@client.example>", 1)
    before = REGISTRY.get_sample_value("postwerk_recipients_refused_total", {"code": "550"}) or 0.0
    for name in ("alcie", "bob", "alcie"):
        assert (await client.ask(f"RCPT TO:<{name}@example.test>".encode(), 1)).startswith(b"550 5.1.1 ")
    assert (await client.ask(b"RCPT TO:<x@elsewhere.example>", 1)).startswith(b"550 5.7.1 ")
    await client.ask(b"RSET", 1)
    (refused,) = await refusals(intake, account)
    assert refused["forward_paths"] == ["alcie@example.test", "bob@example.test"]
    assert refused["reply"] == "550 5.1.1 no such mailbox here"
    assert refused["helo"] == "client.example"
    assert REGISTRY.get_sample_value("postwerk_recipients_refused_total", {"code": "550"}) == before + 4


async def test_what_a_policy_service_says(intake: Intake, account: Person, bob: Person) -> None:
    """It is asked for each recipient; its field is on the message once, and who it refuses does not get it."""

    def answer(question: bytes) -> bytes:
        if b"recipient=bob@" in question:
            return b"action=450 4.2.0 not now\n\n"
        return b"action=PREPEND X-Policy: seen\n\n"

    async with listening(answer) as (place, questions):
        asked = policing(
            intake, envelope=Envelope(filters=["policy"]), policy_service=PolicyService(address=place, processes=1)
        )
        client = await intake.greeted(policing=asked)
        await client.ask(b"MAIL FROM:<sender@client.example>", 1)
        for name, expected in (("alice", b"250 "), ("bob", b"450 4.2.0 not now"), ("ALICE", b"250 ")):
            assert (await client.ask(f"RCPT TO:<{name}@example.test>".encode(), 1)).startswith(expected)
        await client.ask(b"DATA", 1)
        assert (await client.ask(MESSAGE + b".", 1)).startswith(b"250 ")
    assert questions == [3]
    (message,) = await intake.inbox(account)
    assert message.count(b"X-Policy: seen\r\n") == 1
    assert await intake.inbox(bob) == []


@pytest.mark.parametrize("action", [b"DISCARD", b"HOLD"])
async def test_a_policy_service_keeps_mail_away(intake: Intake, account: Person, action: bytes) -> None:
    """What it discards or holds is accepted, and not in the mailbox."""
    async with listening(lambda _: b"action=" + action + b"\n\n") as (place, _):
        asked = policing(intake, envelope=Envelope(filters=["policy"]), policy_service=PolicyService(address=place))
        assert (await deliver(await intake.greeted(policing=asked))).startswith(b"250 ")
    assert await intake.inbox(account) == []


async def test_the_filter_policy_needs_a_service(intake: Intake) -> None:
    """A service that is named nowhere is an error at the start, which names the section."""
    with pytest.raises(StorageError, match="policy_service"):
        policing(intake, envelope=Envelope(filters=["policy"]))
