"""Diffusion models whose every step is linear: log p_theta(x_0), the bound and the gap, exactly.

If mu_theta(x_t, t) is linear in x_t, then x_0 ... x_T are jointly Gaussian. The three sides of
log p_theta(x_0) = ELBO + KL are computed here from three different factorisations of it.

Everything is host float64, in nats, with nothing sampled; only :meth:`LinearGaussianChain.mean`
takes arrays of any library. x0 has shape (B, d), and results have one entry per example, shape
(B,), unless said otherwise. Anything else raises TypeError or ValueError.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddpm_np._arrays import Array, Samples, Table, check_arrays, device, from_1
from ddpm_np._checks import check_integer, describe
from ddpm_np.elbo import Elbo, prior_term
from ddpm_np.exact._gaussian import finite_array, gaussian_points
from ddpm_np.gaussians import LOG_2PI
from ddpm_np.losses import loss_constant
from ddpm_np.posterior import posterior_mean_coefficients
from ddpm_np.reverse import check_variances
from ddpm_np.schedules import Schedule, check_schedule


@dataclass(frozen=True, eq=False)
class LinearGaussianChain:
    """A diffusion model with linear means, M2 (30) and (31).

        p(x_T) = N(0, I),  p_theta(x_{t-1} | x_t) = N(slopes[t] x_t + offsets[t], sigma2[t] I)

    The tables are finite and read-only; entry 0 of each is not used.

    Parameters
    ----------
    schedule : Schedule
        Of q.
    slopes : array, shape (T + 1, d, d)
    offsets : array, shape (T + 1, d)
    sigma2 : Table, length T + 1
        Reverse variances, positive.
    """

    schedule: Schedule
    slopes: Table
    offsets: Table
    sigma2: Table

    def __post_init__(self) -> None:
        T = check_schedule(self.schedule).T
        offsets = finite_array("offsets", self.offsets)
        if offsets.ndim != 2 or len(offsets) != T + 1 or offsets.size == 0:
            raise ValueError(f"offsets must have shape (T + 1, d) with T = {T}, got {offsets.shape}")
        d = offsets.shape[1]
        slopes = finite_array("slopes", self.slopes)
        if slopes.shape != (T + 1, d, d):
            raise ValueError(f"slopes must have shape {(T + 1, d, d)}, got {slopes.shape}")
        sigma2 = check_variances(self.sigma2, T)
        for name, table in (("slopes", slopes), ("offsets", offsets), ("sigma2", sigma2)):
            table.flags.writeable = False
            object.__setattr__(self, name, table)

    @property
    def d(self) -> int:
        """The number of dimensions of one observation."""
        return int(self.offsets.shape[1])

    def mean(self, x_t: Array, t: int) -> Array:
        """Model mean, mu_theta(x_t, t) = slopes[t] x_t + offsets[t]; a ``predict`` with target "mean".

        x_t has shape (B, d), of any library, and 1 <= t <= T.
        """
        xp = check_arrays(x_t=x_t)
        t = check_integer("t", t, 1, self.schedule.T)
        if len(x_t.shape) != 2 or x_t.shape[1] != self.d:
            raise ValueError(f"x_t must have shape (B, {self.d}), got {x_t.shape}")
        where = {"dtype": x_t.dtype, "device": device(x_t)}
        slope = xp.asarray(np.ascontiguousarray(self.slopes[t].T), **where)
        return x_t @ slope + xp.asarray(self.offsets[t], **where)

    def log_density(self, x0: Samples) -> Table:
        """Exact log-likelihood, log p_theta(x_0), M2 (2): x_T ... x_1 integrated out one by one.

        m_{t-1} = slopes[t] m_t + offsets[t],  P_{t-1} = slopes[t] P_t slopes[t]^T + sigma2[t] I
        log p(x_0) = log N(x_0; m_0, P_0),  from m_T = 0, P_T = I
        """
        means, factors = self._marginals
        white = np.linalg.solve(factors[0], (self._check(x0) - means[0]).T)
        log_det = np.sum(np.log(np.abs(np.diag(factors[0]))))
        return -0.5 * np.sum(white**2, axis=0) - log_det - 0.5 * self.d * LOG_2PI

    def elbo(self, x0: Samples) -> Elbo:
        """Exact bound, term by term, M2 (19): the KL terms averaged over x_t in closed form.

        L_{t-1} = -E||posterior mean - mean||^2 / (2 sigma2[t]) + const,  M2 (32)
        E||B x_t + b||^2 = ||B sqrt(alpha_bar[t]) x_0 + b||^2 + (1 - alpha_bar[t]) ||B||^2
        """
        x0, s = self._check(x0), self.schedule
        t = np.arange(1, s.T + 1)
        c_xt, c_x0 = posterior_mean_coefficients(s, t)
        slopes = _scaled_identity(c_xt, self.d) - self.slopes[1:]
        at_x0 = np.sqrt(s.alpha_bar[1:, None, None]) * slopes + _scaled_identity(c_x0, self.d)
        error = np.sum((x0 @ _transposed(at_x0) - self.offsets[1:, None]) ** 2, axis=-1)
        error += (s.one_minus_alpha_bar[1:] * np.sum(slopes**2, axis=(1, 2)))[:, None]
        # At t = 1 the posterior mean is x_0, and the same squares make the reconstruction.
        L_0 = -0.5 * (error[0] / self.sigma2[1] + self.d * (np.log(self.sigma2[1]) + LOG_2PI))
        L = np.zeros((s.T + 1, len(x0)))
        L[2:] = -0.5 * error[1:] / self.sigma2[2:, None]
        L[2:] += loss_constant(s, t[1:], self.sigma2, self.d)[:, None]
        L_T = prior_term(s, x0)
        return Elbo(L_T, L, L_0, L_T + np.sum(L, axis=0) + L_0)

    def expected_step_log_density(self, x0: Samples) -> Table:
        """E over q(x_{t-1}, x_t | x_0) of log p_theta(x_{t-1} | x_t), for every t.

        x_{t-1} and x_t are drawn in that order, by (22) and (20); q(x_{t-1} | x_t, x_0) plays no part.
        Shape (T + 1, B); entry 0 is 0.
        """
        x0, s, A = self._check(x0), self.schedule, self.slopes[1:]
        signal, root_alpha = np.sqrt(s.alpha_bar), np.sqrt(s.alpha[1:])
        at_x0 = _scaled_identity(signal[:-1], self.d) - signal[1:, None, None] * A
        error = np.sum((x0 @ _transposed(at_x0) - self.offsets[1:, None]) ** 2, axis=-1)
        shared = np.eye(self.d) - root_alpha[:, None, None] * A  # the factor of the noise in x_{t-1}
        variance = s.one_minus_alpha_bar[:-1] * np.sum(shared**2, axis=(1, 2))
        variance += s.beta[1:] * np.sum(A**2, axis=(1, 2))
        sigma2 = self.sigma2[1:, None]
        steps = -0.5 * ((error + variance[:, None]) / sigma2 + self.d * (np.log(sigma2) + LOG_2PI))
        return from_1(steps)

    def elbo_expanded(self, x0: Samples) -> Table:
        """Exact bound from its expanded form, M2 (6); equals ``elbo(x0).total``.

        ELBO = E[log p(x_T)] + sum over t = 1..T of E[log p_theta(x_{t-1} | x_t)]
             + sum over t = 1..T of d/2 log(2 pi e beta[t])
        """
        x0, s = self._check(x0), self.schedule
        square = s.alpha_bar[-1] * np.sum(x0**2, axis=1) + self.d * s.one_minus_alpha_bar[-1]
        entropies = 0.5 * self.d * (1.0 + LOG_2PI + np.log(s.beta[1:]))
        steps = self.expected_step_log_density(x0)[1:] + entropies[:, None]
        return np.sum(steps, axis=0) - 0.5 * (square + self.d * LOG_2PI)

    def posterior(self) -> tuple[Table, Table, Table]:
        """Exact p_theta(x_{1:T} | x_0), as a Markov chain in the direction of q, by Bayes' rule.

            p_theta(x_{1:T} | x_0) = product over t of N(x_t; K[t] x_{t-1} + k[t], V[t])
            V[t]^-1 = P_t^-1 + slopes[t]^T slopes[t] / sigma2[t]
            K[t] = V[t] slopes[t]^T / sigma2[t],  k[t] = m_t - K[t] m_{t-1}

        with m_t and P_t as in :meth:`log_density`. K, k and V have shapes (T + 1, d, d),
        (T + 1, d) and (T + 1, d, d); entry 0 of each is 0.
        """
        white, white_gain, white_offset = self._whitened_posterior()
        K, root = np.linalg.solve(white, white_gain), np.linalg.inv(white)
        k = (root @ white_offset[..., None])[..., 0]
        return from_1(K), from_1(k), from_1(root @ _transposed(root))

    def posterior_log_density(self, path: Array) -> Table:
        """Log p_theta(x_{1:T} | x_0) of paths, shape (T + 1, B, d)."""
        path = finite_array("path", path)
        if path.ndim != 3 or path.shape[0] != self.schedule.T + 1 or path.shape[2] != self.d:
            raise ValueError(
                f"path must have shape ({self.schedule.T + 1}, B, {self.d}), got {path.shape}"
            )
        white, white_gain, white_offset = self._whitened_posterior()
        z = path[1:] @ _transposed(white) - path[:-1] @ _transposed(white_gain) - white_offset[:, None]
        log_det = np.sum(np.linalg.slogdet(white)[1])
        return log_det - 0.5 * np.sum(z**2 + LOG_2PI, axis=(0, 2))

    def gap(self, x0: Samples) -> Table:
        """Exact gap of the bound, KL(q(x_{1:T} | x_0) || p_theta(x_{1:T} | x_0)), M2 p. 25.

            KL = sum over t = 1..T of
                E over q(x_{t-1} | x_0) of KL(q(x_t | x_{t-1}) || p_theta(x_t | x_{t-1}))

        By the chain rule, as both are Markov in the direction of q. It shares no term with
        the bound, and with log_density only the marginals m_t and P_t. Never negative.
        """
        x0, s = self._check(x0), self.schedule
        white, white_gain, white_offset = self._whitened_posterior()
        root_alpha, signal = np.sqrt(s.alpha[1:]), np.sqrt(s.alpha_bar[:-1])
        # How the two means of x_t differ, per unit of x_{t-1}, in standard deviations of p_theta.
        slopes = root_alpha[:, None, None] * white - white_gain
        centre = signal[:, None, None] * (x0 @ _transposed(slopes)) - white_offset[:, None]
        spread = s.one_minus_alpha_bar[:-1] * np.sum(slopes**2, axis=(1, 2))
        excess = s.beta[1:] * np.sum(white**2, axis=(1, 2)) - self.d * (1.0 + np.log(s.beta[1:]))
        excess -= 2.0 * np.linalg.slogdet(white)[1]
        return 0.5 * np.sum(np.sum(centre**2, axis=-1) + (spread + excess)[:, None], axis=0)

    def expected_elbo(self, mean: Table, covariance: Table) -> Elbo:
        """Terms of the bound averaged over data x_0 ~ N(mean, covariance), exactly; no batch axis.

        They are quadratic in x_0, so the average over :func:`gaussian_points` is the expectation.
        """
        terms = self.elbo(gaussian_points(mean, covariance))
        return Elbo(*(np.mean(term, axis=-1) for term in terms))

    def expected_log_density(self, mean: Table, covariance: Table) -> float:
        """E[log p_theta(x_0)] over x_0 ~ N(mean, covariance); as :meth:`expected_elbo`."""
        return float(np.mean(self.log_density(gaussian_points(mean, covariance))))

    def expected_gap(self, mean: Table, covariance: Table) -> float:
        """E[gap(x_0)] over x_0 ~ N(mean, covariance); as :meth:`expected_elbo`."""
        return float(np.mean(self.gap(gaussian_points(mean, covariance))))

    @cached_property
    def _marginals(self) -> tuple[Table, Table]:
        """Means m_t and square roots of covariances, P_t = factor factor^T, of p_theta(x_t)."""
        T, d = self.schedule.T, self.d
        means, factors = np.zeros((T + 1, d)), np.zeros((T + 1, d, d))
        factors[T] = np.eye(d)
        for t in range(T, 0, -1):
            means[t - 1] = self.slopes[t] @ means[t] + self.offsets[t]
            # P = M^T M with M = [(A factor)^T; sigma I]; QR of M never squares the numbers.
            stack = np.concatenate(
                [(self.slopes[t] @ factors[t]).T, np.sqrt(self.sigma2[t]) * np.eye(d)]
            )
            factors[t - 1] = np.linalg.qr(stack).R.T
        return means, factors

    def _whitened_posterior(self) -> tuple[Table, Table, Table]:
        """W, W K and W k for t = 1..T, with K, k and V as in :meth:`posterior` and W^T W = V^-1.

        With A = slopes[t], c = offsets[t], P = S S^T, B = A S / sigma and R^T R = I + B^T B, no
        difference of large numbers occurs:
        W = R S^-1,  W K = R^-T B^T / sigma,  W k = R^-T S^-1 m - W K c.
        """
        means, factors = self._marginals
        sigma = np.sqrt(self.sigma2[1:, None, None])
        B = self.slopes[1:] @ factors[1:] / sigma
        R = np.linalg.qr(np.concatenate([B, np.broadcast_to(np.eye(self.d), B.shape)], axis=1)).R
        white = _transposed(np.linalg.solve(_transposed(factors[1:]), _transposed(R)))
        gain = np.linalg.solve(_transposed(R), _transposed(B) / sigma)
        offset = np.linalg.solve(_transposed(R), np.linalg.solve(factors[1:], means[1:, :, None]))
        return white, gain, (offset - gain @ self.offsets[1:, :, None])[..., 0]

    def _check(self, x0: Samples) -> Samples:
        check_arrays(x0=x0)
        if not isinstance(x0, np.ndarray):
            raise TypeError(f"x0 must be a NumPy array, got {describe(x0)}")
        if x0.ndim != 2 or x0.shape[1] != self.d:
            raise ValueError(f"x0 must have shape (B, {self.d}), got {x0.shape}")
        return x0.astype(np.float64)


def check_chain(chain: object) -> LinearGaussianChain:
    """Return ``chain`` if it is one, else raise TypeError."""
    if not isinstance(chain, LinearGaussianChain):
        raise TypeError(f"chain must be a LinearGaussianChain, got {describe(chain)}")
    return chain


def _scaled_identity(scale: Table, d: int) -> Table:
    """scale[t] I, shape (len(scale), d, d)."""
    return scale[:, None, None] * np.eye(d)


def _transposed(matrices: NDArray[Any]) -> NDArray[Any]:
    return np.swapaxes(matrices, -1, -2)
