"""Mutt and NeoMutt in a terminal that nobody looks at: keys are pushed, what became of the mails is asked for over IMAP."""

import os
import pty
import subprocess
import threading
from pathlib import Path

import pytest

from bench.suite import Suite
from bench.system import Account
from tests.end_to_end.imap_client import ImapClient
from tests.end_to_end.suite import imap
from tests.end_to_end.tools import fill, must_have, numbered, word, written

_COUNT = 500
_PROGRAM_SECONDS = 90

_MUTTRC = """
set charset = utf-8
set imap_user = "{login}"
set imap_pass = "{password}"
set folder = "imaps://localhost:{port}/"
set spoolfile = "imaps://localhost:{port}/INBOX"
set certificate_file = "{authority}"
set ssl_ca_certificates_file = "{authority}"
set confirmappend = no
set confirmcreate = no
set delete = yes
set quit = yes
set wait_key = no
set mark_old = no
set timeout = 1
set header_cache = "{home}/headers"
push "{keys}"
"""
# What a user types, in one session: =b and =s have the server search, ; applies to what is tagged.
_KEYS = (
    f"<tag-pattern>=b {word(7)}<enter><tag-prefix><save-message>=Archive<enter>"
    f"<untag-pattern>.<enter><tag-pattern>=b {word(9)}<enter><tag-prefix><save-message>={{name}}<enter>"
    "<untag-pattern>.<enter><tag-pattern>~m 1-20<enter><tag-prefix><flag-message>"
    "<untag-pattern>.<enter><delete-pattern>~m 31-40<enter>"
    "<sync-mailbox><limit>=s №<enter><first-entry><display-message><exit><limit>all<enter>"
    "<change-folder>=Archive<enter><tag-pattern>.<enter><tag-prefix><set-flag>r<quit>"
)


def _run(command: list[str], home: Path) -> None:
    """Run a program in a terminal of 120 by 40 until it ends by itself, with 0."""
    master, slave = pty.openpty()
    environment = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "HOME": str(home), "TERM": "xterm"}
    environment |= {"COLUMNS": "120", "LINES": "40"}
    process = subprocess.Popen(
        command, stdin=slave, stdout=slave, stderr=slave, env=environment, start_new_session=True
    )
    os.close(slave)
    shown = bytearray()

    def look() -> None:
        try:
            while octets := os.read(master, 65536):
                shown.extend(octets)
        except OSError:  # what Linux answers when the other end is closed
            return

    viewer = threading.Thread(target=look)
    viewer.start()
    try:
        code = process.wait(_PROGRAM_SECONDS)
    except subprocess.TimeoutExpired:
        code = -1
    finally:
        process.kill()
        process.wait(10)
        viewer.join()
        os.close(master)
    assert code == 0, f"{command[0]}: {code}\n{shown[-4000:].decode('utf-8', 'replace')}"


def _numbers(client: ImapClient, name: str, criteria: str = "ALL") -> list[int]:
    """Which of the numbered mails a search in the mailbox finds, sorted."""
    client.select(name)
    (found,) = client.command(f"UID SEARCH {criteria}")
    if not isinstance(found[-1], bytes) or b"ALL" not in found:  # ESEARCH without a result
        return []
    item = "BODY[HEADER.FIELDS (MESSAGE-ID)]"
    fetched = client.fetch(found[-1].decode(), item.replace("BODY", "BODY.PEEK"))
    return sorted(int(each.octets(item).partition(b"<")[2].partition(b".")[0]) for each in fetched)


# NeoMutt of 2022 takes no name beyond ASCII at this prompt ("bad destination"). A space there would complete the name.
@pytest.mark.parametrize(("program", "name"), [("mutt", "Größe№1"), ("neomutt", "Projects")])
def test_mutt(suite: Suite, account: Account, tmp_path: Path, program: str, name: str) -> None:
    """It lists 500 messages, has the server search, moves what is found, also to a new mailbox, flags, deletes and reads."""
    must_have(program)
    fill(suite, account, "INBOX", numbered(_COUNT))
    access = {"login": account.login, "password": account.password, "authority": suite.endpoints["ca"]}
    port = suite.endpoint("imaps")[1]
    text = _MUTTRC.format(**access, port=port, home=tmp_path, keys=_KEYS.format(name=name))
    _run([program, "-n", "-F", str(written(tmp_path / "muttrc", text))], tmp_path)
    saved, named = (list(range(digit, _COUNT, 50)) for digit in (7, 9))
    left = sorted(set(range(_COUNT)).difference(saved, named, range(30, 40)))
    with imap(suite, account) as client:
        client.command("ENABLE IMAP4rev2")
        assert _numbers(client, "Archive") == _numbers(client, "Archive", "ANSWERED") == saved
        assert _numbers(client, name) == named
        assert _numbers(client, "INBOX") == left
        assert _numbers(client, "INBOX", "FLAGGED") == [number for number in left if number < 20]
        assert _numbers(client, "INBOX", "SEEN") == [0]
