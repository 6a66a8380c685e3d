"""Sieve scripts as commands take them: a file that must compile, and the name that it is kept under."""

import os

import click

from config.settings import Settings
from daemons.access.managesieve.checking import compiled, told
from daemons.cli.common import fail
from protocol.managesieve.names import ScriptNameError, script_name
from protocol.sieve.errors import SieveError


def checked(settings: Settings, octets: bytes, name: str) -> None:
    """Print all errors and end the command, or print the warnings."""
    if not octets:
        fail(f"{name}: the script is empty", os.EX_DATAERR)
    try:
        script = compiled(settings.sieve, octets)
    except SieveError as error:
        click.echo(told(error.faults), err=True)
        count = len(error.faults)
        fail(f"{name}: {count} error{'s' if count > 1 else ''}", os.EX_DATAERR)
    if script.warnings:
        click.echo(told(script.warnings), err=True)


def named(name: str) -> str:
    """The name as it is kept. Ends the command when it is none."""
    try:
        return script_name(name)
    except ScriptNameError as error:
        fail(str(error), os.EX_DATAERR)
