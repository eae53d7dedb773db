"""The salus command: one module per group of commands, put together here."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from salus.cli import stdout
from salus.cli.command_table import COMMANDS
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

HELP = "Keeps healthcare data trustworthy: facts on a ledger, data off it, every access decided."
EPILOG = (
    "Exit codes: 0 done, 1 the answer is no, 2 usage, 3 nothing runs, 4 cannot start, "
    "5 the ledger refused the record, 6 a result could not be written, "
    "7 the state is another version's, 8 what is in force differs from the plan, "
    "9 a service answered amiss, 130 Ctrl-C."
)


class ListedCommands(TyperGroup):
    """Lists the commands by their table, and imports one only when it is run, or completed further."""

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        for name, entry in COMMANDS.items():
            self.add_command(TyperCommand(name, help=entry.summary, rich_help_panel=entry.panel))

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Return the command itself in place of the one that lists it; one of another name is refused."""
        name, listed, rest = super().resolve_command(ctx, args)
        return name, listed and _imported(listed.name or ""), rest


def _imported(name: str) -> Any:
    try:
        group = get_command(build([name]))
    except KeyboardInterrupt:
        # Typer would end without a word.
        raise CommandError(Exit.INTERRUPTED, "interrupted") from None
    return group.commands[name] if isinstance(group, TyperGroup) else None


def build(names: Iterable[str], *, of: type[TyperGroup] = TyperGroup) -> typer.Typer:
    """Return the command with those of its groups imported."""
    app = typer.Typer(
        name="salus",
        cls=of,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback(help=HELP, epilog=EPILOG)(_before)
    for name in names:
        entry = COMMANDS[name]
        loaded = entry.load()
        if isinstance(loaded, typer.Typer):
            app.add_typer(loaded, name=name, rich_help_panel=entry.panel)
        elif callable(loaded):
            app.command(name, rich_help_panel=entry.panel)(loaded)
    return app


def _tell_version(asked: bool) -> None:
    """Say which release this is, and end."""
    if asked:
        from importlib.metadata import version  # noqa: PLC0415  # a quarter of a start, for this alone

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
    try:
        build([], of=ListedCommands)(args=arguments, prog_name="salus")
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
