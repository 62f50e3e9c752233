"""A search is made once, for all that start from it, wherever they run; what is damaged is made again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import pytest

import methods
from bench.interface import registry
from bench.interface.cell import Cell
from bench.interface.record import Record
from bench.interface.source import source_hash
from bench.interface.stages import search_id
from bench.runs.agenda import make_agenda
from bench.runs.events import EpochEnded, Event
from bench.runs.executors.executor import make_executor
from bench.runs.job import Job, Outcome, Settings
from bench.runs.matrix import run_matrix
from bench.runs.recorded import recorded
from bench.runs.run_job import run_job
from bench.runs.suite import suite_from_table
from bench.runs.tracked import open_tracker
from bench.tracking.quick_read import read_others, read_states
from bench.tracking.uploads import uploaded
from tests.bench.runs.tables import changed_workload

RECOVERIES = ["rewind", "finetune", "distil", "scratch-distil"]
SMALL = changed_workload(
    train_size=100, epochs={"dense": 1, "search": 2, "recovery": 1}, train={"batch_size": 50, "precision": "fp32"}
)


def cells_of(*recoveries: str, method: str = "gdp", controls: Sequence[str] = ("l1-channels", "scratch")) -> list[Cell]:
    given = {**SMALL, "methods": [method], "controls": list(controls), "budgets": [0.5], "seeds": [0]}
    return list(suite_from_table({**given, "recovery": list(recoveries)}, "t").cells)


@dataclass
class Place:
    """A store, and what happens in it."""

    folder: Path
    epochs: Counter[str] = field(default_factory=Counter)
    """Epochs that were trained since the last look, by phase."""

    @property
    def uri(self) -> str:
        return f"sqlite:///{self.folder / 'mlflow.db'}"

    def settings(self, suite: str, machine: str = "here") -> Settings:
        return Settings(suite=suite, tracking_uri=self.uri, work=self.folder / machine, checkpoint_every=0)

    def told(self, event: Event) -> None:
        if isinstance(event, EpochEnded):
            self.epochs[event.phase] += 1

    def run(self, cells: Sequence[Cell], suite: str = "s", **how: Any) -> list[Outcome]:
        """Run what is due of the cells."""
        self.epochs.clear()
        agenda = make_agenda(cells, read_states(self.uri, suite), **how)
        return run_matrix(agenda, self.settings(suite), make_executor("local", 1), nullcontext(self.told))

    def records(self, cells: Sequence[Cell], suite: str = "s") -> dict[str, Record]:
        """By the title and recovery of their cells."""
        found = recorded(open_tracker(self.uri, suite), cells)
        return {f"{record.config.title} {record.config.recovery}": record for record in found}

    def artifact(self, suite: str, identity: str, name: str) -> Path:
        return self.folder / "mlartifacts" / suite / read_states(self.uri, suite)[identity].run_id / "artifacts" / name


@pytest.fixture(scope="module")
def place(_empty_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Place:
    """Where four recoveries of GDP and two controls have been run."""
    made = Place(tmp_path_factory.mktemp("stages"))
    (made.folder / "mlflow.db").write_bytes(_empty_store.read_bytes())
    outcomes = made.run(cells_of(*RECOVERIES))
    assert [o.error for o in outcomes if o.status != "finished"] == []
    assert Counter(o.kind for o in outcomes) == {"dense": 1, "search": 1, "cell": 6}
    assert (made.epochs["dense"], made.epochs["search"]) == (1, 2)
    return made


def test_four_recoveries_and_two_controls_cost_one_search(place: Place) -> None:
    cells = cells_of(*RECOVERIES)
    (identity,) = {search_id(cell) for cell in cells}
    found = place.records(cells)
    own = [found[f"gdp {recovery}"] for recovery in RECOVERIES]
    ledgers = [record.ledger for record in own if record.ledger]
    assert {ledger.search_id for ledger in ledgers} == {identity}
    assert len({ledger.search_seconds for ledger in ledgers}) == 1 and ledgers[0].search_seconds > 0
    assert {ledger.search_epochs for ledger in ledgers} == {2}
    assert [[row["phase"] for row in record.trajectory].count("search") for record in own] == [2] * 4
    widths = {tuple(group.width for group in record.groups) for record in found.values()}
    assert len(widths) == 1
    assert found["gdp scratch scratch"].pruned_metrics == own[0].pruned_metrics
    state = read_states(place.uri, "s")[str(identity)]
    assert (state.kind, state.status) == ("search", "finished")
    files = {path.name for path in place.artifact("s", str(identity), "search").iterdir()}
    assert files == {"search.json", "weights.safetensors"}
    assert make_agenda(cells, read_states(place.uri, "s")).jobs == ()


def test_a_control_runs_without_its_source(place: Place) -> None:
    controls = [cell for cell in cells_of("rewind") if cell.ablation]
    for control in controls:
        open_tracker(place.uri, "alone")
        assert {o.status for o in place.run([control], "alone")} == {"finished"}
        assert place.epochs["search"] == 0  # the search is that of the other suite
    with_source, alone = place.records(cells_of("rewind")), place.records(controls, "alone")
    for name, record in alone.items():
        assert record.final_metrics == with_source[name].final_metrics
        assert record.pruned_metrics == with_source[name].pruned_metrics


def test_another_suite_takes_over_what_is_recorded_and_trains_the_rest(place: Place) -> None:
    cells = cells_of("rewind", "none", controls=())
    assert read_others(place.uri, "other")[cells[0].id] in ("s", "alone")
    outcomes = place.run(cells, "other")
    assert {o.status for o in outcomes} == {"finished"} and place.epochs == Counter()
    assert ["taken from suite" in o.summary for o in outcomes] == [True, True, True, False]
    taken = place.records(cells, "other")["gdp rewind"]
    first = place.records(cells, "s")["gdp rewind"]
    assert taken.suite == "other" and taken.run_id == read_states(place.uri, "other")[taken.cell_id].run_id
    assert taken.final_metrics == first.final_metrics and taken.notes[-1].endswith(f"run {first.run_id}")
    assert place.artifact("other", taken.cell_id, "model/model.safetensors").is_file()
    # Asked for anew, it is run; its dense network stays.
    place.run(cells[:1], "other", again={cells[0].id, str(search_id(cells[0]))})
    assert place.epochs == Counter({"search": 2, "recovery": 1})
    assert place.records(cells, "other")["gdp rewind"].final_metrics == first.final_metrics


@pytest.mark.parametrize("changed", ["data", "code"])
def test_what_was_made_of_other_data_or_code_is_not_taken(
    changed: str, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bench.runs import shared

    (cell,) = cells_of("rewind", controls=())
    settings, suite = place.settings(changed), open_tracker(place.uri, changed)
    run = suite.claim(cell.id, kind="cell", label=cell.label)
    from bench.runs.tracked import ActiveJob

    active = ActiveJob(Job.of_cell(cell), settings, place.told, run, place.folder, "now")
    data = place.records([cell])["gdp rewind"].data_fingerprint
    code = source_hash("gdp")
    assert list(shared.found_elsewhere(active, data, code))
    given = ("another", code) if changed == "data" else (data, "another")
    assert not list(shared.found_elsewhere(active, *given))
    assert not list(shared.found_elsewhere(replace(active, job=Job.of_cell(cell, anew=True)), data, code))
    run.delete()


@pytest.mark.parametrize(
    ("stage", "name"),
    [("search", "search/weights.safetensors"), ("search", "search/search.json"), ("dense", "model/model.safetensors")],
)
def test_a_flipped_bit_in_a_stored_stage_is_found_and_the_stage_made_again(stage: str, name: str, place: Place) -> None:
    (cell,) = cells_of("none", controls=())
    cell = cell.model_copy(update={"tolerance": 0.006 + len(name) / 1e4})  # a search that no other suite has made
    suite = f"flipped-{name.split('/')[1]}"
    place.run([cell], suite)
    identity = str(search_id(cell)) if stage == "search" else cell.dense_id
    file = place.artifact(suite, identity, name)
    damaged = bytearray(file.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    file.write_bytes(damaged)
    before = place.records([cell], suite)["gdp none"]
    outcomes = place.run([cell], suite, again={cell.id})
    assert [(o.kind, o.status) for o in outcomes] == [("cell", "finished")]
    assert place.epochs["search"] == (2 if stage == "search" else 0)
    (record,) = place.records([cell], suite).values()
    assert record.final_metrics == before.final_metrics
    (note,) = (note for note in record.notes if "was damaged" in note)
    assert note.startswith(f"an earlier result was damaged and made again: the checksum of {name} of run ")
    states = [s for s in open_tracker(place.uri, suite).states() if s.cell_id == identity]
    assert sorted(s.status for s in states) == ["finished", "lost"]


def test_a_search_goes_on_elsewhere_from_its_uploaded_checkpoint(place: Place) -> None:
    (cell,) = cells_of("rewind", controls=())
    search, seen = Job.of_search(cell, anew=True), list[int]()

    def lost(event: Event) -> None:
        if isinstance(event, EpochEnded):
            raise RuntimeError("the machine is gone")

    def told(event: Event) -> None:
        if isinstance(event, EpochEnded):
            seen.append(event.epoch)

    assert run_job(Job.of_dense(cell), place.settings("long"), place.told).status == "finished"
    assert run_job(search, place.settings("long", "first"), lost).status == "failed"
    tracker = open_tracker(place.uri, "long")
    (entry,) = uploaded(tracker.client, tracker.experiment, search.id)
    assert entry.epoch == 1
    assert run_job(search, place.settings("long", "second"), told).status == "finished"
    assert seen == [2]
    whole, resumed = (place.artifact(suite, search.id, "search/weights.safetensors") for suite in ("s", "long"))
    assert whole.read_bytes() == resumed.read_bytes()
    assert uploaded(tracker.client, tracker.experiment, search.id) == []


@dataclass(frozen=True)
class Failing:
    """A search that fails until it is cured."""

    searches: ClassVar[bool] = True
    needs_dense: ClassVar[bool] = True
    recovery: ClassVar[str] = "rewind"
    standing: ClassVar[str] = "broken"
    cured: ClassVar[bool] = False

    def search(self, model: Any, graph: Any, task: Any, budget: Any, ctx: Any) -> Any:
        if not Failing.cured:
            raise ZeroDivisionError("planted failure")
        return registry.make_method("l1", {}).search(ctx.train(model), graph, task, budget, ctx)


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    monkeypatch.setitem(methods.CATALOGUE, "failing", f"{__name__}:Failing")
    registry.method_names.cache_clear()
    return lambda: monkeypatch.setattr(Failing, "cured", True)


def test_a_failed_search_fails_each_of_its_cells_and_is_made_again_when_asked_for(
    place: Place, failing: Callable[[], None]
) -> None:
    try:
        cells = cells_of("rewind", "none", method="failing", controls=["scratch"])
        identity = search_id(cells[0])
        outcomes = {o.id: o for o in place.run(cells, "failing")}
        reason = (
            f"the search of {cells[0].label} failed: ZeroDivisionError: planted failure (prunebench show {identity})"
        )
        assert [outcomes[cell.id].error for cell in cells] == [reason] * 3
        assert "in search" in place.records(cells, "failing")["failing rewind"].traceback
        assert make_agenda(cells, read_states(place.uri, "failing")).jobs == ()
        failing()
        again = place.run(cells, "failing", retry_failed=True)
        assert Counter((o.kind, o.status) for o in again) == {("search", "finished"): 1, ("cell", "finished"): 3}
        assert place.epochs["search"] == 2
    finally:
        registry.method_names.cache_clear()
