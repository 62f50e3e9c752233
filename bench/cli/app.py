"""The command line: its commands by name, each loaded when it is called, so that `--help` answers at once."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from bench import __version__
from bench.cli.signals import Signals
from bench.cli.sources import definition, first_paragraph
from bench.errors import DISK_FULL, RequestError, unknown

COMMANDS: Mapping[str, str] = {
    "run": "bench.cli.run:run",
    "plan": "bench.cli.plan:plan",
    "report": "bench.cli.report:report",
    "list": "bench.cli.list_names:list_names",
    "check": "bench.cli.check:check",
    "new": "bench.cli.new:new",
    "tune": "bench.cli.tune:tune_methods",
    "show": "bench.cli.show:show",
    "export": "bench.cli.export:export",
    "merge": "bench.cli.report:merge",
    "audit": "bench.cli.report:audit",
    "doctor": "bench.cli.doctor:doctor",
}
"""Name -> where its function is."""

HELP = {"help_option_names": ["-h", "--help"]}


def summary(place: str) -> str:
    """The first paragraph of a function's docstring, read from its source: importing it would load what it uses.

    Args:
        place: "module:function".
    """
    module, _, function = place.partition(":")
    return first_paragraph(definition(module, function))


class _Interrupted(Exception):
    """Ctrl-C was pressed while a command ran; typer would end without a word."""


class _Commands(TyperGroup):
    """The commands of `COMMANDS`, imported when one of them is asked for."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            raise unknown("command", args[0], COMMANDS)
        return super().resolve_command(ctx, args)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in COMMANDS:
            return None
        module, _, function = COMMANDS[cmd_name].partition(":")
        run: Callable[..., Any] = getattr(importlib.import_module(module), function)
        alone = typer.Typer(add_completion=False, rich_markup_mode=None)
        alone.command(cmd_name, context_settings=HELP)(run)
        return typer.main.get_command(alone)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary(place)) for name, place in COMMANDS.items()])

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise _Interrupted from None


app = typer.Typer(
    cls=_Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings=HELP,
)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"prunebench {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", "-v", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Which channel-pruning method gives the best network for a given FLOPs budget, on my task?

    prunebench COMMAND --help says more of each command.
    """


def main() -> None:
    """Entry point: a wrong request ends in one sentence on stderr and exit code 2."""
    caught = Signals()
    try:
        with caught:
            app(prog_name="prunebench")
    except RequestError as error:
        typer.echo(f"prunebench: {error}", err=True)
        sys.exit(2)
    except (_Interrupted, KeyboardInterrupt):
        sys.exit(caught.how_to_go_on())
    except OSError as error:
        if error.errno not in DISK_FULL:
            raise
        where = f" of {error.filename}" if error.filename else ""
        typer.echo(f"prunebench: no space is left on the disk{where}: make room, and give the command again", err=True)
        sys.exit(2)
