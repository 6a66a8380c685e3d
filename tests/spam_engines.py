"""A real rspamd and a real spamd: they start within a second, know no DNS, and download nothing."""

import os
import shutil
import signal
import subprocess
import threading
from pathlib import Path

import pytest

from bench.suite import free_port

_READY_SECONDS = 60.0


class _Daemon:
    """A process in the foreground with children, waited for until it says that it is ready."""

    ready_line: str

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._process: subprocess.Popen[str] | None = None

    def command(self) -> list[str]:
        """How it is started. Raises pytest's skip where there is none."""
        raise NotImplementedError

    def start(self) -> None:
        """Start it, and wait until it listens."""
        ready = threading.Event()
        self._process = subprocess.Popen(
            self.command(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
        )
        lines: list[str] = []

        def read(process: "subprocess.Popen[str]") -> None:
            assert process.stdout is not None
            with process.stdout:
                for line in process.stdout:
                    lines.append(line)
                    if self.ready_line in line:
                        ready.set()
            ready.set()

        threading.Thread(target=read, args=(self._process,), daemon=True).start()
        assert ready.wait(_READY_SECONDS), "".join(lines)
        assert self._process.poll() is None, "".join(lines)

    def kill(self) -> None:
        """End it with its children, without a word."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None


class RspamdDaemon(_Daemon):
    """One worker on a port of its own."""

    ready_line = "starting normal process"

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self._port = free_port()
        self.url = f"http://127.0.0.1:{self._port}"

    def command(self) -> list[str]:
        """See _Daemon. Of the top-level domains there are few: to compile them all takes ten seconds."""
        program = _found("rspamd")
        configuration, domains = self._directory / "rspamd.conf", self._directory / "domains"
        domains.write_text("com\nnet\norg\n")
        configuration.write_text(
            '.include "$CONFDIR/common.conf"\n'
            'options { pidfile = "$RUNDIR/rspamd.pid"; control_socket = "$RUNDIR/control.sock mode=0600";\n'
            f'filters = "chartable,dkim,regexp"; url_tld = "{domains}"; disable_hyperscan = true;\n'
            'dns { nameserver = ["127.0.0.1:9"]; timeout = 0.05s; retransmits = 1; } }\n'
            'logging { type = "console"; level = "info"; }\n'
            f'worker "normal" {{ bind_socket = "127.0.0.1:{self._port}"; count = 1; }}\n'
        )
        own = [f"--var={name}={self._directory}" for name in ("DBDIR", "RUNDIR", "LOGDIR")]
        who: list[str] = []
        if os.geteuid() == 0:
            shutil.chown(self._directory, "_rspamd")
            who = ["-u", "_rspamd", "-g", "_rspamd"]
        return [program, "-f", *who, "-c", str(configuration), *own]


class SpamdDaemon(_Daemon):
    """One child with the rules of Debian's package, without Bayes, on a Unix socket."""

    ready_line = "server started on"

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.socket = directory / "spamd.sock"

    def command(self) -> list[str]:
        """See _Daemon."""
        program = _found("spamd")
        site = self._directory / "site"
        if not site.exists():
            site.mkdir()
            for plugins in Path("/etc/spamassassin").glob("*.pre"):
                shutil.copy(plugins, site)
            (site / "local.cf").write_text("use_bayes 0\nskip_rbl_checks 1\n")
        own = [f"--socketpath={self.socket}", f"--siteconfigpath={site}", f"--helper-home-dir={self._directory}"]
        return [program, "-L", "-x", "-s", "stderr", "--max-children=1", "--min-children=1", *own]


def _found(name: str) -> str:
    program = shutil.which(name) or f"/usr/sbin/{name}"
    if not Path(program).exists():
        pytest.skip(f"no {name}: apt-get install {name}")
    return program
