"""What an implementation says of itself: the options of ``check_identities``, checked once."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from ddpm_np._checks import check_choice, check_integer, check_real, describe
from ddpm_np.decoders import Decoder
from ddpm_np.schedules import SCHEDULES
from ddpm_np.targets import TARGETS, Target

DecoderClaim: TypeAlias = Literal["gaussian", "discretised"] | Decoder
"""The decoder of L_0, by name or as a callable (x0, mean, variance) -> (B,)."""


@dataclass(frozen=True)
class Claims:
    """The options of :func:`ddpm_np.testing.check_identities` that say what is to be expected.

    Attributes
    ----------
    dtype : {"float64", "float32"}
    target : {"eps", "x0", "mean", "v"}
    clip : float or None
    eta : float or None
    times : tuple of int
        Increasing, from 1..T; all of them unless the sampler visits fewer.
    decoder : {"gaussian", "discretised"} or callable
    schedule : str or None
    levels : int or None
        How many levels on [-1, 1] observations have; None if the decoder is Gaussian. It is found
        out, not claimed.
    """

    dtype: str
    target: Target
    clip: float | None
    eta: float | None
    times: tuple[int, ...]
    decoder: DecoderClaim
    schedule: str | None
    levels: int | None = None


def checked_claims(
    T: int,
    *,
    dtype: str,
    target: Target,
    clip: float | None,
    eta: float | None,
    times: Sequence[int] | None,
    decoder: DecoderClaim,
    schedule: str | None,
) -> Claims:
    """Return the options as a value, or raise TypeError or ValueError."""
    check_choice("dtype", dtype, ("float64", "float32"))
    check_choice("target", target, TARGETS)
    if clip is not None:
        clip = check_real("clip", clip, 0.0, float("inf"))
    if eta is not None:
        eta = check_real("eta", eta, 0.0, 1.0, closed=True)
    if not callable(decoder):
        check_choice("decoder", decoder, ("gaussian", "discretised"))
    if schedule is not None:
        check_choice("schedule", schedule, tuple(SCHEDULES))
    visited = tuple(range(1, T + 1)) if times is None else _checked_times(times, T)
    return Claims(dtype, target, clip, eta, visited, decoder, schedule)


def _checked_times(times: Sequence[int], T: int) -> tuple[int, ...]:
    try:
        listed = list(times)
    except TypeError:
        raise TypeError(f"times must be a sequence of integers, got {describe(times)}") from None
    found = tuple(check_integer(f"times[{i}]", t, 1, T) for i, t in enumerate(listed))
    if not found or any(a >= b for a, b in itertools.pairwise(found)):
        raise ValueError(f"times must be increasing, from 1..T = {T}, got {describe(list(found))}")
    return found
