"""Maildir names: flags, keywords and folders, both ways."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol import maildir


@pytest.mark.parametrize(
    ("name", "flags"),
    [
        ("1276533073.M242911P3632.kurkku:2,FP", [rb"\Flagged", b"$Forwarded"]),
        ("1491941793.M41850P8566.mx1,S=10956;2,STl", [rb"\Seen", rb"\Deleted"]),
        ("123.host:2,DRab", [rb"\Draft", rb"\Answered", b"work", b"$Label1"]),
        ("123.host:2,", []),
        ("123.host:1,S", []),
        ("123.host", []),
    ],
)
def test_flags_of(name: str, flags: list[bytes]) -> None:
    """The letters behind the marker are flags; small letters count where keywords are known."""
    assert maildir.flags_of(name, [b"work", b"$Label1"]) == flags


@given(
    flags=st.sets(
        st.sampled_from([rb"\Seen", rb"\Answered", rb"\Flagged", rb"\Deleted", rb"\Draft", b"$Forwarded", b"a", b"z"])
    )
)
def test_suffix_reads_back(flags: set[bytes]) -> None:
    """What is written into a file name is read from it again."""
    assert set(maildir.flags_of("1.x" + maildir.file_suffix(flags, [b"z", b"a"]), [b"z", b"a"])) == flags


def test_more_keywords_than_letters() -> None:
    """The 27th keyword has no letter and is left out."""
    keywords = [b"k%d" % number for number in range(30)]
    assert maildir.file_suffix([b"k25", b"k26"], keywords) == ":2,z"
    assert len(maildir.keywords_of(maildir.keywords_file(keywords))) == 26


def test_keywords_file() -> None:
    """dovecot-keywords numbers its lines; gaps and nonsense do no harm."""
    assert maildir.keywords_of(b"0 work\n2 $Label1\nnonsense\n\n999999999999 x\n") == [b"work", b"", b"$Label1"]
    assert maildir.keywords_of(b"") == []


@pytest.mark.parametrize(
    ("directory", "name"),
    [
        (".Sent", "Sent"),
        (".My Folder.Nested Folder", "My Folder/Nested Folder"),
        (".Entw&APw-rfe", "Entwürfe"),
        (".Entwürfe", "Entwürfe"),
        (".inbox.x", "INBOX/x"),
        (".a&AC4-b", "a.b"),
        (".A&B", "A&B"),
    ],
)
def test_mailbox_name(directory: str, name: str) -> None:
    """A Maildir++ folder is a mailbox; its levels are in modified UTF-7, or in UTF-8 with those who do not know it."""
    assert maildir.mailbox_name(directory) == name


@pytest.mark.parametrize("directory", ["cur", ".", "..", ".a..b", ".a."])
def test_what_is_no_folder(directory: str) -> None:
    """Other directories are no folders."""
    assert maildir.mailbox_name(directory) is None


LEVEL = st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1)


@given(name=st.lists(LEVEL, min_size=1, max_size=3).map("/".join).filter(lambda name: name[:5].upper() != "INBOX"))
def test_folders_read_back(name: str) -> None:
    """Every mailbox name has a folder that is read as the same name."""
    directory = maildir.directory_of(name)
    assert "/" not in directory
    assert directory.isascii()
    assert maildir.mailbox_name(directory) == name
