"""The steps of the bound around the known network: both means, -KL, and which sigma_t^2 is in it."""

from typing import NamedTuple

import numpy as np

from ddpm_np._arrays import Table
from ddpm_np.testing._affine_model import model_steps
from ddpm_np.testing._quadrature import kl_by_quadrature
from ddpm_np.testing._subject import Subject
from ddpm_np.testing._truth import LARGEST_IMPRECISION, TimeArray, Truth
from ddpm_np.testing._variances import BETWEEN, OWN, closest, usual_variances
from ddpm_np.testing.protocol import Values


class Steps(NamedTuple):
    """Means of q(x_{t-1} | x_t, x_0) and of the model, shape (T + 1, B, d); entry 0 unused."""

    truth: Truth
    posterior: Values
    mean: Values

    @classmethod
    def of(cls, truth: Truth, x0: Values, x: Values) -> "Steps":
        """Of x_t for t = 0..T, made from x_0."""
        column = (slice(None), None, None)
        slope, offset = model_steps(truth)
        posterior = truth.c_xt[column] * x + truth.c_x0[column] * x0
        return cls(truth, posterior, slope[column] * x + offset[column])

    @property
    def squares(self) -> Values:
        """Squared distances of the means, shape (T + 1, B)."""
        squares: Values = np.sum((self.posterior - self.mean) ** 2, axis=2)
        return squares

    def terms(self, sigma2: Table, *, reversed: bool = False) -> Values:
        """-KL of q(x_{t-1} | x_t, x_0) and the model's step, shape (T + 1, B); 0 for t < 2."""
        result = np.zeros(self.mean.shape[:2])
        for t in range(2, self.truth.T + 1):
            q = self.posterior[t], float(self.truth.posterior_variance[t])
            p = self.mean[t], float(sigma2[t])
            kl = kl_by_quadrature(*p, *q) if reversed else kl_by_quadrature(*q, *p)
            result[t] = -kl.sum(axis=1)
        return result


def variances_of_bound(
    subject: Subject, steps: Steps, t: TimeArray, L: Values
) -> tuple[str, Table, dict[str, Values]]:
    """Name and table of sigma_t^2; and if it is not known, the terms with the usual ones."""
    if subject.own_variances is not None:
        return OWN, subject.own_variances, {}
    truth, usual = subject.truth, usual_variances(subject.truth)
    guesses = {key: steps.terms(table)[t] for key, table in usual.items()}
    name = closest(guesses, L[t])
    if np.all(np.abs(L[t] / guesses[name] - 1.0) <= LARGEST_IMPRECISION):
        return name, usual[name], guesses
    # L_{t-1} is linear in the squared distances, with slope -1 / (2 sigma_t^2).
    square = steps.squares[t] - steps.squares[t].mean(axis=1, keepdims=True)
    implied = -0.5 * np.sum(square**2, axis=1) / np.sum(square * L[t], axis=1)
    between = truth.beta.copy()
    between[t] = np.clip(np.nan_to_num(implied), truth.posterior_variance[t], truth.beta[t])
    misfit = np.max(np.abs(L[t] - steps.terms(between)[t]))
    if misfit < 0.1 * np.max(np.abs(L[t] - guesses[name])):
        return BETWEEN, between, guesses
    return name, usual[name], guesses
