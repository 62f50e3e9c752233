"""Channel labels: which channel each element of a traced tensor came from, and which channels belong together.

Every traced tensor has *labels*: an integer array that broadcasts to the tensor's shape and names, for each element,
the channel it came from. Labels that are *linked* name channels that must be removed together (an *atom*). Labels that
meet something which pruning would change are *frozen*, with the reason.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from bench.structure.groups import SideKind
from bench.structure.module_numbers import Numbers


class NotFollowed(Exception):
    """The operation moves channels in a way that labels cannot follow."""


@dataclass(frozen=True)
class Raw:
    """A parameter or buffer of several dimensions, of which nothing has said yet along which the channels lie."""

    name: str
    axes: tuple[int | None, ...]
    """By dimension of the value, the tensor's dimension that it is."""


@dataclass(frozen=True)
class Value:
    """A traced tensor: its shape, and labels that broadcast to it (size 1 where the label does not vary)."""

    shape: tuple[int, ...]
    labels: np.ndarray  # int64 [d_0, …], d_i in {1, shape[i]}
    tails: frozenset[str] = frozenset()  # the affine layers whose output this is, activations aside
    raw: Raw | None = None


@dataclass
class LayerSide:
    """One side of a layer, over all its calls: `ids[i]` is the label of its channel i."""

    module: str
    kind: SideKind
    ids: np.ndarray
    axis: int = 0
    """Of a tensor, the dimension that holds the channels."""


@dataclass(frozen=True)
class LayerCall:
    """One call of a layer, as far as labels need to know it."""

    name: str
    in_shape: tuple[int, ...]
    out_shape: tuple[int, ...]


class Labels:
    """All labels of one trace, with the links between them and the layers that make and read them.

    Args:
        protect: layers whose output channels stay.
        leading: numbers of the splits of a channel dimension of which parts stay whole.
        numbers: what the network's modules keep of whole numbers.
    """

    def __init__(
        self, protect: Iterable[str] = (), leading: Iterable[int] = (), numbers: Numbers | None = None
    ) -> None:
        self.protect = frozenset(protect)
        self.leading = frozenset(leading)
        self.splits: list[np.ndarray] = []
        """Labels of each channel dimension that was split in two."""
        self.operands: dict[Any, list[tuple[int, ...]]] = {}
        """By autograd node of a concatenation, the shapes of all that it was given."""
        self.owners: dict[Any, str] = {}
        """By autograd node, the module in which it ran."""
        self.numbers = Numbers({}) if numbers is None else numbers
        self.lenient = False
        self.count = 0
        self.sides: dict[tuple[str, SideKind], LayerSide] = {}
        self.positions: dict[str, int] = {}
        """How often each layer's kernel is multiplied, over all its calls, places and images."""
        self._left: list[np.ndarray] = []
        self._right: list[np.ndarray] = []
        self._frozen: list[tuple[np.ndarray, str]] = []

    def fresh(self, n: int) -> np.ndarray:
        """`n` new labels, int64 [n]."""
        self.count += n
        return np.arange(self.count - n, self.count)

    def link(self, a: np.ndarray, b: np.ndarray) -> None:
        """Channels that must go together, element by element; the arrays are broadcast to each other."""
        a, b = np.broadcast_arrays(a, b)
        self._left.append(a.ravel())
        self._right.append(b.ravel())

    def link_rows(self, parts: np.ndarray) -> None:
        """Channels of one row [row, channel] must go together."""
        self.link(parts[:, :1], parts)

    def link_columns(self, parts: np.ndarray) -> None:
        """Channels of one column [row, channel] must go together."""
        self.link(parts[:1], parts)

    def freeze(self, ids: np.ndarray, reason: str) -> None:
        """Channels that must stay, and why."""
        if not self.lenient:
            self._frozen.append((np.unique(ids), reason))

    def split(self, ids: np.ndarray) -> bool:
        """Note a split of a channel dimension; whether its parts stay whole, and not the same of each part."""
        self.splits.append(np.unique(ids))
        return len(self.splits) - 1 in self.leading

    def collapsed(self, of_label: np.ndarray, frozen: Mapping[int, str]) -> set[int]:
        """Numbers of the splits whose channels cannot be pruned: they are frozen, or can only go together."""
        atoms = [set(np.unique(of_label[ids]).tolist()) for ids in self.splits]
        return {i for i, own in enumerate(atoms) if len(own) < 2 or any(atom in frozen for atom in own)}

    @contextmanager
    def leniently(self) -> Iterator[None]:
        """While it is entered, nothing is frozen: what nobody reads may change."""
        self.lenient = True
        try:
            yield
        finally:
            self.lenient = False

    def atoms(self) -> tuple[np.ndarray, dict[int, str]]:
        """([labels] -> atom, reasons by frozen atom)."""
        a = np.concatenate([*self._left, np.zeros(0, int)])
        b = np.concatenate([*self._right, np.zeros(0, int)])
        matrix = coo_matrix((np.ones(len(a), np.int8), (a, b)), shape=(self.count, self.count))
        _, of_label = connected_components(matrix, directed=False)
        reasons: dict[int, str] = {}
        for ids, reason in self._frozen:
            for atom in np.unique(of_label[ids]).tolist():
                reasons.setdefault(atom, reason)
        return of_label, reasons

    # -- sides of layers -----------------------------------------------------------------------------------

    def makes(self, name: str, n: int) -> np.ndarray:
        """Labels of the `n` channels that a layer makes; the same ones at every call of a shared layer."""
        known = self.sides.get((name, "out"))
        if known is None:
            known = self.sides[name, "out"] = LayerSide(name, "out", self.fresh(n))
            self.freeze_protected(name, known.ids)
        return known.ids

    def reads(self, name: str, value: Value | None, axis: int, n: int) -> np.ndarray | None:
        """Labels of the `n` channels that a layer reads along `axis`; None where no single label names each.

        `record` them with `side(name, "in", ids)` where the layer has a weight column for each.
        """
        if value is None:
            return None
        ids = channel_labels(value, axis, n)
        if ids is None:
            self.freeze(value.labels, f"{name} reads a tensor whose channels lie elsewhere")
        return ids

    def side(self, name: str, kind: SideKind, ids: np.ndarray) -> None:
        """Note what one side of a layer holds; at a further call of it, the channels meet one to one."""
        known = self.sides.get((name, kind))
        if known is None:
            self.sides[name, kind] = LayerSide(name, kind, ids)
        else:
            self.link(known.ids, ids)

    def tensor(self, name: str, axis: int, n: int) -> np.ndarray:
        """Labels of the `n` channels along `axis` of a parameter or buffer that no layer owns."""
        known = self.sides.get((name, "tensor"))
        if known is None:
            known = self.sides[name, "tensor"] = LayerSide(name, "tensor", self.fresh(n), axis)
        elif known.axis != axis:
            reason = f"parameter {name} holds channels along two dimensions"
            self.freeze(known.ids, reason)
            other = self.fresh(n)
            self.freeze(other, reason)
            return other
        return known.ids

    def counted(self, node: Any, ids: np.ndarray) -> bool:
        """Note the whole numbers of the module in which an operation ran that say how many the channels `ids` are.

        Returns:
            Whether there are any. They are written anew where channels are removed.
        """
        places = self.numbers.of(self.owners.get(node), ids.size)
        for place in places:
            self.side(place, "count", ids.ravel())
        return bool(places)

    def works(self, node: Any, ids: np.ndarray, macs: int) -> None:
        """Note an operation outside of layers that costs `macs` multiply-adds for each of its channels."""
        if not self.lenient:
            name = f"{self.owners.get(node, '')}:operation:{len(self.sides)}"
            self.side(name, "work", ids)
            self.positions[name] = macs

    def multiplied(self, name: str, positions: int) -> None:
        """Note that a call of a layer multiplies its kernel `positions` times."""
        self.positions[name] = self.positions.get(name, 0) + positions

    def freeze_protected(self, name: str, ids: np.ndarray) -> None:
        """Freeze a layer's output channels where the caller asked for it."""
        if name in self.protect:
            self.freeze(ids, "protected by the caller")


def channel_labels(value: Value, axis: int, n: int) -> np.ndarray | None:
    """The labels along `axis`, int64 [n], if they vary there and nowhere else; None otherwise."""
    axis %= len(value.shape)
    if value.shape[axis] != n or value.labels.size != value.labels.shape[axis]:
        return None
    ids = value.labels.ravel()
    if len(ids) == n:
        return ids
    return None if n > 1 else ids


def along(ids: np.ndarray, axis: int, rank: int) -> np.ndarray:
    """`ids` [n] laid along `axis` of a tensor with `rank` dimensions: [1, …, n, …, 1]."""
    shape = [1] * rank
    shape[axis] = -1
    return ids.reshape(shape)
