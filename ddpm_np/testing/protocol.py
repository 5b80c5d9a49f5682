"""The methods that an implementation offers in order to be checked.

Time is 1-based and a plain ``int``: t = 1 is the step next to the data. Most code counts from
0; there, ask for ``t - 1``. Arrays arrive as NumPy float64 of shape (B, d) and the adapter
brings them into its framework. What it returns may be an array of any library that exports
DLPack or that ``numpy.asarray`` reads (PyTorch: detached), or a number where one is meant.
"""

from collections.abc import Callable
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ddpm_np._arrays import Array

Values: TypeAlias = NDArray[np.float64]
"""A NumPy array, float64."""

Predict: TypeAlias = Callable[[Values, int], Values]
"""A network: (x_t, t) to its target (eps, say), of the shape of x_t; NumPy arrays, with t = 1..T."""

BatchPredict: TypeAlias = Callable[[Values, NDArray[np.integer[Any]]], Values]
"""A network in training: as :data:`Predict`, with a time for each example, shape (B,), 1-based."""


class Implementation(Protocol):
    """The least that can be checked. All methods of :class:`CompleteImplementation` are optional.

    Attributes
    ----------
    T : int
        The number of steps.
    """

    @property
    def T(self) -> int:
        """The number of steps."""
        ...

    def betas(self) -> Array:
        """Return beta_1 ... beta_T, shape (T,): no entry for t = 0. M2 (20)."""
        ...


class CompleteImplementation(Implementation, Protocol):
    """Everything that can be checked.

    A method that is missing, is None or raises NotImplementedError is reported as not offered.
    """

    def alpha_bars(self) -> Array:
        """Return alpha_bar_1 ... alpha_bar_T, shape (T,): no entry for t = 0. M2 (22)."""
        ...

    def q_step(self, x_prev: Values, t: int, noise: Values) -> Array:
        """Return x_t made from x_{t-1} and this noise, shape of x_prev. M2 (20)."""
        ...

    def q_sample(self, x0: Values, t: int, noise: Values) -> Array:
        """Return x_t made from x0 and this noise, shape of x0. M2 (27)."""
        ...

    def q_posterior(self, x0: Values, x_t: Values, t: int) -> tuple[Array, Array]:
        """Return mean and variance of q(x_{t-1} | x_t, x_0). M2 (25), (26).

        The variance is a number or broadcasts against the mean.
        """
        ...

    def model_mean(self, x_t: Values, t: int, eps: Values) -> Array:
        """Return the model's mean of x_{t-1} when the network says ``eps``. M2 (34)."""
        ...

    def reverse_variance(self, t: int) -> Array | float:
        """Return sigma_t^2, the variance of the model's step, a number. M2 (31)."""
        ...

    def reverse_step(self, x_t: Values, t: int, eps: Values, z: Values) -> Array:
        """Return x_{t-1} sampled with this standard normal z. Ho Algorithm 2, one pass of its loop.

        ``z`` is handed over at t = 1 too, where the step has to ignore it.
        """
        ...

    def sample(self, predict: Predict, x_T: Values, noise: Values) -> Array:
        """Return x_0 of the whole loop. Ho Algorithm 2.

        ``predict(x_t, t)`` takes and returns NumPy arrays, with t = 1..T; ``noise`` has shape
        (T + 1, B, d), and ``noise[t]`` is z for the step from t to t - 1.
        """
        ...

    def eps_loss_weight(self, t: int) -> Array | float:
        """Return the weight of ||noise - eps||^2 in -L_{t-1}, a number. M2 (35)."""
        ...

    def x0_loss_weight(self, t: int) -> Array | float:
        """Return the weight of ||x0 - prediction||^2 in -L_{t-1}, a number."""
        ...

    def v_loss_weight(self, t: int) -> Array | float:
        """Return the weight of ||v - prediction||^2 in -L_{t-1}, a number."""
        ...

    def mean_loss_weight(self, t: int) -> Array | float:
        """Return the weight of ||posterior mean - prediction||^2 in -L_{t-1}, a number. M2 (33)."""
        ...

    def learned_variance(self, v: float, t: int) -> Array | float:
        """Return sigma_t^2 for what the network says of it, v in [0, 1], a number. ND (15).

        Its logarithm is v log beta[t] + (1 - v) log beta_tilde[t].
        """
        ...

    def loss(self, predict: BatchPredict, x0: Values, rng: np.random.Generator) -> Array | float:
        """Return the training loss of one batch, a number or shape (B,). Ho Algorithm 1.

        It draws its times and its noise from ``rng`` (integers, standard_normal, random,
        permutation ...); ``predict(x_t, t)`` gets t of shape (B,), 1-based.
        """
        ...

    def elbo_terms(self, predict: Predict, x0: Values, noise: Values) -> tuple[Array, Array, Array]:
        """Return L_T (B,), L (T + 1, B) and L_0 (B,) in nats per example. M2 (19).

        The signs are those of terms to be maximised: L_T and L are <= 0. ``L[t]`` is L_{t-1}
        for t = 2..T and 0 for t = 0 and 1. x_t is made with ``noise[t]``, noise of shape
        (T + 1, B, d), and ``predict`` is as in :meth:`sample`. The decoder of L_0 is Gaussian,
        with variance ``reverse_variance(1)``, unless another is announced.
        """
        ...
