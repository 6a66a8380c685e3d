"""Ctrl-C ends the suite cleanly, and a second run finds everything again."""

import os
import stat

from bench.suite import Suite, state_directory
from tests.end_to_end.suite import bodies, smtp, started


def _send(suite: Suite, octets: bytes) -> None:
    with smtp(suite) as session:
        assert [reply.code for reply in session.data([suite.accounts()[0].login], octets)] == [250]


def test_second_run_finds_its_state() -> None:
    """After Ctrl-C and a new start the accounts, passwords, certificate authority and mails are the same."""
    with state_directory() as state:
        with started(Suite(state)) as first:
            _send(first, b"Subject: before\r\n\r\nkept\r\n")
            before, credentials, authority = bodies(first, first.accounts()[0]), first.accounts(), first.endpoints["ca"]
            with open(authority, "rb") as file:
                certificate = file.read()
        assert not (state / "run" / "endpoints.json").exists(), "what no longer listens is no longer announced"
        with started(Suite(state)) as second:
            assert second.accounts() == credentials
            with open(second.endpoints["ca"], "rb") as file:
                assert file.read() == certificate
            assert bodies(second, second.accounts()[0]) == before
            _send(second, b"Subject: after\r\n\r\nalso kept\r\n")
            assert len(bodies(second, second.accounts()[0])) == 2


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
    login = suite.accounts()[0].login
    with smtp(suite) as session:
        session.command(b"MAIL FROM:<%s@sender.test>" % sender)
        session.command(b"RCPT TO:<very.special.recipient@example.test>")
        session.command(b"RCPT TO:<%s>" % login.encode())
        session.command(b"DATA")
        assert session.command(b"Subject: x\r\n\r\n%s\r\n." % text).code == 250
    output = suite.output_file.read_bytes()
    for secret in (sender, b"very.special.recipient", text):
        assert secret not in output
