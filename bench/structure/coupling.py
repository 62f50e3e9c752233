"""From labelled channels to channel groups: which channels take the same part in the same layers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from bench.structure.groups import ChannelGroup, Member
from bench.structure.labels import LayerSide
from bench.structure.walk import Atoms


@dataclass
class Coupled:
    """The groups of a network, and what is left whole."""

    groups: tuple[ChannelGroup, ...] = ()
    skipped: dict[tuple[str, str], None] = field(default_factory=dict)
    """(layer or group, reason), in order; layers that share its channels are not repeated."""
    whole: dict[str, str] = field(default_factory=dict)
    """Every layer with output channels that cannot be removed, and why."""


def couple(atoms: Atoms) -> Coupled:
    """Atoms with the same members in the same numbers make one group; frozen ones are named."""
    position = {name: i for i, name in enumerate(atoms.order)}
    last = len(position)
    sides = sorted(atoms.sides, key=lambda s: (s.kind != "out", position.get(s.module, last)))
    places = _Places(atoms, sides)
    found = Coupled()
    classes = _classes(atoms, sides, places, found)
    shared = Counter(members[0].first_side for members in classes)
    groups: list[ChannelGroup] = []
    for members in classes:
        first = members[0].first_side
        bundle = members[0].counts[0]
        name = sides[first].module
        if shared[first] > 1:
            name += f"[{members[0].first_row}]"
        if len(members) < 2:
            reason = f"its {bundle} channels can only go together" if bundle > 1 else "it has one channel"
            found.skipped[name, reason] = None
            found.whole |= {sides[n].module: reason for n in members[0].sides if sides[n].kind in ("out", "pass")}
            continue
        parts = tuple(
            Member(sides[n].module, sides[n].kind, places.rows_of(members, k), len(sides[n].ids), sides[n].axis)
            for k, n in enumerate(members[0].sides)
        )
        before = set[str]().union(*(atoms.tails.get(m.module, ()) for m in parts if m.kind == "in"))
        gates = tuple(m for m in parts if m.kind in ("out", "pass") and m.module in before)
        groups.append(ChannelGroup(name, len(members) * bundle, bundle, parts, gates))
    order = {side.module: i for i, side in reversed(list(enumerate(sides)))}
    groups.sort(key=lambda g: (order[g.members[0].module], int(g.members[0].rows[0, 0])))
    found.groups = tuple(groups)
    return found


@dataclass(frozen=True)
class _Place:
    """Where the channels of one atom are: by side, in ascending order, how many rows, and where they are listed."""

    atom: int
    sides: tuple[int, ...]
    counts: tuple[int, ...]
    starts: tuple[int, ...]
    first_row: int

    @property
    def first_side(self) -> int:
        return self.sides[0]


class _Places:
    """The rows of every atom on every side, sorted by atom and side."""

    def __init__(self, atoms: Atoms, sides: Sequence[LayerSide]) -> None:
        empty = np.zeros(0, np.int64)
        n = max(1, len(sides))
        key = np.concatenate([empty, *(atoms.of_label[side.ids] * n + i for i, side in enumerate(sides))])
        row = np.concatenate([empty, *(np.arange(len(side.ids)) for side in sides)])
        order = np.argsort(key, kind="stable")
        key, self._rows = key[order], row[order]
        starts = np.flatnonzero(np.diff(key, prepend=-1))  # of runs of one atom on one side
        counts = np.diff(starts, append=len(key))
        atom, side = np.divmod(key[starts], n)
        ends = np.append(np.flatnonzero(np.diff(atom)) + 1, len(atom)).tolist() if len(atom) else []
        ids, side, counts = atom.tolist(), side.tolist(), counts.tolist()
        firsts, starts = self._rows[starts].tolist() if len(starts) else [], starts.tolist()
        self.all: list[_Place] = []
        begin = 0
        for end in ends:
            part = slice(begin, end)
            place = _Place(ids[begin], tuple(side[part]), tuple(counts[part]), tuple(starts[part]), firsts[begin])
            self.all.append(place)
            begin = end
        self.all.sort(key=lambda place: (place.first_side, place.first_row))

    def rows_of(self, members: Sequence[_Place], k: int) -> np.ndarray:
        """The rows of each member on its side number `k`, int64 [members, rows]."""
        starts = np.array([place.starts[k] for place in members])
        return self._rows[starts[:, None] + np.arange(members[0].counts[k])]


def _classes(atoms: Atoms, sides: Sequence[LayerSide], places: _Places, found: Coupled) -> list[list[_Place]]:
    """Atoms of one kind together; those that are frozen go into `found`, those that no layer makes are left out."""
    classes: dict[tuple[tuple[int, ...], tuple[int, ...]], list[_Place]] = {}
    for place in places.all:
        first = sides[place.first_side]
        reason = atoms.frozen.get(place.atom)
        if reason is not None:
            for n in place.sides:
                if sides[n].kind in ("out", "pass"):
                    found.whole[sides[n].module] = reason
        if first.kind != "out":
            continue
        if reason is not None:
            found.skipped[first.module, reason] = None
            continue
        classes.setdefault((place.sides, place.counts), []).append(place)
    return list(classes.values())
