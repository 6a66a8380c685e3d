"""Words and stems."""

import pytest

from protocol.message.stems import MAX_WORDS, SECTIONS, forms, stems, word_sections, words


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Rechnung", "Rechnungen"),
        ("Haus", "Häuser"),
        ("Müller", "MUELLER"),
        ("Straße", "STRASSE"),
        ("running", "runs"),
        ("invoices", "Invoice"),
        ("Cafe\u0301", "Café"),
        ("ＦＵＬＬ", "full"),
    ],
)
def test_forms_of_a_word_share_a_stem(one: str, other: str) -> None:
    """Endings, case, marks and ways to write a letter make no difference in one of the languages."""
    assert set(stems(one)) & set(stems(other))


def test_words_end_where_letters_do() -> None:
    """Signs and underscores part words; each word counts once."""
    assert list(words("IMAP-4: re_try, retry (imap)")) == ["imap", "4", "re", "try", "retry"]


def test_writing_without_spaces_is_cut_into_pairs() -> None:
    """A word within Chinese or Japanese text is found by its characters."""
    assert set(stems("請求書")) <= set(stems("この請求書を確認"))


def test_noise_is_left_out() -> None:
    """What is too long to be a word has no stem, and a text has no more stems than the limit."""
    assert forms("x" * 41) == ()
    assert len(stems(" ".join(map(str, range(2 * MAX_WORDS))))) == MAX_WORDS


def test_sections_are_told_apart() -> None:
    """Subject, senders, recipients, text and attachments have a line each, and stems stand between spaces."""
    header = b"Subject: =?utf-8?q?H=C3=A4user?=\r\nFrom: Anna\r\nReply-To: Berta\r\nCc: Carla\r\nX: Dora\r\n\r\n"
    lines = word_sections(header, "Emma", "Frieda").split("\n")
    assert len(lines) == len(SECTIONS)
    for line, word in zip(lines, ("haus", "berta", "carla", "emma", "frieda"), strict=True):
        assert any(f" {stem} " in line for stem in forms(word)), word
    assert "dora" not in "".join(lines)
