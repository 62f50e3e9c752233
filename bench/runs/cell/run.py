"""The flow of one cell, from the dense network to the record: search, fit, prune, check, recover, evaluate, record."""

from __future__ import annotations

import copy
import shutil
import tempfile
from pathlib import Path

from torch import nn

from bench.errors import CellError
from bench.interface.cell import BUDGET_KINDS, BUDGET_WORDS, BudgetKind
from bench.interface.record import Record
from bench.runs.cell.decision import decide
from bench.runs.cell.evaluation import PICTURES, PrunedNetworks, evaluate
from bench.runs.cell.inputs import RECOVERY, CellInputs, cell_inputs
from bench.runs.cell.record import CellResults, MeasuredCost, make_record
from bench.runs.cell.search import Decision, budget_of
from bench.runs.cell.taken import figures_of, summary_of, taken_cell
from bench.runs.cores import require_cores
from bench.runs.pictures import save_widths
from bench.runs.shared import agreed_taken
from bench.runs.tracked import ActiveJob, Result
from bench.runs.workload import load_workload
from bench.search.fit import check, counted
from bench.structure.files import save_pruned
from bench.structure.surgery import prune
from bench.training import parallel
from bench.training.evaluate import recalibrate
from bench.training.recovery import recover, thinner_initialisation


def run_cell(active: ActiveJob) -> Result:
    """Run a cell; its record, models and pictures are stored with its MLflow run.

    One that another suite of the store has recorded, of the same data and code, is taken from there.

    Raises:
        CellError: the cell cannot be finished.
    """
    cell = active.job.cell
    assert cell is not None
    active.run.parameters(cell.identity())
    fingerprint = load_workload(cell.workload, active.settings).data.fingerprint
    active.made_with(fingerprint)
    taken = agreed_taken(lambda: taken_cell(active, fingerprint))
    if taken is not None:
        return taken
    inputs = cell_inputs(active)
    require_cores([inputs.cell], inputs.loaded.device)
    active.stage("search")
    decision = decide(inputs, active)
    pruned = prune(decision.network, inputs.graph, decision.fitted.pruning)
    cost = checked_cost(inputs, decision, pruned)
    active.stage("recovery")
    networks = _recover(inputs, decision, pruned, active)
    if not parallel.goes_on():
        return Result(summary="", record="")
    active.stage("test")
    evaluation = evaluate(inputs, networks, active.folder / PICTURES, active)
    active.stage("store")
    results = CellResults(decision=decision, cost=cost, networks=networks, evaluation=evaluation)
    record = make_record(inputs, results, active)
    _store(record, results, active)
    return Result(summary=summary_of(record), record=record.model_dump_json())


def checked_cost(inputs: CellInputs, decision: Decision, pruned: nn.Module) -> MeasuredCost:
    """Count MACs and parameters of the pruned network, which the cost model must have predicted, and hold the budget.

    Raises:
        CellError: MACs, or parameters under a budget of those, are not what the cost model says.
    """
    cell, example, dense_network = inputs.cell, inputs.loaded.example, inputs.dense.model
    dense: dict[BudgetKind, int] = {k: counted(dense_network, example, k) for k in BUDGET_KINDS}
    found: dict[BudgetKind, int] = {k: counted(pruned, example, k) for k in BUDGET_KINDS}
    for kind in dict.fromkeys(("macs", cell.kind)):
        predicted = round(decision.fitted.ratio(kind) * dense[kind])
        if found[kind] != predicted:
            raise CellError(
                f"the pruned network has {found[kind]} {BUDGET_WORDS[kind]} where the cost model says {predicted}: the "
                f"structural engine is wrong about {cell.workload.model}"
            )
    ratio, within = check(pruned, example, budget_of(cell), dense[cell.kind])
    return MeasuredCost(dense=dense, pruned=found, ratio=ratio, within=within)


def _recover(inputs: CellInputs, decision: Decision, pruned: nn.Module, active: ActiveJob) -> PrunedNetworks:
    """The pruned network before and after recovery."""
    cell, loaded = inputs.cell, inputs.loaded
    as_pruned, origin = None, decision.origin
    if origin is not None and not cell.judged_as_pruned:
        # A `scratch` control has the weights that pruning left in the cell that it takes the architecture from.
        as_pruned = prune(origin.network, inputs.graph, origin.fitted.pruning)
    elif cell.judged_as_pruned or not cell.recovery_epochs:
        as_pruned = copy.deepcopy(pruned)
    if as_pruned is not None:
        as_pruned = recalibrate(as_pruned, loaded.data.train, loaded.device, seed=cell.seed, recipe=cell.workload.train)
    untrained = thinner_initialisation(inputs.fresh, prune(inputs.fresh, inputs.graph, decision.fitted.pruning))
    final = recover(
        cell,
        loaded.task,
        loaded.data.visible,
        pruned=pruned,
        fresh=untrained,
        teacher=inputs.dense.model,
        device=loaded.device,
        checkpoint=active.folder / RECOVERY,
        log=inputs.log,
        observer=active.observer,
    )
    # Without recovery the result is the network as pruned, with its statistics estimated anew.
    final = final if cell.recovery_epochs or as_pruned is None else as_pruned
    return PrunedNetworks(before=as_pruned if cell.judged_as_pruned or origin is not None else None, final=final)


def _store(record: Record, results: CellResults, active: ActiveJob) -> None:
    """Store the pruned model, the pictures and the figures with the cell's MLflow run."""
    with tempfile.TemporaryDirectory() as out:
        save_pruned(Path(out, "model"), results.networks.final.cpu(), results.decision.fitted.pruning)
        save_widths(record, Path(out, "widths.png"))
        if record.pictures:
            shutil.copytree(active.folder / PICTURES, Path(out, PICTURES))
        active.run.folder(Path(out))
    active.run.final(figures_of(record))
