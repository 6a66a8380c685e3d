"""Thunderbird on a screen of its own: an account is set up, 1,000 messages are listed, searched, read, moved and deleted."""

import base64
import ssl
from collections.abc import Iterator
from email.header import decode_header, make_header
from pathlib import Path
from typing import Any

import pytest

from bench.suite import Suite
from bench.system import Account
from tests.end_to_end.marionette import Marionette, not_understood, thunderbird
from tests.end_to_end.suite import imap
from tests.end_to_end.tools import fill, must_have, numbered, send, subject, until_found, word

_FUNCTIONS = Path(__file__).with_name("thunderbird.js").read_text("utf-8")
_COUNT = 1000


class User:
    """Somebody who sits before Thunderbird."""

    def __init__(self, program: Marionette) -> None:
        self._program = program

    def does(self, function: str, *arguments: Any) -> Any:
        """Call a function of thunderbird.js; gives what it returns once all of it is done."""
        return self._program.script(f"{_FUNCTIONS}\nreturn await {function}(...arguments);", *arguments)


@pytest.fixture
def user(suite: Suite, account: Account, tmp_path: Path) -> Iterator[User]:
    """A user with a new Thunderbird in which the account has been set up."""
    must_have("thunderbird", "Xvfb")
    authority = ssl.PEM_cert_to_DER_cert(Path(suite.endpoints["ca"]).read_text("ascii"))
    with thunderbird(tmp_path) as program:
        person = User(program)
        settings = {
            "login": account.login,
            "password": account.password,
            "imaps": suite.endpoint("imaps")[1],
            "submission": suite.endpoint("smtp")[1],  # stored, not used here
            "authority": base64.b64encode(authority).decode(),
        }
        assert person.does("setUpAccount", settings) == "imap"
        yield person
    assert not not_understood(tmp_path)


@pytest.mark.timeout(900)
def test_thunderbird(suite: Suite, account: Account, user: User) -> None:
    """It lists 1,000 messages, has the server search, reads, moves, deletes and hears of new mail; the server has it so."""
    suite.command("quota", "set", account.login, "--messages", "5000")
    fill(suite, account, "INBOX", numbered(_COUNT))
    assert {"INBOX", "Archive", "Drafts", "Junk", "Sent"} <= set(user.does("folderNames", 5))
    subjects = [subject(number) for number in range(_COUNT)]
    assert sorted(user.does("listed", "INBOX", _COUNT)) == sorted(subjects)

    wanted = [subject(number) for number in range(_COUNT) if number % 50 == 7]
    assert sorted(user.does("searched", "INBOX", "Body", word(7))) == sorted(wanted)
    assert user.does("searched", "INBOX", "Subject", subjects[123]) == [subjects[123]]

    user.does("read", "INBOX", subjects[5])
    assert until_found(suite, account, "INBOX", "SEEN", 1) == [6]

    user.does("move", "INBOX", wanted, "Archive")
    assert sorted(user.does("listed", "Archive", len(wanted))) == sorted(wanted)
    until_found(suite, account, "Archive", "ALL", len(wanted))

    left = [text for text in subjects if text not in wanted]
    user.does("listed", "INBOX", len(left))
    user.does("remove", "INBOX", left[:10])
    until_found(suite, account, "INBOX", "UNDELETED", len(left) - 10)
    assert _subjects(suite, account, "INBOX") == left[10:]
    assert sorted(_subjects(suite, account, "Archive")) == sorted(wanted)
    assert sorted(_subjects(suite, account, "Trash")) == sorted(left[:10])

    send(suite, account, 1)
    user.does("told", "INBOX", len(left) - 10 + 1)


def _subjects(suite: Suite, account: Account, mailbox: str) -> list[str]:
    """What the messages of a mailbox that are not deleted are called, by UID."""
    with imap(suite, account) as client:
        client.select(mailbox)
        (found,) = client.command("UID SEARCH UNDELETED")
        uids = ",".join(uid.decode() for uid in found[2:] if isinstance(uid, bytes))
        fields = [
            fetched.octets("BODY[HEADER.FIELDS (SUBJECT)]")
            for fetched in client.fetch(uids, "BODY.PEEK[HEADER.FIELDS (SUBJECT)]")
        ]
    return [str(make_header(decode_header(field.decode().partition(": ")[2].strip()))) for field in fields]
