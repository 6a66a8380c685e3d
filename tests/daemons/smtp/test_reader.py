"""What we rely on in aiosmtpd and asyncio beyond their documentation, and our reader on top of it."""

import asyncio
import inspect

import pytest
from aiosmtpd.smtp import SMTP
from hypothesis import given
from hypothesis import strategies as st

from config.smtp import Smtp
from daemons.smtp.conversation import Conversation
from daemons.smtp.reader import OctetReader
from protocol.smtp.parameters import CommandError
from protocol.smtp.reply import Reply

# What aiosmtpd's constructor makes for its own commands, AUTH and hooks, none of which is reached in our sessions.
UNREACHED = {
    "event_handler", "data_size_limit", "enable_SMTPUTF8", "_decode_data", "require_starttls", "_timeout_duration",
    "_timeout_handle", "_tls_handshake_okay", "_auth_require_tls", "_proxy_timeout", "_auth_callback", "_authenticator",
    "_auth_required", "_auth_methods", "_ehlo_hook_ver", "_smtp_methods", "_enforce_call_limit", "__ident__",
}  # fmt: skip


class Silent(Conversation):
    """A conversation without commands."""

    async def _greet(self) -> None:
        pass

    async def _execute(self, line: bytes) -> None:
        pass

    def _refuse(self, answer: Reply) -> None:
        pass

    def _forget(self) -> None:
        pass


async def test_attributes_of_aiosmtpd() -> None:
    """Our constructor stands in for aiosmtpd's: it leaves out what is never reached, and nothing else."""
    loop = asyncio.get_running_loop()
    theirs = vars(SMTP(object(), hostname="mx", loop=loop)).keys()
    ours = vars(Silent(Smtp(), "mx", None)).keys()
    assert theirs - ours == UNREACHED


def test_private_names_of_stream_reader() -> None:
    """The private parts of asyncio.StreamReader that the reader uses are there and do what it expects."""
    source = inspect.getsource(asyncio.StreamReader)
    for name in (
        "self._buffer = bytearray()",
        "self._eof = False",
        "self._paused = False",
        "_wait_for_data(self, func_name)",
    ):
        assert name in source


async def taken(pieces: list[bytes], limit: int) -> list[bytes | None]:
    """The lines that come out of the reader; None for one that was refused."""
    reader = OctetReader(asyncio.get_running_loop())
    lines: list[bytes | None] = []
    for piece in pieces:
        reader.feed_data(piece)
        while True:
            try:
                line = reader.take_line(limit)
            except CommandError:
                lines.append(None)
                continue
            if line is None:
                break
            lines.append(line)
    return lines


@given(st.lists(st.sampled_from([b"a", b"\r", b"\n", b"\r\n", b"bc", b"d" * 9]), max_size=30), st.integers(1, 5))
def test_any_cut_gives_the_same_lines(words: list[bytes], step: int) -> None:
    """Lines do not depend on how their octets arrive, refused ones included."""
    octets = b"".join(words)
    pieces = [octets[start : start + step] for start in range(0, len(octets), step)]
    whole, cut = asyncio.run(_both([octets], pieces))
    assert whole == cut
    assert len(whole) == octets.count(b"\n")


async def _both(whole: list[bytes], cut: list[bytes]) -> tuple[list[bytes | None], list[bytes | None]]:
    return await taken(whole, 12), await taken(cut, 12)


async def test_memory_of_an_endless_line() -> None:
    """A line without end is thrown away as it comes."""
    reader = OctetReader(asyncio.get_running_loop())
    for _ in range(1000):
        reader.feed_data(b"x" * 1000)
        assert reader.take_line(512) is None
    assert len(reader.take(10**6)) <= 1000
    reader.feed_data(b"\r\nNOOP\r\n")
    with pytest.raises(CommandError):
        reader.take_line(512)
    assert reader.take_line(512) == b"NOOP"


async def test_put_back() -> None:
    """Octets that were taken too many come first again."""
    reader = OctetReader(asyncio.get_running_loop())
    reader.feed_data(b"xyzNOOP\r\nQ")
    assert reader.take(3) == b"xyz"
    assert reader.take(3) == b"NOO"
    reader.put_back(b"NOO")
    assert reader.take_line(512) == b"NOOP"
    assert reader.take_line(512) is None
    reader.put_back(b"\n")
    with pytest.raises(CommandError):
        reader.take_line(512)
