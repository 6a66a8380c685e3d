"""Replies as servers send them: what they say, and where they stop being replies, at the same octet whatever the cut."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.smtp.capabilities import capabilities_of
from protocol.smtp.reply import Reply, reply
from protocol.smtp.reply_reader import KEPT_LIMIT, LINE_LIMIT, REPLY_LIMIT, ReplyReader
from tests.feeding import cut, fed

REPLIES = [
    (b"250 ok\r\n", reply(250, "", "ok")),
    (b"250\r\n", reply(250, "", "")),
    (b"250 \r\n", reply(250, "", "")),
    (b"250 ok\n", reply(250, "", "ok")),
    (b"250 2.1.0 ok\r\n", reply(250, "2.1.0", "ok")),
    (b"250 2.1.0\r\n", reply(250, "2.1.0", "")),
    (b"550-5.1.1 no\r\n550-5.1.1 such\r\n550 5.1.1 user\r\n", reply(550, "5.1.1", "no", "such", "user")),
    (b"550-5.1.1 no\r\n550 user\r\n", reply(550, "5.1.1", "no", "user")),
    (b"550-5.1.1\r\n550-5.1.1\r\n550 5.1.1 user\r\n", reply(550, "5.1.1", "", "", "user")),
    (b"450 5.1.1 odd\r\n", reply(450, "", "5.1.1 odd")),
    (b"250 2.1.01234 x\r\n", reply(250, "", "2.1.01234 x")),
    (b"250-one\r\n550 two\r\n", reply(550, "", "one", "two")),
    (b"250 \xc3\xa4\xff\x1b[0m\ttab\r\n", reply(250, "", "\u00e4\ufffd?[0m\ttab")),
    (b"354 go\r\n", reply(354, "", "go")),
    (b"250 " + b"x" * (LINE_LIMIT - 6) + b"\r\n", reply(250, "", "x" * (LINE_LIMIT - 6))),
]

FAULTS = [
    (b"HTTP/1.1 400\r\n", "a line is no reply"),
    (b"25\r\n", "a line is no reply"),
    (b"2500 x\r\n", "a line is no reply"),
    (b"250x\r\n", "a line is no reply"),
    (b"199 x\r\n", "a line is no reply"),
    (b"600 x\r\n", "a line is no reply"),
    (b"\r\n", "a line is no reply"),
    (b"\xff\x00\n", "a line is no reply"),
    (b"250-one\r\n\r\n", "a line is no reply"),
    (b"250 " + b"x" * (LINE_LIMIT - 5) + b"\r\n", "a reply line is too long"),
    (b"x" * LINE_LIMIT, "a reply line is too long"),
    (b"250-" + b"x" * 90 + b"\r\n" + (b"250-" + b"x" * 90 + b"\r\n") * (REPLY_LIMIT // 96), "a reply is too long"),
]


@pytest.mark.parametrize("step", [None, 1], ids=["whole", "octets"])
@pytest.mark.parametrize(("octets", "wanted"), REPLIES)
def test_replies(octets: bytes, wanted: Reply, step: int | None) -> None:
    """A reply is read as what it says, twice in a row as once."""
    reader = ReplyReader()
    assert fed(reader.receive, octets * 2, step) == [wanted, wanted]
    assert reader.fault is None
    assert reader.is_between


@pytest.mark.parametrize("step", [None, 1, 7], ids=["whole", "octets", "sevens"])
@pytest.mark.parametrize(("octets", "fault"), FAULTS)
def test_faults(octets: bytes, fault: str, step: int | None) -> None:
    """What is no reply ends the reading; what came before it counts, and nothing behind it does."""
    reader = ReplyReader()
    assert fed(reader.receive, b"220 hello\r\n" + octets + b"250 never\r\n", step) == [reply(220, "", "hello")]
    assert reader.fault == fault


def test_little_is_kept_of_long_replies() -> None:
    """Of a reply of many lines the first ones are kept, and its code is that of the last."""
    reader = ReplyReader()
    (read,) = reader.receive((b"250-" + b"x" * 100 + b"\r\n") * 600 + b"550 end\r\n")
    assert read.code == 550
    assert KEPT_LIMIT // 2 < sum(len(line) for line in read.lines) <= KEPT_LIMIT


_line = st.builds(
    lambda code, mark, text, end: code + mark + text + end,
    st.sampled_from([b"250", b"550", b"421", b"354", b"199", b"25"]),
    st.sampled_from([b" ", b"-", b""]),
    st.binary(max_size=8) | st.sampled_from([b"2.1.0 x", b"5.1.1", b"x" * LINE_LIMIT]),
    st.sampled_from([b"\r\n", b"\n", b"\r", b""]),
)


@given(st.lists(_line, max_size=12).map(b"".join), st.integers(1, 40))
def test_any_cut_reads_the_same(octets: bytes, step: int) -> None:
    """Whatever the octets and the cut: the same replies and the same fault."""
    whole, pieces = ReplyReader(), ReplyReader()
    replies = whole.receive(octets)
    assert [read for piece in cut(octets, step) for read in pieces.receive(piece)] == replies
    assert (pieces.fault, pieces.is_between) == (whole.fault, whole.is_between)


def test_capabilities() -> None:
    """What EHLO offers is known by its keywords, in whatever case, and by nothing malformed."""
    offered = capabilities_of(
        reply(
            250,
            "",
            "mx.test hello",
            "size 35882577",
            "Pipelining",
            "AUTH PLAIN scram-sha-256",
            "AUTH=LOGIN",
            "LIMITS RCPTMAX=20 mailmax=5 RCPTDOMAINMAX=1 OTHER",
            "DELIVERBY 240,5",
            "BINARYMIME",
            "",
            "X-\u00e4",
        )
    )
    assert (offered.domain, offered.size_limit, offered.has_pipelining) == ("mx.test", 35882577, True)
    assert offered.mechanisms == {b"PLAIN", b"LOGIN", b"SCRAM-SHA-256"}
    assert (offered.recipient_limit, offered.message_limit, offered.domain_limit) == (20, 5, 1)
    assert offered.deliverby_seconds == 240
    assert not offered.has_binarymime  # without CHUNKING it is of no use
    odd = capabilities_of(reply(250, "", "mx", "SIZE 9e9", "LIMITS RCPTMAX=x MAILMAX=0", "DELIVERBY", "STARTTLS now"))
    assert (odd.size_limit, odd.recipient_limit, odd.message_limit, odd.deliverby_seconds) == (None, None, None, 0)
    assert odd.has_starttls
    assert capabilities_of(reply(250, "", "mx", "SIZE 0")).size_limit is None
    assert not capabilities_of(reply(250, "", "mx", "SIZE 5"), is_extended=False).keywords
