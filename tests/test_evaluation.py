"""The bound in chunks is the bound; standard errors are those of a mean. See also test_training."""

import numpy as np
import pytest

import ddpm_np as ddpm
from ddpm_np.runs import evaluation
from ddpm_np.runs.evaluation import elbo_in_chunks, standard_error

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


def test_standard_error_of_a_mean():
    values = np.random.default_rng(1).standard_normal((2000, 50))
    spread = np.std([row.mean() for row in values])
    assert np.mean([standard_error(row) for row in values]) == pytest.approx(spread, rel=0.1)
