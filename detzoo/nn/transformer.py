"""The transformer of DETR's kind (Carion 2020, arXiv:2005.12872, appendix A.3).

Norms come after the sums, and positions are added to queries and keys at every attention, never to
the values. Shape letters: B images, S keys, N queries, D channels, E heads.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Attention(nn.Module):
    """forward: (B, N, D) queries, (B, S, D) keys, (B, S, D) values, mask -> (B, N, D).

    mask: (B, 1, N or 1, S) bool, True where a key may be attended to; None: everywhere.
    """

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"width is {width}, which {heads} heads cannot share")
        self.heads, self.dropout = heads, dropout
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None
    ) -> Tensor:
        q, k, v = self.query(query), self.key(key), self.value(value)
        q, k, v = (x.unflatten(2, (self.heads, -1)).transpose(1, 2) for x in (q, k, v))
        dropout = self.dropout if self.training else 0.0
        x = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout)
        return self.out(x.transpose(1, 2).flatten(2))  # (B, E, N, D / E) -> (B, N, D)


class FeedForward(nn.Sequential):
    def __init__(self, width: int, hidden: int, dropout: float) -> None:
        layers = nn.Linear(width, hidden), nn.ReLU(), nn.Dropout(dropout), nn.Linear(hidden, width)
        super().__init__(*layers)


class EncoderLayer(nn.Module):
    """forward: (B, S, D), positions (B, S, D) or None, mask -> (B, S, D)."""

    def __init__(self, width: int, heads: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.attention = Attention(width, heads, dropout)
        self.feed_forward = FeedForward(width, hidden, dropout)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.drop = nn.Dropout(dropout)

    def forward(self, x: Tensor, positions: Tensor | None, mask: Tensor | None) -> Tensor:
        placed = _placed(x, positions)
        x = self.norms[0](x + self.drop(self.attention(placed, placed, x, mask)))
        return self.norms[1](x + self.drop(self.feed_forward(x)))


class DecoderLayer(nn.Module):
    """forward: (B, N, D), its positions, (B, S, D) memory, its positions, masks -> (B, N, D).

    mask: of the memory's cells; sees: which query may look at which (see Attention).
    """

    def __init__(self, width: int, heads: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.self_attention = Attention(width, heads, dropout)
        self.cross_attention = Attention(width, heads, dropout)
        self.feed_forward = FeedForward(width, hidden, dropout)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(3))
        self.drop = nn.Dropout(dropout)

    def forward(
        self,
        x: Tensor,
        query_positions: Tensor,
        memory: Tensor,
        positions: Tensor | None,
        mask: Tensor | None,
        sees: Tensor | None = None,
    ) -> Tensor:
        placed = x + query_positions
        x = self.norms[0](x + self.drop(self.self_attention(placed, placed, x, sees)))
        keys = _placed(memory, positions)
        found = self.cross_attention(x + query_positions, keys, memory, mask)
        x = self.norms[1](x + self.drop(found))
        return self.norms[2](x + self.drop(self.feed_forward(x)))


class Memory(NamedTuple):
    cells: Tensor  # (B, S, D)
    places: Tensor | None  # (B, S, D), for the decoder
    inside: Tensor | None  # (B, 1, 1, S) bool: False in padding; None: no padding


class Transformer(nn.Module):
    """encode: a map -> Memory; decode: queries that attend to it -> (L, B, N, D).

    boxed: a query's position is made of a box; otherwise it is a free vector, `queries` of them.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        hidden: int,
        encoder_layers: int,
        decoder_layers: int,
        queries: int,
        dropout: float,
        position: str,
        boxed: bool = False,
    ) -> None:
        super().__init__()
        layer = (width, heads, hidden, dropout)
        self.encoder = nn.ModuleList(EncoderLayer(*layer) for _ in range(encoder_layers))
        self.decoder = nn.ModuleList(DecoderLayer(*layer) for _ in range(decoder_layers))
        self.norm = nn.LayerNorm(width)
        self.queries = None if boxed else nn.Embedding(queries, width)
        if boxed:
            layers = nn.Linear(2 * width, width), nn.ReLU(), nn.Linear(width, width)
            self.place = nn.Sequential(*layers)
        self.position = position
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.xavier_uniform_(parameter)  # section 4

    def encode(self, x: Tensor, mask: Tensor | None) -> Memory:
        """(B, D, H, W), mask (B, H, W) bool, True in the image; None: no padding."""
        shown = x.new_ones(len(x), *x.shape[2:], dtype=torch.bool) if mask is None else mask
        places = sine_positions(shown, x.shape[1]).flatten(1, 2).to(x.dtype)  # (B, S, D)
        inside = None if mask is None else mask.flatten(1)[:, None, None]
        cells = x.flatten(2).mT
        if self.position == "input":
            cells = cells + places
        for layer in self.encoder:
            cells = layer(cells, places if self.position == "attention" else None, inside)
        return Memory(cells, places if self.position in ("attention", "decoder") else None, inside)

    def decode(
        self,
        memory: Memory,
        boxes: Tensor | None = None,
        content: Tensor | None = None,
        sees: Tensor | None = None,
    ) -> Tensor:
        """boxes: (B, N, 4) centre and size, the queries' places. content: (B, N, D), their features
        (None: zeros, section 3.2). sees: which sees which (see DecoderLayer)."""
        if boxes is None:
            query = self.queries.weight.expand(len(memory.cells), -1, -1)
        else:
            waves = [sine_of(part, memory.cells.shape[2]) for part in boxes.split(2, -1)]
            query = self.place(torch.cat(waves, -1).to(memory.cells.dtype))  # (B, N, D)
        found, layers = torch.zeros_like(query) if content is None else content, []
        for layer in self.decoder:
            found = layer(found, query, *memory, sees)
            layers.append(self.norm(found))
        return torch.stack(layers)


def _placed(x: Tensor, positions: Tensor | None) -> Tensor:
    return x if positions is None else x + positions


def sine_positions(mask: Tensor, width: int, temperature: float = 10000.0) -> Tensor:
    """(B, H, W) bool, True in the image -> (B, H, W, D) float32 (appendix A.4).

    Half of the channels for y, half for x, each counted from 1 in the image and divided by how far
    the image reaches, so that an image's padding does not move its positions; in sines and cosines
    of wavelengths from 2 pi to `temperature` 2 pi.
    """
    inside = mask.float()
    y, x = inside.cumsum(1), inside.cumsum(2)
    y, x = (p / (p.amax(d, keepdim=True) + 1e-6) for p, d in ((y, 1), (x, 2)))
    return sine_of(torch.stack([x, y], -1), width, temperature)


def sine_of(points: Tensor, width: int, temperature: float = 10000.0) -> Tensor:
    """(..., 2) x and y in [0, 1] -> (..., D) float32: what a cell that ends there has."""
    half = width // 2
    pair = torch.arange(half, device=points.device) // 2
    wavelength = temperature ** (2 * pair.float() / half)
    angles = (2 * math.pi * points.flip(-1)[..., None] / wavelength).unflatten(-1, (-1, 2))
    # (..., 2, D / 4, 2): sine and cosine by turns
    waves = torch.stack([angles[..., 0].sin(), angles[..., 1].cos()], -1)
    return waves.flatten(-3)
