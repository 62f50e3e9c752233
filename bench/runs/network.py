"""Tries a workload's network before anything is trained: it must be built, copied, run, trained a step and traced."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from bench.errors import RequestError, reason_of
from bench.runs.workload import LoadedWorkload
from bench.structure.graph import PruningGraph
from bench.structure.measure import evaluating
from bench.training.device import autocast, to_device


def usable_graph(loaded: LoadedWorkload) -> PruningGraph:
    """The structure of the workload's network, which does all that a cell asks of it and has something to prune.

    Raises:
        RequestError: what cannot be done with it, and why, in a sentence.
    """
    workload = loaded.workload
    try:
        with _said("cannot be built"):
            model, _ = loaded.initial_network(0)
        with _said("cannot be copied"):
            copied = copy.deepcopy(model)
        _run(loaded, copied)
        _train_a_step(loaded, copied)
        with _said("cannot be read for what can be pruned"):
            graph = loaded.graph(model)
        if not graph.groups:
            beside = " beside what is protected" if workload.protect else ""
            raise RequestError(f"no channel can be pruned{beside}")
    except RequestError as error:
        raise RequestError(f"workload {workload.name}: {workload.model}: {error}") from error
    return graph


@contextmanager
def _said(what: str) -> Iterator[None]:
    """Say of whatever goes wrong inside what cannot be done: networks are others' code, and raise anything."""
    try:
        yield
    except RequestError:
        raise
    except (Exception, SystemExit, GeneratorExit) as error:
        raise RequestError(f"the network {what}: {reason_of(error)}") from error


def _run(loaded: LoadedWorkload, model: nn.Module) -> None:
    """A forward pass in eval mode on the example."""
    x = loaded.example.clone()
    with _said(f"cannot take an input of {_words(x)}"), evaluating(model):
        output = model(x)
    _require_output(loaded, output, x, "")
    if not torch.equal(x, loaded.example):
        raise RequestError("the network changes its input in place, which others read after it")


def _train_a_step(loaded: LoadedWorkload, model: nn.Module) -> None:
    """Forward and backward of one training batch, as training does them, but for the optimiser's step."""
    recipe, split = loaded.workload.train, loaded.data.train
    size = min(recipe.batch_size, len(split))
    if size < 2:
        raise RequestError(f"the training split has {len(split)} samples, too few for a batch of two")
    x, y = next(split.batches(size, seed=0, epoch=0, device=loaded.device))
    with _said(f"cannot be trained on batches of {_words(x)}"), autocast(recipe, loaded.device):
        output = to_device(model, loaded.device).train()(x)
    _require_output(loaded, output, x, " while it is trained")
    with _said(f"cannot be trained on batches of {_words(x)}"):
        with autocast(recipe, loaded.device):
            loss = loaded.task.loss(output, y, recipe)
        first = float(loss.detach())
        loss.backward()
    if not math.isfinite(first):
        raise RequestError(f"the loss of the untrained network is {first} on a training batch of {_words(x)}")


def _require_output(loaded: LoadedWorkload, output: Any, x: Tensor, when: str) -> None:
    """Refuse an output that is not the one tensor that the task reads."""
    shape_of = getattr(loaded.task, "output_shape", None)
    if shape_of is None:
        return  # the task's loss says what it can read
    wanted = f"{loaded.workload.task} reads one tensor of {'×'.join(map(str, shape_of(x.shape, loaded.data.info)))}"
    if not isinstance(output, Tensor):
        raise RequestError(f"the network gives a {type(output).__name__}{when} for an input of {_words(x)}; {wanted}")
    if tuple(output.shape) != tuple(shape_of(x.shape, loaded.data.info)) or not output.is_floating_point():
        kind = "" if output.is_floating_point() else f" {str(output.dtype).removeprefix('torch.')}"
        raise RequestError(
            f"the network gives{kind} {_words(output)}{when} for an input of {_words(x)}; {wanted}, real numbers"
        )


def _words(tensor: Tensor) -> str:
    return "×".join(map(str, tensor.shape)) or "a single number"
