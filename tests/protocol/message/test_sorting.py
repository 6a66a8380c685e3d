"""Sort keys: base subjects, collation, first addresses, references, and their packed form."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.message import parse, sorting
from protocol.message.header import read


@pytest.mark.parametrize(
    ("subject", "base", "is_reply"),
    [
        ("hello", "hello", False),
        ("  hello \t world ", "hello world", False),
        ("Re: hello", "hello", True),
        ("RE : hello", "hello", True),
        ("fw: fwd: re: hello", "hello", True),
        ("re[2]: hello", "hello", True),
        ("Re: [list] Re[2]: hello (fwd) ", "hello", True),
        ("[list] [sub] re: hello", "hello", True),
        ("[list] hello", "hello", False),
        ("[list] [sub]", "[sub]", False),
        ("[list]", "[list]", False),
        ("hello (Fwd) (fwd)", "hello", True),
        ("hello(fwd)", "hello", True),
        ("[Fwd: hello]", "hello", True),
        ("[fwd: [Fwd: Re: hello] (fwd)]", "hello", True),
        ("[fwd:]", "", True),
        ("re:", "", True),
        ("(fwd)", "", True),
        ("", "", False),
        ("real: hello", "real: hello", False),
        ("Re hello", "Re hello", False),
        ("[unended re: hello", "[unended re: hello", False),
        ("Aw: hallo", "Aw: hallo", False),
    ],
)
def test_base_subject(subject: str, base: str, is_reply: bool) -> None:
    """RFC 5256 §2.1: leaders, blobs, trailers and forwards go, and their going makes a reply or forward."""
    assert sorting.base_subject(subject) == (base, is_reply)


@given(st.text(alphabet="re[]:fwd() \t[:", max_size=40))
def test_base_subject_is_final(subject: str) -> None:
    """What is left has nothing more to take off."""
    base, _ = sorting.base_subject(subject)
    assert sorting.base_subject(base)[0] == base


@pytest.mark.parametrize("piece", ["[a]", "re:", "(fwd)", "[", "[fwd:", "re [", " ", "]"])
def test_base_subject_takes_linear_time(piece: str) -> None:
    """Half a megabyte of any repetition is done within the second that a test may take."""
    assert len(sorting.base_subject(piece * 100_000)[0]) <= len(piece) * 100_000


@pytest.mark.parametrize(("one", "other"), [("straße", "STRAßE"), ("ÄRGER", "ärger"), ("e\u0301", "É"), ("ǆ", "Ǆ")])
def test_collation_ignores_case_and_composition(one: str, other: str) -> None:
    """RFC 5051 §2: equal after titlecasing and decomposition."""
    assert sorting.collation_key(one) == sorting.collation_key(other)


@pytest.mark.parametrize(
    ("field", "mailbox", "display"),
    [
        (b"From: Bob Jones <robert@example.test>", b"ROBERT", b"BOB JONES"),
        (b"From: robert@example.test (Bob Jones)", b"ROBERT", b"BOB JONES"),
        (b"From: robert@example.test, x@y", b"ROBERT", b"ROBERT@EXAMPLE.TEST"),
        (b"From: =?utf-8?q?Z=C3=BCrich?= <z@example.test>", b"Z", "ZU\u0308RICH".encode()),
        (b"From: team: a@x, b@y;", b"TEAM", b"TEAM"),
        (b"From: nobody:;", b"NOBODY", b"NOBODY"),
        (b"From: d", b"D", b"D"),
        (b"From: ", b"", b""),
        (b"X-From: a@b", b"", b""),
    ],
)
def test_first_address(field: bytes, mailbox: bytes, display: bytes) -> None:
    """RFC 5256 §3 compares the local part of the first address, RFC 5957 §3 what a client shows of it."""
    keys = sorting.keys_of_header(field + b"\r\n")
    assert (keys.sender, keys.display_from) == (mailbox, display)


def test_references() -> None:
    """Quoting and white space make no other identifier; In-Reply-To counts without References, its first only."""
    one = sorting.message_id_hash(b"one@x")
    keys = sorting.keys_of_header(b'Message-ID: <"one"@x>\r\nReferences: <one@x> junk <tw o@x>\r\n\t<three@x>\r\n')
    assert keys.message_id == one
    assert keys.references == (one, sorting.message_id_hash(b"two@x"), sorting.message_id_hash(b"three@x"))
    keys = sorting.keys_of_header(b"References: none\r\nIn-Reply-To: Your message <one@x> of <two@x>\r\n")
    assert (keys.message_id, keys.references) == (0, (one,))


def test_limits() -> None:
    """Only the last references are kept, and subjects that differ far behind still differ."""
    many = b"".join(b" <%d@x>" % number for number in range(sorting.MAX_REFERENCES + 5))
    keys = sorting.keys_of_header(b"References:" + many + b"\r\n")
    assert len(keys.references) == sorting.MAX_REFERENCES
    assert keys.references[-1] == sorting.message_id_hash(b"%d@x" % (sorting.MAX_REFERENCES + 4))
    one, other = (sorting.keys_of_header(b"Subject: " + b"x" * 5000 + end + b"\r\n").subject for end in (b"1", b"2"))
    assert one != other
    assert len(one) == sorting.MAX_SUBJECT_OCTETS + 8


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["From", "To", "Cc", "Date", "Subject", "References", "Message-ID"]), st.binary(max_size=80)
        )
    )
)
def test_intake_and_header_agree(fields: list[tuple[str, bytes]]) -> None:
    """What is packed at intake is what the kept header fields give, and comes back as it was."""
    header = b"".join(name.encode() + b": " + body.replace(b"\n", b"") + b"\r\n" for name, body in fields)
    parsed = parse(header + b"\r\nbody")
    keys = sorting.unpack(parsed.sorting)
    assert keys == sorting.keys_of_header(parsed.header_cache)
    assert keys is not None
    assert sorting.pack(keys) == parsed.sorting


def test_other_versions_are_not_read() -> None:
    """Octets of another version give nothing, and the caller computes anew."""
    assert sorting.unpack(b"") is None
    assert sorting.unpack(b"\xff" + bytes(40)) is None
    assert read(b"") == []
