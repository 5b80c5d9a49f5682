"""What a check hands over: something measured at some times, beside what it should be."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from ddpm_np._arrays import Table
from ddpm_np.testing._truth import TimeArray
from ddpm_np.testing.protocol import Values


@dataclass(frozen=True, eq=False)
class Comparison:
    """A measurement of one identity.

    Attributes
    ----------
    times : integer array, shape (n,)
    measured, expected : array, shape (n, ...)
    scale : array that broadcasts against them, optional
        What errors are relative to; by default the expected values.
    defect : array, shape (n,), optional
        Departure from linearity, added to the error.
    loss : array, shape (n,), optional
        Factor by which the formula itself amplifies errors of the tables.
    cancellation : array, shape (n,), optional
        Further factor by which it amplifies rounding of its own arithmetic.
    table : array, shape (T + 1, ...), optional
        The expected value at every t, to recognise a shift in time.
    candidates : mapping
        What other formulas would give, by the sentence that describes the slip.
    hint, note : str
        What to say if no slip is recognised, and if all is well.
    """

    times: TimeArray
    measured: Values
    expected: Values
    scale: Values | None = None
    defect: Values | float = 0.0
    loss: Values | float = 1.0
    cancellation: Values | float = 1.0
    table: Table | None = None
    candidates: Mapping[str, Values | float] = field(default_factory=dict)
    hint: str = ""
    note: str = ""


def worst_of(values: Values) -> Values:
    """Maximum over all axes but the first, as an array of its own."""
    return np.max(values.reshape(len(values), -1), axis=1)
