"""Denoising diffusion on one page: train, sample, and compare the bound with the truth.

    python examples/minimal.py

Takes about ten seconds, with NumPy alone. Numbers in brackets are equations of docs/equations.md.
"""

import argparse
import os
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # more are slower for matrices this small

import numpy as np

import ddpm_np as ddpm
from ddpm_np.exact import swiss_roll_exact
from ddpm_np.nn import Adam, MLPDenoiser, Ops, cosine_decay, warmup
from ddpm_np.plotting import plot_samples, save
from ddpm_np.runs.evaluation import predictor, standard_error
from ddpm_np.training import Recipe, init_state, train_step

parser = argparse.ArgumentParser(description="Train, sample, and compare the bound with the truth.")
parser.add_argument("folder", nargs="?", type=Path, default="runs/minimal", help="for the picture")
folder = parser.parse_args().folder
folder.mkdir(parents=True, exist_ok=True)

T, STEPS, BATCH, POINTS = 200, 6000, 256, 2000
rng = np.random.default_rng(0)

# The data: a swiss roll, whose density is known exactly.
law = swiss_roll_exact()
data = law.sample(50_000, rng).astype(np.float32)

# The forward process (20): step t adds noise of variance beta_t; by (22), almost only noise is left.
schedule = ddpm.scaled_linear_schedule(T)
print(f"x_T is {schedule.sqrt_alpha_bar[T]:.3f} x_0 + {schedule.sqrt_one_minus_alpha_bar[T]:.3f} noise")

# The network epsilon_theta(x_t, t), with a backward pass written by hand, and how to train it.
network = MLPDenoiser(dimensions=2, T=T, hidden_size=64)
recipe = Recipe(schedule, network, Adam(warmup(cosine_decay(1e-2, STEPS), 100)))
state, ops = init_state(recipe, seed=0, asarray=np.float32), Ops()

# Algorithm 1: add noise to x_0 (27), and descend along the gradient of |noise - epsilon_theta|^2.
for _ in range(STEPS):
    x0 = data[rng.integers(len(data), size=BATCH)]
    t = rng.integers(1, T + 1, size=BATCH)
    noise = rng.standard_normal(x0.shape, dtype=np.float32)
    state = train_step(recipe, state, x0, t, noise, ops)
    if state.step % 2000 == 0:
        print(f"step {state.step} of {STEPS}, mean loss so far {state.loss_sum / state.step:.3f}")
predict = predictor(recipe, state.average.astype(np.float64), ops)

# Algorithm 2: start from noise (30), and draw x_{t-1} from N(mu_theta(x_t, t), sigma_t^2 I) (31, 34).
sigma2 = ddpm.reverse_variance(schedule, "beta")
x_T = rng.standard_normal((POINTS, 2))
samples = ddpm.ancestral_sample(
    schedule, predict, x_T, noise=lambda t: rng.standard_normal(x_T.shape), sigma2=sigma2
)

# The bound (19) on new data, ELBO = L_T + sum of L_{t-1} + L_0 <= log p_theta(x_0): for our network,
# and for the best possible one, E[noise | x_t], which the known density gives without training.
test, noise = law.sample(POINTS, rng), rng.standard_normal((T + 1, POINTS, 2))
print(f"entropy of the data: {law.entropy():.3f} nats, which no -ELBO can be below on average")
for name, denoiser in (
    ("our network", predict),
    ("the best one", lambda x_t, t: law.bayes_eps(schedule, x_t, t)),
):
    nll = -ddpm.elbo_decomposition(schedule, denoiser, test, noise=noise, sigma2=sigma2).total
    gap, error = nll.mean() - law.entropy(), standard_error(nll)
    print(f"-ELBO of {name:<12}: {nll.mean():.3f}, a gap of {gap:.3f} +- {error:.3f}")
print(f"The best one's gap is the price of only {T} steps: with 1000 it is 0.03.")

save(plot_samples(test, samples), folder / "samples.png")
print(f"data beside samples: {folder / 'samples.png'}")
