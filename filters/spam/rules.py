"""Explainable rules: each has a name, points, and a reason in plain words, English and German.

A rule is either a question to the message (a function) or a pattern that is looked for in one place of it. All patterns of one
place are sought at once, in one pass of linear time. Points above zero speak for spam.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import re2

from filters.spam.sight import NOTHING_KNOWN, Sight

Language = Literal["en", "de"]
Place = Literal["subject", "text", "html", "program", "from"]

About = Literal["message", "html", "links", "attachments", "connection"]

_MAX_MATCHED = 48 << 10  # characters of one place
_MEMORY = 32 << 20  # octets for the automaton of one place


@dataclass(frozen=True, slots=True)
class Rule:
    """What it is called, what it counts, and what people are told."""

    name: str
    points: float
    en: str
    de: str

    def reason(self, language: str = "en") -> str:
        """In plain words."""
        return self.de if language.startswith("de") else self.en


@dataclass(frozen=True, slots=True)
class Question(Rule):
    """A rule that a function answers."""

    holds: Callable[[Sight], bool]
    about: About = "message"  # without one of these it is not asked


@dataclass(frozen=True, slots=True)
class Pattern(Rule):
    """A rule that a regular expression (RE2, case does not matter) answers."""

    place: Place
    expression: str


class Patterns:
    """All patterns of one place, sought together."""

    def __init__(self, rules: Sequence[Pattern]) -> None:
        options = re2.Options()
        options.case_sensitive = False
        options.log_errors = False
        options.max_mem = _MEMORY
        self._rules = tuple(rules)
        self._set: Any = re2.Set.SearchSet(options)
        for rule in rules:
            self._set.Add(rule.expression)  # raises re2.error for a bad one
        self._set.Compile()

    def found(self, text: str) -> list[Pattern]:
        """The rules whose pattern occurs in the text."""
        return [self._rules[number] for number in sorted(self._set.Match(text[:_MAX_MATCHED]) or ())] if text else []


class RuleBook:
    """Rules, ready to be asked. One for all messages; it remembers nothing."""

    def __init__(self, rules: Iterable[Question | Pattern]) -> None:
        self.rules: tuple[Question | Pattern, ...] = tuple(rules)
        names = [rule.name for rule in self.rules]
        if len(set(names)) != len(names):
            raise ValueError("two rules have one name")
        self._questions: dict[About, list[tuple[Callable[[Sight], bool], Rule]]] = {}
        for rule in self.rules:
            if isinstance(rule, Question):
                self._questions.setdefault(rule.about, []).append((rule.holds, rule))
        patterns = [rule for rule in self.rules if isinstance(rule, Pattern)]
        self._places: dict[Place, Patterns] = {
            place: Patterns([rule for rule in patterns if rule.place == place])
            for place in dict.fromkeys(rule.place for rule in patterns)
        }

    def ask(self, sight: Sight) -> list[Rule]:
        """The rules that hold for this message."""
        held: list[Rule] = []
        for about, questions in self._questions.items():
            if _has(sight, about):
                held += [rule for holds, rule in questions if holds(sight)]
        for place, patterns in self._places.items():
            held += patterns.found(_text_of(sight, place))
        return held


def _has(sight: Sight, about: About) -> bool:
    match about:
        case "message":
            return True
        case "html":
            return bool(sight.html)
        case "links":
            return bool(sight.links)
        case "attachments":
            return bool(sight.attachments)
        case "connection":
            return sight.circumstances is not NOTHING_KNOWN


def _text_of(sight: Sight, place: Place) -> str:
    match place:
        case "subject":
            return sight.subject
        case "text":
            return sight.text
        case "html":
            return sight.html
        case "program":
            return sight.programs
        case "from":
            return sight.field("FROM")
