"""The command line. Imports heavy packages where they are used: `--help`, `plan` and `list` answer at once."""

from __future__ import annotations

import logging
import sys

import typer

from bench.cli.check import check
from bench.cli.export import export
from bench.cli.inspect import list_names, plan, show
from bench.cli.new import new
from bench.cli.report import audit, merge, report
from bench.cli.run import run
from bench.cli.tune import tune_methods
from bench.errors import RequestError

app = typer.Typer(
    help="Which channel-pruning method gives the best network for a given FLOPs budget, on my task?",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command("run")(run)
app.command("plan")(plan)
app.command("report")(report)
app.command("list")(list_names)
app.command("check")(check)
app.command("new")(new)
app.command("tune")(tune_methods)
app.command("show")(show)
app.command("export")(export)
app.command("merge")(merge)
app.command("audit")(audit)


def main() -> None:
    """Entry point: a wrong request ends in one sentence on stderr and exit code 2."""
    # torch announces on import that a CUDA toolkit without a GPU is of no use to it.
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
    try:
        app()
    except RequestError as error:
        typer.echo(f"prunebench: {error}", err=True)
        sys.exit(2)
    except KeyboardInterrupt:
        typer.echo("prunebench: interrupted; the same command goes on where this one stopped", err=True)
        sys.exit(130)
