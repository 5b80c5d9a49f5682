"""Guidance and clipping: what they leave alone, what they do, and that both help the bound."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddpm_np.elbo import elbo_decomposition
from ddpm_np.forward import q_sample
from ddpm_np.guidance import clipped, guided
from ddpm_np.nn import Adam, Ops, UNet, constant_rate
from ddpm_np.nn.tree import ravel
from ddpm_np.reverse import model_mean, reverse_variance
from ddpm_np.runs.evaluation import predictor
from ddpm_np.schedules import linear_schedule, scaled_linear_schedule
from ddpm_np.targets import TARGETS, predicted_eps, training_target
from ddpm_np.training import Recipe

SCHEDULE = scaled_linear_schedule(50)


def first(x_t, t):
    return 0.3 * x_t + t


def second(x_t, t):
    return -1.1 * x_t + 0.2 * t


def never(x_t, t):
    raise AssertionError("called")


def test_no_guidance_is_the_conditional_prediction_and_costs_nothing_more():
    assert guided(first, never, 0.0) is first


@given(st.floats(-1.0, 50.0), st.integers(0, 2**32))
def test_equal_predictions_are_left_alone(w, seed):
    x = np.random.default_rng(seed).standard_normal((4, 3))
    np.testing.assert_allclose(guided(first, first, w)(x, 7), first(x, 7), rtol=1e-13, atol=1e-12)


def test_guidance_is_the_paper_s_combination(lib, dtype):
    x = lib.array(np.random.default_rng(0).standard_normal((4, 3)), dtype)
    found = lib.host(guided(first, second, 1.5)(x, 3))
    expected = 2.5 * lib.host(first(x, 3)) - 1.5 * lib.host(second(x, 3))
    assert found.dtype == dtype
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_guidance_of_minus_one_forgets_the_class():
    x = np.ones((2, 2))
    np.testing.assert_array_equal(guided(first, second, -1.0)(x, 3), second(x, 3))


@pytest.mark.parametrize("target", TARGETS)
def test_guiding_any_target_guides_the_noise(target):
    """Ho & Salimans guide eps; x_0, the mean and v are affine in it."""
    rng = np.random.default_rng(1)
    x0, noise, one, other = rng.standard_normal((4, 5, 3))
    x_t = q_sample(SCHEDULE, x0, 20, noise)

    def predict(eps):
        x0_theta = (x_t - np.sqrt(SCHEDULE.one_minus_alpha_bar[20]) * eps) / np.sqrt(
            SCHEDULE.alpha_bar[20]
        )
        return lambda x, t: training_target(SCHEDULE, x0_theta, t, eps, target)

    together = guided(predict(one), predict(other), 0.7)(x_t, 20)
    eps = predicted_eps(SCHEDULE, x_t, 20, together, target)
    np.testing.assert_allclose(eps, 1.7 * one - 0.7 * other, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("w", [-1.1, float("nan"), float("inf"), "1", None])
def test_guidance_out_of_range_is_refused(w):
    with pytest.raises((TypeError, ValueError), match="guidance"):
        guided(first, second, w)


def test_predictions_that_do_not_agree_are_refused():
    with pytest.raises(ValueError, match="unconditional"):
        guided(first, lambda x, t: x[:1], 1.0)(np.ones((2, 2)), 1)
    with pytest.raises(TypeError, match="conditional must be callable"):
        guided(3, first, 1.0)


def test_a_network_guided_without_classes_gives_what_it_gives_without_labels():
    """Labels 0 are no labels, and with a class the network sees another one."""
    schedule = linear_schedule(10)
    network = UNet(1, 10, width=8, groups=4, embedding_size=8, classes=3)
    recipe = Recipe(schedule, network, Adam(constant_rate(1e-3)))
    rng = np.random.default_rng(2)
    params = ravel(network.init(rng))
    params = params + 0.1 * rng.standard_normal(params.shape)  # the last layer starts at 0
    x_t, ops = rng.standard_normal((4, 4, 4, 1)), Ops()
    free = predictor(recipe, params, ops)
    none = predictor(recipe, params, ops, np.zeros(4, np.int64))
    given = predictor(recipe, params, ops, np.array([1, 2, 3, 1]))
    np.testing.assert_array_equal(none(x_t, 5), free(x_t, 5))
    np.testing.assert_allclose(guided(none, free, 3.0)(x_t, 5), free(x_t, 5), rtol=1e-12)
    assert np.max(np.abs(given(x_t, 5) - free(x_t, 5))) > 1e-3
    np.testing.assert_array_equal(
        guided(given, free, 0.5)(x_t, 5), 1.5 * given(x_t, 5) - 0.5 * free(x_t, 5)
    )


# --- clipping -----------------------------------------------------------------------------


@pytest.mark.parametrize("target", TARGETS)
def test_clipping_leaves_predictions_within_the_range_alone(target):
    rng = np.random.default_rng(3)
    x0, noise = rng.uniform(-1.0, 1.0, (5, 3)), rng.standard_normal((5, 3))
    for t in (1, 25, 50):
        x_t, truth = q_sample(SCHEDULE, x0, t, noise), training_target(SCHEDULE, x0, t, noise, target)
        found = clipped(SCHEDULE, lambda x, t, truth=truth: truth, target)(x_t, t)
        np.testing.assert_allclose(found, x0, rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(
            model_mean(SCHEDULE, x_t, t, found, "x0"),
            model_mean(SCHEDULE, x_t, t, truth, target),
            rtol=1e-6,
            atol=1e-6,
        )


def test_clipping_cuts_at_the_range(lib, dtype):
    x = lib.array([[-3.0, -1.0, 0.5, 1.5]], dtype)
    found = lib.host(clipped(SCHEDULE, lambda x_t, t: x, "x0")(x, 9))
    assert found.dtype == dtype
    assert found.tolist() == [[-1.0, -1.0, 0.5, 1.0]]
    wide = lib.host(clipped(SCHEDULE, lambda x_t, t: x, "x0", -2.0, 9.0)(x, 9))
    assert wide.tolist() == [[-2.0, -1.0, 0.5, 1.5]]


@pytest.mark.parametrize("target", TARGETS)
def test_clipping_never_lowers_a_term_of_the_bound(target):
    rng = np.random.default_rng(4)
    x0 = rng.choice([-1.0, -0.5, 1.0], (40, 3))
    noise, wrong = rng.standard_normal((51, 40, 3)), rng.standard_normal((51, 40, 3))

    def predict(x_t, t):
        return training_target(SCHEDULE, x0, t, noise[t], target) + 0.3 * wrong[t]

    sigma2 = reverse_variance(SCHEDULE, "beta")
    free = elbo_decomposition(SCHEDULE, predict, x0, noise=noise, sigma2=sigma2, target=target)
    cut = elbo_decomposition(
        SCHEDULE, clipped(SCHEDULE, predict, target), x0, noise=noise, sigma2=sigma2, target="x0"
    )
    assert np.all(cut.L >= free.L - 1e-6)
    assert np.all(cut.L_0 >= free.L_0 - 1e-6)
    assert cut.total.mean() > free.total.mean() + 0.1


def test_an_empty_range_is_refused():
    with pytest.raises(ValueError, match="low must be less than high"):
        clipped(SCHEDULE, first, "eps", 1.0, 1.0)
    with pytest.raises(ValueError, match="target"):
        clipped(SCHEDULE, first, "noise")
