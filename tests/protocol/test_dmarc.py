"""DMARC: records, the tree walk with the examples of RFC 9989, Organizational Domains, policies."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.dmarc import (
    QUERIES,
    Found,
    PolicyRecord,
    applied_record,
    ends_walk,
    is_aligned,
    organizational_domain,
    parse_record,
    permits_reports,
    published_policy,
    report_permission_name,
    requested_policy,
    walk,
)


def record(text: str) -> PolicyRecord:
    """The record of a text."""
    found = parse_record([text.encode()])
    assert found is not None
    return found


def found(**texts: str) -> list[Found]:
    """What a walk has found; "_" for a dot."""
    return [Found(name.replace("_", "."), record(text)) for name, text in texts.items()]


def test_walk_of_the_rfc() -> None:
    """RFC 9989 §4.10: from a long name the walk goes to seven labels, then up to one."""
    assert walk("a.b.c.d.e.f.g.h.i.j.mail.example.com") == [
        "a.b.c.d.e.f.g.h.i.j.mail.example.com",
        "g.h.i.j.mail.example.com",
        "h.i.j.mail.example.com",
        "i.j.mail.example.com",
        "j.mail.example.com",
        "mail.example.com",
        "example.com",
        "com",
    ]


@pytest.mark.parametrize(
    ("domain", "names"),
    [
        ("com", ["com"]),
        ("example.com", ["example.com", "com"]),
        (
            "a.b.c.d.e.f.com",
            ["a.b.c.d.e.f.com", "b.c.d.e.f.com", "c.d.e.f.com", "d.e.f.com", "e.f.com", "f.com", "com"],
        ),
    ],
)
def test_short_walks(domain: str, names: list[str]) -> None:
    """RFC 9989 §4.10: a name of up to eight labels is left label by label."""
    assert walk(domain) == names


@given(st.lists(st.sampled_from(["a", "b", "example"]), min_size=1, max_size=40))
def test_any_walk(labels: list[str]) -> None:
    """A walk begins with the domain, ends with the top-level domain, only goes up, and has at most eight names."""
    names = walk(".".join(labels))
    assert (names[0], names[-1]) == (".".join(labels), labels[-1])
    assert len(names) <= QUERIES
    assert all(longer.endswith(f".{shorter}") for longer, shorter in pairwise(names))


@pytest.mark.parametrize(
    ("domain", "texts", "organization"),
    [
        # RFC 9989 §4.10.2 rule 3: the fewest labels
        ("a.mail.example.com", {"a_mail_example_com": "v=DMARC1", "example_com": "v=DMARC1; p=none"}, "example.com"),
        ("mail.example.com", {"mail_example_com": "v=DMARC1"}, "mail.example.com"),
        # rule 1: psd=n
        ("a.mail.example.com", {"a_mail_example_com": "v=DMARC1", "mail_example_com": "v=DMARC1; psd=n"}, "mail.example.com"),
        ("mail.example.com", {"mail_example_com": "v=DMARC1; psd=n"}, "mail.example.com"),
        # rule 2: psd=y of another domain than the first
        ("giant.bank.example", {"bank_example": "v=DMARC1; psd=y"}, "giant.bank.example"),
        ("mail.giant.bank.example", {"giant_bank_example": "v=DMARC1", "bank_example": "v=DMARC1;psd=y"}, "giant.bank.example"),
        ("mail.mega.bank.example", {"bank_example": "v=DMARC1; psd=y"}, "mega.bank.example"),
        ("bank.example", {"bank_example": "v=DMARC1; psd=y"}, "bank.example"),
        # nothing found
        ("mail.example.com", {}, "mail.example.com"),
    ],
)  # fmt: skip
def test_organizational_domain(domain: str, texts: dict[str, str], organization: str) -> None:
    """RFC 9989 §4.10.2: which domain the records on the way make the Organizational Domain."""
    assert organizational_domain(domain, found(**texts)) == organization


@pytest.mark.parametrize(
    ("domain", "texts", "applied"),
    [
        ("mail.example.com", {"mail_example_com": "v=DMARC1; p=none", "example_com": "v=DMARC1; p=reject"}, "mail.example.com"),
        ("mail.example.com", {"example_com": "v=DMARC1; p=reject"}, "example.com"),
        ("a.b.example.com", {"b_example_com": "v=DMARC1; p=none", "example_com": "v=DMARC1; p=reject"}, "example.com"),
        ("mail.mega.bank.example", {"bank_example": "v=DMARC1; p=reject; psd=y"}, "bank.example"),
        ("mail.mega.bank.example", {"mega_bank_example": "v=DMARC1", "bank_example": "v=DMARC1; psd=y"}, "mega.bank.example"),
        ("mail.example.com", {}, None),
    ],
)  # fmt: skip
def test_applied_record(domain: str, texts: dict[str, str], applied: str | None) -> None:
    """RFC 9989 §4.10.1: the author's own record goes before its organization's, and that before its public suffix's."""
    chosen = applied_record(domain, found(**texts))
    assert (chosen.domain if chosen else None) == applied


@pytest.mark.parametrize(
    ("text", "author", "exists", "policy"),
    [
        ("p=reject; sp=none; np=quarantine", "example.com", True, "reject"),
        ("p=reject; sp=none; np=quarantine", "a.example.com", True, "none"),
        ("p=reject; sp=none; np=quarantine", "a.example.com", False, "quarantine"),
        ("p=reject; sp=none", "a.example.com", False, "none"),
        ("p=quarantine", "a.example.com", False, "quarantine"),
        ("p=quarantine", "a.example.com", True, "quarantine"),
        ("sp=reject", "example.com", True, "none"),
    ],
)
def test_published_policy(text: str, author: str, exists: bool, policy: str) -> None:
    """RFC 9989 §4.7: p= is for the domain itself, sp= for what is below, np= for what does not exist."""
    applied = Found("example.com", record(f"v=DMARC1; {text}"))
    assert published_policy(author, applied, exists=exists) == policy


def test_testing() -> None:
    """RFC 9989 §4.7: under t=y the policy is one step softer; pct= means nothing any more."""
    testing = record("v=DMARC1; p=reject; t=y")
    assert [requested_policy(policy, testing) for policy in ("reject", "quarantine", "none")] == [
        "quarantine",
        "none",
        "none",
    ]
    assert requested_policy("reject", record("v=DMARC1; p=reject; pct=0")) == "reject"


def test_alignment() -> None:
    """RFC 9989 §4.4: strictly the same domain, or relaxed the same Organizational Domain."""
    same = ("example.com", "example.com")
    assert is_aligned("mail.example.com", "example.com", mode="r", organizations=same)
    assert not is_aligned("mail.example.com", "example.com", mode="s", organizations=same)
    assert is_aligned("example.com", "example.com", mode="s", organizations=same)
    assert not is_aligned("example.org", "example.com", mode="r", organizations=("example.org", "example.com"))


@pytest.mark.parametrize(
    "texts",
    [
        [],
        [b"v=spf1 -all"],
        [b"p=reject; v=DMARC1"],
        [b" v=DMARC1; p=reject"],
        [b"v=DMARC10; p=reject"],
        [b"v=DMARC1; p=none", b"v=DMARC1; p=reject"],
    ],
)
def test_texts_without_a_record(texts: list[bytes]) -> None:
    """RFC 9989 §4.8 and §4.10: v=DMARC1 comes first, and of several records none counts."""
    assert parse_record(texts) is None


def test_other_texts_beside_a_record() -> None:
    """RFC 9989 §4.10: TXT records of other kinds are passed over."""
    chosen = parse_record([b"v=spf1 -all", b"v = DMARC1 ; p = Reject;; x ; q=1;p=none;", b"\xff"])
    assert chosen is not None
    assert chosen.p == "reject"


def test_policies_that_cannot_be_read() -> None:
    """RFC 9989 §4.10.1: a policy that is none is p=none if somebody wants reports, otherwise the record is of no use."""
    useless, reported = record("v=DMARC1; p=block"), record("v=DMARC1; p=reject; sp=x; rua=mailto:d@example.com")
    assert (useless.is_usable, useless.p) == (False, "none")
    assert (reported.is_usable, reported.p) == (True, "none")
    assert (record("v=DMARC1").is_usable, record("v=DMARC1").p) == (True, "none")


def test_everything_in_a_record() -> None:
    """RFC 9989 §4.7: all tags, in any order."""
    places = "mailto:a@example.com!10m , https://example.com, mailto:b@example.org"
    read = record(f"v=DMARC1; rua={places}; psd=n; t=y; adkim=s; aspf=s; np=none; fo=1:d")
    assert (read.adkim, read.aspf, read.psd, read.is_testing, read.np, read.fo) == ("s", "s", "n", True, "none", "1:d")
    assert read.rua == ("mailto:a@example.com", "mailto:b@example.org")
    assert ends_walk(read)
    assert not ends_walk(record("v=DMARC1; psd=u"))


def test_permission_for_reports() -> None:
    """RFC 9990 §4: a domain outside says by a record of its own that it takes reports."""
    assert report_permission_name("example.com", "example.net") == "example.com._report._dmarc.example.net"
    assert permits_reports([b"x", b"v=DMARC1"])
    assert not permits_reports([b"v=DMARC"])


@given(st.binary(max_size=200))
def test_any_text(text: bytes) -> None:
    """Any octets behind the version are a record."""
    read = parse_record([b"v=DMARC1;" + text])
    assert read is not None
    assert read.p in ("none", "quarantine", "reject")
