"""Simple settings as a Sieve script that a person can read, and keep as a start for one of his own.

In this order: spam, the rules, forwarding, the autoresponder. Spam and what is discarded is not forwarded and not answered.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta, tzinfo
from typing import assert_never

from filters.sieve.addresses import ADDRESS_FIELDS
from filters.simple.conditions import spell_size
from filters.simple.settings import (
    RECIPIENT,
    Attachment,
    Body,
    Condition,
    Contact,
    Fax,
    Forwarding,
    Header,
    Needs,
    Rule,
    Settings,
    Size,
    SpamAction,
    Vacation,
)
from filters.simple.writer import Writer, list_of_tests

_COMMENT = "Made of the simple settings of this account. Change those: what is changed here is not kept."
_SPAM = 6  # of spamtest: from an account's own threshold for Junk on (filters/spam/findings.py)
_SORTED = "sorted"  # the variable that says that a rule has decided


@dataclass(frozen=True, slots=True)
class FaxSign:
    """How to tell a fax, which a gateway has made a mail of."""

    subject: str = "Fax*"  # with wildcards
    senders: Sequence[str] = ()  # envelope senders of the gateways; none: whoever


@dataclass(frozen=True, slots=True)
class Demand:
    """What a message can cause at worst, of what the interpreter limits."""

    actions: int = 0
    redirects: int = 0
    notifications: int = 0


def compiled(settings: Settings, zone: tzinfo, fax: FaxSign) -> str | None:
    """The script; None when all mail stays where it comes in. Whether the host lets it run is the caller's to check."""
    chains = _chains(settings.rules)
    script = _Script(Writer(has_variables=any(chain.tells for chain in chains)), zone, fax)
    script.spam(settings.spam)
    for chain in chains:
        script.chain(chain)
    if settings.forwarding is not None:
        script.forwarding(settings.forwarding)
    if settings.vacation is not None and settings.vacation.enabled:
        script.vacation(settings.vacation)
    return None if script.writer.is_empty else script.writer.script(_COMMENT)


def demand(settings: Settings) -> Demand:
    """All rules that let others follow, the costliest of those that do not, forwarding and the answer."""
    going_on = [_cost(rule) for rule in settings.rules if not rule.decides]
    deciding = [_cost(rule) for rule in settings.rules if rule.decides]

    def worst(of: Callable[[Demand], int]) -> int:
        return sum(map(of, going_on)) + max(map(of, deciding), default=0)

    forwards = len(settings.forwarding.addresses) if settings.forwarding else 0
    answers = 1 if settings.vacation is not None else 0
    return Demand(
        worst(lambda cost: cost.actions) + forwards + answers,
        worst(lambda cost: cost.redirects) + forwards,
        worst(lambda cost: cost.notifications),
    )


def _cost(rule: Rule) -> Demand:
    redirects, notifications = len(rule.forward_to), len(rule.notify)
    return Demand(bool(rule.file_into) + rule.discard + redirects + notifications, redirects, notifications)


@dataclass(frozen=True, slots=True)
class _Chain:
    """Rules of which at most one is followed: if, elsif, elsif."""

    rules: Sequence[Rule]
    asks: bool  # whether a rule of an earlier chain has decided
    tells: bool  # later ones when a rule of it has


def _chains(rules: Sequence[Rule]) -> list[_Chain]:
    """A chain ends with the first rule that lets later ones follow, since those may be followed as well as it."""
    groups: list[list[Rule]] = [[]]
    for rule in rules:
        groups[-1].append(rule)
        if not rule.decides:
            groups.append([])
    groups = [group for group in groups if group]
    chains: list[_Chain] = []
    for at, group in enumerate(groups):
        has_decided = any(chain.tells for chain in chains)
        tells = at < len(groups) - 1 and any(_sorts(rule) for rule in group)
        chains.append(_Chain(group, has_decided, tells))
    return chains


def _sorts(rule: Rule) -> bool:
    """Whether it decides where the message goes: after one that discards nothing follows at all."""
    return rule.decides and not rule.discard


@dataclass(frozen=True, slots=True)
class _Script:
    """The parts of a script, written one after the other."""

    writer: Writer
    zone: tzinfo
    fax: FaxSign

    def spam(self, action: SpamAction) -> None:
        """Spam goes into Junk or away, and nothing else happens to it."""
        if action == "none":
            return
        writer = self.writer
        writer.require("spamtest", "relational", "comparator-i;ascii-numeric")
        with writer.block(f'if spamtest :value "ge" :comparator "i;ascii-numeric" "{_SPAM}"'):
            writer.line("# Spam")
            if action == "junk":
                writer.require("fileinto", "special-use", "mailbox")
                writer.line('fileinto :specialuse "\\\\Junk" :create "Junk";')
            else:
                writer.line("discard;")
            writer.line("stop;")

    def chain(self, chain: _Chain) -> None:
        """Rules of which at most one is followed."""
        if not chain.asks:
            self._links(chain)
            return
        with self.writer.block(f'if string :is "${{{_SORTED}}}" ""'):
            self._links(chain)

    def _links(self, chain: _Chain) -> None:
        for at, rule in enumerate(chain.rules):
            test = self._conditions(rule.conditions, rule.needs) or "true"
            with self.writer.block(f"{'elsif' if at else 'if'} {test}"):
                self.writer.line(f"# {rule.name}")
                self._actions(rule)
                if chain.tells and _sorts(rule):
                    self.writer.line(f'set "{_SORTED}" "yes";')

    def _actions(self, rule: Rule) -> None:
        writer = self.writer
        if rule.flags:
            writer.require("imap4flags")
            writer.line(f"addflag {writer.strings(rule.flags)};")
        for uri in rule.notify:
            writer.require("enotify")
            writer.line(f"notify {writer.string(uri)};")
        if rule.file_into:
            writer.require("fileinto", "mailbox")
            writer.line(f"fileinto {self._copy(rule.keep)}:create {writer.string(rule.file_into)};")
        self._redirect(rule.forward_to, keep=rule.keep)
        if rule.discard:
            writer.line("discard;")
            writer.line("stop;")

    def forwarding(self, forwarding: Forwarding) -> None:
        """All that is left goes on."""
        self.writer.line("# Forwarding")
        self._redirect(forwarding.addresses, keep=forwarding.keep)

    def _redirect(self, addresses: Sequence[str], *, keep: bool) -> None:
        for address in addresses:
            self.writer.line(f"redirect {self._copy(keep)}{self.writer.string(address)};")

    def _copy(self, keep: bool) -> str:
        if keep:
            self.writer.require("copy")
        return ":copy " if keep else ""

    def vacation(self, vacation: Vacation) -> None:
        """The autoresponder, within its time and for the mail that it is meant for."""
        tests = [*self._period(vacation.starts, vacation.ends)]
        if conditions := self._conditions(vacation.conditions, vacation.needs):
            tests.append(conditions)
        if not tests:
            self._answer(vacation)
            return
        with self.writer.block(f"if {list_of_tests('allof', tests)}"):
            self._answer(vacation)

    def _answer(self, vacation: Vacation) -> None:
        writer = self.writer
        writer.require("vacation")
        writer.line("# Autoresponder")
        subject = f" :subject {writer.string(vacation.subject)}" if vacation.subject else ""
        writer.long_string(f"vacation :days {vacation.days}{subject}", vacation.text)

    def _period(self, starts: date | None, ends: date | None) -> list[str]:
        """From the first moment of a day to the last of another. Offsets from UTC are those of these moments."""
        tests = []
        if starts is not None:
            tests.append(f'currentdate :zone "{_offset(starts, self.zone)}" :value "ge" "date" "{starts}"')
        if ends is not None:
            end = ends + timedelta(days=1)
            tests.append(f'currentdate :zone "{_offset(end, self.zone)}" :value "le" "date" "{ends}"')
        if tests:
            self.writer.require("date", "relational")
        return tests

    def _conditions(self, conditions: Sequence[Condition], needs: Needs) -> str:
        """One test for all of them; "" without any."""
        tests = [f"not {test}" if each.is_not else test for each in conditions if (test := self._test(each))]
        return list_of_tests("allof" if needs == "all" else "anyof", tests) if tests else ""

    def _test(self, condition: Condition) -> str:
        writer = self.writer
        match condition:
            case Header():
                return self._header(condition)
            case Body(values=values):
                writer.require("body")
                return f"body :text :contains{self._comparator(values)} {writer.strings(values)}"
            case Size(over=over, octets=octets):
                return f"size :{'over' if over else 'under'} {spell_size(octets)}"
            case Attachment():
                writer.require("mime")
                return 'header :mime :anychild :matches "Content-Disposition" "attachment*"'
            case Contact():
                writer.require("extlists")
                return 'address :list "from" ":addrbook:default"'
            case Fax():
                subject = f'header :matches "subject" {writer.string(self.fax.subject)}'
                if not self.fax.senders:
                    return subject
                writer.require("envelope")
                return list_of_tests("allof", [f'envelope :is "from" {writer.strings(self.fax.senders)}', subject])
            case _:
                assert_never(condition)

    def _header(self, condition: Header) -> str:
        """The whole of a field is compared as addresses where it has some; words are looked for in all of it."""
        name, writer = condition.field.lower(), self.writer
        names = RECIPIENT if name == "recipient" else (condition.field,)
        if condition.match == "exists":
            return list_of_tests("anyof", [f"exists {writer.string(each)}" for each in names])
        is_address = condition.match != "contains" and (names is RECIPIENT or name in ADDRESS_FIELDS)
        test = f"{'address' if is_address else 'header'} :{condition.match}{self._comparator(condition.values)}"
        return f"{test} {writer.strings(names)} {writer.strings(condition.values)}"

    def _comparator(self, values: Sequence[str]) -> str:
        """Upper and lower case are alike: of ASCII letters by default, of all by RFC 5051."""
        if all(value.isascii() for value in values):
            return ""
        self.writer.require("comparator-i;unicode-casemap")
        return ' :comparator "i;unicode-casemap"'


def _offset(day: date, zone: tzinfo) -> str:
    """Of the moment at which the day begins, as RFC 5260 §4.1 writes it."""
    offset = datetime(day.year, day.month, day.day, tzinfo=zone).utcoffset() or timedelta()
    minutes = round(offset.total_seconds() / 60)
    return f"{'-' if minutes < 0 else '+'}{abs(minutes) // 60:02d}{abs(minutes) % 60:02d}"
