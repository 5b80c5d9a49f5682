"""The error budget: each part against what is known without it, and all of them against the gap."""

import math

import numpy as np
import pytest
from scipy import stats

from backends import get_backend
from ddpm_np.data.toy import SWISS_ROLL_RANGE, swiss_roll_curve
from ddpm_np.exact import (
    IsotropicMixture,
    NoisyCurve,
    eight_gaussians_exact,
    error_budget,
    mixture_1d_exact,
    optimal_variance_gaussian,
    swiss_roll_exact,
)
from ddpm_np.exact._quadrature import cells_around
from ddpm_np.losses import eps_loss_weight
from ddpm_np.nn import Adam, MLPDenoiser, constant_rate
from ddpm_np.reverse import reverse_variance
from ddpm_np.runs.batches import batches
from ddpm_np.runs.evaluation import predictor
from ddpm_np.schedules import (
    cosine_schedule,
    linear_schedule,
    scaled_linear_schedule,
    schedule_from_beta,
)
from ddpm_np.targets import predicted_x0
from ddpm_np.training import Recipe, init_state, train

ROLL = swiss_roll_exact()
PARTS = ("start", "steps", "variance", "network")
SHORT = schedule_from_beta([0.02, 0.1, 0.3, 0.3, 0.5, 0.6])


def bayes(law, schedule, wrong=lambda x_t, t: 0.0):
    """The best denoiser, and what is wrong with it."""
    return lambda x_t, t: law.bayes_eps(schedule, x_t, t) + wrong(x_t, t)


def totals(budget):
    return {name: getattr(budget, name).total for name in PARTS}


def blamed(budget):
    return max(PARTS, key=totals(budget).get)


def start_by_entropy(law, schedule):
    """KL(q(x_T) || N(0, I)) = -H(x_T) + d/2 log(2 pi) + E||x_T||^2 / 2."""
    last = law.diffused(schedule, schedule.T)
    squares = last.weights @ np.sum(last.means**2, axis=1) + law.d * last.std**2
    return -last.entropy() + 0.5 * law.d * math.log(2.0 * math.pi) + 0.5 * squares


def best_variance_on_grid(law, schedule, t):
    """E tr Cov(x_{t-1} | x_t) / d = 1/d E||x_{t-1}||^2 - 1/d E||E[x_{t-1} | x_t]||^2, for a mixture."""
    there = law.diffused(schedule, t)
    before = law.diffused(schedule, t - 1)
    squares = before.weights @ np.sum(before.means**2, axis=1) + law.d * before.std**2
    known = 0.0
    for z, volume in cells_around(there.means / there.std, 9, 10):
        x_t = there.std * z
        # Tweedie, for the step from x_{t-1} to x_t.
        mean = (x_t + schedule.beta[t] * there.score(x_t)) / math.sqrt(schedule.alpha[t])
        density = np.exp(there.log_density(x_t)) * there.std**law.d
        known += float(np.sum(volume * density * np.sum(mean**2, axis=1)))
    return (squares - known) / law.d


def steps_by_entropy(law, schedule, best):
    """E KL(q(x_{t-1} | x_t) || N(m, s I)) = H(x_t) - H(x_{t-1}) + d/2 log(s / beta[t])."""
    H = np.array([law.diffused(schedule, t).entropy() for t in range(schedule.T + 1)])
    return np.diff(H) + 0.5 * law.d * np.log(best / schedule.beta[1:])


# --- in one dimension, by quadrature ------------------------------------------------------


@pytest.mark.parametrize("case", range(20))
def test_budget_closes_in_one_dimension(case):
    """Random schedules, laws, planted errors and variances: to 1e-8, and seen at about 1e-13."""
    rng = np.random.default_rng(case)
    T, K = int(rng.integers(1, 13)), int(rng.integers(1, 5))
    schedule = schedule_from_beta(rng.uniform(0.001, rng.choice([0.2, 0.9]), T))
    law = IsotropicMixture(
        rng.dirichlet(np.ones(K)), rng.normal(0.0, 1.2, (K, 1)), rng.uniform(0.15, 0.8)
    )
    size, rate = rng.uniform(-0.3, 0.3), rng.uniform(0.5, 3.0)
    sigma2 = schedule.beta * np.exp(rng.uniform(-1.0, 1.0, T + 1))
    predict = bayes(law, schedule, lambda x_t, t: size * np.sin(rate * x_t + t))
    budget = error_budget(schedule, predict, law, sigma2=sigma2)
    assert sum(totals(budget).values()) == pytest.approx(budget.gap.total, abs=1e-8)
    assert budget.sum.total == pytest.approx(sum(totals(budget).values()), abs=1e-12)
    assert [part.se for part in budget] == [0.0] * 6
    for part in budget[1:4]:
        assert part.per_t.shape == (T + 1,)
        assert part.per_t[0] == 0.0
        assert np.sum(part.per_t) == pytest.approx(part.total, abs=1e-12)
        assert np.all(part.per_t > -1e-10)
    assert budget.start.total > -1e-10


def test_figures_of_the_one_dimensional_mixture():
    """Tried by another quadrature: 0.059231 nats are the steps', 0.014045 those of sigma2 = beta."""
    law, schedule = mixture_1d_exact(), scaled_linear_schedule(50)
    budget = error_budget(schedule, bayes(law, schedule), law, sigma2=schedule.beta)
    assert budget.start.total == pytest.approx(0.0, abs=5e-7)
    assert budget.steps.total == pytest.approx(0.059231, abs=5e-7)
    assert budget.variance.total == pytest.approx(0.014045, abs=5e-7)
    assert budget.network.total == pytest.approx(0.0, abs=1e-20)
    assert budget.gap.total == pytest.approx(0.059231 + 0.014045, abs=1e-6)


@pytest.mark.parametrize("law", [mixture_1d_exact(), IsotropicMixture([0.4, 0.6], [[-2.0], [1.0]], 0.2)])
def test_each_part_by_another_route(law):
    error = 0.07
    predict = bayes(law, SHORT, lambda x_t, t: error * t)
    sigma2 = 1.3 * SHORT.beta
    budget = error_budget(SHORT, predict, law, sigma2=sigma2)
    best = np.array([best_variance_on_grid(law, SHORT, t) for t in range(1, SHORT.T + 1)])
    t, ratio = np.arange(1, SHORT.T + 1), best / sigma2[1:]
    assert budget.start.total == pytest.approx(start_by_entropy(law, SHORT), abs=1e-9)
    np.testing.assert_allclose(budget.steps.per_t[1:], steps_by_entropy(law, SHORT, best), atol=1e-9)
    np.testing.assert_allclose(budget.variance.per_t[1:], 0.5 * (ratio - 1.0 - np.log(ratio)), rtol=1e-9)
    weight = eps_loss_weight(SHORT, t, sigma2)
    np.testing.assert_allclose(budget.network.per_t[1:], weight * (error * t) ** 2, rtol=1e-9)


def test_gaussian_data_lose_nothing_by_steps():
    law = IsotropicMixture([1.0], [[0.7]], 0.6)
    sigma2 = optimal_variance_gaussian(SHORT, [[law.std**2]])
    budget = error_budget(SHORT, bayes(law, SHORT), law, sigma2=sigma2)
    mean, v = SHORT.sqrt_alpha_bar[-1] * 0.7, law.diffused(SHORT, SHORT.T).std ** 2
    assert budget.start.total == pytest.approx(0.5 * (v + mean**2 - 1.0 - math.log(v)), abs=1e-14)
    for part in budget[1:4]:
        np.testing.assert_allclose(part.per_t, 0.0, atol=1e-13)


def test_a_curve_on_a_line_is_integrated_too():
    law = NoisyCurve(lambda u: u[:, None] ** 2, 0.0, 1.5, 0.3)
    budget = error_budget(SHORT, bayes(law, SHORT), law, sigma2=SHORT.beta)
    assert budget.gap.se == 0.0
    assert budget.sum.total == pytest.approx(budget.gap.total, abs=1e-8)


@pytest.mark.parametrize("target", ["x0", "v", "mean"])
def test_the_target_does_not_matter(target):
    law = mixture_1d_exact()
    wrong = bayes(law, SHORT, lambda x_t, t: 0.1 * np.tanh(x_t))

    def predict(x_t, t):
        eps = wrong(x_t, t)
        x0 = predicted_x0(SHORT, x_t, t, eps)
        a, b = SHORT.sqrt_alpha_bar[t], SHORT.sqrt_one_minus_alpha_bar[t]
        return {"x0": x0, "v": a * eps - b * x0, "mean": SHORT.c_xt[t] * x_t + SHORT.c_x0[t] * x0}[
            target
        ]

    told = error_budget(SHORT, predict, law, sigma2=SHORT.beta, target=target)
    same = error_budget(SHORT, wrong, law, sigma2=SHORT.beta)
    np.testing.assert_allclose(told.network.per_t, same.network.per_t, rtol=1e-9)
    assert told.gap.total == pytest.approx(same.gap.total, abs=1e-10)


# --- from draws ---------------------------------------------------------------------------


def test_draws_agree_with_the_grid_within_their_standard_errors():
    """Eight Gaussians in two dimensions, over 30 seeds: z-scores of mean 0 and variance 1."""
    law = eight_gaussians_exact()
    best = np.array([best_variance_on_grid(law, SHORT, t) for t in range(1, SHORT.T + 1)])
    ratio = best / SHORT.beta[1:]
    exact = {
        "start": start_by_entropy(law, SHORT),
        "steps": float(np.sum(steps_by_entropy(law, SHORT, best))),
        "variance": float(np.sum(ratio - 1.0 - np.log(ratio))),
        "network": float(np.sum(2.0 * 0.01 * eps_loss_weight(SHORT, np.arange(1, 7), SHORT.beta))),
    }
    exact["sum"] = exact["gap"] = sum(exact.values())
    predict = bayes(law, SHORT, lambda x_t, t: 0.1)
    budgets = [
        error_budget(SHORT, predict, law, sigma2=SHORT.beta, n=300, seed=seed) for seed in range(30)
    ]
    for name, value in exact.items():
        found = [getattr(budget, name) for budget in budgets]
        if name == "network":  # its error is the same at every draw
            assert all(part.total == pytest.approx(value, rel=1e-9) for part in found)
            continue
        z = np.array([(part.total - value) / part.se for part in found])
        assert abs(np.mean(z)) < 4.0 / math.sqrt(len(z)), name
        low, high = stats.chi2.ppf([1e-5, 1.0 - 1e-5], len(z) - 1)
        assert low < np.sum((z - np.mean(z)) ** 2) < high, name
    per_t = np.mean([budget.steps.per_t for budget in budgets], axis=0)
    spread = np.std([budget.steps.per_t for budget in budgets], axis=0) / math.sqrt(len(budgets))
    error = np.abs(per_t[1:] - steps_by_entropy(law, SHORT, best))
    assert np.all(error < 5.0 * spread[1:])


def test_small_terms_are_seen():
    """T = 1000 on the roll: 1e-5 nats a step, all told to 1 %, from few draws."""
    schedule = scaled_linear_schedule(1000)
    budget = error_budget(
        schedule, lambda x_t, t: np.zeros_like(x_t), ROLL, sigma2=schedule.beta, n=64, seed=1
    )
    assert budget.steps.total == pytest.approx(0.0258, abs=4.0 * budget.steps.se + 1e-4)
    assert budget.steps.se < 0.02 * budget.steps.total


@pytest.mark.parametrize(
    ("schedule", "kind", "wrong"),
    [
        (scaled_linear_schedule(60), "beta", 0.0),
        (scaled_linear_schedule(60), "posterior", 0.1),
        (linear_schedule(50), "beta", 0.05),
        (cosine_schedule(20), "beta", 0.0),
    ],
    ids=str,
)
def test_on_the_roll_the_four_sum_to_the_gap(schedule, kind, wrong):
    predict = bayes(ROLL, schedule, lambda x_t, t: wrong * np.sin(3.0 * x_t))
    sigma2 = reverse_variance(schedule, kind)
    budget = error_budget(schedule, predict, ROLL, sigma2=sigma2, n=1000, seed=0)
    error = math.hypot(budget.sum.se, budget.gap.se)
    assert 0.0 < error < 0.1 * budget.gap.total
    assert abs(budget.sum.total - budget.gap.total) < 4.0 * error
    assert budget.sum.total == pytest.approx(sum(totals(budget).values()), abs=1e-12)


def test_the_seed_says_all():
    first, again, other = (
        error_budget(SHORT, bayes(ROLL, SHORT), ROLL, sigma2=SHORT.beta, n=50, seed=seed)
        for seed in (3, np.random.default_rng(3), 4)
    )
    assert totals(first) == totals(again)
    assert first.gap == again.gap
    assert first.gap != other.gap


# --- who is to blame ----------------------------------------------------------------------


def test_a_schedule_made_for_another_T_is_blamed_on_the_start():
    """T = 50 with beta made for 1000, on data that are not of unit size: a roll twice as wide."""
    wide = NoisyCurve(lambda u: 2.0 * swiss_roll_curve(u), *SWISS_ROLL_RANGE, std=0.1)
    short, scaled = linear_schedule(50), scaled_linear_schedule(50)
    budget, cured = (
        error_budget(s, bayes(wide, s), wide, sigma2=s.beta, n=500) for s in (short, scaled)
    )
    assert blamed(budget) == "start"
    assert budget.start.total > 0.5
    assert cured.start.total < 1e-4
    # Data of unit size hide it: their x_T has the first two moments of noise at any alpha_bar.
    roll = error_budget(short, bayes(ROLL, short), ROLL, sigma2=short.beta, n=500)
    assert roll.start.total == pytest.approx(start_by_entropy(ROLL, short), abs=4.0 * roll.start.se)
    assert 0.03 < roll.start.total < 0.1


def test_few_steps_are_blamed_on_the_steps():
    schedule = cosine_schedule(20)
    budget = error_budget(schedule, bayes(ROLL, schedule), ROLL, sigma2=schedule.beta, n=500)
    assert blamed(budget) == "steps"
    assert budget.steps.total > 0.7 * budget.sum.total


def test_the_posterior_variance_is_blamed_on_the_variance():
    schedule = scaled_linear_schedule(100)
    sigma2 = reverse_variance(schedule, "posterior")
    budget = error_budget(schedule, bayes(ROLL, schedule), ROLL, sigma2=sigma2, n=500)
    assert blamed(budget) == "variance"
    assert budget.variance.total > 0.7 * budget.sum.total


def test_little_training_is_blamed_on_the_network():
    schedule, backend = scaled_linear_schedule(100), get_backend("numpy")
    recipe = Recipe(schedule, MLPDenoiser(2, 100, 32, 1), Adam(constant_rate(3e-3)))
    draw = batches(ROLL.sample(5000, 0), 100, 128, 0)
    state = init_state(recipe, 0, lambda a: np.asarray(a, dtype=np.float64))
    state = train(recipe, state, draw, backend.ops, steps=200)
    predict = predictor(recipe, state.params, backend.ops)
    budget = error_budget(schedule, predict, ROLL, sigma2=schedule.beta, n=500)
    assert blamed(budget) == "network"
    assert budget.network.total > 0.7 * budget.sum.total
    error = math.hypot(budget.sum.se, budget.gap.se)
    assert abs(budget.sum.total - budget.gap.total) < 4.0 * error


# --- arguments ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"law": "roll"}, "law must be an IsotropicMixture or a NoisyCurve"),
        ({"n": 1}, "n must be >= 2"),
        ({"seed": -1}, "seed must be"),
        ({"target": "score"}, "target must be one of"),
        ({"sigma2": SHORT.posterior_variance}, r"sigma2 must be positive .* is 0 there"),
        ({"predict": None}, "predict must be callable"),
        ({"predict": lambda x_t, t: x_t[:1]}, "prediction must have the shape of x_t"),
        ({"schedule": 6}, "schedule must be a ddpm_np.Schedule"),
    ],
)
def test_bad_arguments(change, words):
    good = {"schedule": SHORT, "predict": bayes(ROLL, SHORT), "law": ROLL, "sigma2": SHORT.beta, "n": 10}
    arguments = {**good, **change}
    first = [arguments.pop(name) for name in ("schedule", "predict", "law")]
    with pytest.raises((TypeError, ValueError), match=words):
        error_budget(*first, **arguments)
