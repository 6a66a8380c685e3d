"""`postwerk config`."""

from pathlib import Path

import click

from config.loader import dump, load
from config.settings import Settings
from daemons.cli.common import settings_option


@click.group()
def config() -> None:
    """The configuration file: an example, a check, what is in effect."""


@config.command("example")
def print_example() -> None:
    """Print a configuration file with every key, its description and its default."""
    from config.example import example

    click.echo(example(), nl=False)


@config.command("check")
@click.argument("file", type=click.Path(path_type=Path))
def check_file(file: Path) -> None:
    """Check a configuration file: unknown keys, types, units, addresses."""
    load(file)
    click.echo(f"{file}: good")


@config.command("show")
@settings_option
def show_effective(settings: Settings) -> None:
    """Print the configuration in effect, defaults included. It may hold the database's password."""
    click.echo(dump(settings), nl=False)
