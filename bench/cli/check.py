"""`prunebench check`: the contract suite on one adapter."""

from __future__ import annotations

from typing import Annotated

import typer


def check(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A method or a task.")],
    task: Annotated[
        str | None, typer.Option(help="Try a method on this task's small embedded data, in place of five networks.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="Try the adapter with this network of the task.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Try a method on one small network alone.")] = False,
) -> None:
    """The contract suite on one adapter: pass or fail for each property."""
    from bench.contract.suite import check as verdicts  # loads torch

    failed = 0
    for verdict in verdicts(name, task=task, model=model, quick=quick):
        failed += not verdict.passed
        reason = f": {verdict.reason}" if verdict.reason else ""
        typer.echo(f"{'pass' if verdict.passed else 'FAIL'}  {verdict.name}{reason}")
    typer.echo(f"{name}: {failed} failed" if failed else f"{name}: every property holds")
    if failed:
        raise typer.Exit(1)
