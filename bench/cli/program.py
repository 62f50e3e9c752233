"""The command line as a program of its own."""

from __future__ import annotations

from bench.processes import run_as_program


def main() -> None:
    """Entry point of `prunebench` and of `python -m prunebench`."""

    def command() -> None:
        from bench.cli.app import main

        main()

    run_as_program(command)
