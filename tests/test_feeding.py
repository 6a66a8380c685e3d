"""The reader of transcripts that the protocol tests share."""

import pytest

from tests.feeding import Turn, cut, fed, turns

TEXT = """# RFC 5321 §3.1: a session
# a note
S: 220 hello

C: NOOP
C| one\\x0atwo
S: 250 \\Seen
S| +
C: QUIT
"""


def test_turns() -> None:
    """A greeting makes a turn of its own; C| and S| add no CRLF; only \\xNN is an escape; the last turn may lack an answer."""
    assert turns(TEXT) == [
        Turn(b"", b"220 hello\r\n"),
        Turn(b"NOOP\r\none\ntwo", b"250 \\Seen\r\n+"),
        Turn(b"QUIT\r\n", b""),
    ]


@pytest.mark.parametrize(
    "text", ["C: NOOP\n", "# a note\nC: NOOP\n", "# RFC 1939 §3: x\nX: NOOP\n", "# RFC 1939 §3: x\nC:NOOP\n"]
)
def test_malformed_transcript(text: str) -> None:
    """A transcript that does not name its section first, or has a line of another form, is an error."""
    with pytest.raises(AssertionError, match=r"first line|line 2 is neither"):
        turns(text)


def test_cut() -> None:
    """Octets are cut into equal pieces and a rest, or not at all, and fed in order."""
    assert cut(b"abcde", 2) == [b"ab", b"cd", b"e"]
    assert cut(b"abc", None) == [b"abc"]
    assert cut(b"", None) == cut(b"", 1) == []
    assert fed(lambda piece: [piece, piece], b"ab", 1) == [b"a", b"a", b"b", b"b"]
