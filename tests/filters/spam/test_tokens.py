"""Tokens of any octets: numbers that PostgreSQL can keep, few enough, always the same; and what Bayes makes of them."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from filters.spam.bayes import Level, judge
from filters.spam.catalogue import rule_book
from filters.spam.score import Scorer
from filters.spam.sight import Sight
from filters.spam.tokens import MAX_TOKENS, shown, tokens_of
from tests.filters.spam.letters import letter, page

PIECES = st.lists(
    st.one_of(
        st.binary(max_size=200),
        st.sampled_from(
            [
                *(
                    b"Subject: x\r\n",
                    b"From: a@b.example\r\n",
                    b"Received: from a (b [192.0.2.1])\r\n",
                    b"\r\n",
                    b"--b\r\n",
                    b"--b--\r\n",
                ),
                *(
                    b"Content-Type: multipart/mixed; boundary=b\r\n",
                    b"Content-Type: text/html; charset=utf-7\r\n",
                    b"<a href='http://",
                ),
                *(
                    b"Content-Transfer-Encoding: base64\r\n",
                    b"http://[::1",
                    b"</a>",
                    b"=?utf-8?B?",
                    b"http://a@b:99999/%41",
                    b"<!--",
                ),
            ]
        ),
    ),
    max_size=30,
).map(b"".join)


@pytest.mark.hypothesis
@given(PIECES)
def test_any_octets_give_tokens(octets: bytes) -> None:
    """Whatever comes in: no exception, bounded, positive 64-bit numbers with a text, the same each time."""
    found = tokens_of(Sight(octets))
    assert len(found) <= 2 * MAX_TOKENS
    assert all(0 <= number < 1 << 63 for number in found)
    assert all(shown(token) for token in found.values())
    assert tokens_of(Sight(octets)) == found


@pytest.mark.hypothesis
@given(PIECES)
def test_any_octets_are_scored(octets: bytes) -> None:
    """Rules answer for whatever comes in, and the fields are fields."""
    verdict = asyncio.run(Scorer(rule_book()).score(Sight(octets)))
    assert verdict.score == pytest.approx(sum(each.points for each in verdict.reasons), abs=0.01)


def test_words_of_fields_and_text_differ() -> None:
    """A word of the subject is another token than the same in the text; numbers and case do not matter."""
    texts = {shown(each) for each in tokens_of(Sight(letter("Rechnung 4711 HEUTE\n", Subject="Rechnung 12"))).values()}
    assert {"rechnung", "subject rechnung", "subject rechnung 0", "rechnung 0", "0 heute", "from example.org"} <= texts


def test_links_and_markup_are_tokens() -> None:
    """Hosts, their sites, and tags."""
    texts = {
        shown(each) for each in tokens_of(Sight(page('<a href="https://www.shop.example.co.uk/x">x</a>'))).values()
    }
    assert {"host www.shop.example.co.uk", "site example.co.uk", "tag a href="} <= texts


def test_token_numbers_are_the_same_everywhere() -> None:
    """What is stored by one process is found by the next: this number must never change but with TOKENS_VERSION."""
    number = next(number for number, token in tokens_of(Sight(letter())).items() if token == "minutes")
    assert number == 8084835309179328738


def test_bayes_needs_to_have_learned() -> None:
    """Without enough messages of each kind there is no opinion."""
    assert judge({1: "a"}, []) is None
    assert judge({1: "a"}, [Level(29, 1000, {1: (5, 0)})]) is None


def test_bayes_follows_what_was_learned() -> None:
    """Words of spam make spam, words of other mail the contrary, unknown words nothing."""
    level = Level(100, 100, {1: (50, 0), 2: (0, 50)})
    spam, ham, unknown = (judge({token: "word"}, [level]) for token in (1, 2, 3))
    assert spam is not None
    assert ham is not None
    assert unknown is not None
    assert spam.probability > 0.9 > 0.1 > ham.probability
    assert spam.evidence > 0 > ham.evidence
    assert (unknown.probability, unknown.evidence) == (0.5, 0.0)
    assert (spam.spam_words, ham.ham_words) == (("word",), ("word",))


def test_own_mail_overrules_that_of_others() -> None:
    """What an account has sorted weighs more than what everybody has."""
    everybody = Level(1000, 1000, {1: (500, 0)})
    own = Level(50, 50, {1: (0, 20)})
    opinion = judge({1: "newsletter"}, [everybody, own])
    assert opinion is not None
    assert opinion.probability < 0.1
