"""SASLprep, RFC 4013: the form of names and passwords that SCRAM computes with, so that equal ones give equal keys."""

import stringprep
import unicodedata

# RFC 4013 §2.3: what may not stand in a prepared string.
_PROHIBITED = (
    stringprep.in_table_c12,
    stringprep.in_table_c21_c22,
    stringprep.in_table_c3,
    stringprep.in_table_c4,
    stringprep.in_table_c5,
    stringprep.in_table_c6,
    stringprep.in_table_c7,
    stringprep.in_table_c8,
    stringprep.in_table_c9,
)


def saslprep(text: str) -> str:
    """Prepare a string that is stored or compared. Raises ValueError for what must not be in one.

    Unassigned code points pass (RFC 3454 §7: a query may hold them), or a password with a character newer than
    Unicode 3.2 could not be used at all.
    """
    if text.isascii():
        if any(character < " " or character == "\x7f" for character in text):
            raise ValueError("a control character")
        return text
    mapped = "".join(
        " " if stringprep.in_table_c12(character) else character
        for character in text
        if not stringprep.in_table_b1(character)
    )
    prepared = unicodedata.normalize("NFKC", mapped)
    if any(is_prohibited(character) for character in prepared for is_prohibited in _PROHIBITED):
        raise ValueError("a prohibited character")
    _check_direction(prepared)
    return prepared


def _check_direction(text: str) -> None:
    """RFC 3454 §6: a string with right-to-left characters has no others of strong direction, and is framed by them."""
    is_right_to_left = [stringprep.in_table_d1(character) for character in text]
    if any(is_right_to_left) and (
        any(stringprep.in_table_d2(character) for character in text)
        or not (is_right_to_left[0] and is_right_to_left[-1])
    ):
        raise ValueError("mixed directions")


def lenient(text: str) -> str:
    """Prepared where that is possible, else as it is: what PostgreSQL does, and clients without tables of Unicode do."""
    try:
        return saslprep(text)
    except ValueError:
        return text
