"""DMARC: the policy of an author's domain is found, and judges SPF and DKIM."""

from collections.abc import Sequence

import pytest

from filters.authentication.dmarc import author_domains, judge
from filters.authentication.results import NO_SPF, DkimResult, DmarcResult, SpfResult, SpfWord
from protocol.message.header import read
from tests.filters.authentication.names import Names


def spf(domain: str, result: SpfWord = "pass") -> SpfResult:
    """A result of SPF."""
    return SpfResult(result, domain, "mfrom")


def dkim(domain: str) -> DkimResult:
    """A signature that holds."""
    return DkimResult("pass", domain)


async def judged(
    names: Names, author: str = "example.com", sender: SpfResult = NO_SPF, signers: Sequence[DkimResult] = ()
) -> DmarcResult:
    """The result for one author."""
    return (await judge(names, [author], sender, signers)).result


@pytest.fixture
def names() -> Names:
    """example.com rejects what fails."""
    known = Names({("example.com", "A"): ["192.0.2.1"], ("mail.example.com", "A"): ["192.0.2.1"]})
    known.text("_dmarc.example.com", "v=DMARC1; p=reject; sp=quarantine; np=reject; rua=mailto:d@example.com")
    return known


async def test_pass_by_spf(names: Names) -> None:
    """RFC 9989 §4.4.2: mail passes when SPF passes for the author's domain or, relaxed, its organization's."""
    for domain in ("example.com", "bounces.example.com"):
        found = await judged(names, sender=spf(domain))
        assert (found.result, found.spf_aligned, found.dkim_aligned) == ("pass", True, False)
    assert (await judged(names, sender=spf("example.com", "softfail"))).result == "fail"
    assert (await judged(names, sender=spf("example.org"))).result == "fail"


async def test_pass_by_dkim(names: Names) -> None:
    """RFC 9989 §4.4.1: one signature of the organization is enough, whoever else has signed."""
    found = await judged(names, "mail.example.com", signers=[dkim("example.org"), dkim("other.example.com")])
    assert (found.result, found.spf_aligned, found.dkim_aligned) == ("pass", False, True)
    assert found.organizational_domain == "example.com"
    assert (await judged(names, signers=[dkim("com")])).result == "fail"
    assert (await judged(names, signers=[DkimResult("fail", "example.com")])).result == "fail"


async def test_strict_alignment(names: Names) -> None:
    """RFC 9989 §4.7: adkim=s and aspf=s want the same domain."""
    names.text("_dmarc.example.com", "v=DMARC1; p=reject; adkim=s; aspf=s")
    assert (await judged(names, sender=spf("a.example.com"), signers=[dkim("a.example.com")])).result == "fail"
    assert (await judged(names, signers=[dkim("example.com")])).result == "pass"


async def test_psd_of_a_signer_separates(names: Names) -> None:
    """RFC 9989 §4.10.2: a subdomain that says psd=n is an organization of its own."""
    names.text("_dmarc.customer.example.com", "v=DMARC1; p=none; psd=n")
    assert (await judged(names, signers=[dkim("customer.example.com")])).result == "fail"
    assert (await judged(names, "customer.example.com", signers=[dkim("example.com")])).result == "fail"


async def test_public_suffix() -> None:
    """RFC 9989 §4.10.2: under psd=y each domain is an organization, and the suffix's policy is for those without a record."""
    names = Names({("giant.bank.example", "A"): ["192.0.2.1"]})
    names.text("_dmarc.bank.example", "v=DMARC1; p=none; sp=quarantine; np=reject; psd=y")
    found = await judged(names, "giant.bank.example", signers=[dkim("mega.bank.example")])
    assert (found.result, found.policy, found.record_domain) == ("fail", "quarantine", "bank.example")
    assert found.organizational_domain == "giant.bank.example"
    assert (await judged(names, "nothing.bank.example")).policy == "reject"
    assert (await judged(names, "a.giant.bank.example", signers=[dkim("b.giant.bank.example")])).result == "pass"


@pytest.mark.parametrize(
    ("author", "policy"),
    [("example.com", "reject"), ("mail.example.com", "quarantine"), ("nothing.example.com", "reject")],
)
async def test_policy(names: Names, author: str, policy: str) -> None:
    """RFC 9989 §4.7: p= for the domain, sp= for a subdomain, np= for one that does not exist."""
    found = await judged(names, author)
    assert (found.result, found.policy, found.published) == ("fail", policy, policy)


async def test_testing(names: Names) -> None:
    """RFC 9989 §4.7: t=y asks for one step less."""
    names.text("_dmarc.example.com", "v=DMARC1; p=reject; t=y")
    found = await judged(names)
    assert (found.policy, found.published) == ("quarantine", "reject")


async def test_domain_without_a_policy() -> None:
    """RFC 9989 §4.10.1: without a record there is no result; at most eight names are asked for."""
    names = Names()
    found = await judged(names, "a.b.c.d.e.f.g.h.i.j.mail.example.com")
    assert found.result == "none"
    assert names.asked.total() == 8


async def test_walk_ends(names: Names) -> None:
    """RFC 9989 §4.10: a record with psd=n or psd=y ends the walk."""
    names.text("_dmarc.example.com", "v=DMARC1; p=reject; psd=n")
    await judged(names)
    assert ("_dmarc.com", "TXT") not in names.asked


async def test_policy_that_cannot_be_read(names: Names) -> None:
    """RFC 9989 §4.10.1: a record without a valid policy is a permanent error."""
    names.text("_dmarc.example.com", "v=DMARC1; p=rejekt")
    assert (await judged(names)).result == "permerror"


async def test_silent_dns(names: Names) -> None:
    """What cannot be known now is a temporary error; a policy that is known, and an exact match, need nothing more."""
    silent = Names({("_dmarc.example.com", "TXT"): None})
    assert (await judged(silent)).result == "temperror"
    names.add("_dmarc.com", "TXT", None)
    assert (await judged(names, signers=[dkim("example.com")])).result == "pass"
    assert (await judged(names, signers=[dkim("a.example.com")])).result == "temperror"
    assert (await judged(names, signers=[dkim("example.org")])).result == "fail"
    assert (await judged(names, sender=spf("example.com", "temperror"))).result == "temperror"


async def test_several_authors(names: Names) -> None:
    """RFC 9989 §5.3.1: with authors of several domains each is judged, and the hardest judgement counts."""
    names.text("_dmarc.example.net", "v=DMARC1; p=none")
    judgement = await judge(names, ["example.net", "example.com"], NO_SPF, [dkim("example.net")])
    assert (judgement.result.result, judgement.result.author_domain) == ("fail", "example.com")
    assert (await judge(names, [], NO_SPF, [])).result.result == "none"


@pytest.mark.parametrize(
    ("header", "domains"),
    [
        (b"From: Alice <alice@Example.COM>\r\n", ["example.com"]),
        (b"From: alice@example.com, bob@example.net\r\nFrom: x@example.org\r\n", ["example.com", "example.net", "example.org"]),
        (b"From: b\xc3\xbccher <a@b\xc3\xbccher.example>\r\n", ["xn--bcher-kva.example"]),
        (b"From: \"a@example.org\"\r\n <alice@example.com>\r\n", ["example.com"]),
        (b"From: undisclosed:;\r\n", []),
        (b"From: alice\r\n", []),
        (b"To: alice@example.com\r\n", []),
        (b"From: team: a@example.com, b@example.com;\r\n", ["example.com"]),
    ],
)  # fmt: skip
def test_author_domains(header: bytes, domains: list[str]) -> None:
    """Domains of all From fields, each once, as the DNS has them."""
    assert author_domains([field for field in read(header) if field[0] == b"FROM"]) == domains
