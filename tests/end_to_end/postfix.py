"""A private Postfix of the distribution: it takes mail for peer.test into maildirs, and sends the rest on.

Nothing in /etc is touched.
"""

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from bench.postfix import PROGRAMS, lay_out
from bench.suite import free_port_offset
from daemons.certificates import Issued
from tests.end_to_end.tools import must_have

DOMAIN = "peer.test"
_PORT = 21825
_OWNER = 50_000  # of the maildirs; needs no passwd entry
_WAIT_SECONDS = 30.0

_MAIN_CF = """
myhostname = mx.{domain}
append_dot_mydomain = no
virtual_mailbox_maps = inline:{{ world@{domain}=world/, other@{domain}=other/ }}
virtual_mailbox_base = {directory}/mail
virtual_uid_maps = static:{owner}
virtual_gid_maps = static:{owner}
smtpd_tls_security_level = may
smtpd_tls_received_header = yes
smtp_tls_security_level = verify
smtp_tls_verify_cert_match = hostname
smtp_tls_CAfile = {authority}
smtp_tls_loglevel = 1
smtp_host_lookup = native, dns
transport_maps = inline:{{ example.test=smtp:[localhost]:{ours} }}
"""

_MASTER_CF = """
virtual unix - n n - - virtual
"""


@dataclass(frozen=True, slots=True)
class Postfix:
    """A running one."""

    directory: Path
    port: int

    @property
    def log(self) -> str:
        """What it has said so far."""
        return (self.directory / "postfix.log").read_text("utf-8", "replace")

    def messages(self, name: str, count: int) -> list[bytes]:
        """Wait until there are so many messages in a maildir; gives them in the order of their arrival, with CRLF."""
        new = self.directory / "mail" / name / "new"
        deadline = time.monotonic() + _WAIT_SECONDS
        while len(found := sorted(new.glob("*"), key=lambda path: path.stat().st_mtime_ns)) < count:
            assert time.monotonic() < deadline, f"{len(found)} of {count} messages\n{self.log[-3000:]}"
            time.sleep(0.05)
        return [path.read_bytes().replace(b"\n", b"\r\n") for path in found]


def choose_port() -> int:
    """A port for it that is free."""
    return _PORT + free_port_offset((_PORT,), range(9000))


@contextmanager
def postfix(directory: Path, issued: Issued, *, port: int, ours: int, authority: str) -> Iterator[Postfix]:
    """Run it below `directory`, with a certificate for localhost.

    ours: the port that mail for example.test goes to, at a server whose certificate is of this authority. Skips the test
    where there is no Postfix, or no right to start one (it changes its user).
    """
    must_have("/usr/sbin/postfix")
    if os.geteuid() != 0:
        pytest.skip("Postfix needs root to start")
    _write(directory, issued, {"port": port, "ours": ours, "authority": authority})
    command = [f"{PROGRAMS}/master", "-c", f"{directory}/postfix", "-d"]
    with (directory / "output").open("wb") as output:
        master = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
    running = Postfix(directory, port)
    try:
        deadline = time.monotonic() + _WAIT_SECONDS
        while not _answers(port):
            assert master.poll() is None, (directory / "output").read_text()
            assert time.monotonic() < deadline, running.log[-3000:]
            time.sleep(0.05)
        yield running
    finally:
        master.send_signal(signal.SIGTERM)
        master.wait(30)


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 5).close()
    except OSError:
        return False
    return True


def _write(directory: Path, issued: Issued, told: Mapping[str, object]) -> None:
    directory.chmod(0o711)
    key = directory / "server.key"
    shutil.copy(issued.key, key)
    key.chmod(0o600)
    values = {"domain": DOMAIN, "owner": _OWNER, "certificate": issued.certificate, "key": key, **told}
    lay_out(directory, _MAIN_CF, _MASTER_CF, values)
    mail = directory / "mail"
    mail.mkdir()
    shutil.chown(mail, _OWNER, _OWNER)
