"""From records to what tables and figures show: one `Entry` a method, budget and workload, ranked in its `Contest`.

Rules, the same everywhere:

* a figure is the mean over seeds with the sample standard deviation; one seed has no ±;
* Δ is taken seed by seed, against the dense network of that seed;
* an entry of which any cell missed its budget is shown, flagged, and not ranked;
* controls are ranked like methods: a method that does not beat them should be seen not to;
* the best of a budget is bold if it beats every rival in a paired t-test over seeds, Holm-corrected; otherwise it and
  those that it does not beat are ties.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bench.interface.cell import RECOVERIES, Cell
from bench.interface.record import Record
from bench.report.records import require_one_table, sort_key
from bench.report.statistics import ALPHA, RankTest, Sample, average_ranks, holm, paired_p, rank_test

CONTROLS = ("random", "uniform-scratch", "dense-longer")
"""Baselines that every matrix has, told apart from methods in tables."""
UNPRUNED = frozenset({"dense-longer"})
"""Controls that are not pruned: shown beside the dense network, never ranked."""
_ORDER: dict[str, int] = {name: index for index, name in enumerate(RECOVERIES)}
MIN_BLOCKS = 5
"""Workloads from which on mean ranks are compared by a critical difference."""


@dataclass
class Entry:
    """One row: a method on a workload at a budget, over its seeds."""

    workload: str
    task: str
    dataset: str
    model: str
    protocol: str
    method: str
    """Label, with the hyper-parameters in which variants of the method differ."""
    base_method: str
    control: bool
    recovery: str
    source: str
    """What a transferred pruning was searched on; empty for a cell's own search."""
    budget: float
    metric: str
    unit: str
    higher_is_better: bool
    records: tuple[Record, ...]
    """Finished cells with a figure, by seed."""
    failed: int = 0
    missing: int = 0
    dense_by_seed: Mapping[int, float] = field(default_factory=dict)
    rank: float | None = None
    verdict: str = ""
    """`best`, `tied`, `worse`, `untested`, `only`, `off budget`, `reference` or `no result`."""
    p_best: float | None = None
    """Holm-corrected p of the comparison with the best of the budget."""

    def sample(self, values: Iterable[float | None]) -> Sample:
        return Sample(tuple(value for value in values if value is not None and math.isfinite(value)))

    def __post_init__(self) -> None:
        self.final_by_seed = {seed_of(r): v for r in self.records if (v := final_of(r)) is not None}
        self.final = Sample(tuple(self.final_by_seed.values()))
        self.dense = Sample(tuple(self.dense_by_seed[s] for s in self.final_by_seed if s in self.dense_by_seed))
        self.pruned = self.sample(figure(r, r.pruned_metrics) for r in self.records)
        self.delta = Sample(
            tuple(v - self.dense_by_seed[s] for s, v in self.final_by_seed.items() if s in self.dense_by_seed)
        )
        self.macs = self.sample(float(r.macs_pruned) if r.macs_pruned else None for r in self.records)
        self.macs_ratio = self.sample(ratio(r.macs_pruned, r.macs_dense) for r in self.records)
        self.macs_percent = self.sample(100.0 * v for v in self.macs_ratio.values)
        self.macs_drop = self.sample(drop(r.macs_pruned, r.macs_dense) for r in self.records)
        self.params_drop = self.sample(drop(r.params_pruned, r.params_dense) for r in self.records)
        self.native_ratio = self.sample(r.audit.native_macs_ratio if r.audit else None for r in self.records)
        self.fitted = self.sample(float(r.audit.fitted_channels) if r.audit else None for r in self.records)
        self.latency = self.sample(r.latency_pruned.median_ms if r.latency_pruned else None for r in self.records)
        self.speedup = self.sample(speedup_of(r) for r in self.records)
        ledgers = [r.ledger for r in self.records if r.ledger]
        self.search_seconds = self.sample(x.search_seconds for x in ledgers)
        self.recovery_seconds = self.sample(x.recovery_seconds for x in ledgers)
        self.dense_seconds = self.sample(x.dense_seconds for x in ledgers)
        self.total_seconds = self.sample(x.dense_seconds + x.search_seconds + x.recovery_seconds for x in ledgers)
        self.search_epochs = self.sample(float(x.search_epochs) for x in ledgers)
        self.recovery_epochs = self.sample(float(x.recovery_epochs) for x in ledgers)
        self.dense_epochs = self.sample(float(x.dense_epochs) for x in ledgers)
        self.total_epochs = self.sample(float(x.dense_epochs + x.search_epochs + x.recovery_epochs) for x in ledgers)
        self.budget_misses = 0 if self.base_method in UNPRUNED else sum(not within(r) for r in self.records)

    @property
    def n(self) -> int:
        return self.final.n

    @property
    def bold(self) -> bool:
        return self.verdict == "best"

    @property
    def planned(self) -> int:
        return len(self.records) + self.failed + self.missing

    @property
    def contest(self) -> tuple[str, str, float]:
        return (self.workload, self.protocol, self.budget)


def figure(record: Record, metrics: Mapping[str, float]) -> float | None:
    """The figure that methods are ranked by, if there is a finite one."""
    value = metrics.get(record.metric_name)
    return value if value is not None and math.isfinite(value) else None


def dense_of(record: Record, workload: Workload | None) -> float | None:
    """The dense network's figure that Δ is taken against: the record's own, or else that of its seed."""
    own = figure(record, record.dense_metrics)
    return own if own is not None or workload is None else workload.dense_by_seed.get(seed_of(record))


def final_of(record: Record) -> float | None:
    return figure(record, record.final_metrics)


def seed_of(record: Record) -> int:
    return int(record.cell["seed"])


def ratio(part: float, whole: float) -> float | None:
    return part / whole if whole else None


def drop(part: float, whole: float) -> float | None:
    return 100.0 * (1.0 - part / whole) if whole else None


def speedup_of(record: Record) -> float | None:
    dense, pruned = record.latency_dense, record.latency_pruned
    return dense.median_ms / pruned.median_ms if dense and pruned and pruned.median_ms > 0 else None


def within(record: Record) -> bool:
    """Whether the measured MACs meet the budget; recomputed, not read."""
    if not record.macs_dense or not record.macs_pruned:
        return False
    gap = abs(record.macs_pruned / record.macs_dense - float(record.cell["budget"]))
    return gap <= float(record.cell.get("tolerance", 0.005)) + 1e-9


@dataclass
class Workload:
    """What all methods of a table share."""

    name: str
    task: str
    dataset: str
    model: str
    metric: str = ""
    unit: str = ""
    higher_is_better: bool = True
    digits: int = 2
    epochs: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    data_notes: tuple[str, ...] = ()
    """What must stand beside the data set's name."""
    dense_by_seed: dict[int, float] = field(default_factory=dict)
    dense_pruned_latency: Sample = field(default_factory=lambda: Sample(()))
    macs_dense: int = 0
    params_dense: int = 0
    latency_dense: Sample = field(default_factory=lambda: Sample(()))
    input_shape: tuple[int, ...] = ()
    references: dict[str, float] = field(default_factory=dict)

    @property
    def dense(self) -> Sample:
        return Sample(tuple(self.dense_by_seed[seed] for seed in sorted(self.dense_by_seed)))


@dataclass
class Matrix:
    """Everything a report is drawn from."""

    suite: str
    records: list[Record]
    """All of them, failed ones included, in a fixed order."""
    missing: list[Cell]
    workloads: dict[str, Workload]
    entries: list[Entry]
    """All entries, in the order of the tables."""
    main: list[Entry]
    """Those of the main comparison: own search, one recovery a method."""
    labels: dict[str, tuple[str, str]]
    """Cell id -> (workload label, method label)."""
    configs: dict[str, Cell]
    """Of every recorded cell, by id."""
    sources: dict[str, str]
    """Cell id -> how a transfer from it is named."""
    controls: tuple[str, ...]

    @property
    def finished(self) -> list[Record]:
        return [record for record in self.records if record.status == "finished"]

    @property
    def failed(self) -> list[Record]:
        return [record for record in self.records if record.status == "failed"]

    def groups(self) -> dict[tuple[str, str], list[Entry]]:
        """The main entries of each table: by workload and protocol."""
        found: dict[tuple[str, str], list[Entry]] = defaultdict(list)
        for entry in self.main:
            found[(entry.workload, entry.protocol)].append(entry)
        return dict(found)

    def methods(self) -> list[str]:
        """Labels of the main comparison, methods first, then controls."""
        seen = {entry.method: (entry.control, entry.method) for entry in self.main}
        return sorted(seen, key=lambda name: seen[name])


def flatten(value: Any, prefix: str = "") -> dict[str, Any]:
    """Nested dictionaries as one, with dotted names."""
    if isinstance(value, Mapping):
        found: dict[str, Any] = {}
        for key in value:
            found |= flatten(value[key], f"{prefix}.{key}" if prefix else str(key))
        return found
    return {prefix: value}


def canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def distinguish(configurations: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """What tells each configuration from the others: `epsilon=0.1, rounds=2`; empty where there is only one."""
    if len(configurations) < 2:
        return dict.fromkeys(configurations, "")
    flat = {key: flatten(value) for key, value in configurations.items()}
    fields = sorted({name for value in flat.values() for name in value})
    differing = [name for name in fields if len({canonical(value.get(name)) for value in flat.values()}) > 1]
    short = {name: name.rsplit(".", 1)[-1] for name in differing}
    if len(set(short.values())) < len(short):
        short = {name: name for name in differing}
    return {
        key: ", ".join(f"{short[name]}={_plain(value[name])}" for name in differing if name in value)
        for key, value in flat.items()
    }


def _plain(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def build(
    records: Sequence[Record], missing: Sequence[Cell] = (), *, suite: str, controls: Collection[str] = CONTROLS
) -> Matrix:
    """Sort records into entries and rank them.

    Raises:
        ReportError: the records must not share a table.
    """
    records = sorted(records, key=sort_key)
    configs = require_one_table(records)
    identified: dict[str, Cell] = dict(configs)
    for cell in missing:
        identified.setdefault(cell.id, cell)
    # A cell that is recorded is not missing, whatever the caller says.
    absent = [cell for cell_id, cell in identified.items() if cell_id not in configs]
    labels = _labels(identified)
    workloads = _workloads(records, configs, labels)
    sources = {cell_id: f"{labels[cell_id][0]} at {cell.budget:g}" for cell_id, cell in identified.items()}

    groups: dict[tuple[Any, ...], dict[str, Any]] = {}
    for cell_id, cell in identified.items():
        workload, method = labels[cell_id]
        source = sources.get(cell.transfer, f"cell {cell.transfer}") if cell.transfer else ""
        key = (workload, cell.protocol, round(cell.budget, 9), method, cell.recovery, source)
        group = groups.setdefault(key, {"cell": cell, "records": [], "failed": 0, "missing": 0})
        if cell_id not in configs:
            group["missing"] += 1
    for record in records:
        cell = configs[record.cell_id]
        workload, method = labels[record.cell_id]
        source = sources.get(cell.transfer, f"cell {cell.transfer}") if cell.transfer else ""
        group = groups[(workload, cell.protocol, round(cell.budget, 9), method, cell.recovery, source)]
        if record.status == "finished" and final_of(record) is not None:
            group["records"].append(record)
        else:
            group["failed"] += 1

    entries = []
    for (workload, protocol, budget, method, recovery, source), group in groups.items():
        cell, shared = group["cell"], workloads.get(workload)
        entries.append(
            Entry(
                workload=workload,
                task=cell.workload.task,
                dataset=cell.workload.dataset,
                model=cell.workload.model,
                protocol=protocol,
                method=method,
                base_method=cell.method,
                control=cell.method in controls,
                recovery=recovery,
                source=source,
                budget=budget,
                metric=shared.metric if shared else "",
                unit=shared.unit if shared else "",
                higher_is_better=shared.higher_is_better if shared else True,
                records=tuple(sorted(group["records"], key=seed_of)),
                failed=group["failed"],
                missing=group["missing"],
                dense_by_seed={seed_of(r): v for r in group["records"] if (v := dense_of(r, shared)) is not None},
            )
        )
    entries.sort(key=lambda e: (e.task, e.workload, e.protocol, -e.budget, e.control, e.method, e.recovery, e.source))
    main = _main_entries(entries)
    contests: dict[tuple[str, str, float], list[Entry]] = defaultdict(list)
    for entry in main:
        contests[entry.contest].append(entry)
    for contest in contests.values():
        rank(contest)
    return Matrix(
        suite=suite,
        records=records,
        missing=absent,
        workloads=workloads,
        entries=entries,
        main=main,
        labels=labels,
        configs=configs,
        sources=sources,
        controls=tuple(controls),
    )


def _labels(cells: Mapping[str, Cell]) -> dict[str, tuple[str, str]]:
    """Workload and method of every cell, as tables name them.

    Both are told apart by their configuration: where two share a name, the label says in what they differ.
    """
    identities = {cell_id: cell.workload.identity() for cell_id, cell in cells.items()}
    keys = {cell_id: canonical(identity) for cell_id, identity in identities.items()}
    by_name: dict[str, dict[str, dict[str, Any]]] = defaultdict(dict)
    variants: dict[tuple[str, str, str, str], dict[str, dict[str, Any]]] = defaultdict(dict)
    variant_of: dict[str, tuple[tuple[str, str, str, str], str]] = {}
    for cell_id, cell in cells.items():
        by_name[cell.workload.name][keys[cell_id]] = identities[cell_id]
        variant = {**cell.hyper, "round_to": cell.round_to, "tolerance": cell.tolerance, "searches": cell.searches}
        place = (cell.workload.name, keys[cell_id], cell.protocol, cell.method)
        key = canonical(variant)
        variants[place][key] = variant
        variant_of[cell_id] = (place, key)
    differing = {name: distinguish(choices) for name, choices in by_name.items()}
    own = {place: distinguish(choices) for place, choices in variants.items()}

    def named(name: str, difference: str) -> str:
        return f"{name} ({difference})" if difference else name

    found = {}
    for cell_id, cell in cells.items():
        place, key = variant_of[cell_id]
        workload = named(cell.workload.name, differing[cell.workload.name][keys[cell_id]])
        found[cell_id] = (workload, named(cell.method, own[place][key]))
    return found


def _workloads(
    records: Sequence[Record], configs: Mapping[str, Cell], labels: Mapping[str, tuple[str, str]]
) -> dict[str, Workload]:
    found: dict[str, Workload] = {}
    latency: dict[str, list[float]] = defaultdict(list)
    for record in records:
        cell = configs[record.cell_id]
        name = labels[record.cell_id][0]
        shared = found.get(name)
        if shared is None:
            source = cell.workload
            shared = found[name] = Workload(
                name,
                source.task,
                source.dataset,
                source.model,
                epochs=source.epochs.model_dump(),
                options=source.options,
            )
        if record.status != "finished":
            continue
        if not shared.metric:
            shared.metric, shared.unit = record.metric_name, record.metric_unit
            shared.higher_is_better = record.higher_is_better
        dense = figure(record, record.dense_metrics)
        # A network trained from scratch has no dense network of its own behind it; its seed's is used.
        if dense is not None and (cell.seed not in shared.dense_by_seed or cell.needs_dense):
            shared.dense_by_seed[cell.seed] = dense
        shared.macs_dense = shared.macs_dense or record.macs_dense
        shared.params_dense = shared.params_dense or record.params_dense
        shared.input_shape = shared.input_shape or tuple(record.input_shape)
        marks = [
            note.removeprefix(f"{shared.dataset}: ") for note in record.notes if note.startswith(shared.dataset + ": ")
        ]
        shared.data_notes = tuple(dict.fromkeys((*shared.data_notes, *marks)))
        if record.latency_dense:
            latency[name].append(record.latency_dense.median_ms)
        for reference, metrics in record.reference_metrics.items():
            value = metrics.get(record.metric_name)
            if value is not None and math.isfinite(value):
                shared.references.setdefault(reference, value)
    for name, shared in found.items():
        shared.latency_dense = Sample(tuple(latency[name]))
        scale = max((abs(value) for value in shared.dense_by_seed.values()), default=100.0)
        shared.digits = 2 if scale >= 2 else 4
    return found


def _main_entries(entries: Sequence[Entry]) -> list[Entry]:
    """Own searches only, and of each method the recovery that most methods of its table share."""
    own = [entry for entry in entries if not entry.source]
    used: dict[tuple[str, str], dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for entry in own:
        used[(entry.workload, entry.protocol)][entry.recovery].add(entry.method)
    chosen: dict[tuple[str, str, str], str] = {}
    for entry in own:
        place = used[(entry.workload, entry.protocol)]
        known = chosen.get((entry.workload, entry.protocol, entry.method), entry.recovery)
        chosen[(entry.workload, entry.protocol, entry.method)] = min(
            known, entry.recovery, key=lambda name, p=place: (-len(p[name]), _ORDER[name])
        )
    return [e for e in own if chosen[(e.workload, e.protocol, e.method)] == e.recovery]


def rank(contest: Sequence[Entry]) -> None:
    """Fill rank, verdict and p of the entries of one budget on one workload."""
    for entry in contest:
        if entry.base_method in UNPRUNED:
            entry.verdict = "reference"
        elif not entry.n:
            entry.verdict = "no result"
        elif entry.budget_misses:
            entry.verdict = "off budget"
    ranked = [entry for entry in contest if not entry.verdict]
    if not ranked:
        return
    higher = ranked[0].higher_is_better
    places = average_ranks([round(entry.final.mean or 0.0, 12) for entry in ranked], higher)
    for entry, place in zip(ranked, places, strict=True):
        entry.rank = place
    if len(ranked) == 1:
        ranked[0].verdict = "only"
        return
    best = min(ranked, key=lambda e: (e.rank or 0.0, e.method))
    rivals = [entry for entry in ranked if entry is not best]
    raw = {id(entry): paired_p(best.final_by_seed, entry.final_by_seed) for entry in rivals}
    tested = [entry for entry in rivals if raw[id(entry)] is not None]
    for entry, p in zip(tested, holm([raw[id(e)] or 0.0 for e in tested]), strict=True):
        entry.p_best = p
        entry.verdict = "worse" if p < ALPHA else "tied"
    for entry in rivals:
        entry.verdict = entry.verdict or "untested"
    if all(entry.verdict == "worse" for entry in rivals):
        best.verdict = "best"
    elif any(entry.verdict == "tied" for entry in rivals):
        best.verdict = "tied"
    else:
        best.verdict = "untested"


@dataclass
class RankSummary:
    """Ranks across workloads under one protocol: what each method's place is on the whole."""

    protocol: str
    workloads: list[str]
    """Those on which every method of the summary was ranked, at the same budgets."""
    methods: list[str]
    controls: set[str]
    ranks: dict[str, dict[str, float]]
    """Method -> workload -> mean rank over the shared budgets."""
    budgets: dict[str, list[float]]
    firsts: dict[str, int]
    """How often a method was best beyond the interval."""
    ties: dict[str, int]
    contests: int
    left_out: list[str]
    test: RankTest | None

    def mean_rank(self, method: str) -> float:
        values = self.ranks[method].values()
        return math.fsum(values) / len(values)


def rank_summaries(matrix: Matrix) -> list[RankSummary]:
    """One summary a protocol; contests in which a method has no rank are left out, and said to be."""
    found = []
    for protocol in sorted({entry.protocol for entry in matrix.main}):
        entries = [e for e in matrix.main if e.protocol == protocol and e.base_method not in UNPRUNED]
        contests: dict[tuple[str, float], dict[str, Entry]] = defaultdict(dict)
        for entry in entries:
            contests[(entry.workload, entry.budget)][entry.method] = entry
        ranked = {e.method for e in entries if e.rank is not None}
        # A method that is ranked in under half of the contests would cost the others theirs.
        shares = {m: sum(m in c and c[m].rank is not None for c in contests.values()) for m in ranked}
        methods = sorted(
            (m for m in ranked if shares[m] * 2 >= len(contests)),
            key=lambda m: (any(e.control for e in entries if e.method == m), m),
        )
        complete = {
            key: contest
            for key, contest in contests.items()
            if all(m in contest and contest[m].rank is not None for m in methods)
        }
        if len(methods) < 2 or len(complete) < 2:
            continue
        ranks: dict[str, dict[str, list[float]]] = {m: defaultdict(list) for m in methods}
        budgets: dict[str, list[float]] = defaultdict(list)
        for (workload, budget), contest in complete.items():
            budgets[workload].append(budget)
            means = [round(contest[m].final.mean or 0.0, 12) for m in methods]
            for method, place in zip(methods, average_ranks(means, contest[methods[0]].higher_is_better), strict=True):
                ranks[method][workload].append(place)
        workloads = sorted(budgets)
        averaged = {m: {w: math.fsum(v) / len(v) for w, v in ranks[m].items()} for m in methods}
        test = None
        if len(workloads) >= MIN_BLOCKS and len(methods) >= 3:
            rows = []
            for workload in workloads:
                rows.append(average_ranks([round(averaged[m][workload], 9) for m in methods], higher_is_better=False))
            test = rank_test(methods, rows)
        left_out = [f"{w} at {b:g}" for (w, b) in sorted(contests) if (w, b) not in complete]
        left_out += [f"method {m}" for m in sorted({e.method for e in entries} - set(methods))]
        found.append(
            RankSummary(
                protocol=protocol,
                workloads=workloads,
                methods=methods,
                controls={e.method for e in entries if e.control},
                ranks=averaged,
                budgets=dict(budgets),
                firsts={m: sum(c[m].verdict == "best" for c in complete.values()) for m in methods},
                ties={m: sum(c[m].verdict == "tied" for c in complete.values()) for m in methods},
                contests=len(complete),
                left_out=left_out,
                test=test,
            )
        )
    return found


def pareto(entries: Sequence[Entry]) -> list[Entry]:
    """The best ranked entry of each budget, where no smaller budget has a better one; smallest first.

    Entries of one budget count as equal in MACs: inside the tolerance, a smaller figure is no merit.
    """
    front: list[Entry] = []
    ranked = [e for e in entries if e.rank is not None]
    for budget in sorted({e.budget for e in ranked}):
        best = max((e for e in ranked if e.budget == budget), key=_signed)
        if not front or _signed(best) > _signed(front[-1]):
            front.append(best)
    return front


def _signed(entry: Entry) -> float:
    value = entry.final.mean or 0.0
    return value if entry.higher_is_better else -value
