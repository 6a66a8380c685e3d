"""The combined score: GTUBE, thresholds, reasons, header fields, and real mail."""

import asyncio
import tarfile
from pathlib import Path

import pytest

from bench.spam import Sorted, directions, figures, placed, scored, trained
from filters.spam.bayes import Level, Opinion
from filters.spam.score import (
    FLAG_FIELD,
    GTUBE,
    REASONS_FIELD,
    SCORE_FIELD,
    STATUS_FIELD,
    Scorer,
    Thresholds,
    has_gtube,
)
from filters.spam.sight import Sight
from tests.filters.spam.letters import letter

ARCHIVE = Path(__file__).parents[4] / "shared/corpora/spamassassin-public/messages.tar.xz"


def test_gtube_is_refused() -> None:
    """The standard test message goes above every threshold, encoded or not; a part of its line does not."""
    verdict = asyncio.run(Scorer().score(Sight(letter(f"a\n{GTUBE.decode()}\nb\n"))))
    assert verdict.action(Thresholds()) == "reject"
    assert [each.name for each in verdict.reasons] == ["gtube"]
    encoded = GTUBE.decode().replace("*", "=2A")
    assert has_gtube(Sight(letter(f"{encoded}\n", MIME_Version="1.0", Content_Transfer_Encoding="quoted-printable")))
    assert not has_gtube(Sight(letter(GTUBE.decode()[:-1])))


@pytest.mark.parametrize(
    ("score", "action"), [(-3.0, "pass"), (3.4, "pass"), (3.5, "tag"), (5.0, "junk"), (14.9, "junk"), (15.0, "reject")]
)
def test_thresholds(score: float, action: str) -> None:
    """From which score on what is done."""
    assert Thresholds().action(score) == action


def test_reasons_are_in_plain_words() -> None:
    """The weightiest first, in both languages, and they add up."""
    verdict = asyncio.run(Scorer().score(Sight(letter("Dear friend, viagra!\n", Subject="ADV: Your $500 viagra"))))
    assert verdict.score == pytest.approx(sum(each.points for each in verdict.reasons))
    assert [abs(each.points) for each in verdict.reasons] == sorted(
        (abs(each.points) for each in verdict.reasons), reverse=True
    )
    assert "it offers drugs (+1.7)" in verdict.explained()
    assert "sie bietet Medikamente an (+1.7)" in verdict.explained("de")


def test_innocent_letter_is_explained_too() -> None:
    """A score of 0 has no reasons, and says so."""
    verdict = asyncio.run(Scorer().score(Sight(letter())))
    assert (verdict.score, verdict.reasons) == (0.0, ())
    assert verdict.explained("de") == "nichts wurde gefunden"
    fields = {each.name: each.value for each in verdict.fields(Thresholds())}
    assert fields == {STATUS_FIELD: "No, score=0.0 required=5.0 tests=none", SCORE_FIELD: "0.0"}


def test_fields_hold_no_word_of_the_message() -> None:
    """Bayes names words of the message, which may be anything: they stay out of the header, whose lines are short."""
    opinion = Opinion(1.0, 9.0, ("evil\r\nX-Injected: yes", "käse"), ())
    verdict = Scorer().combine(Sight(letter("Dear friend, viagra and a mortgage!\n", Subject="ADV: $500")), opinion)
    fields = {each.name: each for each in verdict.fields(Thresholds())}
    assert fields[FLAG_FIELD].value == "YES"
    assert fields[STATUS_FIELD].value.startswith("Yes, score=")
    assert "bayes_spam" in fields[STATUS_FIELD].value
    octets = b"".join(each.octets for each in fields.values())
    assert octets.isascii()
    assert b"Injected" not in octets
    assert b"its words are those of spam (+8.0)" in fields[REASONS_FIELD].octets.replace(b"\r\n", b"")
    assert max(map(len, octets.split(b"\r\n"))) <= 78


async def test_what_was_learned_decides() -> None:
    """The same letter is wanted by one account and spam to another."""

    class Learned:
        def __init__(self, spam: int, ham: int) -> None:
            self._counts = (spam, ham)

        async def levels(self, tokens: list[int]) -> list[Level]:
            return [Level(100, 100, dict.fromkeys(tokens, self._counts))]

    scorer, thresholds = Scorer(), Thresholds()
    assert (await scorer.score(Sight(letter()), Learned(50, 0))).action(thresholds) == "junk"  # type: ignore[arg-type]
    assert (await scorer.score(Sight(letter()), Learned(0, 50))).score < -5  # type: ignore[arg-type]


def _corpus() -> list[Sorted]:
    found: list[Sorted] = []
    with tarfile.open(ARCHIVE, "r:xz") as archive:
        for member in archive:
            if member.isfile() and not member.name.endswith(".tsv"):
                file = archive.extractfile(member)
                assert file is not None
                found.append(placed(Path(member.name), file.read(), is_spam="/spam/" in member.name))
    return found


@pytest.mark.skipif(not ARCHIVE.exists(), reason="the SpamAssassin public corpus is not here")
async def test_real_mail_is_told_apart() -> None:
    """On the SpamAssassin public corpus, each half judged by what the other one taught: one wanted mail in a thousand is lost."""
    totals, scorer = [[0, 0, 0, 0], [0, 0, 0, 0]], Scorer()
    for direction in directions(_corpus()):
        for total, memory in zip(totals, (None, trained(direction)), strict=True):
            for place, number in enumerate(figures(await scored(direction, memory, scorer), Thresholds().junk)):
                total[place] += number
    (false_alone, ham, alone, spam), (false, _, detected, _) = totals
    assert (ham, spam) == (1057, 444)
    assert false_alone <= 0.004 * ham
    assert alone >= 0.75 * spam
    assert false <= 0.001 * ham
    assert detected >= 0.97 * spam
