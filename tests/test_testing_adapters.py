"""Code that draws from ``numpy.random`` gets the checker's draws instead."""

# ruff: noqa: NPY002 -- the code that is checked here is of the old kind

import numpy as np
import pytest

from ddpm_np.testing import check_identities
from ddpm_np.testing.adapters import DrawError, from_arrays, from_generator, loop_draws
from ddpm_np.testing.adapters.numpy_code import numpy_draws

NOISE = np.arange(6.0).reshape(2, 3)


@pytest.mark.parametrize(
    "draw",
    [
        lambda: np.random.randn(2, 3),
        lambda: np.random.standard_normal((2, 3)),
        lambda: np.random.normal(size=(2, 3)),
        lambda: np.random.normal(0.0, 1.0, (2, 3)),
        lambda: np.random.normal(np.zeros((2, 3)), 1.0),
        lambda: np.random.default_rng(5).standard_normal((2, 3)),
        lambda: np.random.default_rng(5).standard_normal(out=np.empty((2, 3))),
        lambda: np.random.default_rng().normal(size=(2, 3)),
    ],
)
def test_normal_draws_are_redirected(draw):
    with numpy_draws(from_arrays([NOISE])):
        assert np.array_equal(draw(), NOISE)


@pytest.mark.parametrize(
    ("draw", "same"),
    [
        (lambda: np.random.randint(0, 7, 5), lambda r: r.integers(0, 7, 5)),
        (lambda: np.random.randint(7, size=5), lambda r: r.integers(0, 7, 5)),
        (
            lambda: np.random.default_rng().integers(1, 7, 5, endpoint=True),
            lambda r: r.integers(1, 8, 5),
        ),
        (lambda: np.random.rand(4), lambda r: r.random(4)),
        (lambda: np.random.uniform(2.0, 3.0, 4), lambda r: 2.0 + r.random(4)),
        (lambda: np.random.permutation(6), lambda r: r.permutation(6)),
        (lambda: np.random.choice(9, 5), lambda r: r.integers(0, 9, 5)),
    ],
)
def test_other_draws_come_from_the_generator(draw, same):
    expected = same(np.random.default_rng(3))
    with numpy_draws(from_generator(np.random.default_rng(3))):
        assert np.array_equal(draw(), expected)


def test_afterwards_all_is_as_it_was():
    before = np.random.randn, np.random.default_rng
    with pytest.raises(KeyError), numpy_draws(from_arrays([])):
        raise KeyError
    assert (np.random.randn, np.random.default_rng) == before


def test_draws_that_nobody_expects_are_one_sentence():
    with numpy_draws(from_arrays([NOISE])):
        with pytest.raises(DrawError, match=r"shape \(1, 3\) is drawn, where 6 numbers are needed"):
            np.random.randn(1, 3)
        with pytest.raises(DrawError, match="once more than there are steps"):
            np.random.randn(2, 3)
        with pytest.raises(DrawError, match="integers are drawn"):
            np.random.randint(3)


class Own:
    """A sampler and a loss that draw for themselves."""

    T = 40

    def __init__(self):
        self.beta = np.linspace(1e-3, 0.3, self.T)
        self.bar = np.cumprod(1.0 - self.beta)

    def betas(self):
        return self.beta

    def run(self, network, shape):
        x = np.random.randn(*shape)
        for i in reversed(range(self.T)):
            z = np.random.randn(*shape) if i > 0 else 0.0
            mean = x - self.beta[i] / np.sqrt(1.0 - self.bar[i]) * network(x, i)
            x = mean / np.sqrt(1.0 - self.beta[i]) + np.sqrt(self.beta[i]) * z
        return x

    def sample(self, predict, x_T, noise):
        with numpy_draws(loop_draws(x_T, noise)):
            return self.run(lambda x, i: predict(x, i + 1), x_T.shape)

    def loss(self, predict, x0, rng):
        with numpy_draws(from_generator(rng)):
            i = np.random.randint(0, self.T, len(x0))
            noise = np.random.randn(*x0.shape)
            bar = self.bar[i][:, None]
            x_t = np.sqrt(bar) * x0 + np.sqrt(1.0 - bar) * noise
            return np.mean((predict(x_t, i + 1) - noise) ** 2)


def test_a_sampler_that_draws_for_itself_is_checked():
    report = check_identities(Own())
    assert report.ok, str(report)
    offered = [row.identity for row in report.rows if row.verdict == "holds"]
    assert any(name.startswith("sample") for name in offered)
