"""Each search's step against a dense step of the same network, in processor time and in memory for backward passes.

    python -m benchmarks.searches [--model resnet20] [--batch 128] [--rounds 3]

Epochs of the search and of the dense network take turns; a bi-level step is counted as the two passes that it makes.
"""

from __future__ import annotations

import argparse
import json

SEARCHES = ("dcss", "dais", "tas", "gdp")
"""Those whose search has a step of its own; slimming trains as the dense network does, with a penalty."""


def main() -> None:
    from bench.interface.registry import make_method
    from tests.methods import searching

    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--model", default="resnet20")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    bench = searching.enlarged_digits(options.model, 0)
    found: dict[str, dict[str, float]] = {}
    for name in SEARCHES:
        cost = searching.cost_of(bench, make_method(name, {}), rounds=options.rounds, batch_size=options.batch)
        found[name] = {"time": round(cost.time, 3), "memory": round(cost.memory, 3)}
    print(json.dumps({"model": options.model, "batch": options.batch, "over_a_dense_step": found}))


if __name__ == "__main__":
    main()
