"""The measuring instruments: the generated mails and the accounting of CPU."""

import asyncio
import os
import subprocess
import sys
import zlib
from email.parser import BytesHeaderParser
from itertools import pairwise
from statistics import mean, median

from bench import filters, processor
from bench.connection import connect
from bench.figures import Figure
from bench.mails import mails
from bench.report import comparison_table
from bench.spam import Memory

_BURN = "import time\nwhile time.process_time() < 0.3: pass"


def test_mails_are_the_same_in_every_run_and_differ_from_each_other() -> None:
    """A seed gives the same octets each time, another seed others, and no two mails of a run are alike."""
    first, again, other = ([mail.octets for mail in mails(200, seed=seed)] for seed in (1, 1, 2))
    assert first == again
    assert len(set(first + other)) == 400


def test_mails_have_realistic_sizes() -> None:
    """Sizes have a median of 8 KB and a mean of 29 KB, up to 5 MB; the wire form ends as DATA must."""
    generated = list(mails(2000, seed=3))
    sizes = [len(mail.octets) for mail in generated]
    assert 8000 < median(sizes) < 9500
    assert 27_000 < mean(sizes) < 32_000
    assert max(sizes) > 5_000_000
    for mail in generated:
        assert mail.wire.endswith(b"\r\n.\r\n")
        assert b"\r\n.\r\n" not in mail.wire[:-5]
        assert mail.octets.count(b"\n") == mail.octets.count(b"\r\n") == mail.octets.count(b"\r")


def test_mails_stand_in_threads() -> None:
    """More than half of the mails answer an earlier one of the same run: its Message-ID ends their References."""
    headers = [BytesHeaderParser().parsebytes(mail.octets) for mail in mails(300, seed=4)]
    places = {header["Message-ID"]: number for number, header in enumerate(headers)}
    answers = [(number, header) for number, header in enumerate(headers) if header["References"]]
    assert 150 < len(answers) < 210
    for number, header in answers:
        parent = header["References"].split()[-1]
        assert parent == header["In-Reply-To"]
        assert places[parent] < number
        assert header["Subject"].removeprefix("Re: ") == headers[places[parent]]["Subject"].removeprefix("Re: ")


def test_comparison_says_where_ours_is_slower() -> None:
    """A time is better when it is less, a rate when it is more; the ratio is ours to the peer's."""
    table = comparison_table(
        [
            Figure("postwerk", "SELECT", "ms", 2.0),
            Figure("peer", "SELECT", "ms", 1.0),
            Figure("postwerk", "logins", "/s", 30.0, is_rate=True),
            Figure("peer", "logins", "/s", 10.0, is_rate=True),
        ]
    )
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]
    assert rows[0] == ["operation", "unit", "postwerk", "peer", "ratio", ""]
    assert rows[2:] == [["SELECT", "ms", "2.00", "1.00", "2.00", "slower"], ["logins", "/s", "30", "10", "3.00", ""]]


async def test_compressed_streams_count_what_came() -> None:
    """After compress() what is written is DEFLATE, what comes is inflated, and received_octets counts it as it came."""
    received = asyncio.Queue[bytes]()
    answer = b"* OK " + b"a" * 10_000 + b"\r\n"

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        received.put_nowait(zlib.decompressobj(wbits=-15).decompress(await reader.read(1000)))
        compressor = zlib.compressobj(wbits=-15)
        writer.write(compressor.compress(answer) + compressor.flush(zlib.Z_SYNC_FLUSH))
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        host, port = server.sockets[0].getsockname()
        stream = await connect((host, port))
        stream.compress()
        stream.write(b"1 NOOP\r\n")
        assert await received.get() == b"1 NOOP\r\n"
        while stream.last(2) != b"\r\n":
            await stream.more()
        assert stream.take() == answer
        assert 0 < stream.received_octets < 200
        stream.close()


def test_cpu_of_a_child_that_ended_counts() -> None:
    """The tree's CPU holds what a child used that has ended since, and never goes down."""
    program = (
        f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {_BURN!r}])\nprint(1, flush=True)\ninput()"
    )
    parent = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert parent.stdout is not None
    assert parent.pid in processor.tree([os.getpid()])
    readings = [processor.seconds([parent.pid])]
    assert parent.stdout.readline() == b"1\n"
    readings.append(processor.seconds([parent.pid]))
    assert processor.tree([parent.pid]) == [parent.pid]
    parent.communicate(b"\n")
    assert readings[-1] >= 0.28
    assert all(later >= earlier for earlier, later in pairwise(readings))


async def test_each_filter_has_its_share() -> None:
    """The table names every filter that asks nobody outside, and what all of them cost together."""
    made, remembered = filters.subjects(3), filters.Remembered(Memory())
    costs = await filters.measured(made, remembered)
    lines = filters.report(costs, await filters.sieve(made))
    assert [line[:16].strip() for line in lines] == [
        *("filter", "forged fields", "parts, fields", "authentication", "lists", "mime", "spam"),
        *("one by one", "10 at a time", "50 Sieve rules"),
    ]
    assert all(cost.milliseconds > 0 for cost in costs)
