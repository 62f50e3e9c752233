"""Records that look like those of a real suite, made from a seed and nothing else."""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Iterator, Sequence
from typing import Any

from bench.interface.cell import Ablation, Cell, Epochs, LatencyPlan, Recipe, Recovery, Workload, dense_id
from bench.interface.outcomes import metric, packed, unpacked
from bench.interface.record import Audit, GroupWidth, LatencyFigures, LatencyPair, Ledger, Outcomes, PhaseCost, Record
from bench.report.entry import Entry
from bench.report.matrix import build

METHODS = ("dais", "dcss", "gdp", "l1", "tas")
CONTROLS = ("random", "uniform-scratch")
FROM_SCRATCH = ("uniform-scratch", "dense-longer")
SEARCHES = {"dais": 0.5, "dcss": 0.5, "gdp": 1.0, "tas": 0.5}
"""Methods that search, with the share of a search's samples on which weights take steps."""
ABLATIONS: tuple[Ablation, ...] = ("blind", "l1-channels", "scratch")
SAMPLES = 1_000
"""Training samples of an epoch."""
QUALITY = {
    "gdp": 1.0,
    "dais": 0.9,
    "tas": 0.95,
    "dcss": 0.7,
    "l1": 0.4,
    "random": 0.0,
    "uniform-scratch": 0.1,
    "random-widths": 0.2,
}
HOSTILE = (
    '<img src=x onerror="window.pwned=1">',
    "</script><script>window.pwned=1</script>",
    "50%_of & #1 {\\textbf} ~^ $x$",
    "naïve Δ 剪枝 🙂 |a|b| `c`",
)


def workload(
    name: str = "digits-resnet8",
    task: str = "classification",
    dataset: str = "digits",
    model: str = "resnet8",
    **options: Any,
) -> Workload:
    return Workload(
        name=name,
        task=task,
        dataset=dataset,
        model=model,
        options=options,
        epochs=Epochs(dense=12, search=6, recovery=8),
        train=Recipe(),
        finetune=Recipe(lr=0.01),
    )


def cell(w: Workload, method: str, budget: float, seed: int, **changes: Any) -> Cell:
    recovery: Recovery = "scratch" if method in FROM_SCRATCH else "rewind"
    values: dict[str, Any] = {
        "workload": w,
        "method": method,
        "hyper": {"scope": "layer"} if method == "l1" else {},
        "budget": budget,
        "seed": seed,
        "recovery": recovery,
        "searches": method in SEARCHES,
        "weight_share": SEARCHES.get(method, 1.0),
        "needs_dense": method not in FROM_SCRATCH,
    }
    return Cell(**(values | changes))


def ablated(own: Cell, ablation: Ablation) -> Cell:
    """The control that takes the method of a cell apart."""
    changes: dict[str, Any] = {"ablation": ablation}
    if ablation != "blind":
        changes["source"] = own.id
    if ablation == "scratch":
        changes["recovery"] = "scratch"
    return own.model_copy(update=changes)


def record(
    c: Cell,
    *,
    suite: str = "synthetic",
    groups: int = 12,
    effect: float = 1.0,
    noise: float = 0.25,
    fail: str = "",
    miss: float = 0.0,
    trajectory: bool = True,
    pictures: Sequence[str] = (),
    hostile: bool = False,
    samples: int = 0,
) -> Record:
    """What could have come of a cell: same cell, same record.

    Args:
        samples: test samples of which the outcomes are recorded.
    """
    base = {"suite": suite, "cell_id": c.id, "run_id": _hex(c.id, 32), "cell": c.model_dump(mode="json")}
    base |= {"environment": {"python": "3.13.1", "torch": "2.11.0", "git_commit": "0123456789abcdef", "device": "cpu"}}
    base |= {"started_at": "2026-01-01T00:00:00Z", "finished_at": f"2026-01-01T00:{c.seed % 60:02d}:00Z"}
    if fail:
        trace = f'Traceback (most recent call last):\n  File "x.py", line 1\nCellError: {fail}\n'
        return Record(**base, status="failed", error=fail, traceback=trace)
    psnr = c.workload.task == "super_resolution"
    shared = random.Random(f"{dense_id(c.workload, c.seed)}")
    own = random.Random(c.id)
    fixed = random.Random(_key(c.workload))
    dense = (36.0 if psnr else 88.0 + 6 * fixed.random()) + shared.gauss(0, 0.1 if psnr else 0.3)
    scale = 0.25 if psnr else 1.0
    quality = QUALITY.get(c.method, 0.5) - (0.3 if c.ablation else 0.0)
    loss = scale * effect * (1.6 - 1.2 * quality) * (1 / c.budget - 1)
    final = dense - loss + own.gauss(0, noise * scale)
    pruned: float | None = dense - (4 + 30 * (1 - c.budget) * (1.4 - quality)) * scale * (1 + 0.1 * own.random())
    macs_dense = int(1_500_000 + 40_000_000 * fixed.random())
    share = c.budget + miss + (own.random() - 0.5) * 0.006 * (0 if miss or c.budget == 1 else 1)
    macs_pruned = round(macs_dense * share)
    params_dense = int(80_000 + 400_000 * fixed.random())
    widths = []
    scatter = random.Random(f"{c.method} {c.seed}") if c.searches or c.method == "random-widths" else None
    for index in range(groups):
        size = 16 << (3 * index // groups)
        kept = min(1.0, math.sqrt(c.budget) * (1 + (0.35 if c.searches else 0.0) * math.sin(index + 5 * quality)))
        kept = min(1.0, kept + scatter.uniform(-0.1, 0.1)) if scatter else kept
        width = max(1, round(size * kept))
        layer = f"layer{3 * index // groups + 1}.{index % (groups // 3 or 1)}.conv1"
        widths.append(
            GroupWidth(name=f"{layer}{index}", size=size, width=width, native_width=max(1, width - index % 2))
        )
    seconds = 0.5 + own.random() * 0.1
    ledger = Ledger(
        dense_epochs=c.workload.epochs.dense if c.needs_dense else 0,
        search_epochs=c.search_epochs,
        recovery_epochs=c.recovery_epochs,
        dense_seconds=c.workload.epochs.dense * (0.5 + shared.random() * 0.1) if c.needs_dense else 0.0,
        search_seconds=c.search_epochs * seconds * 1.2,
        recovery_seconds=c.recovery_epochs * seconds * (0.4 + 0.6 * c.budget),
        device="cpu",
    )
    ledger.phases = list(_phases(c, ledger))
    name = "psnr" if psnr else "miou" if c.workload.task == "segmentation" else "accuracy"
    outcomes = _outcomes(name, final, c, samples) if samples else None
    if outcomes is not None:
        final = float(metric(outcomes.kind, unpacked(outcomes)))
    if not c.needs_dense:
        pruned = None
    latency = {"iqr_ms": 0.1, "batch_size": 1, "threads": 1, "device": "cpu"}
    return Record(
        **base,
        status="finished",
        metric_name=name,
        metric_unit="dB" if psnr else "%",
        dense_metrics={name: dense, "loss": 0.4},
        pruned_metrics={name: pruned, "loss": 1.4} if pruned is not None else {},
        final_metrics={name: final, "loss": 0.5},
        outcomes=outcomes,
        reference_metrics={"bicubic": {"psnr": 33.66}} if psnr else {"majority class": {name: 10.0}},
        input_shape=[1, 3, 32, 32],
        macs_dense=macs_dense,
        macs_pruned=macs_pruned,
        params_dense=params_dense,
        params_pruned=round(params_dense * (share**1.1)),
        peak_memory_dense=327_680,
        peak_memory_pruned=round(327_680 * (0.3 + 0.7 * c.budget)),
        audit=Audit(
            requested=c.budget,
            tolerance=c.tolerance,
            native_macs_ratio=share + own.gauss(0, 0.03),
            fitted_channels=own.randrange(9),
            macs_ratio=macs_pruned / macs_dense,
            within=abs(macs_pruned / macs_dense - c.budget) <= c.tolerance,
            note="every further channel would empty a layer" if miss else "",
        ),
        groups=widths,
        left_whole={"head": "output of the network"},
        latency_dense=LatencyFigures(median_ms=4.0 + 0.2 * shared.random(), **latency),
        latency_pruned=LatencyFigures(median_ms=4.1 * (0.25 + 0.75 * c.budget) + 0.1 * own.random(), **latency),
        ledger=ledger,
        trajectory=list(_trajectory(c, dense, own)) if trajectory else [],
        snapshots=_snapshots(c, widths, own) if trajectory else {},
        pictures=list(pictures),
        notes=[HOSTILE[0], HOSTILE[1]] if hostile else ["half of the training split is used for the indicators"],
    )


def _phases(c: Cell, ledger: Ledger) -> Iterator[PhaseCost]:
    """The ledger by phase, as the training loop counts."""
    for name, epochs, recipe, seconds in (
        ("dense", ledger.dense_epochs, c.workload.train, ledger.dense_seconds),
        ("search", ledger.search_epochs, c.search_recipe, ledger.search_seconds),
        ("recovery", ledger.recovery_epochs, c.recovery_recipe, ledger.recovery_seconds),
    ):
        if epochs:
            searching = name == "search"
            steps = round((c.weight_share if searching else 1.0) * SAMPLES) // recipe.batch_size
            yield PhaseCost(
                name=name,
                epochs=epochs,
                samples=epochs * SAMPLES,
                weight_steps=epochs * steps,
                architecture_steps=epochs * steps if searching else 0,
                peak_lr=recipe.lr,
                seconds=seconds,
            )


def _outcomes(name: str, final: float, c: Cell, samples: int) -> Outcomes:
    """Outcomes whose metric is near `final`; what is hard for one network is hard for the others."""
    hard = random.Random(_key(c.workload))
    own = random.Random(f"outcomes {c.id}")
    ease = [hard.gauss(0, 1) + own.gauss(0, 0.4) for _ in range(samples)]
    if name == "psnr":
        mean = math.fsum(ease) / samples
        return packed("mean", [final + 3 * (value - mean) for value in ease])
    if name == "miou":
        share = [min(1.0, max(0.0, final / 100 + 0.1 * value)) for value in ease]
        return packed("iou", [[[round(1000 * s), round(500 * s)], [1000, 500]] for s in share])
    count = round(samples * min(1.0, max(0.0, final / 100)))
    easiest = set(sorted(range(samples), key=lambda i: -ease[i])[:count])
    return packed("correct", [i in easiest for i in range(samples)])


def _key(w: Workload) -> str:
    return repr(w.identity())


def _hex(text: str, length: int) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:length]


def _trajectory(c: Cell, top: float, own: random.Random) -> Iterator[dict[str, Any]]:
    epochs = c.workload.epochs
    for phase, count in (
        ("dense", epochs.dense if c.needs_dense else 0),
        ("search", c.search_epochs),
        ("recovery", c.recovery_epochs),
    ):
        for epoch in range(1, count + 1):
            done = epoch / count
            row: dict[str, Any] = {
                "phase": phase,
                "epoch": epoch,
                "loss": 2.3 * math.exp(-2 * done) + own.random() * 0.1,
            }
            row["lr"] = 0.05 * (1 + math.cos(math.pi * done))
            row["val_accuracy"] = top * (1 - 0.6 * math.exp(-3 * done))
            if phase == "search":
                row["expected_macs_ratio"] = c.budget + (1 - c.budget) * math.exp(-4 * done)
                row["temperature"] = 1.0 * 0.02**done
            row |= {"samples": SAMPLES, "weight_steps": 7, "architecture_steps": 7 if phase == "search" else 0}
            row["seconds"] = 0.5
            yield row


def _snapshots(c: Cell, widths: list[GroupWidth], own: random.Random) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    if c.method in ("dais", "gdp"):
        found["gates"] = []
        for epoch in range(1, c.search_epochs + 1):
            sharp = epoch / c.search_epochs
            values = []
            for _ in range(120):
                kept = own.random() < c.budget
                target = 0.98 if kept else 0.01
                values.append(min(1.0, max(0.0, target * sharp + (1 - sharp) * (0.75 + own.gauss(0, 0.12)))))
            found["gates"].append({"phase": "search", "epoch": epoch, "values": values})
    if c.searches:
        found["widths"] = [
            {
                "phase": "search",
                "epoch": e,
                "values": [g.size - (g.size - g.width) * e / c.search_epochs for g in widths],
            }
            for e in range(1, c.search_epochs + 1)
        ]
    if c.method == "l1":
        found["sensitivity"] = [
            {"group": g.name, "kept": kept, "metric": 90 - (1 - kept) ** 2 * (5 + 25 * own.random())}
            for g in widths
            for kept in (0.25, 0.5, 0.75, 1.0)
        ]
    return found


def matrix(
    workloads: Sequence[Workload] | None = None,
    methods: Sequence[str] = (*METHODS, *CONTROLS),
    budgets: Sequence[float] = (0.75, 0.5, 0.25),
    seeds: Sequence[int] = (0, 1, 2),
    ablations: Sequence[Ablation] = (),
    **options: Any,
) -> list[Record]:
    """Every cell of a matrix, finished; `dense-longer` stands once a seed, whatever the budgets."""
    own = [
        cell(w, m, b, s)
        for w in (workloads or [workload()])
        for m in methods
        for b in (budgets if m != "dense-longer" else (1.0,))
        for s in seeds
    ]
    apart = [ablated(c, name) for c in own if c.searches for name in ablations]
    return [record(c, **options) for c in [*own, *apart]]


def results(
    finals: dict[str, list[float]], *, dense: float = 92.0, budget: float = 0.5, **changes: Any
) -> list[Record]:
    """Records whose final metric is given, by method and seed; `dcss blind` is an ablation of `dcss`."""
    w = changes.pop("workload", None) or workload()
    records = []
    for name, values in finals.items():
        method, _, ablation = name.partition(" ")
        for seed, value in enumerate(values):
            own = cell(w, method, budget, seed, **changes)
            made = record(ablated(own, next(a for a in ABLATIONS if a == ablation)) if ablation else own)
            made.final_metrics["accuracy"] = value
            made.dense_metrics["accuracy"] = dense
            records.append(made)
    return records


def entry_of(records: list[Record], label: str) -> Entry:
    return next(e for e in build(records, suite="s").entries if e.label == label)


def hostile() -> list[Record]:
    """A matrix whose every name tries to break out of its place."""
    records = []
    w = workload(name=HOSTILE[1], dataset=HOSTILE[0], model=HOSTILE[2])
    for index, method in enumerate(HOSTILE):
        for seed in (0, 1, 2):
            c = cell(w, method, 0.5, seed, hyper={HOSTILE[0]: HOSTILE[1]})
            fail = HOSTILE[index] if seed == 2 else ""
            made = record(c, suite=HOSTILE[1], hostile=True, fail=fail)
            made.left_whole = {HOSTILE[0]: HOSTILE[1]}
            made.environment = {"git_commit": HOSTILE[0], "machine": HOSTILE[3]}
            made.run_id = HOSTILE[0] if seed == 0 else made.run_id
            records.append(made)
    return records


def with_params_budget(own: Record) -> Record:
    """The record of the same network under a budget of parameters, which it meets to the last weight."""
    c = own.config.model_copy(update={"budget_kind": "params"})
    pruned = round(c.budget * own.params_dense)
    assert own.audit is not None
    kept = pruned / own.params_dense
    audited = own.audit.model_copy(
        update={"kind": "params", "params_ratio": kept, "native_params_ratio": kept + 0.02, "search_macs_ratio": 0.47}
    )
    audited.within = abs(kept - c.budget) <= c.tolerance
    changes = {"cell_id": c.id, "run_id": _hex(c.id, 32), "cell": c.model_dump(mode="json"), "audit": audited}
    return own.model_copy(update=changes | {"params_pruned": pruned})


def timed_twice(own: Record) -> Record:
    """The record with a second combination, at which the dense network takes 40 ms and the pruned one 16."""
    c = own.config.model_copy(update={"latency": LatencyPlan(batch=(1, 32), threads=(1,))})
    values = {"iqr_ms": 0.1, "batch_size": 32, "threads": 1, "device": "cpu"}
    pair = LatencyPair(
        dense=LatencyFigures(median_ms=40.0, **values), pruned=LatencyFigures(median_ms=16.0 + c.seed, **values)
    )
    changes = {"cell_id": c.id, "run_id": _hex(c.id, 32), "cell": c.model_dump(mode="json")}
    return own.model_copy(update=changes | {"further_latencies": [pair]})
