"""A real rspamd and a real spamd: they start within a second, know no DNS, and download nothing."""

import os
import shutil
from pathlib import Path

import pytest

from bench.suite import free_port
from tests.foreground import Foreground


class RspamdDaemon(Foreground):
    """One worker on a port of its own."""

    ready_words = "starting normal process"

    def __init__(self, directory: Path) -> None:
        super().__init__()
        self._directory = directory
        self._port = free_port()
        self.url = f"http://127.0.0.1:{self._port}"

    def command(self) -> list[str]:
        """See Foreground. Of the top-level domains there are few: to compile them all takes ten seconds."""
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


class SpamdDaemon(Foreground):
    """One child with the rules of Debian's package, without Bayes, on a Unix socket."""

    ready_words = "server started on"

    def __init__(self, directory: Path) -> None:
        super().__init__()
        self._directory = directory
        self.socket = directory / "spamd.sock"

    def command(self) -> list[str]:
        """See Foreground."""
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
