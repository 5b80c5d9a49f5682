"""Self-attention over the pixels of an image."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

from numpy.random import Generator

from ddpm_np._arrays import Array, array_namespace
from ddpm_np._checks import check_integer, settle
from ddpm_np.nn.convolution import GroupNorm, GroupNormParams, check_groups
from ddpm_np.nn.image_ops import check_images
from ddpm_np.nn.layers import Linear, LinearParams
from ddpm_np.nn.ops import Ops


class SelfAttentionParams(NamedTuple):
    """Parameters of :class:`SelfAttention`, or their gradients."""

    norm: GroupNormParams
    entry: LinearParams
    """To queries, keys and values: shapes (n, 3 n) and (3 n,)."""
    exit: LinearParams
    """Shapes (n, n) and (n,)."""


@dataclass(frozen=True)
class SelfAttention:
    """Every pixel attends to every pixel, Vaswani et al. 2017; put it in a :class:`Residual`.

        query, key, value = Linear(GroupNorm(x)), cut in three, and each in heads
        weights = softmax(query @ key^T / sqrt(size)), with size = channels / heads
        y = Linear(weights @ value, of all heads side by side)

    Shapes (B, H, W, channels) to the same. Groups and heads divide the channels. The last weights
    start at 0, and so does y.
    """

    channels: int
    heads: int
    groups: int

    def __post_init__(self) -> None:
        channels, groups = check_groups("channels", self.channels, self.groups)
        settle(self, channels=channels, groups=groups, heads=check_integer("heads", self.heads, 1))
        if self.channels % self.heads:
            raise ValueError(f"heads must divide channels, {self.channels}, got {self.heads}")

    @cached_property
    def norm(self) -> GroupNorm:
        """The normalisation of x."""
        return GroupNorm(self.channels, self.groups)

    @cached_property
    def entry(self) -> Linear:
        """The map to queries, keys and values."""
        return Linear(self.channels, 3 * self.channels)

    @cached_property
    def exit(self) -> Linear:
        """The map of the attended values."""
        return Linear(self.channels, self.channels, gain=0.0)

    def init(self, rng: Generator) -> SelfAttentionParams:
        """Draw initial parameters."""
        return SelfAttentionParams(self.norm.init(rng), self.entry.init(rng), self.exit.init(rng))

    def forward(self, params: SelfAttentionParams, x: Array, ops: Ops) -> tuple[Array, Any]:
        """Return y and the caches of its four parts."""
        xp = check_images("x", x, self.channels)
        h, norm_cache = self.norm.forward(params.norm, x, ops)
        h, entry_cache = self.entry.forward(params.entry, xp.reshape(h, (-1, self.channels)), ops)
        h, heads_cache = _attend(self._to_heads(h, x.shape[0], 3))
        h, exit_cache = self.exit.forward(params.exit, self._to_rows(h), ops)
        return xp.reshape(h, x.shape), (norm_cache, entry_cache, heads_cache, exit_cache)

    def backward(
        self, params: SelfAttentionParams, cache: Any, dy: Array, ops: Ops
    ) -> tuple[Array, SelfAttentionParams]:
        """Return the gradients of x and of the parameters."""
        norm_cache, entry_cache, heads_cache, exit_cache = cache
        xp = array_namespace(dy)
        dh = xp.reshape(dy, (-1, self.channels))
        dh, dexit = self.exit.backward(params.exit, exit_cache, dh, ops)
        dh = _attend_backward(self._to_heads(dh, dy.shape[0], 1), heads_cache)
        dh, dentry = self.entry.backward(params.entry, entry_cache, self._to_rows(dh), ops)
        dx, dnorm = self.norm.backward(params.norm, norm_cache, xp.reshape(dh, dy.shape), ops)
        return dx, SelfAttentionParams(dnorm, dentry, dexit)

    def _to_heads(self, rows: Array, batch: int, parts: int) -> Array:
        """Shape (B * pixels, parts * n) to (parts, B, heads, pixels, n / heads)."""
        xp = array_namespace(rows)
        shape = (batch, -1, parts, self.heads, self.channels // self.heads)
        return xp.permute_dims(xp.reshape(rows, shape), (2, 0, 3, 1, 4))

    def _to_rows(self, parts: Array) -> Array:
        """Undo :meth:`_to_heads`."""
        xp = array_namespace(parts)
        rows = xp.permute_dims(parts, (1, 3, 0, 2, 4))
        return xp.reshape(rows, (-1, parts.shape[0] * self.channels))


def _attend(parts: Array) -> tuple[Array, Any]:
    """Attention of each head: softmax(query @ key^T / sqrt(size)) @ value.

    Shapes (3, ..., pixels, size) to (1, ..., pixels, size).
    """
    xp = array_namespace(parts)
    query, key, value = parts[0, ...] * parts.shape[-1] ** -0.5, parts[1, ...], parts[2, ...]
    scores = query @ xp.matrix_transpose(key)
    # The largest score cancels, in the weights and in their derivative; exp cannot overflow.
    weights = xp.exp(scores - xp.max(scores, axis=-1, keepdims=True))
    weights = weights / xp.sum(weights, axis=-1, keepdims=True)
    return (weights @ value)[None, ...], (query, key, value, weights)


def _attend_backward(dy: Array, cache: Any) -> Array:
    """Gradient of :func:`_attend`."""
    query, key, value, weights = cache
    xp, dy = array_namespace(dy), dy[0, ...]
    dvalue = xp.matrix_transpose(weights) @ dy
    dweights = dy @ xp.matrix_transpose(value)
    dscores = weights * (dweights - xp.sum(dweights * weights, axis=-1, keepdims=True))
    dkey = xp.matrix_transpose(dscores) @ query
    dquery = (dscores @ key) * query.shape[-1] ** -0.5
    return xp.stack([dquery, dkey, dvalue])
