"""LAMP: the score by hand, and beside Torch-Pruning's."""

from __future__ import annotations

import pytest
import torch

from bench.interface.method import Budget, Found
from bench.search.fit import fit
from bench.structure.graph import PruningGraph
from methods.lamp import LAMP, lamp_scores
from tests.methods.importances import EXAMPLE, LIBRARY, plain, ranking, scores_of, theirs


def test_the_score_by_hand() -> None:
    """4 / (4 + 9 + 1) is what is not smaller than 4: squares 1, 4, 9 and 16 in any order."""
    scores = lamp_scores(torch.tensor([9.0, 1.0, 16.0, 4.0]))
    assert scores.tolist() == pytest.approx([9 / 25, 1 / 30, 1.0, 4 / 29])
    assert lamp_scores(torch.zeros(3)).tolist() == [0, 0, 0]
    assert lamp_scores(torch.tensor([2.0, 2.0])).tolist() == [0.5, 1.0]


def test_one_threshold_gives_each_group_its_own_share() -> None:
    """A group of which two channels hold all the weight is cut to those before one of equal channels loses half."""
    model = plain()
    graph = PruningGraph.trace(model, EXAMPLE)
    with torch.no_grad():
        model.get_parameter("0.weight").fill_(1.0)
        model.get_parameter("3.weight").fill_(0.01)
        model.get_parameter("3.weight")[:2] = 5.0
    widths = fit(graph, Found(scores_of(LAMP(), model), scope="raw"), Budget(0.5)).native_widths
    assert widths["3"] < widths["0"]


@pytest.mark.parametrize("layer", ["0", "3"])
def test_torch_pruning_scores_plain_layers_alike(layer: str) -> None:
    """Of the layer alone: theirs adds the columns that read its channels."""
    model = plain()
    expected = theirs(LIBRARY.LAMPImportance(p=2, group_reduction="first"), model, layer)
    found = scores_of(LAMP(), model)[layer]
    assert torch.allclose(found, expected.double(), rtol=1e-4)
    assert ranking(found) == ranking(expected)
