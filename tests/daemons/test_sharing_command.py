"""`postwerk team` and `postwerk acl`."""

import json
import os
from pathlib import Path

import pytest

from tests.daemons.test_cli import Ended, Postwerk, configuration, populated, postwerk

__all__ = ["configuration", "populated", "postwerk"]  # the fixtures


def test_teams(populated: Postwerk) -> None:
    """A team is added with an address and a name, listed with its members, and removed; it is no account to log in to."""
    populated("team", "add", "info@example.test", "--name", "Info", "--quota", "2G")
    (row,) = json.loads(populated("team", "list", "--json"))
    assert (row["name"], row["address"], row["tenant"], row["members"]) == ("Info", "info@example.test", "example", 0)
    assert "2 GiB" in populated("team", "list")
    assert [each["login"] for each in json.loads(populated("account", "list", "--json"))] == ["alice@example.test"]
    with pytest.raises(Ended, match="no account"):
        populated("account", "passwd", "info@example.test", "--password-stdin", stdin="x\n")
    for again in (("info@example.test", "--name", "Other"), ("other@example.test", "--name", "Info")):
        with pytest.raises(Ended, match="exists already") as refused:
            populated("team", "add", *again)
        assert refused.value.code == os.EX_CANTCREAT
    for wrong, reason in (("x@nowhere.test", "no domain"), ("nothing", "is not an address")):
        with pytest.raises(Ended, match=reason):
            populated("team", "add", wrong)
    with pytest.raises(Ended, match="cannot be the name"):
        populated("team", "add", "odd@example.test", "--name", "a/b")
    with pytest.raises(Ended, match="no team alice"):
        populated("team", "remove", "alice@example.test", "--yes")
    populated("team", "remove", "info@example.test", "--yes")
    assert json.loads(populated("team", "list", "--json")) == []


def test_members(populated: Postwerk) -> None:
    """Members are given rights on the team's mailboxes, all but that to give rights unless it is said, and lose them."""
    populated("team", "add", "info@example.test")
    populated("team", "grant", "info@example.test", "alice@example.test")
    (entry,) = json.loads(populated("acl", "list", "info@example.test", "--json"))
    assert entry == {"identifier": "alice@example.test", "rights": "lrswipkxte"}
    populated("team", "grant", "info@example.test", "anyone", "lrd")
    assert "anyone" in populated("acl", "list", "info@example.test", "INBOX")
    populated("team", "revoke", "info@example.test", "alice@example.test")
    (entry,) = json.loads(populated("acl", "list", "info@example.test", "--json"))
    assert entry == {"identifier": "anyone", "rights": "lrte"}
    for wrong in (("grant", "info@example.test", "nobody@example.test"), ("revoke", "none@example.test", "anyone")):
        with pytest.raises(Ended) as refused:
            populated("team", *wrong)
        assert refused.value.code == os.EX_NOUSER
    with pytest.raises(Ended, match="no such right: q") as refused:
        populated("team", "grant", "info@example.test", "anyone", "lrq")
    assert refused.value.code == os.EX_USAGE


def test_import_into_a_team(populated: Postwerk, tmp_path: Path) -> None:
    """A team's mailboxes are filled from the command line like a person's, and what is made for that is shared alike."""
    populated("team", "add", "info@example.test")
    populated("team", "grant", "info@example.test", "alice@example.test", "lrs")
    old = tmp_path / "old.mbox"
    old.write_bytes(b"From x Sun Nov 22 12:00:00 2026\nSubject: old\n\nText.\n\n")
    populated("import", "mbox", str(old), "--account", "info@example.test", "--mailbox", "Old")
    (entry,) = json.loads(populated("acl", "list", "info@example.test", "Old", "--json"))
    assert entry["rights"] == "lrs"


def test_lists_of_mailboxes(populated: Postwerk) -> None:
    r"""The list of any mailbox is shown and set, negative rights too, and whose \Seen it keeps is said."""
    populated("account", "add", "bob@example.test", "--generate")
    assert json.loads(populated("acl", "list", "alice@example.test", "Sent", "--json")) == []
    populated("acl", "set", "Alice@example.test", "Sent", "bob@example.test", "lrw")
    populated("acl", "set", "alice@example.test", "Sent", "bob@example.test", "w", "--deny")
    populated("acl", "set", "alice@example.test", "Sent", "anyone", "l")
    populated("acl", "set", "alice@example.test", "Sent", "anyone", "")
    assert json.loads(populated("acl", "list", "alice@example.test", "Sent", "--json")) == [
        {"identifier": "bob@example.test", "rights": "lrw"},
        {"identifier": "-bob@example.test", "rights": "w"},
    ]
    populated("acl", "seen", "alice@example.test", "Sent", "own")
    with pytest.raises(Ended, match="no such identifier"):
        populated("acl", "set", "alice@example.test", "Sent", "eve@example.test", "lr")
    with pytest.raises(Ended, match="no mailbox Nowhere"):
        populated("acl", "list", "alice@example.test", "Nowhere")
