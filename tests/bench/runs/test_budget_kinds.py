"""A matrix under a budget of parameters, from the suite's file to the audited report."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.errors import RequestError
from bench.report.audit import audit
from bench.runs.suite import load_suite, suite_from_table
from tests.bench.runs.tables import table
from tests.bench.runs.tiny import SUITE, prunebench, records, results

PARAMS = (
    SUITE.replace('methods = ["l1"]', 'methods = ["l1", "dcss"]\nbudget_kind = "params"')
    .replace('"random", "uniform-scratch"', '"random-widths"')
    .replace("[0.5, 0.3]", "[0.4]")
)


def test_a_matrix_meets_a_budget_of_parameters_and_its_report_says_so(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (place / "tiny.toml").write_text(PARAMS)
    assert prunebench(monkeypatch, "run", "tiny.toml", "--quiet") == 0
    found = records(place)
    assert {r.config.method for r in found} == {"l1", "dcss", "random-widths"}
    asked = set[float]()
    for record in found:
        audited = record.audit
        assert audited and audited.within and audited.kind == "params"
        assert audited.params_ratio is not None
        assert audited.params_ratio == record.params_pruned / record.params_dense
        assert abs(audited.params_ratio - 0.4) <= 0.005
        assert audited.macs_ratio == record.macs_pruned / record.macs_dense
        assert audited.native_params_ratio is not None and audited.search_macs_ratio is not None
        asked.add(audited.search_macs_ratio)
        assert any("which the proportionally thinner network with 0.4 of the parameters has" in n for n in record.notes)
    assert len(asked) == 1  # whatever the method
    assert {row["budget_kind"] for row in results(place)} == {"params"}
    folder = place / "reports" / "tiny"
    text = (folder / "README.md").read_text()
    for words in (
        "At 0.4 of the parameters: ",
        "Test-split figures at matched parameter budgets.",
        "protocol matched (equal parameters)",
        "Fractions of the dense network's parameters: asked for",
        "0.4 of the parameters |",
    ):
        assert words in text, words
    assert "of the MACs: " not in text and "MACs budgets" not in text and "network's MACs:" not in text
    assert "matched parameter budgets" in (folder / "index.html").read_text()
    assert {path.stem for path in (folder / "figures").glob("metric_vs_*.svg")} >= {"metric_vs_params"}
    assert not (folder / "figures" / "metric_vs_macs.svg").exists()
    assert audit(folder) == []

    capsys.readouterr()
    assert prunebench(monkeypatch, "show", found[0].cell_id) == 0
    assert "requested 0.4 ± 0.005 of the parameters" in capsys.readouterr().out
    assert prunebench(monkeypatch, "plan", "tiny.toml") == 0
    assert "0.4 of the parameters" in capsys.readouterr().out

    # One weight more than was recorded is found, and so is a budget that the parameters miss.
    lines = [json.loads(line) for line in (folder / "cells.jsonl").read_text().splitlines()]
    lines[0]["params_pruned"] += round(0.01 * lines[0]["params_dense"])
    (folder / "cells.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    findings = " ".join(audit(folder))
    assert f"cell {lines[0]['cell_id']}: parameters {lines[0]['params_pruned']} of" in findings
    assert "budget_misses is 0, the cells give 1" in findings


def test_the_default_keeps_the_identities_of_cells() -> None:
    """As before there was another kind of budget, and another batch size or number of threads."""
    plain = load_suite("demo").cells
    assert (plain[0].id, plain[-1].id, len(plain)) == ("dbc9cea4ea67", "dfc18bfee29b", 77)
    same = ['budget_kind="macs"', "latency={ batch = [1] }"]
    assert [c.id for c in load_suite("demo", same).cells] == [c.id for c in plain]
    for change in ("budget_kind=params", "latency.batch=[1,32]", "latency.threads=[1]"):
        other = load_suite("demo", [change]).cells
        assert not {c.id for c in other} & {c.id for c in plain}
        assert {c.dense_id for c in other} == {c.dense_id for c in plain}


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"budget_kind": "flops"}, "budget_kind = 'flops' is not allowed: input should be 'macs' or 'params'"),
        ({"budget_kind": "latency"}, "budget_kind = 'latency' is not allowed: a seed does not give a measured time ag"),
        ({"latency": {"batch": [0]}}, "latency.batch.0 = 0 is not allowed: input should be greater than or equal to 1"),
        ({"latency": {"batch": []}}, "latency.batch = [] is not allowed: list should have at least 1 item"),
        ({"latency": {"threads": [1, 1]}}, "latency.threads = [1, 1] is not allowed: every number may stand only once"),
        ({"latency": {"threads": [True]}}, "latency.threads.0 = True is not allowed: input should be a valid integer"),
        ({"latency": {"batch": 32}}, "latency.batch = 32 is not allowed: input should be a list"),
        ({"latency": {"batches": [1]}}, "unknown field 'latency.batches'; did you mean 'batch'? allowed: batch, thr"),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence(given: dict[str, object], sentence: str) -> None:
    with pytest.raises(RequestError) as refusal:
        suite_from_table(table(**given), "my.toml")
    assert str(refusal.value).startswith(f"my.toml: {sentence}") and "\n" not in str(refusal.value)
