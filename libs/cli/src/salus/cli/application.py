"""The salus command: one module per group of commands, put together here."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import version
from typing import Annotated

import typer

from salus.cli import stdout
from salus.cli.console import err, out
from salus.cli.display import lines_of, styled
from salus.cli.exits import CommandError, Exit
from salus.cli.stdout import OutputError
from salus.crypto.errors import CryptoError
from salus.devkit.errors import (
    DevkitError,
    NetworkFileError,
    NotRunningError,
    OtherVersionError,
    SettingError,
)
from salus.runtime.errors import ManifestError

COMPLETION_VARIABLE = "_SALUS_COMPLETE"
HELP = "Keeps healthcare data trustworthy: facts on a ledger, data off it, every access decided."
EPILOG = (
    "Exit codes: 0 done, 1 the answer is no, 2 usage, 3 nothing runs, 4 cannot start, "
    "5 the ledger refused the record, 6 a result could not be written, "
    "7 the state is another version's, 8 what is in force differs from the plan, "
    "9 a service answered amiss, 130 Ctrl-C."
)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a command or a group of commands is: `module:attribute`, and its panel in the help."""

    path: str
    panel: str

    def load(self) -> object:
        """Return the command's function, or the group's Typer."""
        module, _, attribute = self.path.partition(":")
        loaded: object = getattr(import_module(f"salus.cli.{module}"), attribute)
        return loaded


COMMANDS = {
    "up": Place("running:up", "Platform"),
    "down": Place("running:down", "Platform"),
    "status": Place("running:status", "Platform"),
    "logs": Place("running:logs", "Platform"),
    "demo": Place("demo.command:demo", "Platform"),
    "network": Place("networks:app", "Platform"),
    "key": Place("key_rotation:app", "Platform"),
    "service": Place("services:app", "Platform"),
    "shard": Place("chain_ends:app", "Platform"),
    "kafka": Place("kafka_acls:app", "Platform"),
    "bench": Place("bench.command:app", "Platform"),
    "publish": Place("publishing:publish", "Facts"),
    "receipts": Place("receipts:receipts", "Facts"),
    "verify": Place("verifying:verify", "Facts"),
    "ledger": Place("ledger:app", "Facts"),
    "audit": Place("auditing:app", "Facts"),
    "catalogue": Place("catalogue:app", "Facts"),
    "party": Place("parties:app", "People and access"),
    "member": Place("members:app", "People and access"),
    "provider": Place("login_providers:app", "People and access"),
    "login": Place("logins:login", "People and access"),
    "logout": Place("logins:logout", "People and access"),
    "approve": Place("approvals:approve", "People and access"),
    "consent": Place("consents:app", "People and access"),
    "prohibition": Place("prohibitions:app", "People and access"),
    "permit": Place("permits:app", "People and access"),
    "policy": Place("policies:app", "People and access"),
    "object": Place("storing:app", "People and access"),
    "storage": Place("bucket_verification:app", "Facts"),
}


def build(names: Iterable[str]) -> typer.Typer:
    """Return the command with those of its groups; each one not built saves its imports."""
    app = typer.Typer(
        name="salus",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback(help=HELP, epilog=EPILOG)(_before)
    for name in names:
        place = COMMANDS[name]
        loaded = place.load()
        if isinstance(loaded, typer.Typer):
            app.add_typer(loaded, name=name, rich_help_panel=place.panel)
        elif callable(loaded):
            app.command(name, rich_help_panel=place.panel)(loaded)
    return app


def _tell_version(asked: bool) -> None:
    """Say which release this is, and end."""
    if asked:
        out.print(styled("salus {}", version("salus-cli")))
        raise typer.Exit


def _before(
    *,
    _version: Annotated[
        bool,
        typer.Option("--version", is_eager=True, callback=_tell_version, help="Show the release and exit."),
    ] = False,
) -> None:
    """Do nothing else before a command; a callback keeps one command from becoming the whole application."""


def run(arguments: list[str]) -> int:
    """Run the command and return its exit code; errors that we expect are one sentence on stderr."""
    first = arguments[0] if arguments else ""
    completing = COMPLETION_VARIABLE in os.environ
    names = [first] if first in COMMANDS else [] if first == "--version" else COMMANDS
    try:
        build(COMMANDS if completing else names)(args=arguments, prog_name="salus")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else Exit.OK
    except KeyboardInterrupt:
        return _say(Exit.INTERRUPTED, "interrupted")
    except OutputError as error:
        return _told(error)
    except (CommandError, DevkitError, ManifestError, CryptoError, OSError) as error:
        return _say(*_expected(error))
    return Exit.OK


def _expected(error: Exception) -> tuple[Exit, str]:
    """Return the code and the sentence of an error that we expect; raise any other."""
    match error:
        case CommandError():
            return error.code, str(error)
        case NotRunningError():
            return Exit.NOT_RUNNING, str(error)
        case NetworkFileError() | SettingError():
            return Exit.USAGE, str(error)
        case OtherVersionError():
            return Exit.OTHER_VERSION, str(error)
        case DevkitError() | ManifestError() | CryptoError():
            return Exit.CANNOT_START, str(error)
        case OSError(filename=str(file)):
            return Exit.USAGE, f"{file}: {error.strerror}"
        case _:
            raise error


def main(arguments: list[str]) -> int:
    """Run the command on the process's own stdout, and return its exit code."""
    stdout.install()
    return _flushed(run(arguments))


def _flushed(code: int) -> int:
    """Return the code of a command whose last output may only now turn out not to arrive."""
    try:
        sys.stdout.flush()
    except OutputError as error:
        return code or _told(error)
    return code


def _told(error: OutputError) -> int:
    """Return the code; that who read the output went away, as `head` does, is no news to anybody."""
    return error.code if error.is_closed else _say(error.code, str(error))


def _say(code: Exit, sentence: str) -> int:
    err.print(styled("[red]salus:[/] {}", lines_of(sentence)), soft_wrap=True)
    return code
