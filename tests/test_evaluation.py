"""The bound in chunks is the bound; standard errors are those of a mean. See also test_training."""

import numpy as np
import pytest

import ddpm_np as ddpm
from ddpm_np import estimators
from ddpm_np.guidance import clipped, guided
from ddpm_np.nn import Adam, MLPDenoiser, Ops, constant_rate
from ddpm_np.runs import evaluation
from ddpm_np.runs.evaluation import elbo_in_chunks, predictor, standard_error
from ddpm_np.training import Recipe, init_state

SCHEDULE = ddpm.linear_schedule(30, 0.01, 0.3)
SIGMA2 = ddpm.reverse_variance(SCHEDULE, "beta")
X0 = np.random.default_rng(0).standard_normal((17, 2))


def noise(t):
    return np.random.default_rng(t).standard_normal(X0.shape)


@pytest.mark.parametrize("terms", [1, 5 * 31, 10_000])
@pytest.mark.parametrize("target", ["eps", "v"])
def test_chunks_are_the_whole(terms, target, monkeypatch):
    monkeypatch.setattr(evaluation, "TERMS_AT_A_TIME", terms)
    sizes = []

    def predict(x_t, t):
        sizes.append(len(x_t))
        return np.tanh(x_t) * t / 30

    chunks = elbo_in_chunks(SCHEDULE, predict, X0, noise=noise, sigma2=SIGMA2, target=target)
    assert max(sizes) == min(17, max(1, terms // 31))
    whole = ddpm.elbo_decomposition(SCHEDULE, predict, X0, noise=noise, sigma2=SIGMA2, target=target)
    np.testing.assert_allclose(chunks.L, whole.L.mean(axis=1), rtol=1e-12)
    for ours, theirs in ((0, whole.L_T), (2, whole.L_0), (3, whole.total)):
        np.testing.assert_allclose(chunks[ours], theirs, rtol=1e-12)


def test_bad_data_is_refused():
    with pytest.raises(TypeError, match="x0 must be an array"):
        elbo_in_chunks(SCHEDULE, lambda x_t, t: x_t, [1.0], noise=noise, sigma2=SIGMA2)


def test_the_data_and_their_noise_may_be_of_other_dtypes_than_the_network():
    """``asarray`` brings both to where it computes, and in its dtype."""
    seen = []

    def predict(x_t, t):
        seen.append(x_t.dtype)
        return np.tanh(x_t)

    def asarray(host):
        return np.asarray(host, dtype=np.float32)

    half = elbo_in_chunks(
        SCHEDULE,
        predict,
        X0,
        noise=lambda t: noise(t).astype(np.float32),
        sigma2=SIGMA2,
        asarray=asarray,
    )
    assert {*seen} == {np.dtype(np.float32)}
    whole = elbo_in_chunks(SCHEDULE, lambda x_t, t: np.tanh(x_t), X0, noise=noise, sigma2=SIGMA2)
    np.testing.assert_allclose(half.total, whole.total, rtol=1e-4)
    with pytest.raises(ValueError, match=r"noise must have the shape of x0, \(17, 2\), got \(2, 2\)"):
        elbo_in_chunks(SCHEDULE, predict, X0, noise=lambda t: noise(t)[:2], sigma2=SIGMA2)


def test_standard_error_of_a_mean():
    values = np.random.default_rng(1).standard_normal((2000, 50))
    spread = np.std([row.mean() for row in values])
    assert np.mean([standard_error(row) for row in values]) == pytest.approx(spread, rel=0.1)


# --- a network and its schedule -------------------------------------------------------------


def network(T=30):
    """An untrained one, for chains of T steps."""
    schedule = ddpm.linear_schedule(T, 0.01, 0.3)
    recipe = Recipe(schedule, MLPDenoiser(2, T, 8, 1, 8), Adam(constant_rate(1e-3)))
    return predictor(recipe, init_state(recipe, 0, np.asarray).params, Ops())


TIMES = np.arange(1, 18)
DRAWN = {"noise": noise, "sigma2": SIGMA2}
ONE = {"noise": noise(1), "sigma2": SIGMA2}
CONSUMERS = {
    "elbo_decomposition": lambda predict: ddpm.elbo_decomposition(SCHEDULE, predict, X0, **DRAWN),
    "elbo_in_chunks": lambda predict: elbo_in_chunks(SCHEDULE, predict, X0, **DRAWN),
    "ancestral_sample": lambda predict: ddpm.ancestral_sample(SCHEDULE, predict, X0, **DRAWN),
    "step_errors": lambda predict: estimators.step_errors(SCHEDULE, predict, X0, noise=noise),
    "optimal": lambda predict: estimators.optimal_variance(SCHEDULE, predict, X0, noise=noise),
    "analytic": lambda predict: estimators.analytic_dpm_variance(SCHEDULE, predict, X0, noise=noise),
    "T-sample": lambda predict: estimators.t_sample_estimate(SCHEDULE, predict, X0, **DRAWN),
    "two-sample": lambda predict: estimators.two_sample_estimate(
        SCHEDULE, predict, X0, TIMES, step_noise=noise(2), **ONE
    ),
    "one-sample": lambda predict: estimators.one_sample_estimate(SCHEDULE, predict, X0, TIMES, **ONE),
    "conditional variance": lambda predict: estimators.two_sample_conditional_variance(
        SCHEDULE, predict, X0, TIMES, **ONE
    ),
    "consistency": lambda predict: estimators.consistency_triple_integrand(
        SCHEDULE, predict, X0, X0, X0, TIMES, sigma2=SIGMA2
    ),
    "clipped": lambda predict: clipped(SCHEDULE, predict, "eps"),
}
WRAPPERS = {
    "itself": lambda predict: predict,
    "guided": lambda predict: guided(predict, lambda x_t, t: x_t, 1.0),
    "guided, unconditional": lambda predict: guided(lambda x_t, t: x_t, predict, 1.0),
    "guided by 0": lambda predict: guided(predict, predict, 0.0),
    "clipped": lambda predict: clipped(ddpm.linear_schedule(predict.T), predict, "eps"),
}


@pytest.mark.filterwarnings("ignore::ddpm_np.PriorWarning")
@pytest.mark.parametrize("wrap", WRAPPERS)
@pytest.mark.parametrize("consumer", CONSUMERS)
def test_a_network_for_another_T_is_refused(consumer, wrap):
    use, wrapper = CONSUMERS[consumer], WRAPPERS[wrap]
    for T in (29, 31):
        with pytest.raises(
            ValueError, match=rf"predict was made for T = {T}, .* T = 30: .* respaced_predictor"
        ):
            use(wrapper(network(T)))
    if consumer != "analytic":  # which an untrained network may not satisfy
        use(wrapper(network()))


@pytest.mark.parametrize("consumer", CONSUMERS)
def test_a_predictor_that_is_none_is_named(consumer):
    with pytest.raises(TypeError, match="predict must be callable, got NoneType None"):
        CONSUMERS[consumer](None)


def test_networks_of_two_lengths_are_not_combined():
    with pytest.raises(ValueError, match="made for one T, got 29 and 31"):
        guided(network(29), network(31), 0.0)


@pytest.mark.filterwarnings("ignore::ddpm_np.PriorWarning")
def test_an_attribute_T_counts_if_it_is_an_integer():
    predict = lambda x_t, t: x_t  # noqa: E731
    predict.T = 0.5  # a temperature, say
    CONSUMERS["elbo_decomposition"](predict)
    predict.T = np.int64(29)
    with pytest.raises(ValueError, match="predict was made for T = 29"):
        CONSUMERS["elbo_decomposition"](predict)
