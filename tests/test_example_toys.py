"""examples/toys.py: its denoisers are the best ones of its laws, and its table has all columns."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from ddpm_np.forward import q_sample
from ddpm_np.schedules import linear_schedule

SCRIPT = Path(__file__).parents[1] / "examples" / "toys.py"


@pytest.fixture(scope="module")
def example():
    spec = importlib.util.spec_from_file_location("example_toys", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["line", "moons", "two_moons", "circles"])
@pytest.mark.parametrize("t", [1, 30, 100])
def test_the_denoiser_is_the_conditional_mean(example, name, t):
    """Its error is uncorrelated with any function of x_t, within 5 standard errors."""
    toy, schedule = example.TOYS[name], linear_schedule(100)
    x0, noise = toy.sample(4000, 0), np.random.default_rng(1).standard_normal((4000, 2))
    x_t = q_sample(schedule, x0, t, noise)
    error = noise - toy.bayes_eps(schedule, x_t, t)
    for weight in (1.0, x_t, x_t[:, ::-1], np.sin(3.0 * x_t), np.sin(9.0 * x_t), np.cos(5.0 * x_t)):
        products = error * weight
        assert np.all(np.abs(np.mean(products, axis=0)) < 5.0 * np.std(products, axis=0) / 4000**0.5)
    # What is known of x_0 is no less than in any linear prediction.
    assert np.mean(error**2) < np.mean((noise - schedule.sqrt_one_minus_alpha_bar[t] * x_t) ** 2)


def test_the_rectangle_is_a_truncated_normal_far_from_it_too(example):
    schedule, toy = linear_schedule(100), example.TOYS["line"]
    x_t = np.array([[0.0, 0.0], [9.0, -9.0], [-1e-3, 4.2]])
    for t in (40, 100):
        a, b = schedule.sqrt_alpha_bar[t], schedule.sqrt_one_minus_alpha_bar[t]
        for j, half in enumerate((2.0, 4.0)):
            x0 = np.linspace(-half, half, 200_001)
            logits = -0.5 * ((x_t[:, j, None] - a * x0) / b) ** 2
            weights = np.exp(logits - logits.max(axis=1, keepdims=True))
            weights[:, [0, -1]] *= 0.5
            mean = weights @ x0 / np.sum(weights, axis=1)
            expected = (x_t[:, j] - a * mean) / b
            np.testing.assert_allclose(toy.bayes_eps(schedule, x_t, t)[:, j], expected, atol=1e-7)


def test_a_row_has_its_columns_in_order(example):
    """The Bayes-optimal denoiser is worse than fresh data by its start, and no better with a network."""
    fresh, common, network, scaled = example.measure(example.TOYS["line"], 2000, 1000, 20)
    assert abs(fresh) < 0.1 < common < network
    assert abs(scaled - fresh) < common - fresh


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["dino"], "there is no toy dino, only line, moons"),
        (["--data", "5"], "argument --data: must be an integer, at least 6, got '5'"),
        (["--samples", "4"], "argument --samples: must be an integer, at least 5, got '4'"),
        (["--steps", "0"], "argument --steps: must be an integer, at least 1, got '0'"),
    ],
)
def test_wrong_words_are_one_sentence(example, capsys, arguments, message):
    with pytest.raises(SystemExit, match="2"):
        example.main(arguments)
    assert message in capsys.readouterr().err


def test_the_least_that_can_be_asked_for(example, capsys):
    assert example.main(["line", "--data", "6", "--samples", "5", "--steps", "1"]) == 0
    assert capsys.readouterr().out.count("\n") == 3


def test_the_moons_are_those_with_their_noise(example):
    """Draws made as tiny-diffusion makes them have the cross-entropy that the law has as its entropy."""
    rng, n = np.random.default_rng(3), 20_000
    u, inner = rng.uniform(0.0, np.pi, n), rng.random(n) < 0.5
    x = np.where(inner, 1.0 - np.cos(u), np.cos(u)) + 0.03 * rng.standard_normal(n)
    y = np.where(inner, 0.5 - np.sin(u), np.sin(u)) + 0.03 * rng.standard_normal(n)
    made = np.stack([(x + 0.3) * 2.0 - 1.0, (y + 0.3) * 3.0 - 1.0], axis=1)
    law = example.TOYS["moons"].bayes_eps.__self__
    nats = -law.log_density(made)
    assert abs(np.mean(nats) - law.entropy(nodes=3)) < 4.0 * np.std(nats) / n**0.5
