"""`postwerk book`: lists of addresses that scripts name."""

import json
import os

import pytest

from tests.daemons.test_cli import Ended, Postwerk, configuration, populated, postwerk

__all__ = ["configuration", "populated", "postwerk"]  # fixtures

ALICE = "alice@example.test"


def values(postwerk: Postwerk, owner: str, *options: str) -> list[str]:
    return [row["value"] for row in json.loads(postwerk("book", "show", owner, *options, "--json"))]


def test_an_address_book(populated: Postwerk) -> None:
    """Addresses are added once whatever their case, shown in order with whose they are, and removed."""
    assert populated("book", "add", ALICE, "Bob@Example.org", "bob@example.org", "@example.com") == "2 added\n"
    assert populated("book", "add", "Alice@Example.Test", "BOB@example.org", "--label", "Bob") == "0 added\n"
    assert values(populated, ALICE) == ["@example.com", "bob@example.org"]
    assert "bob@example.org  Bob" in populated("book", "show", ALICE)
    assert populated("book", "remove", ALICE, "BOB@example.org", "who@example.org") == "1 removed\n"
    assert values(populated, ALICE) == ["@example.com"]


def test_lists_of_a_tenant(populated: Postwerk) -> None:
    """A tenant's list is another one than that of its account with the same name; it goes with all that is in it."""
    populated("book", "add", "example", "bob@example.org", "--list", "friends")
    populated("book", "add", ALICE, "carol@example.org", "--list", "friends")
    assert values(populated, "example", "--list", "friends") == ["bob@example.org"]
    assert json.loads(populated("book", "lists", "example", "--json")) == [{"name": "friends", "entries": 1}]
    with pytest.raises(Ended, match="Say so with --yes"):
        populated("book", "drop", "example", "friends")
    populated("book", "drop", "example", "friends", "--yes")
    assert json.loads(populated("book", "lists", "example", "--json")) == []
    assert values(populated, ALICE, "--list", "friends") == ["carol@example.org"]


def test_what_is_not_there(populated: Postwerk) -> None:
    """Unknown accounts, tenants and lists are told as such; everybody has an address book, be it empty."""
    assert values(populated, ALICE) == []
    for arguments, missing in (
        (("show", "nobody@example.test"), "account nobody@example.test"),
        (("add", "nothing", "a@b"), "tenant nothing"),
        (("show", ALICE, "--list", "none"), "list none"),
        (("drop", "example", "none", "--yes"), "list none"),
    ):
        with pytest.raises(Ended, match=f"there is no {missing}") as ended:
            populated("book", *arguments)
        assert ended.value.code == os.EX_NOUSER
    with pytest.raises(Ended, match="is empty"):
        populated("book", "add", ALICE, " ")
