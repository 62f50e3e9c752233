"""Attention, transformers and recurrent layers, alone and beside convolutions."""

from __future__ import annotations

import torch
import torch.nn as nn
import torch.nn.functional as F

from tests.bench.structure.patterns.base import Net, pattern


@pattern("part", 0.35)
class MultiheadAttention(Net):
    def build(self) -> None:
        self.attention = nn.MultiheadAttention(16, 2, batch_first=True)

    def middle(self, y: torch.Tensor) -> torch.Tensor:
        tokens = y.flatten(2).transpose(1, 2)
        return F.relu(self.attention(tokens, tokens, tokens)[0]).transpose(1, 2).reshape(y.shape)


@pattern("part", 0.3)
class OwnAttentionByEinsum(Net):
    """Queries, keys and values from 1×1 convolutions."""

    def build(self) -> None:
        self.q, self.k, self.v = nn.Conv2d(16, 8, 1), nn.Conv2d(16, 8, 1), nn.Conv2d(16, 16, 1)

    def middle(self, y: torch.Tensor) -> torch.Tensor:
        y = F.relu(y)
        q, k, v = (f(y).flatten(2) for f in (self.q, self.k, self.v))
        weights = torch.einsum("ncs,nct->nst", q, k).softmax(-1)
        return F.relu(torch.einsum("nst,nct->ncs", weights, v).view(y.shape) + y)


@pattern("part", 0.3)
class FusedQkv(Net):
    """One layer makes queries, keys and values of two heads."""

    def build(self) -> None:
        self.qkv, self.out = nn.Linear(16, 48), nn.Linear(16, 16)

    def middle(self, y: torch.Tensor) -> torch.Tensor:
        n, c, h, w = y.shape
        tokens = y.flatten(2).transpose(1, 2)
        q, k, v = self.qkv(tokens).reshape(n, h * w, 3, 2, 8).permute(2, 0, 3, 1, 4).unbind(0)
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(n, h * w, c)
        return F.relu(self.out(mixed)).transpose(1, 2).reshape(n, c, h, w)


@pattern("part", 0.3)
class LinearAttention(Net):
    """Keys times values first: channels against channels."""

    def build(self) -> None:
        self.qkv = nn.Conv2d(16, 48, 1)

    def middle(self, y: torch.Tensor) -> torch.Tensor:
        q, k, v = self.qkv(F.relu(y)).flatten(2).chunk(3, 1)
        context = k.softmax(-1) @ v.transpose(1, 2)
        return F.relu((context.transpose(1, 2) @ q.softmax(1)).view(y.shape) + y)


@pattern("part", 0.3)
class TransformerBesideConvolutions(Net):
    def build(self) -> None:
        self.block = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True, dropout=0.0)

    def middle(self, y: torch.Tensor) -> torch.Tensor:
        return self.block(y.flatten(2).transpose(1, 2)).transpose(1, 2).reshape(y.shape)


@pattern("part", 0.3)
class VisionTransformerBlock(nn.Module):
    """Patches, a class token, positions, norms and an MLP whose hidden channels can go."""

    def __init__(self) -> None:
        super().__init__()
        self.patches, self.token = nn.Conv2d(3, 16, 4, 4), nn.Parameter(torch.zeros(1, 1, 16))
        self.position = nn.Parameter(torch.zeros(1, 5, 16))
        self.norm1, self.norm2, self.norm = nn.LayerNorm(16), nn.LayerNorm(16), nn.LayerNorm(16)
        self.attention = nn.MultiheadAttention(16, 2, batch_first=True)
        self.mlp, self.head = nn.Sequential(nn.Linear(16, 64), nn.GELU(), nn.Linear(64, 16)), nn.Linear(16, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(len(x), -1, -1), x], 1) + self.position
        y = self.norm1(x)
        x = x + self.attention(y, y, y, need_weights=False)[0]
        x = x + self.mlp(self.norm2(x))
        return self.head(self.norm(x)[:, 0])


@pattern("exact", 0.8)
class SpatialAttentionOverOneMap(Net):
    """Weights over places from one channel pool the others (GCNet)."""

    def build(self) -> None:
        self.mask, self.transform = (
            nn.Conv2d(16, 1, 1),
            nn.Sequential(nn.Conv2d(16, 8, 1), nn.ReLU(), nn.Conv2d(8, 16, 1)),
        )

    def middle(self, y: torch.Tensor) -> torch.Tensor:
        weights = self.mask(y).flatten(2).softmax(-1).view(y.shape[0], 1, *y.shape[2:])
        return F.relu(y + self.transform((y * weights).sum((2, 3), keepdim=True)))


@pattern("exact", 0.8)
class CoordinateAttention(Net):
    """Pooled rows and columns are joined along space, convolved together and split again."""

    def build(self) -> None:
        self.join, self.rows, self.columns = nn.Conv2d(16, 8, 1), nn.Conv2d(8, 16, 1), nn.Conv2d(8, 16, 1)

    def middle(self, y: torch.Tensor) -> torch.Tensor:
        h, w = y.shape[2:]
        both = torch.cat([y.mean(3, keepdim=True), y.mean(2, keepdim=True).transpose(2, 3)], 2)
        rows, columns = F.hardswish(self.join(both)).split([h, w], 2)
        return y * torch.sigmoid(self.rows(rows)) * torch.sigmoid(self.columns(columns.transpose(2, 3)))


@pattern("refused")
class Recurrent(Net):
    """`nn.LSTM` multiplies out of the counter's sight."""

    def build(self) -> None:
        self.lstm = nn.LSTM(16, 16, batch_first=True)

    def middle(self, y: torch.Tensor) -> torch.Tensor:
        return self.lstm(y.flatten(2).transpose(1, 2))[0].transpose(1, 2).reshape(y.shape)


@pattern("part", 0.3, may_refuse=True)
class RecurrentCell(Net):
    """A GRU cell over columns, written as a loop."""

    def build(self) -> None:
        self.cell = nn.GRUCell(16, 16)

    def middle(self, y: torch.Tensor) -> torch.Tensor:
        state, states = y.new_zeros(y.shape[0], 16), []
        for column in y.mean(2).unbind(-1):
            state = self.cell(column, state)
            states.append(state)
        return F.relu(y) * torch.stack(states, -1)[:, :, None]


@pattern("exact", 0.8)
class ConvolutionalRecurrence(Net):
    """A convolution called three times on what it made, as in a ConvLSTM."""

    def build(self) -> None:
        self.step = nn.Conv2d(32, 16, 3, padding=1)

    def middle(self, y: torch.Tensor) -> torch.Tensor:
        state = torch.zeros_like(y)
        for _ in range(3):
            state = F.relu(self.step(torch.cat([y, state], 1)))
        return state
