"""Whether an implementation computes in float32: what its results show, and what that explains.

Numbers that float32 holds exactly come from float32: no float64 arithmetic hits them by chance.
"""

from dataclasses import dataclass

import numpy as np

from ddpm_np._arrays import Table
from ddpm_np.testing._truth import EPS, TimeArray, Truth
from ddpm_np.testing.protocol import Values


@dataclass(frozen=True, eq=False)
class Precision:
    """What is known of the arithmetic behind a row.

    Attributes
    ----------
    dtype : str
        What it is said to be.
    results : bool
        Whether the results that the row rests on are float32 numbers.
    tables : Table, optional
        Relative error of alpha_bar and 1 - alpha_bar at each t, if their tables are float32.
    """

    dtype: str
    results: bool = False
    tables: Table | None = None

    def band(self, truth: Truth, t: TimeArray) -> Values | None:
        """Relative error of a formula that float32 explains, beyond rounding; None if nothing does."""
        widest = truth.imprecision(t)
        if self.dtype == "float32" or self.results:
            return widest
        if self.tables is None:
            return None
        own = self.tables[t] + self.tables[np.maximum(t - 1, 1)]
        return np.minimum(8.0 * own + EPS["float32"] * (64.0 + 4.0 * truth.condition_of_step(t)), widest)

    @property
    def reason(self) -> str:
        """Why a row is imprecise."""
        if self.results and self.dtype != "float32":
            return 'precision: results in float32; say dtype="float32"'
        if self.tables is not None:
            return "precision: tables in float32"
        return "no more than tables in float32 lose"


def is_single(values: Values) -> bool:
    """Whether float32 holds all these numbers, up to what a few operations in float64 round."""
    with np.errstate(all="ignore"):
        near = values.astype(np.float32).astype(np.float64)
        return bool(np.any(values != 0.0) and np.all(np.abs(values - near) <= 1e-14 * np.abs(values)))


def error_of_single_tables(truth: Truth, alpha_bar: Values, variance: Values) -> Table | None:
    """Relative errors of tables at 1..T that are float32; None if they are float64, or wrong.

    alpha_bar, its square root or its factors may be what float32 holds.
    """
    t = truth.times
    with np.errstate(all="ignore"):
        candidates = (alpha_bar, np.sqrt(alpha_bar), alpha_bar[1:] / alpha_bar[:-1], np.sqrt(variance))
        if not any(is_single(values) for values in candidates):
            return None
        error = np.maximum(
            np.abs(alpha_bar / truth.alpha_bar[1:] - 1.0), np.abs(variance / truth.variance[1:] - 1.0)
        )[t - 1]
    if not np.all(error <= truth.imprecision(t)):
        return None
    result = np.zeros(truth.T + 1)
    result[t] = error
    return result
