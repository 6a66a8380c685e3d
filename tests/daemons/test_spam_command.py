"""`postwerk spam`: learning from files, and why a message has its score."""

import json
import os
from pathlib import Path

import pytest

from tests.daemons.test_cli import Ended, Postwerk, configuration, populated, postwerk
from tests.filters.spam.letters import letter

__all__ = ["configuration", "populated", "postwerk"]  # fixtures

ALICE = "alice@example.test"


@pytest.fixture
def mails(tmp_path: Path) -> Path:
    """Forty spam and forty wanted mails, and one that nobody has sorted."""
    for kind, words in (("spam", "cheap pills from our shop"), ("ham", "minutes of the meeting on Friday")):
        (tmp_path / kind).mkdir()
        for number in range(100):
            (tmp_path / kind / f"{number}.eml").write_bytes(letter(f"{words}\n", Message_ID=f"<{number}@example.org>"))
    (tmp_path / "new.eml").write_bytes(letter("cheap pills, again cheap pills from our shop\n"))
    return tmp_path


def test_learning_changes_the_score(populated: Postwerk, mails: Path) -> None:
    """A message is scored by rules until Bayes has learned; for others than whom was taught it stays so."""
    new = str(mails / "new.eml")
    before = json.loads(populated("spam", "score", new, "--json"))[0]
    assert (before["score"], before["action"], before["reasons"]) == (0.0, "pass", [])
    assert (
        populated("spam", "learn", "--spam", "--account", ALICE, str(mails / "spam")) == "100 of 100 messages learned\n"
    )
    assert (
        populated("spam", "learn", "--ham", "--account", ALICE, str(mails / "ham")) == "100 of 100 messages learned\n"
    )
    assert populated("spam", "learn", "--ham", "--account", ALICE, str(mails / "ham")) == "0 of 100 messages learned\n"
    after = json.loads(populated("spam", "score", "--account", ALICE, new, "--json", "--language", "de"))[0]
    assert after["action"] in ("tag", "junk")
    assert "ihre Wörter sind die von Spam" in after["reasons"][0]["reason"]
    assert "bayes_spam" in populated("spam", "score", "--account", ALICE, new)
    assert json.loads(populated("spam", "score", new, "--json"))[0]["score"] == 0.0
    learned = json.loads(populated("spam", "learned", "--json"))
    assert [(row["tenant"], row["login"], row["spam"], row["ham"]) for row in learned] == [
        ("example", None, 100, 100),
        ("example", ALICE, 100, 100),
    ]


def test_what_was_learned_can_be_taken_back(populated: Postwerk, mails: Path) -> None:
    """--forget leaves no token."""
    populated("spam", "learn", "--spam", "--tenant", "example", str(mails / "spam"))
    assert (
        populated("spam", "learn", "--forget", "--tenant", "example", str(mails / "spam"))
        == "100 of 100 messages forgotten\n"
    )
    learned = json.loads(populated("spam", "learned", "--json"))
    assert [(row["spam"], row["tokens"]) for row in learned] == [(0, 0)]


def test_mistakes_are_told(populated: Postwerk, mails: Path) -> None:
    """Without a kind, and for nobody."""
    with pytest.raises(Ended) as ended:
        populated("spam", "learn", str(mails / "spam"))
    assert ended.value.code == os.EX_USAGE
    with pytest.raises(Ended) as ended:
        populated("spam", "learn", "--spam", "--account", "nobody@example.test", str(mails / "new.eml"))
    assert ended.value.code == os.EX_NOUSER


def thresholds(postwerk: Postwerk, *arguments: str) -> dict[str, tuple[float | str, bool]]:
    """What holds, and whether it was set there."""
    rows = json.loads(postwerk("spam", "threshold", *arguments, "--json"))
    return {row["threshold"]: (row["score"], row["set_here"]) for row in rows}


def test_thresholds_of_accounts_and_tenants(populated: Postwerk) -> None:
    """An account's own go before its tenant's, these before the configuration's; what is inherited gives way to them."""
    assert thresholds(populated) == {"tag": (3.5, False), "junk": (5.0, False), "reject": (15.0, False)}
    populated("spam", "threshold", "--tenant", "example", "--junk", "4", "--reject", "never")
    populated("spam", "threshold", "--account", ALICE, "--junk", "2")
    assert thresholds(populated, "--account", ALICE) == {
        "tag": (2.0, False),
        "junk": (2.0, True),
        "reject": ("never", False),
    }
    assert thresholds(populated, "--tenant", "example")["junk"] == (4.0, True)
    populated("spam", "threshold", "--account", ALICE, "--junk", "default")
    assert thresholds(populated, "--account", ALICE)["junk"] == (4.0, False)
    populated("spam", "threshold", "--tenant", "example", "--junk", "default", "--reject", "default")
    assert thresholds(populated, "--account", ALICE)["reject"] == (15.0, False)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--account", ALICE, "--junk", "0"], "expected a number above 0"),
        (["--account", ALICE, "--junk", "nan"], "expected a number above 0"),
        (["--account", ALICE, "--tag", "9", "--junk", "8"], "tag, junk and reject must ascend"),
        (["--junk", "8"], "say --account or --tenant"),
    ],
)
def test_thresholds_that_are_none(populated: Postwerk, arguments: list[str], told: str) -> None:
    """The reason is told, and nothing changes."""
    with pytest.raises(Ended) as refused:
        populated("spam", "threshold", *arguments)
    assert told in str(refused.value)
    assert thresholds(populated, "--account", ALICE)["junk"] == (5.0, False)


def test_thresholds_decide_about_scores(populated: Postwerk, mails: Path) -> None:
    """The same score is something else for who tolerates less."""
    spam_mail = mails / "loud.eml"
    spam_mail.write_bytes(letter("cheap pills\n", Subject="CHEAP PILLS!!! 100% FREE", To=None))
    before = json.loads(populated("spam", "score", "--account", ALICE, str(spam_mail), "--json"))[0]
    assert before["action"] == "pass"
    assert before["score"] > 0.5
    populated("spam", "threshold", "--account", ALICE, "--tag", "0.1", "--junk", "0.2", "--reject", "0.3")
    after = json.loads(populated("spam", "score", "--account", ALICE, str(spam_mail), "--json"))[0]
    assert (after["score"], after["action"]) == (before["score"], "reject")


def test_what_an_account_knows_of_a_sender(populated: Postwerk) -> None:
    """Nothing, of somebody it never had to do with; the address is asked about in any spelling."""
    told = json.loads(populated("spam", "sender", "--account", ALICE, "Anna@BÜCHER.example", "--forget", "--json"))
    assert told == [{"address": "anna@xn--bcher-kva.example", "answered": 0, "kept": 0, "junked": 0}]
    with pytest.raises(Ended):
        populated("spam", "sender", "--account", ALICE, "anna")
