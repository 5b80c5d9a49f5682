"""Random numbers as pure functions of what they are for: (seed, stream, step, ...).

Every draw that the project makes comes from NumPy's counter-based Philox generator, keyed by
the seed and the purpose and counted by the step. So a run can be resumed at any step, and
gets the same numbers on every backend.
"""

import numpy as np
from numpy.random import Generator, Philox

from ddpm_np._checks import check_integer

INIT, TRAIN, SAMPLE, BOUND, DATA, TEST, METRIC = range(7)
"""The streams: what the numbers are for."""


def generator(seed: int, stream: int, step: int = 0, part: int = 0) -> Generator:
    """A generator for one step of one stream; no two overlap.

    Parameters
    ----------
    seed, stream, step, part : int
        From 0 to 2^64 - 1. Philox counts 256-bit blocks: step and part take the upper half
        of the counter, which leaves 2^128 blocks for each.

    Raises
    ------
    TypeError, ValueError
        If one is not an integer in range.
    """
    top = 2**64 - 1
    key = np.array(
        [check_integer("seed", seed, 0, top), check_integer("stream", stream, 0, top)], dtype=np.uint64
    )
    counter = np.array(
        [0, 0, check_integer("part", part, 0, top), check_integer("step", step, 0, top)], dtype=np.uint64
    )
    return Generator(Philox(key=key, counter=counter))
