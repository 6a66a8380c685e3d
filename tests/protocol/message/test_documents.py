"""Text of attachments."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.message import scan
from protocol.message.documents import document_name, document_text, documents
from tests import documents_made as made

TEXT = "Quartalszahlen Überblick"
FILES = {
    "a.docx": made.docx(TEXT),
    "a.xlsx": made.xlsx(TEXT),
    "a.pptx": made.pptx(TEXT),
    "a.odt": made.odt(TEXT),
    "a.pdf": made.pdf(TEXT),
    "a.rtf": made.rtf(TEXT),
    "a.html": f"<b>Quartals</b>zahlen&nbsp;{TEXT}".encode(),
    "A.CSV": TEXT.encode(),
}


def read(message: bytes, most: int = 10_000) -> list[str]:
    """The texts of the message's documents."""
    return [document_text(message, part, most) for part in documents(scan(message))]


@pytest.mark.parametrize("name", FILES)
def test_a_document_is_read_by_its_name(name: str) -> None:
    """A file of any of these kinds gives its text though its type says nothing."""
    (text,) = read(made.carrying(name, FILES[name]))
    assert " ".join(TEXT.split()) in " ".join(text.split())
    assert "deleted" not in text


@pytest.mark.parametrize(
    ("media_type", "name"),
    [
        ("application/pdf", "a.pdf"),
        ("application/vnd.openxmlformats-officedocument.wordprocessingml.document", "a.docx"),
        ("application/vnd.oasis.opendocument.text", "a.odt"),
        ("application/rtf", "a.rtf"),
    ],
)
def test_a_document_is_read_by_its_type(media_type: str, name: str) -> None:
    """A file whose name says nothing is read by its type."""
    (text,) = read(made.carrying("noname", FILES[name], media_type))
    assert "Quartalszahlen" in text


def test_numbers_of_strings_are_no_text() -> None:
    """A cell that refers to a string gives the string alone; a number is text."""
    (text,) = read(made.carrying("a.xlsx", made.xlsx("Summe")))
    assert text.split() == ["Summe", "4711"]


@pytest.mark.parametrize("name", ["a.png", "noname", "a.zip", ""])
def test_other_attachments_are_no_documents(name: str) -> None:
    """Pictures and archives have no text."""
    message = made.carrying(name, b"Quartalszahlen")
    assert read(message) == []
    assert document_name(scan(message).children[1]) == name


@pytest.mark.parametrize("name", FILES)
def test_no_more_is_read_than_is_wanted(name: str) -> None:
    """The text ends where it was asked to."""
    (text,) = read(made.carrying(name, FILES[name]), most=5)
    assert len(text) <= 5


def test_a_zip_bomb_is_left_early() -> None:
    """Of a member that grows a thousandfold no more is read than its bound."""
    bomb = made.zipped({"word/document.xml": "<d>" + "<p>aaaaaaaa</p>" * 2_000_000 + "</d>"})
    assert len(bomb) < 200_000
    (text,) = read(made.carrying("a.docx", bomb), most=1000)
    assert len(text) == 1000


def test_entities_do_not_expand() -> None:
    """XML with a document type is refused: nothing in it multiplies."""
    laughs = '<!DOCTYPE d [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;">]><d><p>&b;</p></d>'
    assert read(made.carrying("a.odt", made.zipped({"content.xml": laughs}))) == [""]


@given(st.sampled_from(sorted(FILES)), st.integers(0, 5000), st.binary(max_size=8), st.integers(1, 4000))
def test_broken_documents_raise_nothing(name: str, place: int, octets: bytes, cut: int) -> None:
    """Whatever is in a file, its text is what could be read."""
    file = FILES[name]
    broken = (file[: place % len(file)] + octets + file[place % len(file) + len(octets) :])[: max(cut, 1)]
    (text,) = read(made.carrying(name, broken))
    assert "\0" not in text
