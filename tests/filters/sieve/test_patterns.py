"""Wildcards and regular expressions: they match what they should, and never take long."""

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from filters.sieve.patterns import Glob, RegexError, glob, quote_regex, quote_wildcards, regex


def reference(pattern: str) -> re.Pattern[str]:
    """The pattern as Python's lazy expression, which backtracks."""
    parts = re.findall(r"\\.|\*|\?|[^\\*?]|\\", pattern, re.DOTALL)
    wild = {"*": "(.*?)", "?": "(.)"}
    return re.compile("".join(wild.get(part) or re.escape(part[-1]) for part in parts), re.DOTALL)


@given(st.text("ab*?\\", max_size=10), st.text("ab*\\", max_size=14))
def test_wildcards_match_as_a_lazy_expression(pattern: str, value: str) -> None:
    """What matches, and what each wildcard stands for, is what lazy matching finds, RFC 5229 §3.2."""
    found, expected = glob(pattern, "i;octet").match(value), reference(pattern).fullmatch(value)
    assert (found is None) == (expected is None)
    if found is not None and expected is not None:
        assert found == [value, *expected.groups()]


@given(st.text(max_size=20), st.sampled_from(["i;octet", "i;ascii-casemap", "i;unicode-casemap"]))
def test_quoted_text_matches_itself(text: str, comparator: str) -> None:
    """What :quotewildcard and :quoteregex make of a text matches that text."""
    assert glob(quote_wildcards(text), comparator).match(text) == [text]
    if "\0" not in text:
        found = regex(f"^{quote_regex(text)}$", "i;octet", 1 << 20).match(text)
        assert found == [text]


def test_captures_are_of_the_value_itself() -> None:
    """Wildcards stand for the characters of the value, even when folding changes their number."""
    assert glob("STRASSE*", "i;unicode-casemap").match("straße 5") is None  # folded without expansion, RFC 5051 §2
    assert glob("*É*", "i;unicode-casemap").match("caf\u00e9 Noir") == ["caf\u00e9 Noir", "caf", " Noir"]
    assert glob("*FF?*", "i;ascii-casemap").match("oFfice ß") == ["oFfice ß", "o", "i", "ce ß"]


@pytest.mark.parametrize(
    ("pattern", "value"),
    [("*a" * 40 + "b", "a" * 20_000), ("a*" * 1000 + "b", "a" * 5_000), ("*" * 1000 + "b", "a" * 5_000)],
)
def test_wildcards_do_not_backtrack(pattern: str, value: str) -> None:
    """Many stars over a long value are decided in one pass."""
    compiled = Glob(pattern, str)
    begun = time.process_time()
    assert compiled.match(value) is None
    assert time.process_time() - begun < 0.5


@pytest.mark.parametrize("pattern", ["(a*)*b", "(a|aa)+$b", "^(([a-z])+.)+[A-Z]([a-z])+$", "(.*.*.*)*x"])
def test_expressions_do_not_backtrack(pattern: str) -> None:
    """Patterns that are known to hang other engines are decided at once."""
    compiled = regex(pattern, "i;octet", 1 << 20)
    begun = time.process_time()
    assert compiled.match("a" * 50_000) is None
    assert time.process_time() - begun < 0.5


@pytest.mark.parametrize("pattern", ["(", "[", "a{2,1}", "((((a{99}){99}){99}){99})", "*a", "\\"])
def test_bad_expressions(pattern: str) -> None:
    """What is no expression, or one too large, is refused."""
    with pytest.raises(RegexError):
        regex(pattern, "i;octet", 1 << 20)


def test_expressions_are_posix() -> None:
    """The leftmost longest match is taken; classes and intervals work; case follows the comparator."""
    assert regex("a|ab|abc", "i;octet", 1 << 20).match("xabcd") == ["abc"]
    assert regex("^([[:alpha:]]+) ([0-9]{2,3})$", "i;octet", 1 << 20).match("abc 123") == ["abc 123", "abc", "123"]
    assert regex("ABC", "i;ascii-casemap", 1 << 20).match("xabc") == ["abc"]
    assert regex("ABC", "i;octet", 1 << 20).match("xabc") is None
    assert regex("gr(ü|u)n", "i;octet", 1 << 20).match("grün") == ["grün", "ü"]
