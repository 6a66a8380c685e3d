"""The commands of other projects' IMAP test scripts as smoke inputs: Apache James' (Apache-2.0) and imaptest's (MIT).

What their servers answer with OK we must be able to parse, but for the extensions that we do not offer. Whether our answers
are theirs is tested in tests/daemons/imap/conformance, where the scripts are.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from protocol.imap.command import Authenticate, Idle
from protocol.imap.events import AppendLiteral, AppendStarts, Rejected
from protocol.imap.reader import CommandReader
from tests.protocol.imap.feeds import read_three_ways

SCRIPTS = Path(__file__).parents[2] / "daemons" / "imap" / "conformance" / "scripts"
JAMES = SCRIPTS / "james"
IMAPTEST = SCRIPTS / "imaptest"

NEVER = re.compile(rb"(?i)GENURLAUTH|URLFETCH|RESETKEY|XLIST")  # RFC 4467, and what SPECIAL-USE has replaced
# What James takes and RFC 3501 §9 forbids, for no client we know of.
OTHER_GRAMMAR = re.compile(
    rb'FETCH 1:\* \(\)|"\*"RETURN|GETMETADATA "\w+"( \(MAXSIZE \d+\))?\r\n|\(DEPTH 1\) \(MAXSIZE 15\)'
)


def _commands_of_james(path: Path) -> Iterator[tuple[bytes, bytes]]:
    """Each line a client sends, with the next tagged answer that the script expects for its tag ("" if there is none)."""
    answers: dict[bytes, bytes] = {}
    found = []
    for line in reversed(path.read_bytes().split(b"\n")):
        if line.startswith(b"S: "):
            answers[line[3:].split(b" ")[0]] = line
        elif line.startswith(b"C:"):
            found.append((line.rstrip(b"\r")[3:] + b"\r\n", answers.get(line[3:].split(b" ")[0], b"")))
    return reversed(found)


def test_james_scripts() -> None:
    """What Apache James answers with OK is parsed."""
    refused = []
    count = 0
    for path in sorted(JAMES.rglob("*.test")):
        reader = CommandReader()
        for octets, answer in _commands_of_james(path):
            events = reader.receive(octets)
            while events:
                count += len(events)
                for event in events:
                    if isinstance(event, Rejected) and b" OK" in answer[:20]:
                        refused.append((path.name, octets, event.text))
                if isinstance(events[-1], AppendStarts | AppendLiteral):
                    reader.accept()
                elif isinstance(events[-1], Idle) or (isinstance(events[-1], Authenticate) and not events[-1].initial):
                    reader.expect_line()
                events = reader.receive(b"")
    assert count > 5000
    assert [row for row in refused if not NEVER.search(row[1]) and not OTHER_GRAMMAR.search(row[1])] == []


def test_imaptest_scripts() -> None:
    """What imaptest expects to be answered with OK is parsed, and the same however it is cut."""
    refused = []
    count = 0
    for path in sorted(IMAPTEST.iterdir()):
        if path.suffix == ".mbox":
            continue
        for line in path.read_text("utf-8", "replace").splitlines():
            found = re.match(r"(?:\d+ )?(?:ok|no) (\w.* .*)", line)
            if not found or "{{{" in line or found[1].startswith("append"):
                continue
            words = re.sub(r"\$\{?\w+\}?", "1", found[1].replace("${mailbox}", "box")).encode()
            count += 1
            (event,) = read_three_ways(b"x " + words + b"\r\n")
            if isinstance(event, Rejected) and not NEVER.search(words):
                refused.append((path.name, words, event.text))
    assert count > 200
    assert refused == []
