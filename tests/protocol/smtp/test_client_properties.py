"""The client with servers that say anything at all, and with servers that are our own octet machines."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.smtp.client import Client, Ended, Event, Finished, Opened, Recipient, TlsAllowed, Transaction
from protocol.smtp.data import ChunkReader, DataReader
from protocol.smtp.transmission import Outcome
from tests.feeding import cut

_replies = st.sampled_from(
    [
        b"220 x\r\n",
        b"250 ok\r\n",
        b"250-x\r\n250-PIPELINING\r\n250 SIZE 100\r\n",
        b"250-x\r\n250-PIPELINING\r\n250 CHUNKING\r\n",
        b"250-x\r\n250-STARTTLS\r\n250 CHUNKING\r\n",
        b"354 go\r\n",
        b"421 bye\r\n",
        b"450 4.2.1 later\r\n",
        b"452 4.5.3 many\r\n",
        b"550 no\r\n",
        b"334 \r\n",
        b"2",
        b"\xff\r\n",
    ]
)
_usual = st.sampled_from([b"250 ok\r\n", b"250 ok\r\n", b"354 go\r\n", b"550 no\r\n"])
_opening = st.sampled_from(
    [
        b"220 x\r\n250-x\r\n250-PIPELINING\r\n250 SIZE 100\r\n",
        b"220 x\r\n250-x\r\n250-PIPELINING\r\n250 CHUNKING\r\n",
        b"220 x\r\n250-x\r\n250 CHUNKING\r\n",
        b"220 x\r\n250 x\r\n",
        b"",
    ]
)
_says = st.builds(lambda opening, rest: opening + b"".join(rest), _opening, st.lists(_usual | _replies, max_size=30))


def _transaction(recipients: int, size: int | None) -> Transaction:
    return Transaction("a@x.test", tuple(Recipient(f"r{number}@y.test") for number in range(recipients)), size)


class Driver:
    """Sends one transaction after the other, whatever the server says, and keeps what became of them."""

    def __init__(self, *, is_lmtp: bool, recipients: int, size: int | None) -> None:
        self.client = Client("us.test", is_lmtp=is_lmtp)
        self.begun = 0
        self.finished: list[tuple[Outcome, ...]] = []
        self.ends = 0
        self.output = b""
        self._transaction = _transaction(recipients, size)
        self._pieces = 0

    def note(self, events: list[Event]) -> None:
        for event in events:
            if isinstance(event, Finished):
                self.finished.append(event.outcomes)
            self.ends += isinstance(event, Ended)
            if isinstance(event, TlsAllowed):
                self.client.tls_started()
            if isinstance(event, Opened) and event.capabilities.has_starttls and not self.client.is_secure:
                self.client.start_tls()

    def go_on(self) -> None:
        for _ in range(100):
            if self.client.is_idle and self.begun < 3:
                self.begun += 1
                self._pieces = 2
                self.note(self.client.send(self._transaction))
            elif self.client.is_content_wanted:
                self._pieces -= 1
                self.note(self.client.content(b"x\r\n", is_last=self._pieces == 0))
            else:
                break
        self.output += self.client.take_output()


def _drive(says: bytes, step: int | None, options: dict[str, Any]) -> Driver:
    driver = Driver(**options)
    for piece in cut(says, step):
        driver.note(driver.client.receive(piece))
        driver.go_on()
    driver.note(driver.client.receive_eof())
    driver.note(driver.client.receive(b"250 too late\r\n"))
    return driver


_options = st.fixed_dictionaries(
    {"is_lmtp": st.booleans(), "recipients": st.integers(1, 4), "size": st.sampled_from([None, 6, 1000])}
)


@settings(max_examples=400)
@given(_says, st.integers(1, 30), _options)
def test_every_recipient_has_one_outcome(says: bytes, step: int, options: dict[str, Any]) -> None:
    """Whatever a server says, however it is cut: one end, and one outcome for each recipient of each transaction."""
    driver = _drive(says, step, options)
    assert driver.ends == 1
    assert len(driver.finished) == driver.begun
    for outcomes in driver.finished:
        assert [outcome.recipient.forward_path for outcome in outcomes] == [
            f"r{number}@y.test" for number in range(options["recipients"])
        ]
        for outcome in outcomes:
            assert outcome.state == "delivered" or outcome.reply.code >= 400
            assert outcome.state != "delivered" or (outcome.is_remote and outcome.reply.code < 300)
            assert not (outcome.is_uncertain and outcome.is_remote)
    assert driver.client.take_output() == b""


@given(_says, st.integers(1, 30), _options)
def test_replies_that_come_by_octets_mean_the_same(says: bytes, step: int, options: dict[str, Any]) -> None:
    """A server that is not ahead of us is understood in the same way whatever the cut of its octets."""
    lines = says.splitlines(True)
    wholes, pieces = Driver(**options), Driver(**options)
    for line in lines:
        wholes.note(wholes.client.receive(line))
        wholes.go_on()
        for piece in cut(line, step):
            pieces.note(pieces.client.receive(piece))
            pieces.go_on()
    assert (pieces.finished, pieces.output, pieces.ends) == (wholes.finished, wholes.output, wholes.ends)


_content = st.lists(
    st.sampled_from([b".", b"..", b"\r\n", b"\r\n.", b"\r\n.\r\n", b"x", b"\xff", b"\r\n..\r\n"]), max_size=12
).map(b"".join)


def _sent(content: bytes, step: int, offer: bytes) -> bytes:
    """What goes out for a message behind DATA or as BDAT."""
    client = Client("us.test")
    client.receive(b"220 x\r\n")
    client.receive(offer)
    client.send(_transaction(1, None))
    client.receive(b"250 ok\r\n")
    client.receive(b"250 ok\r\n")
    client.receive(b"354 go\r\n") if b"CHUNKING" not in offer else None
    client.take_output()
    pieces = cut(content, step) or [b""]
    for number, piece in enumerate(pieces, start=1):
        assert client.is_content_wanted
        client.content(piece, is_last=number == len(pieces))
    return client.take_output()


@given(_content, st.integers(1, 5))
def test_data_is_read_back_as_it_was(content: bytes, step: int) -> None:
    """What goes out behind DATA, in whatever pieces, is read by the server's machine as the same message."""
    sent = _sent(content, step, b"250 x\r\n")
    reader = DataReader()
    read = reader.receive(sent + b"NOOP\r\n")
    assert reader.is_complete
    assert reader.rest == b"NOOP\r\n"
    assert read == (content if content.endswith(b"\r\n") or not content else content + b"\r\n")
    assert not reader.has_bare_line_end


@given(st.binary(max_size=40), st.integers(1, 50))
def test_chunks_are_read_back_as_they_were(content: bytes, step: int) -> None:
    """What goes out as chunks is the same octets, whatever they are."""
    sent = _sent(content, step, b"250-x\r\n250-PIPELINING\r\n250 CHUNKING\r\n")
    read, is_last = b"", False
    while sent:
        line, _, sent = sent.partition(b"\r\n")
        verb, size, *last = line.split(b" ")
        assert verb == b"BDAT"
        assert not is_last
        chunk = ChunkReader()
        chunk.begin(int(size))
        read += chunk.receive(sent)
        assert chunk.missing_octets == 0
        sent, is_last = chunk.rest, last == [b"LAST"]
    assert is_last
    assert read == content


def test_many_recipients_take_linear_time() -> None:
    """Ten thousand recipients are decided without looking at all of them for each."""
    client = Client("us.test")
    client.receive(b"220 x\r\n")
    client.receive(b"250-x\r\n250 PIPELINING\r\n")
    client.send(_transaction(10_000, None))
    client.take_output()
    events = client.receive(b"250 ok\r\n" + b"550 no\r\n" * 10_000 + b"503 no\r\n")
    assert isinstance(events[-1], Finished)
    assert len(events[-1].outcomes) == 10_000
