"""`python -m bench.spam_peers DIRECTORY`: what bogofilter and SpamAssassin make of the same halves as `bench.spam`.

Both from the distribution, as they come: bogofilter with its own thresholds (what it is unsure about counts as not spam),
SpamAssassin as `spamd -L` at 5 points, by its rules alone and with its Bayes taught by the training half. Takes some minutes.
"""

import argparse
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path

from bench.spam import Sorted, directions, messages

_USER = "nobody"
_START_SECONDS = 60
_ANSWER_SECONDS = 120


@contextmanager
def bogofilter(sorted_: Sequence[Sorted], home: Path) -> Iterator[Callable[[Sorted], bool]]:
    """Taught with the training half."""
    command = ["bogofilter", "-C", "-d", str(home)]
    for each in sorted_:
        if each.is_training:
            subprocess.run([*command, "-s" if each.is_spam else "-n"], input=each.octets, check=True)

    def is_spam(each: Sorted) -> bool:
        return (
            subprocess.run([*command, "-T"], input=each.octets, stdout=subprocess.PIPE, check=False).stdout[:1] == b"S"
        )

    yield is_spam


@contextmanager
def spamassassin(sorted_: Sequence[Sorted], home: Path, *, is_taught: bool) -> Iterator[Callable[[Sorted], bool]]:
    """A spamd of its own, that asks nobody in the network."""
    lines = [f"use_bayes {int(is_taught)}", f"bayes_path {home}/bayes", "bayes_auto_learn 0", "bayes_auto_expire 0"]
    settings = [f"--cf={line}" for line in lines]
    if is_taught:
        for kind in ("spam", "ham"):
            taught = home / kind
            taught.mkdir()
            for number, each in enumerate(sorted_):
                if each.is_training and each.is_spam is (kind == "spam"):
                    (taught / str(number)).write_bytes(each.octets)
            subprocess.run(
                ["sa-learn", "-L", "--no-sync", *settings, f"--{kind}", str(taught)],
                check=True,
                stdout=subprocess.DEVNULL,
            )
        subprocess.run(["sa-learn", "-L", "--sync", *settings], check=True, stdout=subprocess.DEVNULL)
    path = home / "socket"
    user: list[str] = []
    if os.geteuid() == 0:  # as which spamd does not work
        user = ["-u", _USER]
        for made in (home, *home.rglob("*")):
            shutil.chown(made, _USER)
    command = ["spamd", "-L", "-x", *user, "--min-children=1", "--max-children=1", f"--socketpath={path}", *settings]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + _START_SECONDS
        while not path.exists() and server.poll() is None and time.monotonic() < deadline:
            time.sleep(0.2)
        yield lambda each: _asked(path, each.octets)
    finally:
        server.terminate()
        server.wait()


def _asked(path: Path, octets: bytes) -> bool:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(_ANSWER_SECONDS)
        connection.connect(str(path))
        connection.sendall(b"CHECK SPAMC/1.5\r\nContent-length: %d\r\n\r\n" % len(octets) + octets)
        connection.shutdown(socket.SHUT_WR)
        answer = b"".join(iter(lambda: connection.recv(4096), b""))
    if b"EX_OK" not in answer:
        raise RuntimeError(f"spamd answers {answer[:100]!r}")
    return b"Spam: True" in answer


_Judge = Callable[[Sequence[Sorted], Path], AbstractContextManager[Callable[[Sorted], bool]]]


def _report(title: str, both: Sequence[Sequence[Sorted]], judge: _Judge) -> None:
    judged: list[tuple[bool, bool]] = []
    for direction in both:
        with tempfile.TemporaryDirectory() as home, judge(direction, Path(home)) as is_spam:
            judged += [(each.is_spam, is_spam(each)) for each in direction if not each.is_training]
    ham = [says for truth, says in judged if not truth]
    spam = [says for truth, says in judged if truth]
    print(
        f"{title:30} false positives {sum(ham)} of {len(ham)} ({sum(ham) / len(ham):.2%}), "
        f"detected {sum(spam)} of {len(spam)} ({sum(spam) / len(spam):.2%})",
        flush=True,
    )


def main() -> None:
    """Print the figures of those that are installed."""
    parser = argparse.ArgumentParser(prog="python -m bench.spam_peers", description=__doc__)
    parser.add_argument("directory", type=Path)
    options = parser.parse_args()
    both = directions(messages(options.directory))
    if shutil.which("bogofilter"):
        _report("bogofilter", both, bogofilter)
    if shutil.which("spamd"):
        _report("SpamAssassin, rules only", both, partial(spamassassin, is_taught=False))
        _report("SpamAssassin and training", both, partial(spamassassin, is_taught=True))


if __name__ == "__main__":
    main()
