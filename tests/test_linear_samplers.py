"""Laws of samplers on Gaussian data, against recursions of their coefficients, draws, and each other."""

import math

import numpy as np
import pytest

from ddpm_np import (
    ancestral_sample,
    ddim_sample,
    dpm_solver_sample,
    heun_sample,
    linear_schedule,
    reverse_variance,
)
from ddpm_np.exact import (
    GaussianData,
    gaussian_data_chain,
    linear_sampler_law,
    optimal_variance_gaussian,
)
from ddpm_np.guidance import clipped
from ddpm_np.schedules import log_snr_schedule

SCHEDULE = linear_schedule(40, 0.002, 0.3)
TIMES = [1, 2, 5, 11, 23, 40]
EVERY = list(range(1, 41))
SIGMA2 = reverse_variance(SCHEDULE, "beta")
LAW = GaussianData([1.0, -2.0], [[1.0, 0.5], [0.5, 0.6]])


def ancestral(law, schedule=SCHEDULE, sigma2=SIGMA2):
    def sample(x_T, noise):
        return ancestral_sample(
            schedule, lambda x, t: law.bayes_eps(schedule, x, t), x_T, noise=noise, sigma2=sigma2
        )

    return sample


def ddim(law, eta, times=TIMES, schedule=SCHEDULE):
    def sample(x_T, noise):
        return ddim_sample(
            schedule, lambda x, t: law.bayes_eps(schedule, x, t), x_T, eta=eta, noise=noise, times=times
        )

    return sample


def deterministic(sampler, law, times=TIMES, schedule=SCHEDULE, **options):
    def sample(x_T, noise):
        return sampler(
            schedule,
            lambda x, t: law.posterior_x0(schedule, x, t),
            x_T,
            times=times,
            target="x0",
            **options,
        )

    return sample


# --- each sampler as a recursion for one coordinate of the data, N(m, v)


def ancestral_by_hand(m, v, s):
    distance, variance = -s.sqrt_alpha_bar[-1] * m, 1.0
    for t in range(s.T, 0, -1):
        seen = s.alpha_bar[t] * v + 1.0 - s.alpha_bar[t]
        # E[x_{t-1} | x_t] has the regression coefficient Cov(x_{t-1}, x_t) / Var x_t.
        before = s.alpha_bar[t - 1] * v + 1.0 - s.alpha_bar[t - 1]
        gain = math.sqrt(s.alpha[t]) * before / seen
        distance, variance = gain * distance, gain**2 * variance + (t > 1) * s.beta[t]
    return m + distance, variance


def ddim_by_hand(m, v, s, eta):
    distance, variance = -s.sqrt_alpha_bar[-1] * m, 1.0
    for i in range(len(TIMES), 0, -1):
        a_t, a_s = s.alpha_bar[TIMES[i - 1]], s.alpha_bar[TIMES[i - 2]] if i > 1 else 1.0
        sigma2 = eta**2 * (1.0 - a_s) / (1.0 - a_t) * (1.0 - a_t / a_s)
        gain = math.sqrt(a_s * a_t) * v + math.sqrt((1.0 - a_s - sigma2) * (1.0 - a_t))
        gain /= a_t * v + 1.0 - a_t
        distance, variance = gain * distance, gain**2 * variance + sigma2
    return m + distance, variance


def flow_gain(s, gain_of_y):
    """Mean and variance of x_0 = y_0, from the factor by which y - m has changed since T."""
    signal = s.sqrt_alpha_bar[-1]

    def law(m, v):
        gain = gain_of_y(v)
        return m - gain * m, (gain / signal) ** 2

    return law


def noise_levels(s):
    return [0.0, *(math.sqrt((1.0 - s.alpha_bar[t]) / s.alpha_bar[t]) for t in TIMES)]


def dpm_solver_by_hand(v, s, order):
    level, y, known_before = noise_levels(s), 1.0, 0.0
    for i in range(len(TIMES), 0, -1):
        now, to, known = level[i], level[i - 1], v / (v + level[i] ** 2) * y
        D = known
        if order == 2 and 1 < i < len(TIMES):
            weight = math.log(level[i + 1] / now) / math.log(now / to)  # 1 / r is h / h_before
            D = known + (known - known_before) / (2.0 * weight)
        y, known_before = to / now * y + (1.0 - to / now) * D, known
    return y


def heun_by_hand(v, s):
    level, y = noise_levels(s), 1.0
    for i in range(len(TIMES), 0, -1):
        now, step = level[i], level[i - 1] - level[i]
        slope, euler = now / (v + now**2), y * (1.0 + step * now / (v + now**2))
        if i > 1:
            slope = 0.5 * (slope + level[i - 1] / (v + level[i - 1] ** 2) * euler / y)
        y *= 1.0 + step * slope
    return y


ROWS = {
    "ancestral": (ancestral, lambda m, v: ancestral_by_hand(m, v, SCHEDULE)),
    **{
        f"ddim, eta = {eta}": (
            lambda law, eta=eta: ddim(law, eta),
            lambda m, v, eta=eta: ddim_by_hand(m, v, SCHEDULE, eta),
        )
        for eta in (0.0, 0.4, 1.0)
    },
    **{
        f"dpm-solver, order {order}": (
            lambda law, order=order: deterministic(dpm_solver_sample, law, order=order),
            flow_gain(SCHEDULE, lambda v, order=order: dpm_solver_by_hand(v, SCHEDULE, order)),
        )
        for order in (1, 2)
    },
    "heun": (
        lambda law: deterministic(heun_sample, law),
        flow_gain(SCHEDULE, lambda v: heun_by_hand(v, SCHEDULE)),
    ),
}


@pytest.mark.parametrize(("sampler", "by_hand"), ROWS.values(), ids=ROWS)
def test_laws_are_those_of_a_scalar_recursion(sampler, by_hand):
    """For five variances along the coordinates, and along the axes of a full covariance."""
    means, variances = np.array([0.0, 1.0, -2.0, 0.3, 5.0]), np.array([1e-4, 0.04, 0.5, 1.0, 30.0])
    law = GaussianData(means, variances)
    found = linear_sampler_law(law, sampler(law))
    expected = np.array([by_hand(m, v) for m, v in zip(means, variances, strict=True)]).T
    np.testing.assert_allclose([found.mean, found.covariance], expected, rtol=1e-11)

    found, axes = linear_sampler_law(LAW, sampler(LAW)), LAW.axes
    pairs = zip(LAW.mean @ axes, LAW.variances, strict=True)
    mean, variance = np.array([by_hand(m, v) for m, v in pairs]).T
    np.testing.assert_allclose(found.mean, axes @ mean, rtol=1e-11)
    np.testing.assert_allclose(found.covariance, (axes * variance) @ axes.T, rtol=1e-11)


@pytest.mark.parametrize("name", ["ancestral", "ddim, eta = 0.4", "dpm-solver, order 2", "heun"])
def test_laws_are_those_of_a_million_draws(name):
    rng, n = np.random.default_rng(0), 10**6
    few = linear_schedule(3, 0.1, 0.8)
    sample = {
        "ancestral": ancestral(LAW, few, few.beta),
        "ddim, eta = 0.4": ddim(LAW, 0.4, None, few),
        "dpm-solver, order 2": deterministic(dpm_solver_sample, LAW, None, few, order=2),
        "heun": deterministic(heun_sample, LAW, None, few),
    }[name]
    law = linear_sampler_law(LAW, sample)
    x = sample(rng.standard_normal((n, 2)), lambda t: rng.standard_normal((n, 2)))
    variances = np.diag(law.covariance)
    assert np.all(np.abs(x.mean(0) - law.mean) < 4.0 * np.sqrt(variances / n))
    error = np.sqrt((np.outer(variances, variances) + law.covariance**2) / n)
    assert np.all(np.abs(np.cov(x.T) - law.covariance) < 4.0 * error)


@pytest.mark.parametrize("eta", [0.0, 0.3, 1.0])
def test_the_family_of_ddim_keeps_the_marginals(eta):
    """q_sigma(x_s | x_t, x_0), their Lemma 1: with the noise known, every x_t has the law (22)."""
    x0 = np.array([0.7, -1.4, 3.0])
    start = SCHEDULE.sqrt_alpha_bar[-1] * x0, SCHEDULE.sqrt_one_minus_alpha_bar[-1]

    def known_noise(x_t, t):
        return (x_t - SCHEDULE.sqrt_alpha_bar[t] * x0) / SCHEDULE.sqrt_one_minus_alpha_bar[t]

    for i, t in enumerate(TIMES, 1):

        def path(z, noise, i=i):
            x_T = start[0] + start[1] * z
            return ddim_sample(
                SCHEDULE, known_noise, x_T, eta=eta, noise=noise, times=TIMES, trajectory=True
            )[i]

        law = linear_sampler_law(GaussianData(x0, np.ones(3)), path)
        np.testing.assert_allclose(law.mean, SCHEDULE.sqrt_alpha_bar[t] * x0, rtol=1e-13)
        np.testing.assert_allclose(law.variances, SCHEDULE.one_minus_alpha_bar[t], rtol=1e-12)


ORDERS = {
    "ddim": (1.0, lambda law, s: ddim(law, 0.0, None, s)),
    "dpm-solver, order 2": (2.0, lambda law, s: deterministic(dpm_solver_sample, law, None, s, order=2)),
    "heun": (2.0, lambda law, s: deterministic(heun_sample, law, None, s)),
}


@pytest.mark.parametrize(("order", "sampler"), ORDERS.values(), ids=ORDERS)
def test_wasserstein_distance_falls_with_the_order_of_the_sampler(order, sampler):
    """From the law that the exact flow makes of N(0, I), on chains even in log-SNR."""
    law = GaussianData(np.linspace(-1.0, 1.0, 100), 1.0 / np.arange(1.0, 101.0))
    distances = []
    for S in (40, 80, 160, 320):
        schedule = log_snr_schedule(S, 1e-5)
        exact = linear_sampler_law(law, lambda x_T, noise, s=schedule: law.flow(s, x_T))
        distances.append(linear_sampler_law(law, sampler(law, schedule)).wasserstein2(exact))
    slopes = -np.diff(np.log2(distances))
    print(f"{distances} fall with orders {slopes}")
    assert np.all(np.diff(distances) < 0.0)
    assert slopes[-1] == pytest.approx(order, abs=0.1)


def test_the_exact_flow_of_the_prior():
    law, signal, sigma2 = LAW, SCHEDULE.sqrt_alpha_bar[-1], SCHEDULE.one_minus_alpha_bar[-1]
    found = linear_sampler_law(law, lambda x_T, noise: law.flow(SCHEDULE, x_T))
    last = signal**2 * law.covariance + sigma2 * np.eye(2)
    # Where x_T ~ N(0, I) stands for N(signal mean, last): both are mapped by A, A last A^T = covariance.
    A = (law.axes * np.sqrt(law.variances / np.diag(law.axes.T @ last @ law.axes))) @ law.axes.T
    np.testing.assert_allclose(found.mean, law.mean - A @ (signal * law.mean), rtol=1e-12)
    np.testing.assert_allclose(found.covariance, A @ A.T, rtol=1e-12)


def test_divergence_falls_with_the_number_of_steps():
    """KL(data || model) is -E[log p_theta(x_0)] - H, which the chain knows by another way."""
    previous = math.inf
    for T in (5, 20, 80):
        schedule = log_snr_schedule(T, 0.03)
        sigma2 = optimal_variance_gaussian(schedule, LAW.covariance)

        def sample(x_T, noise, s=schedule, sigma2=sigma2):
            x_1 = ancestral(LAW, s, sigma2)(x_T, noise)
            return x_1 + math.sqrt(sigma2[1]) * noise(1)  # the decoder's draw, which samplers leave out

        kl = LAW.kl(linear_sampler_law(LAW, sample))
        chain = gaussian_data_chain(schedule, LAW.mean, LAW.covariance, sigma2)
        exact = chain.expected_log_density(LAW.mean, LAW.covariance)
        assert kl == pytest.approx(-LAW.entropy() - exact, abs=1e-11)
        assert kl < previous
        previous = kl


def test_a_sampler_of_another_law_is_refused():
    """Clipped predictions are not linear; a denoiser with other axes mixes those of the law."""
    within = clipped(SCHEDULE, lambda x, t: LAW.bayes_eps(SCHEDULE, x, t), "eps", -4.0, 4.0)
    for sample in (
        lambda x_T, noise: ddim_sample(SCHEDULE, within, x_T, target="x0"),
        ddim(GaussianData(LAW.mean, LAW.covariance[::-1, ::-1]), 0.0),
        lambda x_T, noise: x_T * (1.0 + noise(3)),
        lambda x_T, noise: np.sin(x_T),
    ):
        with pytest.raises(ValueError, match="sample must be linear along each principal axis"):
            linear_sampler_law(LAW, sample)


def test_bad_arguments():
    with pytest.raises(TypeError, match="law must be a GaussianData"):
        linear_sampler_law(None, ancestral(LAW))
    with pytest.raises(TypeError, match="sample must be callable"):
        linear_sampler_law(LAW, 3)
    with pytest.raises(ValueError, match="sample must have the shape of x_T"):
        linear_sampler_law(LAW, lambda x_T, noise: x_T[:, :1])


def test_many_dimensions_cost_little():
    """1,000 eigenvalues, 50 noises: no matrix is made, and nothing is decomposed."""
    law = GaussianData(np.zeros(1000), np.arange(1.0, 1001.0) ** -2.0)
    found = linear_sampler_law(law, ddim(law, 1.0, EVERY))
    assert found.axes is None
    assert found.wasserstein2(law) < 0.2 * math.sqrt(law.variances.sum())
