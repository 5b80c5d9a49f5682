"""What a check hands over: something measured at some times, beside what it should be."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from ddpm_np._arrays import Table
from ddpm_np.testing._truth import TimeArray
from ddpm_np.testing.protocol import Values

NONLINEAR = "not linear in its inputs, elementwise: does it threshold, broadcast, or add something?"


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
    guesses : mapping
        Where ``expected`` rests on a guess, of sigma_t^2, and its values say nothing: what each
        guess would give, by its name.
    nonlinear : str
        What the defect means.
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
    guesses: Mapping[str, Values] = field(default_factory=dict)
    nonlinear: str = NONLINEAR
    hint: str = ""
    note: str = ""

    def at(self, chosen: NDArray[np.bool_]) -> "Comparison":
        """The same at some of the times."""
        shape, n = self.measured.shape, len(self.times)
        scale = None if self.scale is None else np.broadcast_to(self.scale, shape)[chosen]

        def some(mapping: Mapping[str, Values | float]) -> dict[str, Values]:
            return {name: np.broadcast_to(values, shape)[chosen] for name, values in mapping.items()}

        return replace(
            self,
            times=self.times[chosen],
            measured=self.measured[chosen],
            expected=self.expected[chosen],
            scale=scale,
            defect=np.broadcast_to(self.defect, n)[chosen],
            loss=np.broadcast_to(self.loss, n)[chosen],
            cancellation=np.broadcast_to(self.cancellation, n)[chosen],
            candidates=some(self.candidates),
            guesses=some(self.guesses),
        )


def nothing(note: str) -> Comparison:
    """A comparison at no time, and why."""
    empty = np.zeros(0)
    return Comparison(empty.astype(np.int64), empty, empty, note=note)


def worst_of(values: Values) -> Values:
    """Maximum over all axes but the first, as an array of its own."""
    return np.max(values.reshape(len(values), -1), axis=1)
