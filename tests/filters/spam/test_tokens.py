"""Tokens of any octets: numbers that PostgreSQL can keep, few enough, always the same; and what Bayes makes of them."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from filters.spam.bayes import Level, Opinion, judge
from filters.spam.catalogue import rule_book
from filters.spam.score import Scorer
from filters.spam.sight import Sight
from filters.spam.tokens import MAX_TOKENS, SENT, tokens_of
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
    assert all(found.values())
    assert tokens_of(Sight(octets)) == found


@pytest.mark.hypothesis
@given(PIECES)
def test_any_octets_are_scored(octets: bytes) -> None:
    """Rules answer for whatever comes in, and the fields are fields."""
    verdict = asyncio.run(Scorer(rule_book()).score(Sight(octets)))
    assert verdict.score == pytest.approx(sum(each.points for each in verdict.reasons), abs=0.01)


def test_words_of_fields_and_text_differ() -> None:
    """A word of the subject is another token than the same in the text; numbers and case do not matter."""
    texts = set(tokens_of(Sight(letter("Rechnung 4711 HEUTE\n", Subject="Rechnung 12"))).values())
    assert {"rechnung", "heute", "0", "subject rechnung", "subject 0", "from example.org"} <= texts
    assert not any("4711" in each for each in texts)


def test_traits_are_tokens() -> None:
    """How a message was made says something too: its fields in their order, its time zone, the way that it came."""
    octets = letter(
        Date="Mon, 2 Sep 2002 13:04:31 +0900 (JST)",
        Message_ID="<4711.Ab@mx.example.org>",
        Reply_To="b@elsewhere.example",
        Received="from [192.0.2.7] (unknown [192.0.2.7]) by mx.example.org",
        Content_Type="multipart/mixed; boundary=--Part_12AB",
    )
    texts = set(tokens_of(Sight(octets)).values())
    assert {
        "order SUBJECT>REPLY-TO",
        "zone +0900",
        "zone (JST)",
        "id <0.Aa",
        "boundary --Aa_0A",
        "via example.org",
        "via 192.0",
    } <= texts


def test_opening_counts_by_pairs() -> None:
    """Pairs of words of the subject and of what stands first, up to two words apart."""
    texts = set(tokens_of(Sight(letter("We offer you cheap pills\n", Subject="Good news"))).values())
    assert {"^ good", "good news", "news … offer", "we offer", "we … you", "we … cheap", "offer … pills"} <= texts
    assert "we … pills" not in texts
    far = tokens_of(Sight(letter("word " * 100 + "cheap pills\n")))
    assert "cheap pills" not in far.values()


def test_kinds_of_tokens() -> None:
    """The number says whether a token tells of how the message was sent or of what is in it."""
    kinds = {
        token: bool(number & SENT) for number, token in tokens_of(Sight(letter("money\n", Subject="money"))).items()
    }
    assert kinds["subject money"]
    assert not kinds["money"]


def test_fields_added_on_the_way_are_passed_over() -> None:
    """What sites add says nothing of the sender, whatever they call it."""
    plain = tokens_of(Sight(letter("text\n")))
    octets = b"Delivered-To: a@b.example\r\nX-Spam-Status: Yes\r\nReturn-Path: <>\r\n" + letter("text\n")
    added = {*tokens_of(Sight(octets)).values()}
    assert added <= set(plain.values())


def test_links_are_tokens() -> None:
    """Hosts, their sites, and words of the path."""
    texts = set(tokens_of(Sight(page('<a href="https://www.shop.example.co.uk/pills">x</a>'))).values())
    assert {"host www.shop.example.co.uk", "site example.co.uk", "path pills"} <= texts


def test_token_numbers_are_the_same_everywhere() -> None:
    """What is stored by one process is found by the next: this number must never change but with TOKENS_VERSION."""
    number = next(number for number, token in tokens_of(Sight(letter())).items() if token == "minutes")
    assert number == 3473149290751940834


def test_bayes_needs_to_have_learned() -> None:
    """Without enough messages of each kind there is no opinion."""
    assert judge({1: "a"}, []) is None
    assert judge({1: "a"}, [Level(29, 1000, {1: (5, 0)})]) is None


SEVEN = range(1, 8)


def _opinion(counts: tuple[int, int], *levels: Level) -> Opinion:
    """On seven words that have these counts in a level of a hundred messages of each kind."""
    opinion = judge(
        {number: f"word{number}" for number in SEVEN}, [*levels, Level(100, 100, dict.fromkeys(SEVEN, counts))]
    )
    assert opinion is not None
    return opinion


def test_bayes_follows_what_was_learned() -> None:
    """Words of spam make spam, words of other mail the contrary; of what is unknown or unsure nothing is said."""
    spam, ham, unknown, unsure = map(_opinion, [(50, 0), (0, 50), (0, 0), (20, 30)])
    assert spam.probability > 0.9 > 0.1 > ham.probability
    assert spam.evidence > 0 > ham.evidence
    assert (unknown.probability, unknown.evidence) == (unsure.probability, unsure.evidence) == (0.5, 0.0)
    assert (len(spam.spam_words), spam.ham_words, ham.spam_words, len(ham.ham_words)) == (5, (), (), 5)


def test_many_words_say_no_more_than_their_mean() -> None:
    """A long message is judged like a short one; a single word is not as sure as several."""
    level = Level(100, 100, dict.fromkeys(range(1000), (50, 0)))
    one, seven, thousand = (judge(dict.fromkeys(range(number), "x"), [level]) for number in (1, 7, 1000))
    assert one is not None
    assert seven is not None
    assert thousand is not None
    assert one.evidence < seven.evidence < thousand.evidence < 2 * seven.evidence


def test_sending_and_content_are_weighed_apart() -> None:
    """However long the text is, the header keeps its say."""
    content, sending = range(1, 401), [SENT + number for number in range(20)]
    level = Level(100, 100, dict.fromkeys(content, (0, 20)) | dict.fromkeys(sending, (80, 0)))
    apart, alone = (judge(dict.fromkeys(tokens, "word"), [level]) for tokens in ([*content, *sending], content))
    assert apart is not None
    assert alone is not None
    assert apart.evidence > 0 > alone.evidence


def test_more_ham_than_spam_makes_no_difference() -> None:
    """Words that one message of each kind held balance each other, however many messages of the other kind there were."""
    counts = dict.fromkeys(range(10), (2, 0)) | dict.fromkeys(range(10, 20), (0, 4))
    even, uneven = (judge(dict.fromkeys(counts, "word"), [Level(100, ham, counts)]) for ham in (100, 400))
    assert even is not None
    assert uneven is not None
    assert uneven.evidence > even.evidence


def test_own_mail_overrules_that_of_others() -> None:
    """What an account has sorted weighs more than what everybody has, which counts for all that it has not sorted."""
    everybody = Level(1000, 1000, dict.fromkeys(SEVEN, (500, 0)))
    assert _opinion((0, 20), everybody).probability < 0.1
    assert _opinion((0, 0), everybody).probability > 0.9
    assert _opinion((1, 0), everybody).probability > 0.9
