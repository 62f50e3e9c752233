"""Costs that are bilinear in the widths: multiply-adds and parameters of a network that is not built yet.

A layer that reads n_in channels and makes n_out costs coef·n_in·n_out, where each n is a constant (channels
that stay) plus counts times the widths of the groups that feed it. All layers at once: with w the kept widths,
cost = Σ_l coef_l · (A_in w + c_in)_l · (A_out w + c_out)_l · presence_l + constants.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch


@dataclass(frozen=True)
class Term:
    """coef · n_in · n_out / divisor, inside block number `block` (-1: none)."""

    coef: int
    divisor: int
    in_const: int
    in_counts: dict[int, int]  # group number -> channels per unit of its width
    out_const: int
    out_counts: dict[int, int]
    block: int = -1


class Bilinear:
    """The sum of terms over `groups` widths, counted in bundles, and `blocks` presences.

    `constants[b]` is spent while block b is there; the last entry always.
    """

    def __init__(self, terms: Sequence[Term], groups: int, constants: Sequence[int]) -> None:
        n = len(terms)
        self.a_in, self.a_out = np.zeros((n, groups), np.int64), np.zeros((n, groups), np.int64)
        for i, term in enumerate(terms):
            for g, count in term.in_counts.items():
                self.a_in[i, g] = count
            for g, count in term.out_counts.items():
                self.a_out[i, g] = count
        self.c_in = np.array([t.in_const for t in terms], np.int64)
        self.c_out = np.array([t.out_const for t in terms], np.int64)
        self.coef = np.array([t.coef for t in terms], np.int64)
        self.divisor = np.array([t.divisor for t in terms], np.int64)
        self.block = np.array([t.block % len(constants) for t in terms], np.int64)
        self.constants = np.array(constants, np.int64)
        self._tensors: dict[torch.device, tuple[torch.Tensor, ...]] = {}

    def exact(self, units: np.ndarray, present: np.ndarray) -> int:
        """units: int64 [groups]; present: int64 [blocks] of 0 or 1."""
        here = np.append(present, 1)
        each = self.coef * (self.a_in @ units + self.c_in) * (self.a_out @ units + self.c_out) // self.divisor
        return int((each * here[self.block]).sum() + (self.constants * here).sum())

    def smooth(self, units: torch.Tensor, present: torch.Tensor) -> torch.Tensor:
        """units: float64 [groups]; present: float64 [blocks]. Returns a float64 scalar, differentiable."""
        if units.device not in self._tensors:
            scale = self.coef / self.divisor
            arrays = (self.a_in, self.c_in, self.a_out, self.c_out, scale, self.constants)
            self._tensors[units.device] = (
                *(torch.tensor(a, dtype=torch.float64, device=units.device) for a in arrays),
                torch.tensor(self.block, device=units.device),
            )
        a_in, c_in, a_out, c_out, scale, constants, block = self._tensors[units.device]
        here = torch.cat([present, present.new_ones(1)])
        each = scale * (a_in @ units + c_in) * (a_out @ units + c_out)
        return (each * here[block]).sum() + constants @ here

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_tensors": {}}
