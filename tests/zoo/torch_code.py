"""A PyTorch class with the names that most code shares, and slips in it. Times count from 0."""

from typing import Any, ClassVar

import torch
import torch.nn.functional as F


class GaussianDiffusion(torch.nn.Module):
    """Ancestral sampling with beta_tilde, for images; it is right."""

    options: ClassVar[dict[str, Any]] = {}

    def __init__(self, model=None, timesteps=100, channels=3, image_size=8):
        super().__init__()
        self.model, self.channels, self.image_size = model, channels, image_size
        self.num_timesteps = timesteps
        betas = torch.linspace(0.1, 20.0, timesteps, dtype=torch.float64) / timesteps
        alphas = 1.0 - betas
        abar = torch.cumprod(alphas, 0)
        before = F.pad(abar[:-1], (1, 0), value=1.0)
        self._table("betas", betas)
        self._table("alphas_cumprod", abar)
        self._table("sqrt_alphas_cumprod", abar.sqrt())
        self._table("sqrt_one_minus_alphas_cumprod", (1.0 - abar).sqrt())
        self._table("sqrt_recip_alphas_cumprod", (1.0 / abar).sqrt())
        self._table("sqrt_recipm1_alphas_cumprod", (1.0 / abar - 1.0).sqrt())
        variance = betas * (1.0 - before) / (1.0 - abar)
        self._table("posterior_variance", variance)
        self._table("posterior_log_variance_clipped", variance.clamp(min=1e-20).log())
        self._table("posterior_mean_coef1", betas * before.sqrt() / (1.0 - abar))
        self._table("posterior_mean_coef2", (1.0 - before) * alphas.sqrt() / (1.0 - abar))

    def _table(self, name, values):
        self.register_buffer(name, values.float())

    def extract(self, table, t, shape):
        return table.gather(-1, t).reshape(len(t), *[1] * (len(shape) - 1))

    def draw(self, x):
        return torch.randn_like(x)

    def q_sample(self, x_start, t, noise=None):
        noise = torch.randn_like(x_start) if noise is None else noise
        return (
            self.extract(self.sqrt_alphas_cumprod, t, x_start.shape) * x_start
            + self.extract(self.sqrt_one_minus_alphas_cumprod, t, x_start.shape) * noise
        )

    def predict_start_from_noise(self, x_t, t, noise):
        return (
            self.extract(self.sqrt_recip_alphas_cumprod, t, x_t.shape) * x_t
            - self.extract(self.sqrt_recipm1_alphas_cumprod, t, x_t.shape) * noise
        )

    def q_posterior(self, x_start, x_t, t):
        mean = (
            self.extract(self.posterior_mean_coef1, t, x_t.shape) * x_start
            + self.extract(self.posterior_mean_coef2, t, x_t.shape) * x_t
        )
        return (
            mean,
            self.extract(self.posterior_variance, t, x_t.shape),
            self.extract(self.posterior_log_variance_clipped, t, x_t.shape),
        )

    @torch.no_grad()
    def p_sample(self, x, t: int):
        times = torch.full((len(x),), t, dtype=torch.long)
        x_start = self.predict_start_from_noise(x, times, self.model(x, times))
        mean, _, log_variance = self.q_posterior(x_start, x, times)
        return mean + ((0.5 * log_variance).exp() * torch.randn_like(x) if t > 0 else 0.0)

    @torch.no_grad()
    def p_sample_loop(self, shape):
        x = torch.randn(shape)
        for t in reversed(range(self.num_timesteps)):
            x = self.p_sample(x, t)
        return x

    def times(self, batch):
        return torch.randint(0, self.num_timesteps, (batch,)).long()

    def forward(self, img):
        t = self.times(len(img))
        noise = self.draw(img)
        return F.mse_loss(self.model(self.q_sample(img, t, noise), t), noise)


class LastStepDropped(GaussianDiffusion):
    named = r"stops (early|before|at t = 2)|last step|never (asked )?at t = 1|t = 1 is (never|not|left)"

    @torch.no_grad()
    def p_sample_loop(self, shape):
        x = torch.randn(shape)
        for t in range(self.num_timesteps - 1, 0, -1):
            x = self.p_sample(x, t)
        return x


class NoNoiseAtTheSecondLast(GaussianDiffusion):
    named = r"t = 2.*no (noise|z)\b|no (noise|z)\b.*t = 2"

    @torch.no_grad()
    def p_sample(self, x, t: int):
        times = torch.full((len(x),), t, dtype=torch.long)
        x_start = self.predict_start_from_noise(x, times, self.model(x, times))
        mean, _, log_variance = self.q_posterior(x_start, x, times)
        z = torch.randn_like(x)
        return mean + ((0.5 * log_variance).exp() * z if t > 1 else 0.0)


class VarianceForDeviation(GaussianDiffusion):
    named = r"sigma(\[t\]|_t)?\^2.*(z|noise)|variance.*(deviation|root)|root.*(missing|forgotten)"

    @torch.no_grad()
    def p_sample(self, x, t: int):
        times = torch.full((len(x),), t, dtype=torch.long)
        x_start = self.predict_start_from_noise(x, times, self.model(x, times))
        mean, variance, _ = self.q_posterior(x_start, x, times)
        return mean + variance * torch.randn_like(x)


class RandForRandn(GaussianDiffusion):
    named = r"uniform"

    def draw(self, x):
        return torch.rand_like(x)


class NeverTheFirst(GaussianDiffusion):
    named = r"t = 1\b"

    def times(self, batch):
        return torch.randint(1, self.num_timesteps, (batch,)).long()


class NeverTheLast(GaussianDiffusion):
    named = r"t = (T|100)\b"

    def times(self, batch):
        return torch.randint(0, self.num_timesteps - 1, (batch,)).long()


class FirstTimeForTheBatch(GaussianDiffusion):
    """``table[t[0]]``: right in the sampler, where all times are one."""

    named = r"first (example|t|time)|t\[0\]|(whole|one) (t for the )?batch"

    def extract(self, table, t, shape):
        return table[t[0]]


class BatchNotBroadcast(GaussianDiffusion):
    """(B, C, H, W) against (B, 1, 1): the batch meets the channels, without an error if B = C or 1."""

    named = r"(shape|broadcast|size)"

    def extract(self, table, t, shape):
        return table.gather(-1, t).reshape(len(t), 1, 1)


class PosteriorShifted(GaussianDiffusion):
    """alpha_bar_{t-1} padded at the wrong end."""

    named = r"t \+ 1|off by one|alpha_bar\[t( \+ 1)?\]|alpha_bar\[0\]|one late|shift"

    def __init__(self, **options):
        super().__init__(**options)
        betas, abar = self.betas.double(), self.alphas_cumprod.double()
        before = F.pad(abar[1:], (0, 1), value=0.0)
        self._table("posterior_mean_coef1", betas * before.sqrt() / (1.0 - abar))
        self._table("posterior_mean_coef2", (1.0 - before) * (1.0 - betas).sqrt() / (1.0 - abar))


class NoRootOfOneMinus(GaussianDiffusion):
    named = r"1 - alpha_bar.*root|root.*1 - alpha_bar"

    def __init__(self, **options):
        super().__init__(**options)
        self._table("sqrt_one_minus_alphas_cumprod", 1.0 - self.alphas_cumprod.double())


CODE = GaussianDiffusion
SLIPS = tuple(
    found
    for found in list(vars().values())
    if isinstance(found, type) and found.__module__ == __name__ and hasattr(found, "named")
)
