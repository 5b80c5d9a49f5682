"""Code for PyTorch, JAX and diffusers, checked through the adapters that come with ddpm_np."""

import json
import os

import numpy as np
import pytest

from ddpm_np.testing import check_identities
from ddpm_np.testing.__main__ import main

pytestmark = pytest.mark.peers

os.environ.setdefault("HF_HUB_OFFLINE", "1")
torch = pytest.importorskip("torch")

from ddpm_np.testing.adapters import from_arrays, from_generator, loop_draws  # noqa: E402
from ddpm_np.testing.adapters.pytorch import torch_draws  # noqa: E402
from ddpm_np.testing.adapters.usual_names import UnusualError, UsualNames  # noqa: E402


def at(table, t, x):
    return table[t].reshape(-1, *[1] * (x.ndim - 1)).to(x.dtype)


class GaussianDiffusion(torch.nn.Module):
    """A module that holds its network and knows the size of its images."""

    def __init__(self, model, *, image_size, timesteps=200, high=0.1):
        super().__init__()
        self.model, self.image_size, self.channels = model, image_size, 1
        betas = torch.linspace(5e-4, high, timesteps, dtype=torch.float64)
        bars = torch.cumprod(1.0 - betas, 0)
        before = torch.cat([torch.ones(1, dtype=torch.float64), bars[:-1]])
        for name, table in {
            "betas": betas,
            "alphas_cumprod": bars,
            "posterior_variance": betas * (1.0 - before) / (1.0 - bars),
            "c_x0": betas * before.sqrt() / (1.0 - bars),
            "c_xt": (1.0 - before) * (1.0 - betas).sqrt() / (1.0 - bars),
        }.items():
            self.register_buffer(name, table)
        self.num_timesteps = timesteps

    def q_sample(self, x_start, t, noise=None):
        noise = torch.randn_like(x_start) if noise is None else noise
        bar = at(self.alphas_cumprod, t, x_start)
        return bar.sqrt() * x_start + (1.0 - bar).sqrt() * noise

    def q_posterior(self, x_start, x_t, t):
        mean = at(self.c_x0, t, x_t) * x_start + at(self.c_xt, t, x_t) * x_t
        return mean, at(self.posterior_variance, t, x_t), None

    @torch.no_grad()
    def p_sample(self, x, t: int):
        times = torch.full((x.shape[0],), t, dtype=torch.long)
        bar = at(self.alphas_cumprod, times, x)
        x_start = (x - (1.0 - bar).sqrt() * self.model(x, times)) / bar.sqrt()
        mean, variance, _ = self.q_posterior(x_start, x, times)
        noise = torch.randn_like(x) if t > 0 else 0.0
        return mean + variance.sqrt() * noise, x_start

    def p_sample_loop(self, shape):
        x = torch.randn(shape, dtype=torch.float64)
        for t in reversed(range(self.num_timesteps)):
            x, _ = self.p_sample(x, t)
        return x

    @torch.no_grad()
    def sample(self, batch_size=16):
        return self.p_sample_loop((batch_size, self.channels, self.image_size, self.image_size))

    def p_losses(self, x_start, t):
        noise = torch.randn_like(x_start)
        return ((self.model(self.q_sample(x_start, t, noise), t) - noise) ** 2).mean()

    def forward(self, img):
        assert img.shape[2] == img.shape[3] == self.image_size
        return self.p_losses(img, torch.randint(0, self.num_timesteps, (img.shape[0],)).long())


class Late(GaussianDiffusion):
    def p_sample_loop(self, shape):
        x = torch.randn(shape, dtype=torch.float64)
        for t in reversed(range(1, self.num_timesteps)):
            x, _ = self.p_sample(x, t)
        return x


class NoiseScheduler:
    """Tables and steps, with the network elsewhere; in float32."""

    def __init__(self, num_timesteps=100):
        self.betas = torch.linspace(1e-3, 0.2, num_timesteps)
        self.alphas_cumprod = torch.cumprod(1.0 - self.betas, 0)

    def add_noise(self, x_start, x_noise, timesteps):
        bar = at(self.alphas_cumprod, timesteps, x_start)
        return bar.sqrt() * x_start + (1.0 - bar).sqrt() * x_noise

    def step(self, model_output, timestep: int, sample):
        t = timestep
        scale = self.betas[t] / (1.0 - self.alphas_cumprod[t]).sqrt()
        mean = (sample - scale * model_output) / (1.0 - self.betas[t]).sqrt()
        return mean + self.betas[t].sqrt() * torch.randn_like(sample) if t > 0 else mean


def test_a_module_is_checked_as_it_is():
    adapter = UsualNames(GaussianDiffusion(None, image_size=32))
    report = check_identities(adapter, **adapter.claims)
    assert report.ok, str(report)
    silent = {row.explanation for row in report.rows if row.verdict == "not offered"}
    assert not silent & {"q_sample", "q_posterior", "reverse_step", "sample", "loss", "reverse_variance"}


def test_its_loop_is_judged():
    adapter = UsualNames(Late(None, image_size=32))
    report = check_identities(adapter, **adapter.claims)
    assert not report.ok
    assert all("sample" in row.identity for row in report.failed), str(report)


def test_a_table_with_steps_is_checked_as_it_is():
    adapter = UsualNames(NoiseScheduler())
    report = check_identities(adapter, **adapter.claims)
    assert report.ok, str(report)
    assert report["reverse_step: no noise at t = 1"].verdict == "holds"


def run(target, *options, capsys):
    """Exit status, the lines of rows that fail and what they say, and the error."""
    status = main([f"tests.pytorch_styles:{target}", "--like", "pytorch", *options, "--json"])
    out, error = capsys.readouterr()
    rows = json.loads(out)["rows"] if out else []
    return status, {row["identity"]: row for row in rows}, error


def offered(rows):
    silent = {row["explanation"] for row in rows.values() if row["verdict"] == "not offered"}
    return {"q_sample", "q_posterior", "reverse_step", "sample", "loss"} - silent


def failed(rows):
    return {name: row["explanation"] for name, row in rows.items() if row["verdict"] == "FAILS"}


def test_methods_that_take_the_network_and_return_dicts(capsys):
    status, rows, _ = run("NetworkFirst", "--clip", "1", capsys=capsys)
    assert status == 0, failed(rows)
    assert offered(rows) == {"q_sample", "q_posterior", "reverse_step", "sample", "loss"}
    assert rows["sample: x_0 is limited as announced"]["verdict"] == "holds"
    status, rows, _ = run("NetworkFirst", capsys=capsys)
    assert status == 1
    assert failed(rows)["sample: x_0 is limited as announced"] == "x_0 is limited to [-1, 1]"


def test_code_that_would_run_on_cuda(capsys):
    status, rows, _ = run("OnCuda", capsys=capsys)
    assert status == 1
    assert offered(rows) == {"q_sample", "sample"}
    assert "stops early" in failed(rows)["sample: predict is asked at each time"]
    assert "limited to [0, 255]" in failed(rows)["sample: starts from x_T, ends with a step"]
    assert len(failed(rows)) == 2


def test_tables_in_the_shape_of_images(capsys):
    _, rows, _ = run("ForImages", capsys=capsys)
    assert offered(rows) == {"q_sample", "reverse_step", "loss"}
    assert list(failed(rows)) == ["reverse_step: no noise at t = 1"]


def test_a_step_whose_t_is_a_number(capsys):
    status, rows, _ = run("OfNumbers", capsys=capsys)
    assert status == 0, failed(rows)
    assert offered(rows) == {"q_sample", "reverse_step"}


def test_what_a_constructor_wants_is_one_sentence(capsys):
    status, _, error = run("WantsKinds", capsys=capsys)
    assert status == 2
    assert "WantsKinds wants 'model_mean_type', a name that says nothing here" in error
    assert len(error.splitlines()) == 1


@pytest.fixture
def usual(tmp_path, monkeypatch):
    (tmp_path / "usual_classes.py").write_text(
        "from tests.test_testing_adapters_peers import GaussianDiffusion, Late, NoiseScheduler\n"
        "class Nothing: pass\n"
        "class Odd(NoiseScheduler):\n"
        "    def __init__(self, wibble): super().__init__()\n"
    )
    monkeypatch.syspath_prepend(tmp_path)


def test_the_command_line_takes_a_class(usual, capsys):
    assert main(["usual_classes:GaussianDiffusion", "--like", "pytorch"]) == 0
    assert "GaussianDiffusion, T = 200" in capsys.readouterr().out
    assert main(["usual_classes:Late", "--like", "pytorch"]) == 1
    for name, words in {"Nothing": "has no table betas or beta", "Odd": "wants 'wibble'"}.items():
        assert main([f"usual_classes:{name}", "--like", "pytorch"]) == 2
        error = capsys.readouterr().err
        assert words in error
        assert len(error.splitlines()) == 1


def test_what_pytorch_draws_is_redirected():
    noise = np.arange(6.0).reshape(2, 3)
    calls = [
        lambda: torch.randn(2, 3),
        lambda: torch.randn((2, 3), dtype=torch.float64),
        lambda: torch.randn(size=(2, 3)),
        lambda: torch.randn_like(torch.zeros(2, 3)),
        lambda: torch.empty(2, 3).normal_(),
        lambda: torch.normal(0.0, 1.0, (2, 3)),
        lambda: torch.normal(torch.zeros(2, 3), torch.ones(2, 3)),
        lambda: torch.distributions.Normal(0.0, 1.0).sample((2, 3)),
    ]
    for call in calls:
        with torch_draws(from_arrays([noise])):
            assert np.array_equal(call().numpy(), noise)
    expected = np.random.default_rng(0).integers(3, 9, (5,))
    for call in (
        lambda: torch.randint(3, 9, (5,)),
        lambda: torch.randint(low=3, high=9, size=(5,)),
        lambda: torch.randint_like(torch.zeros(5, dtype=torch.int64), 3, 9),
    ):
        with torch_draws(from_generator(np.random.default_rng(0))):
            drawn = call()
        assert drawn.dtype == torch.int64
        assert np.array_equal(drawn.numpy(), expected)


def test_a_sampler_written_for_jax():
    pytest.importorskip("jax")
    import jax
    import jax.numpy as jnp

    from ddpm_np.testing.adapters.jax import jax_draws

    class InJax:
        T = 50

        def __init__(self):
            self.beta = jnp.linspace(1e-3, 0.2, self.T)
            self.bar = jnp.cumprod(1.0 - self.beta)

        def betas(self):
            return self.beta

        def sample(self, predict, x_T, noise):
            step = jax.jit(
                lambda key, x, eps, i: (
                    (x - self.beta[i] / jnp.sqrt(1.0 - self.bar[i]) * eps) / jnp.sqrt(1.0 - self.beta[i])
                    + jnp.where(i > 0, jnp.sqrt(self.beta[i]), 0.0) * jax.random.normal(key, x.shape)
                )
            )
            key = jax.random.PRNGKey(0)
            with jax_draws(loop_draws(x_T, noise)):
                x = jax.random.normal(key, x_T.shape)
                for i in reversed(range(self.T)):
                    key, now = jax.random.split(key)
                    x = step(now, x, jnp.asarray(predict(np.asarray(x), i + 1)), i)
            return x

        def loss(self, predict, x0, rng):
            with jax_draws(from_generator(rng)):
                key = jax.random.PRNGKey(1)
                i = jax.random.randint(key, (len(x0),), 0, self.T)
                noise = jax.random.normal(key, x0.shape)
                bar = self.bar[i][:, None]
                x_t = jnp.sqrt(bar) * jnp.asarray(x0) + jnp.sqrt(1.0 - bar) * noise
                return float(jnp.mean((predict(np.asarray(x_t), np.asarray(i) + 1) - noise) ** 2))

    report = check_identities(InJax(), dtype="float32")
    assert report.ok, str(report)
    assert {row.explanation for row in report.rows if row.verdict == "not offered"} >= {"q_sample"}


def test_what_the_class_lacks_is_one_sentence():
    with pytest.raises(UnusualError, match="NoBetas has no table betas or beta"):
        UsualNames(type("NoBetas", (), {})())
