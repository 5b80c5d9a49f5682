"""The convolutional network in PyTorch, channels last in memory, as oneDNN likes it best."""

import math

import torch
import works
from torch import Tensor
from torch.nn import functional


class Block(torch.nn.Module):
    """Two convolutions; between them the embedding scales and shifts."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = torch.nn.GroupNorm(works.GROUPS, width)
        self.first = torch.nn.Conv2d(width, width, 3, padding=1)
        self.modulation = torch.nn.Linear(works.EMBEDDING, 2 * width)
        self.last = torch.nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """Shape (B, width, H, W), as x."""
        h = self.first(functional.silu(self.norm(x)))
        scale, shift = self.modulation(embedding)[:, :, None, None].chunk(2, 1)
        h = (1.0 + scale) * functional.group_norm(h, works.GROUPS) + shift
        return x + self.last(functional.silu(h))


class ImageDenoiser(torch.nn.Module):
    """What ConvDenoiser(1, T, width, blocks) is; parameters in the same order."""

    def __init__(self, T: int, width: int) -> None:
        super().__init__()
        size = works.EMBEDDING
        self.embed = torch.nn.ModuleList([torch.nn.Linear(size, size), torch.nn.Linear(size, size)])
        self.entry = torch.nn.Conv2d(1, width, 3, padding=1)
        self.blocks = torch.nn.ModuleList(Block(width) for _ in range(works.BLOCKS))
        self.norm = torch.nn.GroupNorm(works.GROUPS, width)
        self.exit = torch.nn.Conv2d(width, 1, 3, padding=1)
        half = size // 2
        frequencies = torch.exp(-math.log(10000.0) * torch.arange(half, dtype=torch.float64) / half)
        angles = (1000.0 / T) * torch.arange(T + 1, dtype=torch.float64)[:, None] * frequencies
        self.register_buffer("table", torch.cat([angles.sin(), angles.cos()], 1).float())

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """The prediction for images (B, 1, H, W) with a time for each."""
        first, second = self.embed
        embedding = functional.silu(second(functional.silu(first(self.table[t]))))
        h = self.entry(x)
        for block in self.blocks:
            h = block(h, embedding)
        return self.exit(functional.silu(self.norm(h)))
