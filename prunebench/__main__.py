"""`python -m prunebench`: the command line."""

from __future__ import annotations

from bench.cli.program import main

if __name__ == "__main__":
    main()
