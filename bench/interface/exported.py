"""Folders that `prunebench export` writes, loaded again without a dense network built by hand.

    model = load_pruned("pruned/")                              # a network of a task's own
    model = load_pruned("pruned/", "path/to/net.py:make_net")   # one of yours: no code is run that a file names

`card.json` says which network was pruned: its task, the task's options, and what its data told it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.errors import ArchitectureError
from bench.interface import registry
from bench.interface.cell import Workload
from bench.interface.own_network import is_own, source_of
from bench.interface.task import DataInfo, Task, untrained

if TYPE_CHECKING:
    from torch import nn

CARD = "card.json"
CARD_FACTS = frozenset(
    {"format", "version", "cell", "suite", "task", "dataset", "model", "method", "seed", "recovery", "budget"}
    | {"metrics", "files", "network", "made_with", "weights_sha256"}
)
"""What the card says of every network; a task's `deployment` says something else."""


def network_facts(workload: Workload, options: Mapping[str, Any], data_info: Mapping[str, Any]) -> dict[str, Any]:
    """What `card.json` says of the dense network: all that it is built from.

    Args:
        options: the fields of the task's adapter.
        data_info: `DataInfo` as plain values.
    """
    facts = {"task": workload.task, "options": {**options, "model": workload.model}, "data_info": dict(data_info)}
    return facts | ({"code_sha256": workload.code.sha256} if workload.code else {})


def info_of(data_info: Mapping[str, Any]) -> DataInfo:
    """The `DataInfo` of plain values."""
    return DataInfo(**{**data_info, "classes": tuple(data_info["classes"])})


def load_pruned(directory: str | os.PathLike[str], model: nn.Module | str | None = None) -> nn.Module:
    """The pruned network of a folder that `save_pruned` or `prunebench export` wrote, in training mode as it is built.

    Args:
        model: the dense architecture with any weights; or where the network is one of your own, what builds it, as a
            suite names it; or None where it is one of a task, and the folder has a `card.json`.

    Raises:
        ArchitectureError: a file is missing, damaged or altered, or belongs to another architecture; or the folder
            does not say what builds the network.
        RequestError: the network cannot be built.
    """
    from bench.structure.files import load_pruned as load

    if model is None or isinstance(model, str):
        model = _dense(Path(directory), model)
    return load(directory, model)


def _dense(folder: Path, own: str | None) -> nn.Module:
    """The dense network that a folder's card describes, with weights of no meaning."""
    import torch

    facts = _network(folder / CARD)
    options, code = dict(facts["options"]), facts.get("code_sha256")
    if own is None and (code is not None or is_own(options["model"])):
        raise ArchitectureError(
            f"{folder}: its network is one of your own, {options['model']}, and no code is run because a file names "
            f'it; give what builds it: load_pruned("{folder}", "{options["model"]}")'
        )
    if own is not None:
        if not is_own(own):
            raise ArchitectureError(f"{own!r} names no code; use path/to/net.py:make_net or package.module:name")
        if code is None:
            raise ArchitectureError(f"{folder}: its network is {options['model']}, and not one of your own")
        if source_of(own).sha256 != code:
            raise ArchitectureError(
                f"{folder}: the code of {own} is not what the network was pruned with; give the same code, or a "
                "network built with it"
            )
        options["model"] = own
    task: Task = untrained(registry.make_task(facts["task"], options))
    with torch.random.fork_rng(devices=[]):
        return task.network(info_of(facts["data_info"]))


def _network(path: Path) -> dict[str, Any]:
    try:
        facts = json.loads(path.read_bytes())["network"]
        if not {"task", "options", "data_info"} <= facts.keys() or "model" not in facts["options"]:
            raise KeyError("network")
    except OSError as error:
        raise ArchitectureError(
            f"{path}: {error.strerror}; give the dense network: load_pruned(folder, model)"
        ) from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ArchitectureError(
            f"{path}: does not say what network was pruned; give it: load_pruned(folder, model)"
        ) from None
    return facts
