import itertools

import numpy as np
import pytest

from ddpm_np import randomness
from ddpm_np.randomness import BOUND, DATA, INIT, METRIC, SAMPLE, TEST, TRAIN, generator

TOP = 2**64 - 1
PLACES = [0, 1, 2, 2**32, 2**53, 2**53 + 1, 2**63, TOP]
"""Neighbours above 2^53 are one number in float64."""


def raw(*key, count=64):
    return generator(*key).bit_generator.random_raw(count)


def philox(counter, key):
    """One block of Philox4x64-10 after Salmon et al. 2011, words from low to high."""
    (c0, c1, c2, c3), (k0, k1) = counter, key
    for _ in range(10):
        low, high = 0xD2E7470EE14C6C93 * c0, 0xCA5A826395121157 * c2
        c0, c1, c2, c3 = (high >> 64) ^ c1 ^ k0, high & TOP, (low >> 64) ^ c3 ^ k1, low & TOP
        k0, k1 = (k0 + 0x9E3779B97F4A7C15) & TOP, (k1 + 0xBB67AE8584CAA73B) & TOP
    return [c0, c1, c2, c3]


def test_the_reference_gives_the_published_numbers():
    # The first known answer of the Random123 library, for counter and key 0.
    expected = [0x16554D9ECA36314C, 0xDB20FE9D672D0FDC, 0xD7E772CEE186176B, 0x7E68B68AEC7BA23B]
    assert philox((0, 0, 0, 0), (0, 0)) == expected


@pytest.mark.parametrize(
    "place", [(0, 0, 0, 0), (1, 2, 3, 4), (2**63 + 1, 5, 2**53 + 1, 7), (TOP, TOP, TOP, TOP)]
)
def test_is_philox_keyed_by_seed_and_stream_counted_by_part_and_step(place):
    seed, stream, step, part = place
    blocks = [philox((k, 0, part, step), (seed, stream)) for k in (1, 2, 3)]
    assert raw(*place, count=12).reshape(3, 4).tolist() == blocks


def test_is_a_pure_function():
    first, second = generator(3, TRAIN, 5, 7), generator(3, TRAIN, 5, 7)
    first.standard_normal(1000)
    generator(3, TRAIN, 5, 7).random(10)
    other = generator(3, TRAIN, 5, 7)
    assert second.standard_normal(100).tobytes() == other.standard_normal(100).tobytes()


@pytest.mark.parametrize("axis", range(4), ids=["seed", "stream", "step", "part"])
def test_every_argument_counts_to_its_last_bit(axis):
    places = [[1, 1, 1, 1] for _ in PLACES]
    for place, value in zip(places, PLACES, strict=True):
        place[axis] = value
    assert len({raw(*place).tobytes() for place in places}) == len(PLACES)


def test_step_and_part_default_to_zero():
    assert raw(4, DATA).tobytes() == raw(4, DATA, 0).tobytes() == raw(4, DATA, 0, 0).tobytes()


def test_streams_are_distinct():
    streams = {INIT, TRAIN, SAMPLE, BOUND, DATA, TEST, METRIC}
    named = {value for name, value in vars(randomness).items() if name.isupper()}
    assert len(streams) == 7
    assert named == streams


def test_nothing_is_drawn_twice():
    keys = list(itertools.product((0, 1), range(7), (0, 1, 2), (0, 1)))
    numbers = np.concatenate([raw(*key, count=1000) for key in keys])
    # 84,000 random 64-bit numbers agree anywhere with a chance of 2e-10.
    assert len(np.unique(numbers)) == len(keys) * 1000


@pytest.mark.parametrize(
    ("key", "blocks", "reached"),
    [
        ((9, TRAIN, 6, 0), 2**128, (9, TRAIN, 6, 1)),
        ((9, TRAIN, 6, 0), 2**192, (9, TRAIN, 7, 0)),
    ],
    ids=["part", "step"],
)
def test_neighbours_are_2_to_the_128_blocks_apart(key, blocks, reached):
    distant = generator(*key).bit_generator.advance(blocks).random_raw(16)
    assert distant.tobytes() == raw(*reached, count=16).tobytes()


def test_normal_draws_are_normal():
    x = np.concatenate([generator(0, SAMPLE, t).standard_normal(1000) for t in range(100)])
    # Five standard errors of each moment over 1e5 draws.
    assert abs(x.mean()) < 5 / np.sqrt(x.size)
    assert abs((x**2).mean() - 1) < 5 * np.sqrt(2 / x.size)
    assert abs((x**4).mean() - 3) < 5 * np.sqrt(96 / x.size)
    pairs = x.reshape(100, 1000)
    assert abs((pairs[1:] * pairs[:-1]).mean()) < 5 / np.sqrt(99_000)


@pytest.mark.parametrize("axis", range(4), ids=["seed", "stream", "step", "part"])
@pytest.mark.parametrize(
    ("bad", "error"),
    [(-1, ValueError), (2**64, ValueError), (1.0, TypeError), (True, TypeError), ("1", TypeError)],
)
def test_refuses_what_is_no_64_bit_integer_and_names_it(axis, bad, error):
    key = [0, 0, 0, 0]
    key[axis] = bad
    with pytest.raises(error, match=("seed", "stream", "step", "part")[axis]):
        generator(*key)


def test_numpy_integers_will_do():
    assert raw(np.int64(3), np.uint8(1), np.uint64(TOP)).tobytes() == raw(3, 1, TOP).tobytes()
