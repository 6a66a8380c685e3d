"""Maildir and Maildir++ names: flags in the file name, folders as dot-separated directories. No I/O."""

import string
from collections.abc import Iterable, Sequence

from protocol.imap import names
from protocol.mbox import KEYWORD

# The letters of https://cr.yp.to/proto/maildir.html; P is "passed", which is resent, forwarded or bounced.
_LETTERS = {
    "D": rb"\Draft",
    "F": rb"\Flagged",
    "P": b"$Forwarded",
    "R": rb"\Answered",
    "S": rb"\Seen",
    "T": rb"\Deleted",
}
_NAMES = {flag: letter for letter, flag in _LETTERS.items()}
_KEYWORD_LETTERS = string.ascii_lowercase  # Dovecot's: the n-th letter is the keyword of line n in dovecot-keywords
KEYWORDS_FILE = "dovecot-keywords"
_DOT, _ENCODED_DOT = (
    ".",
    b"&AC4-",
)  # a dot within a level: no encoder of IMAP names writes this, so it stands for nothing else


def flags_of(file_name: str, keywords: Sequence[bytes] = ()) -> list[bytes]:
    """The flags of a message by its file name ("...:2,FS", or with ";" where colons are not possible), as IMAP names them."""
    _, marker, letters = file_name.replace(";2,", ":2,").rpartition(":2,")
    if not marker:
        return []
    found = [flag for letter, flag in _LETTERS.items() if letter in letters]
    named = dict(zip(_KEYWORD_LETTERS, keywords, strict=False))
    return found + [named[letter] for letter in letters if named.get(letter)]


def file_suffix(flags: Iterable[bytes], keywords: Sequence[bytes] = ()) -> str:
    """What follows the unique part of a file name in cur. A keyword that is not among the first 26 is left out."""
    letters = {_NAMES[flag] for flag in flags if flag in _NAMES}
    known = list(keywords[: len(_KEYWORD_LETTERS)])
    letters |= {_KEYWORD_LETTERS[known.index(flag)] for flag in flags if flag in known}
    return ":2," + "".join(sorted(letters))


def keywords_of(lines: bytes) -> list[bytes]:
    """The keywords in a dovecot-keywords file: lines of number and keyword. b"" stands for one that IMAP cannot name."""
    found: dict[int, bytes] = {}
    for line in lines.splitlines():
        number, _, keyword = line.partition(b" ")
        if number.isdigit() and len(number) < 3 and KEYWORD.fullmatch(keyword):
            found[int(number)] = keyword
    return [found.get(number, b"") for number in range(max(found, default=-1) + 1)]


def keywords_file(keywords: Sequence[bytes]) -> bytes:
    """The other way round."""
    return b"".join(b"%d %s\n" % (number, keyword) for number, keyword in enumerate(keywords[: len(_KEYWORD_LETTERS)]))


def mailbox_name(directory: str) -> str | None:
    """The mailbox of a Maildir++ folder ".Work.2024", in Unicode; None for a directory that is no folder."""
    if not directory.startswith(_DOT):
        return None
    levels = [_decoded(level) for level in directory[1:].split(_DOT)]
    return names.canonical(names.DELIMITER.join(levels)) if all(levels) else None


def directory_of(name: str) -> str:
    """The Maildir++ folder of a mailbox, in modified UTF-7."""
    levels = (names.encode(level).replace(b".", _ENCODED_DOT) for level in name.split(names.DELIMITER))
    return _DOT + _DOT.join(level.decode("ascii") for level in levels)


def _decoded(level: str) -> str:
    try:
        octets = level.encode("ascii")
        return _DOT.join(names.decode(piece) for piece in octets.split(_ENCODED_DOT))
    except ValueError:  # UTF-8, as some servers write it
        return level
