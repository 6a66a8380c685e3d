"""Ctrl-C ends the suite cleanly, and a second run finds everything again."""

import os
import stat

from bench.suite import Suite, state_directory
from tests.end_to_end.clients import Smtp
from tests.end_to_end.conftest import started
from tests.end_to_end.imap_client import ImapClient


def _messages(suite: Suite) -> list[bytes]:
    account = suite.accounts()[0]
    client = ImapClient(suite.endpoint("imaps"), suite.tls(), account.login, account.password)
    client.select()
    found = [fetched.octets("BODY[]") for fetched in client.fetch("1:*", "BODY.PEEK[]")]
    client.logout()
    return found


def _send(suite: Suite, octets: bytes) -> None:
    session = Smtp(suite.endpoint("smtp"))
    assert [reply.code for reply in session.data([suite.accounts()[0].login], octets)] == [250]
    session.quit()


def test_second_run_finds_its_state() -> None:
    """After Ctrl-C and a new start the accounts, passwords, certificate authority and mails are the same."""
    with state_directory() as state:
        with started(Suite(state)) as first:
            _send(first, b"Subject: before\r\n\r\nkept\r\n")
            before, credentials, authority = _messages(first), first.accounts(), first.endpoints["ca"]
            with open(authority, "rb") as file:
                certificate = file.read()
        assert not (state / "run" / "endpoints.json").exists(), "what no longer listens is no longer announced"
        with started(Suite(state)) as second:
            assert second.accounts() == credentials
            with open(second.endpoints["ca"], "rb") as file:
                assert file.read() == certificate
            assert _messages(second) == before
            _send(second, b"Subject: after\r\n\r\nalso kept\r\n")
            assert len(_messages(second)) == 2


def test_secrets_are_readable_by_the_owner_only(suite: Suite) -> None:
    """Passwords and keys below the state directory are files of mode 0600."""
    secrets = [suite.state / "run" / "endpoints.json", suite.state / "run" / "postwerk.toml"]
    secrets += [path for path in suite.state.rglob("*.key") if path.is_file()]
    assert len(secrets) >= 4
    for path in secrets:
        assert stat.S_IMODE(os.stat(path).st_mode) & 0o077 == 0, path


def test_output_names_no_one(suite: Suite) -> None:
    """What the processes log about mails that pass holds no address, no IP of the client and no content."""
    sender, text = b"very.special.sender", b"words nobody else writes"
    session = Smtp(suite.endpoint("smtp"))
    login = suite.accounts()[0].login
    session.command(b"MAIL FROM:<%s@sender.test>" % sender)
    session.command(b"RCPT TO:<very.special.recipient@example.test>")
    session.command(b"RCPT TO:<%s>" % login.encode())
    session.command(b"DATA")
    assert session.command(b"Subject: x\r\n\r\n%s\r\n." % text).code == 250
    session.quit()
    output = suite.output_file.read_bytes()
    for secret in (sender, b"very.special.recipient", text):
        assert secret not in output
