"""The command line, `postwerk`. Commands live in modules of their own, loaded when used: `--help` is quick."""

import importlib
import io
import os
import sys
from typing import Any, TextIO

import click

_COMMANDS = {
    "up": ("daemons.cli.up", "up"),
    "serve": ("daemons.cli.up", "serve"),
    "check": ("daemons.cli.check", "check"),
    "migrate": ("daemons.cli.check", "migrate_command"),
    "config": ("daemons.cli.configuration", "config"),
    "tenant": ("daemons.cli.tenants", "tenant"),
    "domain": ("daemons.cli.tenants", "domain"),
    "account": ("daemons.cli.accounts", "account"),
    "address": ("daemons.cli.accounts", "address"),
    "quota": ("daemons.cli.quotas", "quota"),
    "team": ("daemons.cli.sharing", "team"),
    "acl": ("daemons.cli.sharing", "acl"),
    "app-password": ("daemons.cli.credentials", "app_password"),
    "attack-events": ("daemons.cli.credentials", "attack_events"),
    "pop3": ("daemons.cli.policies", "pop3"),
    "senders": ("daemons.cli.senders", "senders"),
    "dnslists": ("daemons.cli.dnslists", "dnslists"),
    "sieve": ("daemons.cli.scripts", "sieve"),
    "rules": ("daemons.cli.rules", "rules"),
    "vacation": ("daemons.cli.vacation", "vacation"),
    "book": ("daemons.cli.books", "book"),
    "sending": ("daemons.cli.sending", "sending"),
    "trace": ("daemons.cli.traces", "trace"),
    "import": ("daemons.cli.transfer", "import_"),
    "export": ("daemons.cli.transfer", "export"),
    "transport": ("daemons.cli.transport", "transport"),
    "queue": ("daemons.cli.queueing", "queue"),
    "quarantine": ("daemons.cli.quarantine", "quarantine"),
    "notifier": ("daemons.cli.notifying", "notifier"),
    "dkim": ("daemons.cli.dkim", "dkim"),
    "reports": ("daemons.cli.reports", "reports"),
    "filter": ("daemons.cli.filtering", "filter_"),
    "spam": ("daemons.cli.spam", "spam"),
    "archive": ("daemons.cli.archive", "archive"),
}


class Postwerk(click.Group):
    """Finds commands by name; turns every expected error into one line and a code of sysexits.h."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """click.Group."""
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """click.Group."""
        if cmd_name not in _COMMANDS:
            return None
        module, name = _COMMANDS[cmd_name]
        command: click.Command = getattr(importlib.import_module(module), name)
        return command

    def main(self, *arguments: Any, **options: Any) -> Any:
        """click.Command, with our exit codes."""
        options["standalone_mode"] = False
        sys.stdout, sys.stderr = _whole(sys.stdout), _whole(sys.stderr)
        try:
            code = super().main(*arguments, **options)
        except click.exceptions.NoArgsIsHelpError as error:
            error.show()
            code = os.EX_USAGE
        except click.UsageError as error:
            path = error.ctx.command_path if error.ctx else "postwerk"
            _say(f"{error.format_message().rstrip('.')}; see `{path} --help`")
            code = os.EX_USAGE
        except click.ClickException as error:
            error.show()
            code = getattr(error, "code", error.exit_code)
        except (click.Abort, KeyboardInterrupt):
            click.echo("Aborted.", err=True)
            code = 130
        except Exception as error:
            code = _explain(error)
        sys.exit(code if isinstance(code, int) else os.EX_OK)


def _whole(stream: TextIO) -> TextIO:
    """The stream with a buffer. Unbuffered, as with PYTHONUNBUFFERED, it drops what one write(2) did not take:
    a pipe takes a part only if the process is stopped and continued meanwhile."""
    raw = getattr(stream, "buffer", None)
    if not isinstance(raw, io.RawIOBase):
        return stream
    return io.TextIOWrapper(io.BufferedWriter(raw), stream.encoding, stream.errors, line_buffering=True)


def _explain(error: Exception) -> int:
    from daemons.cli.common import exit_code_of

    code = exit_code_of(error)
    if code is None:
        raise error
    text = str(error)
    if isinstance(error, OSError) and error.strerror:  # without "[Errno 98]"
        text = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    _say(text)
    return code


def _say(text: str) -> None:
    click.echo(f"postwerk: {' '.join(text.split())}", err=True)


@click.group(cls=Postwerk, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="postwerk", prog_name="postwerk")
def main() -> None:
    """Postwerk: a complete mail service in one suite.

    Try it: `postwerk up --demo`. Exit codes are those of sysexits.h.
    """
