"""The measuring instruments: the generated mails and the accounting of CPU."""

import os
import subprocess
import sys
from itertools import pairwise
from statistics import mean, median

from bench import processor
from bench.mails import mails

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
