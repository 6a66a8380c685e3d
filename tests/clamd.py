"""A real clamd with signatures of our own: nothing is downloaded, and it starts in a tenth of a second.

Its signatures are dated, in the form that freshclam leaves them in (but unsigned), so that it tells their age.
"""

import hashlib
import io
import os
import shutil
import signal
import tarfile
import time
import zipfile
from datetime import UTC, datetime
from pathlib import Path

import pytest

from bench.suite import free_port
from tests.foreground import Foreground

# In two pieces: scanners that look at this file find nothing.
EICAR = rb"X5O!P%@AP[4\PZX54(P^)7CC)7}" + rb"$EICAR-STANDARD-ANTIVIRUS-TEST-FILE!$H+H*"
FOUND = "Local.Eicar-Body.UNOFFICIAL"
STREAM_LIMIT = 2 << 20  # clamd's own
MADE_AT = datetime(2026, 11, 16, 8, 20, tzinfo=UTC)

_SUSPEND_SECONDS = 30.0


def zipped(content: bytes, name: str = "report.txt") -> bytes:
    """A zip archive with one file."""
    octets = io.BytesIO()
    with zipfile.ZipFile(octets, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, content)
    return octets.getvalue()


class Clamd(Foreground):
    """One daemon. Raises pytest's skip where there is none to start."""

    ready_words = "Self checking"

    def __init__(self, directory: Path) -> None:
        super().__init__()
        program = shutil.which("clamd") or "/usr/sbin/clamd"
        if not Path(program).exists():
            pytest.skip("no clamd: apt-get install clamav-daemon")
        self.socket = directory / "clamd.sock"
        self.port = free_port()
        self._command = [program, f"--config-file={directory / 'clamd.conf'}"]
        database = directory / "signatures"
        database.mkdir()
        (database / "local.ndb").write_text(f"Local.Eicar-Body:0:*:{EICAR.hex()}\n")
        (database / "daily.cud").write_bytes(_dated(MADE_AT))
        (directory / "clamd.conf").write_text(
            f"Foreground yes\nDatabaseDirectory {database}\nLocalSocket {self.socket}\nFixStaleSocket yes\n"
            f"TCPSocket {self.port}\nTCPAddr 127.0.0.1\nMaxThreads 4\nStreamMaxLength {STREAM_LIMIT}\n"
            "SelfCheck 0\nConcurrentDatabaseReload no\nUser clamav\n"
        )
        if os.geteuid() == 0:  # it gives up its rights then
            for path in (directory, database, *database.iterdir()):
                shutil.chown(path, "clamav")

    def command(self) -> list[str]:
        return self._command

    def suspend(self) -> None:
        """Let it do nothing, while its socket still takes connections and octets."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        state = Path(f"/proc/{self._process.pid}/stat")
        until = time.monotonic() + _SUSPEND_SECONDS
        while state.read_text().rpartition(")")[2].split()[0] != "T":
            assert time.monotonic() < until

    def resume(self) -> None:
        """The end of suspend()."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)


def _dated(made_at: datetime) -> bytes:
    """A signature database with a date: a header of 512 octets, then a tar archive."""
    signatures = b"Local.Dated:0:*:%b\n" % b"a signature with a date".hex().encode()
    told = f"ClamAV-VDB:{made_at:%d %b %Y %H-%M +0000}:27500:1:63:{{}}:x:tests:{int(made_at.timestamp())}"
    listed = f"{told.format('X' * 32)}\ndaily.ndb:{len(signatures)}:{hashlib.sha256(signatures).hexdigest()}\n"
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, content in (("COPYING", b"\n"), ("daily.info", listed.encode()), ("daily.ndb", signatures)):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    body = packed.getvalue()
    return told.format(hashlib.md5(body).hexdigest()).encode().ljust(512) + body
