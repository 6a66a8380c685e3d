"""Records and policies of MTA-STS, RFC 8461."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.mta_sts import MAX_AGE_LIMIT, StsError, StsPolicy, parse_policy, parse_record

GOOD = "version: STSv1\r\nmode: enforce\r\nmx: mail.example.com\r\nmx: *.example.net\r\nmax_age: 604800\r\n"


@pytest.mark.parametrize(
    ("texts", "identifier"),
    [
        (["v=STSv1; id=20160831085700Z;"], "20160831085700Z"),  # RFC 8461 §3.1
        (["v=STSv1;id=1"], "1"),
        (["v=STSv1 ;\tid=1 ; x=y"], "1"),
        (["v=spf1 -all", "v=STSv1; id=1"], "1"),
        ([], None),
        (["v=STSv1; id=1", "v=STSv1; id=1"], None),  # several are none
        (["v=STSv1"], None),
        (["v=STSv1; id="], None),
        (["v=STSv1; id=1-2"], None),
        (["v=STSv1; id=" + "1" * 33], None),
        (["v=STSv1; id=1; id=2"], None),
        (["id=1; v=STSv1"], None),  # the version comes first
        (["v=STSv10; id=1"], None),
        (["V=STSv1; id=1"], None),
    ],
)
def test_record(texts: list[str], identifier: str | None) -> None:
    """Exactly one record with version and id says that there is a policy."""
    assert parse_record(texts) == identifier


def test_policy() -> None:
    """Fields in any line ends, patterns in lower case, in the order of the policy."""
    policy = StsPolicy("enforce", 604800, ("mail.example.com", "*.example.net"))
    assert parse_policy(GOOD) == policy
    assert parse_policy(GOOD.replace("\r\n", "\n").replace("mail", "MAIL").removesuffix("\n")) == policy
    assert parse_policy(GOOD + "x-future_1: something: else\r\n") == policy
    assert parse_policy(GOOD + "mode: none\r\n") == policy  # of a field that is there twice the first counts
    assert policy.strings == (
        "version: STSv1",
        "mode: enforce",
        "mx: mail.example.com",
        "mx: *.example.net",
        "max_age: 604800",
    )


@pytest.mark.parametrize(
    ("host", "is_allowed"),
    [
        ("mail.example.com", True),
        ("MAIL.example.com.", True),
        ("mx1.example.net", True),
        ("a.mx1.example.net", False),  # one label only, RFC 8461 §4.1
        ("example.net", False),
        ("other.example.com", False),
        ("net", False),
    ],
)
def test_allowed_hosts(host: str, is_allowed: bool) -> None:
    """A pattern allows its name, and with an asterisk every name with one label more."""
    assert parse_policy(GOOD).allows(host) is is_allowed


def test_policy_without_hosts_only_in_mode_none() -> None:
    """A policy that is withdrawn needs no mx."""
    assert parse_policy("version: STSv1\nmode: none\nmax_age: 86400") == StsPolicy("none", 86400)


def test_age_is_bounded() -> None:
    """No policy is kept for longer than a year, RFC 8461 §3.2."""
    assert parse_policy(GOOD.replace("604800", "9999999999")).max_age == MAX_AGE_LIMIT


@pytest.mark.parametrize(
    "text",
    [
        "",
        GOOD.replace("STSv1", "STSv2"),
        GOOD.replace("enforce", "Enforce"),
        GOOD.replace("max_age: 604800\r\n", ""),
        GOOD.replace("604800", "soon"),
        GOOD.replace("mx: mail.example.com\r\nmx: *.example.net\r\n", ""),
        GOOD.replace("*.example.net", "mx*.example.net"),
        GOOD.replace("*.example.net", "*.*.example.net"),
        GOOD.replace("*.example.net", "a b"),
        GOOD + "no field\r\n",
        "<html>\n<body>\n",
    ],
)
def test_bad_policies(text: str) -> None:
    """What breaks a rule is no policy at all."""
    with pytest.raises(StsError):
        parse_policy(text)


@given(st.text(max_size=300))
def test_any_text_is_a_policy_or_an_error(text: str) -> None:
    """Nothing but StsError comes of any text, and any record is taken or not."""
    identifier = parse_record([text, f"v=STSv1;{text}"])
    assert identifier is None or identifier in text
    with suppress(StsError):
        assert parse_policy(f"version: STSv1\nmode: none\nmax_age: 1\n{text}").mode == "none"
