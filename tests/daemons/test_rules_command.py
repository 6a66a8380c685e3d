"""`postwerk rules` and `postwerk vacation`: what is set can be read again, in words, as JSON and as Sieve."""

import json
import os
from pathlib import Path

import pytest

from filters.sieve.script import compile_script
from tests.daemons.test_cli import Ended, Postwerk, configuration, populated, postwerk

__all__ = ["configuration", "populated", "postwerk"]  # fixtures

ALICE = "alice@example.test"


def sieve(postwerk: Postwerk) -> str:
    """The script, which must compile."""
    script = postwerk("rules", "show", ALICE, "--sieve")
    compile_script(script)
    return script


def test_rules_in_words(populated: Postwerk) -> None:
    """Rules are put, replaced, moved, shown in words as they were given, and removed."""
    put = ("rules", "put", ALICE)
    populated(*put, "Boss", "--if", "from is boss@example.org", "--file-into", "Boss", "--flag", "flagged")
    populated(*put, "News", "--if", "header List-Id exists", "--if", 'subject contains "on sale"', "--any", "--discard")
    populated(*put, "Copy", "--forward-to", "a@remote.test", "--forward-to", "b@remote.test", "--keep")
    populated("rules", "move", ALICE, "Copy", "1")
    shown = populated("rules", "show", ALICE).splitlines()
    assert [line.split(maxsplit=2)[2] for line in shown if line.startswith("rule")] == [
        "Copy: forward to a@remote.test, forward to b@remote.test, keep",
        "Boss: if from is boss@example.org: flag flagged, file into Boss",
        'News: if header List-Id exists or subject contains "on sale": discard',
    ]
    populated(*put, "Boss", "--file-into", "Chief")
    populated("rules", "remove", ALICE, "Copy")
    shown = populated("rules", "show", ALICE).splitlines()
    assert [line.split(maxsplit=2)[2] for line in shown if line.startswith("rule")] == [
        "Boss: file into Chief",
        'News: if header List-Id exists or subject contains "on sale": discard',
    ]
    with pytest.raises(Ended, match="has no rule Copy") as missing:
        populated("rules", "remove", ALICE, "Copy")
    assert missing.value.code == os.EX_NOUSER


def test_everything_else(populated: Postwerk) -> None:
    """Spam action, Junk, forwarding and time zone are set, shown and switched off; without any of them there is no script."""
    assert sieve(populated) == ""
    populated("rules", "spam", ALICE, "junk")
    populated("rules", "expire-junk", ALICE, "on")
    populated("rules", "forward", ALICE, "alice@remote.test", "--no-keep")
    populated("rules", "time-zone", ALICE, "America/New_York")
    assert populated("rules", "show", ALICE).splitlines() == [
        "spam           filed into Junk",
        "Junk           emptied after 30 days",
        "forwarding     to alice@remote.test",
        "time zone      America/New_York",
    ]
    assert 'redirect "alice@remote.test";' in sieve(populated)
    populated("rules", "spam", ALICE, "none")
    populated("rules", "expire-junk", ALICE, "off")
    populated("rules", "forward", ALICE, "--off")
    populated("rules", "time-zone", ALICE, "default")
    assert populated("rules", "show", ALICE).splitlines() == [
        "spam           marked in the header",
        "Junk           kept",
        "time zone      Europe/Berlin",
    ]
    assert sieve(populated) == ""


def test_the_autoresponder(populated: Postwerk) -> None:
    """An answer is set with its days, shown, switched off with its text kept, and switched on again."""
    with pytest.raises(Ended, match="has set no answer"):
        populated("vacation", "on", ALICE)
    options = (
        "--from",
        "2026-12-24",
        "--until",
        "2027-01-06",
        "--subject",
        "Weg",
        "--if",
        "not from matches *@here.test",
    )
    populated("vacation", "set", ALICE, "-", *options, stdin="Ich bin im Urlaub.\n")
    assert populated("vacation", "show", ALICE) == (
        "on from 2026-12-24 until 2027-01-06 (Europe/Berlin), within 7 days once\nif not from matches *@here.test\n"
        "Subject: Weg\n\nIch bin im Urlaub.\n"
    )
    assert "vacation" in sieve(populated)
    populated("vacation", "off", ALICE)
    assert sieve(populated) == ""
    assert populated("vacation", "show", ALICE).startswith("off from 2026-12-24")
    populated("vacation", "on", ALICE)
    assert "Ich bin im Urlaub." in sieve(populated)


def test_two_answers(populated: Postwerk, state: Path) -> None:
    """Who has a script that answers as well is told what that leads to."""
    script = state / "own.sieve"
    script.write_text('require "vacation";\nvacation "I am not there.";\n')
    populated("sieve", "put", ALICE, "own", str(script))
    assert populated("vacation", "set", ALICE, "-", stdin="Ich bin im Urlaub.") == ""
    populated("sieve", "activate", ALICE, "own")
    assert "the active script own answers, too: it is left out" in populated("vacation", "on", ALICE)


def test_json(populated: Postwerk, state: Path) -> None:
    """What is shown as JSON is loaded again, for this account or another one; what is wrong says where."""
    populated("rules", "put", ALICE, "Boss", "--if", "from is boss@example.org", "--file-into", "Boss")
    populated("rules", "spam", ALICE, "delete")
    document = populated("rules", "show", ALICE, "--json")
    assert json.loads(document)["spam"] == "delete"
    populated("account", "add", "bob@example.test", "--password-stdin", stdin="secret\n")
    populated("rules", "load", "bob@example.test", "-", stdin=document)
    assert populated("rules", "show", "bob@example.test", "--json") == document
    with pytest.raises(Ended, match=r"the rule does nothing - at `\$\.rules\[0\]`") as wrong:
        populated("rules", "load", ALICE, "-", stdin='{"rules": [{"name": "nothing"}]}')
    assert wrong.value.code == os.EX_DATAERR


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("put", ALICE, "x", "--if", "from equals bob", "--discard"), "expected one of contains, is, matches, exists"),
        (("put", ALICE, "x"), "the rule does nothing"),
        (("put", ALICE, "x", "--discard", "--file-into", "X"), "what is discarded cannot be filed"),
        (("put", ALICE, "x", "--forward-to", "nobody"), "nobody is no address"),
        (("put", ALICE, "x", "--forward-to", "Alice@EXAMPLE.test"), "it would forward to itself"),
        (("put", ALICE, "x\ny", "--discard"), "Characters that are not possible - at `$.rules[0].name`"),
        (("put", ALICE, "x", "--flag", "to do"), "Characters that are not possible - at `$.rules[0].flags[0]`"),
        (("put", ALICE, "x", "--notify", "gopher://x"), "unknown notification method 'gopher'"),
        (("put", ALICE, "x", "--notify", "+49 209 / 123"), "nobody can be notified here by sms:+49209123"),
        (("put", ALICE, "x", "--file-into", "A//B"), "Characters that are not possible - at `$.rules[0].file_into`"),
        (("forward", ALICE, *(f"{number}@remote.test" for number in range(5))), "5 redirects: sieve.redirects is 4"),
        (("forward", ALICE), "give addresses or --off"),
        (("time-zone", ALICE, "Europe/Gelsenkirchen"), "is no time zone"),
        (("expire-junk", ALICE, "soon"), "a number of days"),
        (("expire-junk", ALICE, "0"), "1 at least"),
        (("spam", "nobody@example.test", "junk"), "no account nobody@example.test"),
    ],
)
def test_refusals(populated: Postwerk, arguments: tuple[str, ...], reason: str) -> None:
    """What cannot be done is said when it is set, and changes nothing."""
    with pytest.raises(Ended) as refused:
        populated("rules", *arguments)
    assert reason in refused.value.said
    assert populated("rules", "show", ALICE, "--json") == "{}\n"
