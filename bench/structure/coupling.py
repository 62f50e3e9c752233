"""From labelled channels to channel groups: which channels take the same part in the same layers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from bench.structure.groups import ChannelGroup, Member
from bench.structure.labels import LayerSide
from bench.structure.walk import Atoms

Signature = tuple[tuple[int, int], ...]
"""What atoms of one group have in common: (number of a side, rows that an atom has there)."""


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
    sides = sorted(atoms.sides, key=lambda s: (s.kind != "out", position[s.module]))
    places = _places(atoms, sides)
    found = Coupled()
    classes = _classes(atoms, sides, places, found)
    shared = Counter(signature[0][0] for signature in classes)
    groups: list[ChannelGroup] = []
    for signature, members in classes.items():
        first, bundle = signature[0]
        members.sort(key=lambda atom: places[atom][first][0])
        name = sides[first].module
        if shared[first] > 1:
            name += f"[{places[members[0]][first][0]}]"
        if len(members) < 2:
            reason = f"its {bundle} channels can only go together" if bundle > 1 else "it has one channel"
            found.skipped[name, reason] = None
            found.whole |= {sides[n].module: reason for n, _ in signature if sides[n].kind != "in"}
            continue
        parts = tuple(
            Member(sides[n].module, sides[n].kind, np.array([places[a][n] for a in members]), len(sides[n].ids))
            for n, _ in signature
        )
        last = set[str]().union(*(atoms.tails[m.module] for m in parts if m.kind == "in"))
        gates = tuple(m for m in parts if m.kind != "in" and m.module in last)
        groups.append(ChannelGroup(name, len(members) * bundle, bundle, parts, gates))
    order = {side.module: i for i, side in reversed(list(enumerate(sides)))}
    groups.sort(key=lambda g: (order[g.members[0].module], int(g.members[0].rows[0, 0])))
    found.groups = tuple(groups)
    return found


def _places(atoms: Atoms, sides: Sequence[LayerSide]) -> dict[int, dict[int, list[int]]]:
    """Atom -> number of a side -> the atom's rows there."""
    places: dict[int, dict[int, list[int]]] = {}
    for number, side in enumerate(sides):
        for row, atom in enumerate(atoms.of_label[side.ids].tolist()):
            places.setdefault(atom, {}).setdefault(number, []).append(row)
    return places


def _classes(
    atoms: Atoms, sides: Sequence[LayerSide], places: dict[int, dict[int, list[int]]], found: Coupled
) -> dict[Signature, list[int]]:
    """Atoms by their signature; those that are frozen go into `found`, and those that no layer makes are left out."""
    classes: dict[Signature, list[int]] = {}
    for atom, rows in places.items():
        first = min(rows)
        if atom in atoms.frozen:
            found.whole |= {sides[n].module: atoms.frozen[atom] for n in rows if sides[n].kind != "in"}
        if sides[first].kind != "out":
            continue
        if atom in atoms.frozen:
            found.skipped[sides[first].module, atoms.frozen[atom]] = None
            continue
        signature = tuple(sorted((number, len(r)) for number, r in rows.items()))
        classes.setdefault(signature, []).append(atom)
    return classes
