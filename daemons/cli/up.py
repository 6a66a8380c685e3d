"""`postwerk up` runs the whole suite, `postwerk serve` one process."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from config.loader import load
from config.settings import Settings
from daemons.cli.common import DEFAULT_STATE, fail, run_async, settings_option

if TYPE_CHECKING:
    from daemons.suite import Running


@click.command()
@click.option("--config", type=click.Path(path_type=Path), help="Configuration file; without it the defaults.")
@click.option("--state", type=click.Path(path_type=Path), help="State directory: all that must survive [./state].")
@click.option("--port-offset", type=click.IntRange(0, 60000), default=0, help="Added to every port.")
@click.option("--demo", "is_demo", is_flag=True, help="A tenant with example.test, alice and bob; loopback is trusted.")
def up(config: Path | None, state: Path | None, port_offset: int, is_demo: bool) -> None:
    """Run all of Postwerk: its own PostgreSQL (unless database.dsn is set) and every process, until Ctrl-C.

    Without a configuration it listens on unprivileged ports of the loopback: smtp 2525, lmtp 2424, submission 2587,
    submissions 2465, imap 2143, imaps 2993, pop3 2110, pop3s 2995, managesieve 2419, metrics 2090. When all answer
    it prints a table and writes DIR/run/endpoints.json.
    """
    from daemons import logs, suite
    from daemons.supervisor import StartError

    settings = load(config) if config is not None else Settings()
    place = state or (Path(settings.state) if config is not None else DEFAULT_STATE)
    settings = suite.adapt(settings, state=place, port_offset=port_offset, is_demo=is_demo)
    logs.configure(settings.logs, "supervisor")
    try:
        run_async(suite.run(settings, is_demo=is_demo, announce=_announce))
    except StartError as error:
        fail(str(error), os.EX_UNAVAILABLE)


def _announce(running: "Running", settings: Settings) -> None:
    lines = [("Postwerk is ready.", f"State in {settings.state}; Ctrl-C stops it."), ("", "")]
    for name, (host, port) in sorted(running.endpoints.items(), key=lambda item: item[1][1]):
        lines.append((name, f"[{host}]:{port}" if ":" in host else f"{host}:{port}"))
    lines += [("", "")]
    lines += [(person["login"], f"password {person['password']}") for person in running.accounts]
    if running.ca is not None:
        lines.append(("certificate authority", running.ca))
    width = max(len(name) for name, _ in lines)
    for name, value in lines:
        click.echo(f"{name:<{width}}  {value}".rstrip())
    sys.stdout.flush()


@click.command()
@click.argument("name", type=click.Choice(["smtp", "access", "relay", "archiver", "keeper"]))
@settings_option
def serve(settings: Settings, name: str) -> int:
    """Run one process alone, in the foreground, as systemd does. The database must be there and migrated."""
    from daemons.runtime import run

    return run(name, settings)
