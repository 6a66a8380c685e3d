"""`postwerk quota`."""

import json
import os

import pytest

from tests.daemons.test_cli import Ended, Postwerk, configuration, populated, postwerk

__all__ = ["configuration", "populated", "postwerk"]  # fixtures


def row(postwerk: Postwerk) -> dict[str, object]:
    """alice's account."""
    (found,) = json.loads(postwerk("account", "show", "alice@example.test", "--json"))
    return {name: found[name] for name in ("quota_octets", "quota_messages", "is_administrator")}


def test_limits(populated: Postwerk) -> None:
    """Limits of an account are replaced together; an administrator is made and unmade; the pool is the tenant's."""
    populated("quota", "set", "Alice@example.test", "--size", "2G", "--messages", "5000")
    assert row(populated) == {"quota_octets": 2 << 30, "quota_messages": 5000, "is_administrator": False}
    populated("quota", "set", "alice@example.test")
    populated("quota", "administrator", "alice@example.test")
    assert row(populated) == {"quota_octets": None, "quota_messages": None, "is_administrator": True}
    populated("quota", "administrator", "alice@example.test", "--revoke")
    assert not row(populated)["is_administrator"]
    populated("quota", "pool", "example", "3G")
    (tenant,) = json.loads(populated("tenant", "show", "example", "--json"))
    assert tenant["quota_octets"] == 3 << 30
    populated("quota", "pool", "example", "none")
    (tenant,) = json.loads(populated("tenant", "show", "example", "--json"))
    assert tenant["quota_octets"] is None


@pytest.mark.parametrize(
    ("arguments", "code", "complaint"),
    [
        (["set", "x@example.test"], os.EX_NOUSER, "no account x@example.test"),
        (["administrator", "x@example.test"], os.EX_NOUSER, "no account x@example.test"),
        (["pool", "nobody", "1G"], os.EX_NOUSER, "no tenant nobody"),
        (["pool", "example", "1X"], os.EX_USAGE, "unknown unit"),
        (["set", "alice@example.test", "--messages", "-1"], os.EX_USAGE, "not in the range"),
    ],
)
def test_refusals(populated: Postwerk, arguments: list[str], code: int, complaint: str) -> None:
    """What cannot be is said in a line, with a code of sysexits.h."""
    with pytest.raises(Ended, match=complaint) as ended:
        populated("quota", *arguments)
    assert ended.value.code == code
