"""The unit files: one per process, understood by systemd, and without the rights they do not need."""

import os
import shutil
import subprocess
import sys
from configparser import RawConfigParser
from pathlib import Path

import pytest

from daemons.runtime import PROCESSES

UNITS = Path(__file__).parent.parent / "systemd"
SERVICES = sorted(UNITS.glob("*.service"))


class _Sections(RawConfigParser):
    """systemd.syntax(7): keys in any case, and more than once."""

    def optionxform(self, optionstr: str) -> str:
        """Keys keep their case."""
        return optionstr


def _read(path: Path) -> RawConfigParser:
    parser = _Sections(strict=False, interpolation=None)
    parser.read(path)
    return parser


def test_every_process_has_its_unit() -> None:
    """Each process has a service that the target wants and that runs `postwerk serve` with it."""
    wanted = _read(UNITS / "postwerk.target")["Unit"]["Wants"].split()
    assert wanted == [f"postwerk-{name}.service" for name in PROCESSES]
    for name in PROCESSES:
        service = _read(UNITS / f"postwerk-{name}.service")["Service"]
        assert service["ExecStart"] == f"/usr/bin/postwerk serve {name} --config /etc/postwerk/postwerk.toml"
        assert service["Type"] == "notify"


@pytest.mark.parametrize("path", SERVICES, ids=lambda path: path.stem)
def test_services_are_confined(path: Path) -> None:
    """No service runs as root, gains rights, writes outside of its state, or listens below 1024 without need."""
    service = _read(path)["Service"]
    assert (service["User"], service["NoNewPrivileges"], service["ProtectSystem"]) == ("postwerk", "yes", "strict")
    needs_ports = path.stem in ("postwerk-smtp", "postwerk-access")
    assert service["CapabilityBoundingSet"] == ("CAP_NET_BIND_SERVICE" if needs_ports else "")


def test_systemd_understands_the_units(tmp_path: Path) -> None:
    """`systemd-analyze verify` has nothing to say. The program is replaced by one that is installed here."""
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        assert os.environ.get("CI") != "true", "systemd-analyze must be installed under CI"
        pytest.skip("systemd-analyze is not installed")
    for path in [*SERVICES, UNITS / "postwerk.target"]:
        (tmp_path / path.name).write_text(path.read_text().replace("/usr/bin/postwerk", sys.executable))
    done = subprocess.run(
        [analyze, "verify", "--man=no", *map(str, sorted(tmp_path.iterdir()))],
        capture_output=True,
        text=True,
        check=False,
        env={"SYSTEMD_UNIT_PATH": f"{tmp_path}:", "PATH": "/usr/bin:/bin"},
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
