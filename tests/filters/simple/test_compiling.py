"""What simple settings do to mail, once they are a script; and what the script looks like."""

from dataclasses import replace
from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from filters.sieve.actions import Action, Discard, FileInto, Keep, Notify, Redirect, Vacation
from filters.sieve.message import Message
from filters.sieve.outgoing import Declined, vacation_reply
from filters.sieve.script import compile_script
from filters.simple.compiling import Demand, FaxSign, compiled, demand
from filters.simple.conditions import parse
from filters.simple.settings import Conditions, Forwarding, Rule, Settings, SpamAction
from filters.simple.settings import Vacation as Answer
from tests.filters.sieve.running import AROUND, MAIL
from tests.filters.simple.running import BERLIN, NOW, result

YES, NO = parse("subject contains Hello"), parse("subject contains Goodbye")
SPAM = replace(AROUND, spam_score=5 / 9)
EVERYTHING = Settings(
    spam="junk",
    rules=(
        Rule(name="Boss", conditions=(parse("from is boss@example.org"),), file_into="Boss", flags=("\\Flagged",)),
        Rule(name="Fax", conditions=(parse("fax"),), notify=("mailto:alice@phone.test",)),
        Rule(name="Away", conditions=(YES, parse("not contact")), needs="any", discard=True),
    ),
    forwarding=Forwarding(addresses=("alice@remote.test",)),
    vacation=Answer(text="Ich bin weg.\n.\nAlice", starts=date(2026, 12, 24), ends=date(2027, 1, 6)),
)


def script(settings: Settings) -> str:
    """What is made of it, with line ends that are easier to write."""
    return (compiled(settings, BERLIN, FaxSign()) or "").replace("\r\n", "\n")


def told(action: Action) -> str:
    """An action in a word or two."""
    match action:
        case FileInto(mailbox=mailbox):
            return f"file {mailbox}"
        case Redirect(address=address):
            return f"forward {address}"
        case Notify(method=method):
            return f"notify {method}"
        case _:
            return type(action).__name__.lower()


def test_the_whole_script() -> None:
    """It reads like one that a person wrote."""
    assert (
        script(EVERYTHING)
        == """\
# Made of the simple settings of this account. Change those: what is changed here is not kept.
require ["comparator-i;ascii-numeric", "copy", "date", "enotify", "extlists", "fileinto", "imap4flags", "mailbox", \
"relational", "spamtest", "special-use", "vacation", "variables"];

if spamtest :value "ge" :comparator "i;ascii-numeric" "6" {
    # Spam
    fileinto :specialuse "\\\\Junk" :create "Junk";
    stop;
}
if address :is "from" "boss@example.org" {
    # Boss
    addflag "\\\\Flagged";
    fileinto :create "Boss";
    set "sorted" "yes";
} elsif header :matches "subject" "Fax*" {
    # Fax
    notify "mailto:alice@phone.test";
}
if string :is "${sorted}" "" {
    if anyof (
        header :contains "subject" "Hello",
        not address :list "from" ":addrbook:default"
    ) {
        # Away
        discard;
        stop;
    }
}
# Forwarding
redirect :copy "alice@remote.test";
if allof (
    currentdate :zone "+0100" :value "ge" "date" "2026-12-24",
    currentdate :zone "+0100" :value "le" "date" "2027-01-06"
) {
    # Autoresponder
    vacation :days 7 text:
Ich bin weg.
..
Alice
.
;
}
"""
    )


def test_nothing_set() -> None:
    """Who has set nothing that concerns mail when it comes in has no script."""
    off = Answer(text="x", enabled=False)
    assert script(Settings(junk_days=30, time_zone="Asia/Tokyo", vacation=off)) == ""


@pytest.mark.parametrize(("action", "becomes"), [("none", "keep"), ("junk", "file Junk"), ("delete", "discard")])
def test_spam(action: SpamAction, becomes: str) -> None:
    """Spam goes where the account wants it, and then there are no rules, no forwarding and no answer; until it wants
    that, spam is mail like any other."""
    others = Settings(rules=(Rule(name="mark", flags=("seen",)),), spam=action)
    assert [told(each) for each in result(others, around=SPAM).actions] == [becomes]
    assert [told(each) for each in result(others, around=replace(SPAM, spam_score=0.55)).actions] == ["keep"]
    if action != "none":
        everything = structs.replace(EVERYTHING, spam=action)
        assert [
            told(each) for each in result(everything, around=SPAM, now=datetime(2026, 12, 25, tzinfo=UTC)).actions
        ] == [becomes]


def test_junk_is_the_mailbox_with_that_use() -> None:
    r"""Spam is filed by the special use \\Junk, and a mailbox is made where there is none."""
    (action,) = result(Settings(spam="junk"), around=SPAM).actions
    assert action == FileInto("Junk", create=True, special_use="\\Junk")


@pytest.mark.parametrize(
    ("keep", "becomes"), [(True, ["forward a@remote.test", "keep"]), (False, ["forward a@remote.test"])]
)
def test_forwarding(keep: bool, becomes: list[str]) -> None:
    """With a local copy or without; what a rule files stays filed, what it discards goes nowhere."""
    forwarding = Forwarding(addresses=("a@remote.test",), keep=keep)
    assert [told(each) for each in result(Settings(forwarding=forwarding)).actions] == becomes
    filing = Rule(name="file", conditions=(YES,), file_into="X")
    found = result(Settings(forwarding=forwarding, rules=(filing,))).actions
    assert [told(each) for each in found] == ["file X", "forward a@remote.test"]
    discarding = Rule(name="discard", conditions=(YES,), discard=True)
    assert [told(each) for each in result(Settings(forwarding=forwarding, rules=(discarding,))).actions] == ["discard"]


def test_flags_go_with_the_message() -> None:
    """A rule's flags are on what later rules file, and on what stays in the inbox."""
    mark = Rule(name="mark", conditions=(YES,), flags=("\\Seen", "Work"))
    assert result(Settings(rules=(mark,))).actions == (Keep(("\\Seen", "Work"), is_implicit=True),)
    file = Rule(name="file", file_into="X")
    assert result(Settings(rules=(mark, file))).actions == (FileInto("X", ("\\Seen", "Work"), create=True),)


@pytest.mark.parametrize(
    ("zone", "first", "last"),
    [
        (
            "Europe/Berlin",
            datetime(2026, 10, 23, 22, tzinfo=UTC),
            datetime(2026, 10, 25, 22, 59, 59, tzinfo=UTC),
        ),  # summer, winter
        ("America/New_York", datetime(2026, 10, 24, 4, tzinfo=UTC), datetime(2026, 10, 26, 3, 59, 59, tzinfo=UTC)),
        ("Asia/Kathmandu", datetime(2026, 10, 23, 18, 15, tzinfo=UTC), datetime(2026, 10, 25, 18, 14, 59, tzinfo=UTC)),
    ],
)
def test_days_of_the_autoresponder(zone: str, first: datetime, last: datetime) -> None:
    """It answers from the first second of its first day to the last of its last, by the account's clock."""
    settings = Settings(vacation=Answer(text="away", starts=date(2026, 10, 24), ends=date(2026, 10, 25)))

    def answers(now: datetime) -> bool:
        return any(isinstance(each, Vacation) for each in result(settings, now=now, zone=ZoneInfo(zone)).actions)

    assert answers(first)
    assert answers(last)
    assert not answers(datetime.fromtimestamp(first.timestamp() - 1, UTC))
    assert not answers(datetime.fromtimestamp(last.timestamp() + 1, UTC))


@pytest.mark.parametrize(
    ("starts", "ends", "answers"),
    [
        (None, None, True),
        (date(2026, 1, 2), None, True),
        (date(2026, 1, 3), None, False),
        (None, date(2026, 1, 2), True),
        (None, date(2026, 1, 1), False),
    ],
)
def test_open_ends(starts: date | None, ends: date | None, *, answers: bool) -> None:
    """Either date may be left out."""
    found = result(
        Settings(rules=(Rule(name="x", flags=("x",)),), vacation=Answer(text="away", starts=starts, ends=ends))
    )
    assert any(isinstance(each, Vacation) for each in found.actions) is answers


@pytest.mark.parametrize(
    ("conditions", "answers"),
    [((), True), ((YES,), True), ((NO,), False), ((parse("from matches *@example.net"), NO), False)],
)
def test_whom_it_answers(conditions: Conditions, *, answers: bool) -> None:
    """The account says what mail is answered; with discarded mail it makes no difference."""
    settings = Settings(rules=(Rule(name="x", flags=("x",)),), vacation=Answer(text="away", conditions=conditions))
    assert any(isinstance(each, Vacation) for each in result(settings).actions) is answers
    discarding = structs.replace(settings, rules=(Rule(name="x", discard=True),))
    assert [told(each) for each in result(discarding).actions] == ["discard"]


def test_the_answer() -> None:
    """It says what was written, under the subject that was given, and is not given to a list."""
    settings = Settings(vacation=Answer(text='"Weg"\n.\n\\o/ ${name}\n', subject='Re: "weg" ${x}', days=3))
    action = next(each for each in result(settings).actions if isinstance(each, Vacation))
    assert (action.reason, action.subject) == ('"Weg"\r\n.\r\n\\o/ ${name}\r\n', 'Re: "weg" ${x}')
    assert action.period_seconds == 3 * 86_400
    listed = Message(b"List-Id: <x>\r\n" + MAIL.replace(b"bob+work", b"bob"))
    assert isinstance(vacation_reply(action, listed.view, AROUND, now=NOW, message_id="<x>"), Declined)


@st.composite
def some_rules(draw: st.DrawFn) -> list[Rule]:
    """Rules of every kind, for this message, for another one, for all."""
    rules: list[Rule] = []
    for act in draw(st.lists(st.sampled_from(["file", "forward", "discard", "notify"]), min_size=1, max_size=8)):
        rule = Rule(
            name=f"rule {len(rules)}",
            conditions=draw(st.sampled_from([(), (YES,), (NO,)])),
            file_into="X ${sorted}" if act == "file" else "",
            forward_to=("a@remote.test",) if act == "forward" else (),
            discard=act == "discard",
            keep=act in ("file", "forward") and draw(st.booleans()),
            notify=("mailto:a@phone.test",) if act == "notify" or draw(st.booleans()) else (),
        )
        rules.append(rule)
    return rules


def expected(rules: list[Rule]) -> set[str]:
    """The rules as docs/rules.md tells them."""
    acts: set[str] = set()
    for rule in rules:
        if NO in rule.conditions:
            continue
        acts |= {f"notify {uri}" for uri in rule.notify} | {f"forward {address}" for address in rule.forward_to}
        acts |= {f"file {rule.file_into}"} if rule.file_into else set()
        if rule.decides:
            return acts or {"discard"}
    return acts | {"keep"}


@given(some_rules())
def test_the_order_of_rules(rules: list[Rule]) -> None:
    """Rules are followed in their order, up to the first that files, forwards or discards and does not keep."""
    settings = Settings(rules=tuple(rules))
    found = result(settings)
    assert {told(each) for each in found.actions} == expected(rules)
    most = demand(settings)
    assert sum(isinstance(each, Redirect) for each in found.actions) <= most.redirects
    assert sum(not isinstance(each, Keep | Discard) for each in found.actions) <= most.actions


def test_what_it_can_come_to() -> None:
    """Rules that let others follow add up; of those that do not the costliest counts."""
    rules = (
        Rule(name="a", forward_to=("a@x.test", "b@x.test"), keep=True),
        Rule(name="b", forward_to=("c@x.test", "d@x.test", "e@x.test")),
        Rule(name="c", file_into="X", notify=("mailto:a@x.test",)),
        Rule(name="d", notify=("mailto:a@x.test", "mailto:b@x.test")),
    )
    assert demand(Settings(rules=rules, forwarding=Forwarding(addresses=("f@x.test",)))) == Demand(8, 6, 3)


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1).filter(str.strip))
def test_any_text(text: str) -> None:
    """Whatever the answer says, the script compiles, and the text comes out as it went in but for line ends."""
    rules = (
        Rule(name="a", conditions=(NO,), file_into="A"),
        Rule(name="b", flags=("b",)),
        Rule(name="c", flags=("c",)),
    )
    found = result(Settings(rules=rules, vacation=Answer(text=text)))
    (said,) = [each.reason for each in found.actions if isinstance(each, Vacation)]
    assert said.split() == text.split()


def test_fifty_rules_compile() -> None:
    """The script of fifty rules that alternate is neither nested deeply nor long."""
    rules = tuple(
        Rule(name=f"rule {number}", conditions=(YES,), **({"flags": ("x",)} if number % 2 else {"file_into": "X"}))
        for number in range(50)
    )
    source = script(Settings(rules=rules))
    compile_script(source)
    assert len(source) < 10_000
