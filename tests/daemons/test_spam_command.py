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
        for number in range(40):
            (tmp_path / kind / f"{number}.eml").write_bytes(letter(f"{words}\n", Message_ID=f"<{number}@example.org>"))
    (tmp_path / "new.eml").write_bytes(letter("cheap pills, again cheap pills from our shop\n"))
    return tmp_path


def test_learning_changes_the_score(populated: Postwerk, mails: Path) -> None:
    """A message is scored by rules until Bayes has learned; for others than whom was taught it stays so."""
    new = str(mails / "new.eml")
    before = json.loads(populated("spam", "score", new, "--json"))[0]
    assert (before["score"], before["action"], before["reasons"]) == (0.0, "pass", [])
    assert (
        populated("spam", "learn", "--spam", "--account", ALICE, str(mails / "spam")) == "40 of 40 messages learned\n"
    )
    assert populated("spam", "learn", "--ham", "--account", ALICE, str(mails / "ham")) == "40 of 40 messages learned\n"
    assert populated("spam", "learn", "--ham", "--account", ALICE, str(mails / "ham")) == "0 of 40 messages learned\n"
    after = json.loads(populated("spam", "score", "--account", ALICE, new, "--json", "--language", "de"))[0]
    assert after["action"] in ("tag", "junk")
    assert "ihre Wörter sind die von Spam" in after["reasons"][0]["reason"]
    assert "bayes_spam" in populated("spam", "score", "--account", ALICE, new)
    assert json.loads(populated("spam", "score", new, "--json"))[0]["score"] == 0.0
    learned = json.loads(populated("spam", "learned", "--json"))
    assert [(row["tenant"], row["login"], row["spam"], row["ham"]) for row in learned] == [
        ("example", None, 40, 40),
        ("example", ALICE, 40, 40),
    ]


def test_what_was_learned_can_be_taken_back(populated: Postwerk, mails: Path) -> None:
    """--forget leaves no token."""
    populated("spam", "learn", "--spam", "--tenant", "example", str(mails / "spam"))
    assert (
        populated("spam", "learn", "--forget", "--tenant", "example", str(mails / "spam"))
        == "40 of 40 messages forgotten\n"
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
