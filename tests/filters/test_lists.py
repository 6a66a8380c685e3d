"""The content filter `lists`: whom recipients allow or block."""

from collections.abc import Mapping, Sequence

import pytest

from filters.authentication.results import DkimResult, DmarcResult, Results, SpfResult
from filters.lists import Listings, Lists
from filters.pipeline import Decision, Pipeline
from filters.sender_lists import Entry, SenderList, normal
from filters.subject import Account, Envelope, Subject
from filters.verdict import Finding, Verdict
from protocol.address import parse_addr_spec

ALICE, BOB = 1, 2
PASSES = DkimResult("pass", "example.net")


class Known:
    """Lists by account."""

    def __init__(self, lists: Mapping[int, Sequence[str]]) -> None:
        """Patterns; a minus before one blocks it, otherwise it is allowed."""
        self._lists = {
            account_id: SenderList(
                Entry(normal(each.lstrip("-")), "blocked" if each[0] == "-" else "allowed", is_own=True)
                for each in entries
            )
            for account_id, entries in lists.items()
        }

    async def of(self, accounts: Sequence[Account]) -> Mapping[int, SenderList]:
        return {each.account_id: self._lists.get(each.account_id, SenderList()) for each in accounts}


class Found:
    """Stands for the filter `authentication`."""

    name = "authentication"
    on_failure = "pass"
    needs: Sequence[str] = ()
    limit_seconds = 1.0

    def __init__(self, results: Results) -> None:
        self._results = results

    async def check(self, subject: Subject) -> Sequence[Verdict]:
        return [Finding(self._results)]


async def decided(
    lists: Mapping[int, Sequence[str]],
    *,
    results: Results | None = None,
    author: str = "Eve <eve@example.net>",
    reverse_path: str | None = "bounce@mailer.example",
    login: str = "",
) -> Decision:
    """What becomes of a message from 192.0.2.1 to Alice and Bob."""
    envelope = Envelope(
        transaction_id="0123456789abcdef",
        peer="192.0.2.1",
        helo="mailer.example",
        is_secure=True,
        is_authenticated=bool(login),
        reverse_path=None if reverse_path is None else parse_addr_spec(reverse_path),
        forward_paths=(parse_addr_spec("alice@example.test"), parse_addr_spec("bob@example.test")),
        accounts=tuple(
            Account(7, account_id, parse_addr_spec(f"{name}@example.test"))
            for account_id, name in ((1, "alice"), (2, "bob"))
        ),
        login=login,
    )
    original = f"From: {author}\r\nTo: alice@example.test\r\n\r\nHello\r\n".encode()
    before = [] if results is None else [Found(results)]
    return await Pipeline(content=[*before, Lists(Known(lists))]).check_content(Subject(envelope, original))  # type: ignore[list-item]


def listings(decision: Decision) -> Listings:
    """What the filter found out."""
    return next(
        verdict.value
        for result in decision.results
        for verdict in result.verdicts
        if isinstance(verdict, Finding) and isinstance(verdict.value, Listings)
    )


@pytest.mark.parametrize(
    "entry", ["eve@example.net", "example.net", "bounce@mailer.example", "*.example", "192.0.2.0/24", "*eve*@*"]
)
async def test_who_is_blocked_is_refused_for_who_blocks_him(entry: str) -> None:
    """By author, sender or network, proven or not: the one account refuses, the other does not."""
    decision = await decided({ALICE: [f"-{entry}"]})
    assert decision.refusal is None
    assert listings(decision).of(ALICE) == "blocked"
    assert listings(decision).of(BOB) is None
    refusal = decision.for_account(7, ALICE).refusal
    assert refusal is not None
    assert (refusal.reply.code, str(refusal.reply.enhanced)) == (550, "5.7.1")
    assert entry in refusal.reason
    assert decision.for_account(7, BOB).refusal is None


@pytest.mark.parametrize(
    ("results", "is_allowed"),
    [
        (None, False),
        (Results(), False),
        (Results(dmarc=DmarcResult("pass", "example.net")), True),
        (Results(dmarc=DmarcResult("fail", "example.net")), False),
        (Results(dkim=(DkimResult("fail", "example.net"), PASSES)), True),
        (Results(dkim=(DkimResult("pass", "ample.net"),)), False),
        (Results(dkim=(DkimResult("pass", "mailer.example"),)), False),
        (Results(spf=SpfResult("pass", "example.net", "mfrom")), True),
        (Results(spf=SpfResult("pass", "example.net", "helo")), False),
        (Results(spf=SpfResult("softfail", "example.net", "mfrom")), False),
    ],
)
async def test_an_author_is_allowed_only_when_proven(results: Results | None, is_allowed: bool) -> None:
    """DMARC, or a signature or SPF of the author's domain, must pass."""
    found = listings(await decided({ALICE: ["eve@example.net"]}, results=results))
    assert found.of(ALICE) == ("allowed" if is_allowed else None)


async def test_a_sender_is_allowed_by_spf_only() -> None:
    """The envelope's sender is proven by SPF of its own domain; a signature says nothing of it."""
    allowed = {ALICE: ["mailer.example"]}
    passes = Results(spf=SpfResult("pass", "mailer.example", "mfrom"))
    assert listings(await decided(allowed, results=passes)).of(ALICE) == "allowed"
    signed = Results(dkim=(DkimResult("pass", "mailer.example"),))
    assert listings(await decided(allowed, results=signed)).of(ALICE) is None


async def test_a_network_needs_no_proof() -> None:
    """Its address is how the host was reached."""
    assert listings(await decided({ALICE: ["192.0.2.1"]})).of(ALICE) == "allowed"


async def test_users_are_listed_by_login_and_address() -> None:
    """Who has logged in is proven; he can be allowed and blocked by his login, too."""
    assert listings(await decided({ALICE: ["eve@example.net"]}, login="eve@example.net")).of(ALICE) == "allowed"
    decision = await decided({ALICE: ["-eve@login.example"]}, login="eve@login.example")
    assert decision.for_account(7, ALICE).refusal is not None


async def test_each_of_several_authors_counts() -> None:
    """One author who is blocked is enough, and one who is allowed when he is proven himself."""
    both = "Eve <eve@example.net>, Mallory <mallory@example.org>"
    assert listings(await decided({ALICE: ["-mallory@example.org"]}, author=both)).of(ALICE) == "blocked"
    signed = Results(dkim=(PASSES,))
    found = listings(
        await decided({ALICE: ["mallory@example.org"], BOB: ["eve@example.net"]}, author=both, results=signed)
    )
    assert found.of(ALICE) is None
    assert found.of(BOB) == "allowed"
    assert found.reason_of(BOB) == "the account has allowed eve@example.net"


async def test_without_entries_nothing_is_said() -> None:
    """Nobody is refused, and nobody is listed."""
    decision = await decided({})
    assert not decision.is_personal
    assert listings(decision).of(ALICE) is None
    assert listings(decision).reason_of(ALICE) == ""
