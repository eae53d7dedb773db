"""The salus command: one module per group of commands, put together here."""

from __future__ import annotations

import sys

import typer

from salus.cli import auditing, ledger, networks, parties, publishing, running, verifying
from salus.cli.console import err
from salus.cli.demo.command import demo
from salus.cli.exits import CommandError, Exit
from salus.devkit.errors import DevkitError, NotRunningError

app = typer.Typer(
    name="salus",
    help="Keeps healthcare data trustworthy: facts on a ledger, data off it, every access decided.",
    epilog="Exit codes: 0 done, 1 the answer is no, 2 usage, 3 nothing runs, 4 cannot start, 130 Ctrl-C.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

app.command(rich_help_panel="Platform")(running.up)
app.command(rich_help_panel="Platform")(running.down)
app.command(rich_help_panel="Platform")(running.status)
app.command(rich_help_panel="Platform")(running.logs)
app.command(rich_help_panel="Platform")(demo)
app.add_typer(networks.app, name="network", rich_help_panel="Platform")
app.command(rich_help_panel="Facts")(publishing.publish)
app.command(rich_help_panel="Facts")(verifying.verify)
app.add_typer(ledger.app, name="ledger", rich_help_panel="Facts")
app.add_typer(auditing.app, name="audit", rich_help_panel="Facts")
app.add_typer(parties.app, name="party", rich_help_panel="People")


def main() -> None:
    """Run the command and exit with a code of `Exit`."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run the command and return its exit code; errors that we expect are one sentence on stderr."""
    try:
        app(args=arguments)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else Exit.OK
    except CommandError as error:
        return _say(error.code, str(error))
    except NotRunningError as error:
        return _say(Exit.NOT_RUNNING, str(error))
    except DevkitError as error:
        return _say(Exit.CANNOT_START, str(error))
    return Exit.OK


def _say(code: Exit, sentence: str) -> int:
    err.print(f"[red]salus:[/] {_escaped(sentence)}", highlight=False, soft_wrap=True)
    return code


def _escaped(text: str) -> str:
    return text.replace("[", r"\[")


if __name__ == "__main__":
    main()
