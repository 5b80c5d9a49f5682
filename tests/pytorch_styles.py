"""Diffusion code in PyTorch in the ways that people write it, for adapters to be tried on."""

import numpy as np
import torch


def at(table, t, x):
    """Entries of a NumPy table in float64, cast when they are used."""
    return torch.from_numpy(table)[t].float().reshape(-1, *[1] * (x.ndim - 1))


class NetworkFirst:
    """Methods take the network as their first argument and return dicts; x_0 is limited by default."""

    def __init__(self, *, betas, rescale_timesteps=False):
        self.betas = np.asarray(betas, dtype=np.float64)
        self.alphas_cumprod = np.cumprod(1.0 - self.betas)
        self.before = np.append(1.0, self.alphas_cumprod[:-1])
        rest = 1.0 - self.alphas_cumprod
        self.posterior_variance = self.betas * (1.0 - self.before) / rest
        self.of_x0 = self.betas * np.sqrt(self.before) / rest
        self.of_x = (1.0 - self.before) * np.sqrt(1.0 - self.betas) / rest

    def q_sample(self, x_start, t, noise=None):
        noise = torch.randn_like(x_start) if noise is None else noise
        signal, spread = np.sqrt(self.alphas_cumprod), np.sqrt(1.0 - self.alphas_cumprod)
        return at(signal, t, x_start) * x_start + at(spread, t, x_start) * noise

    def q_posterior_mean_variance(self, x_start, x_t, t):
        mean = at(self.of_x0, t, x_t) * x_start + at(self.of_x, t, x_t) * x_t
        return mean, at(self.posterior_variance, t, x_t), None

    def p_sample(self, model, x, t, clip_denoised=True, model_kwargs=None):
        signal, spread = np.sqrt(self.alphas_cumprod), np.sqrt(1.0 - self.alphas_cumprod)
        eps = model(x, t, **(model_kwargs or {}))
        x_start = (x - at(spread, t, x) * eps) / at(signal, t, x)
        x_start = x_start.clamp(-1.0, 1.0) if clip_denoised else x_start
        mean, variance, _ = self.q_posterior_mean_variance(x_start, x, t)
        mask = (t != 0).float().reshape(-1, *[1] * (x.ndim - 1))
        return {"sample": mean + mask * variance.sqrt() * torch.randn_like(x), "pred_xstart": x_start}

    def p_sample_loop(self, model, shape, noise=None, clip_denoised=True, device=None):
        device = next(model.parameters()).device if device is None else device
        x = torch.randn(*shape, device=device) if noise is None else noise
        for i in reversed(range(len(self.betas))):
            t = torch.tensor([i] * shape[0], device=device)
            x = self.p_sample(model, x, t, clip_denoised)["sample"]
        return x

    def training_losses(self, model, x_start, t, model_kwargs=None, noise=None):
        noise = torch.randn_like(x_start) if noise is None else noise
        error = model(self.q_sample(x_start, t, noise), t, **(model_kwargs or {})) - noise
        return {"loss": (error**2).mean(dim=tuple(range(1, error.ndim)))}


class WantsKinds(NetworkFirst):
    def __init__(self, *, betas, model_mean_type):
        super().__init__(betas=betas)


class OnCuda:
    """For images, on "cuda" unless told otherwise; one slip, the last step, and bytes as a result."""

    def __init__(self, noise_steps=1000, beta_start=1e-4, beta_end=0.02, img_size=64, device="cuda"):
        self.img_size, self.device, self.noise_steps = img_size, device, noise_steps
        self.beta = torch.linspace(beta_start, beta_end, noise_steps).to(device)
        self.alpha = 1.0 - self.beta
        self.alpha_hat = torch.cumprod(self.alpha, dim=0)

    def noise_images(self, x, t):
        noise, hat = torch.randn_like(x), self.alpha_hat[t][:, None, None, None]
        return hat.sqrt() * x + (1.0 - hat).sqrt() * noise, noise

    @torch.no_grad()
    def sample(self, model, n):
        x = torch.randn((n, 3, self.img_size, self.img_size)).to(self.device)
        for i in reversed(range(1, self.noise_steps)):
            eps = model(x, torch.full((n,), i, device=self.device))
            z = torch.randn_like(x) if i > 1 else 0.0
            shift = self.beta[i] / (1.0 - self.alpha_hat[i]).sqrt() * eps
            x = (x - shift) / self.alpha[i].sqrt() + self.beta[i].sqrt() * z
        return (255 * (x.clamp(-1.0, 1.0) + 1.0) / 2.0).type(torch.uint8)


class ForImages:
    """It is made with its network; its tables fit images; its last step adds noise."""

    def __init__(self, eps_model: torch.nn.Module, n_steps: int, device: torch.device):
        self.eps_model, self.n_steps = eps_model, n_steps
        self.beta = torch.linspace(1e-4, 0.02, n_steps).to(device)
        self.alpha_bar = torch.cumprod(1.0 - self.beta, dim=0)

    def gather(self, table, t):
        return table.gather(-1, t).reshape(-1, 1, 1, 1)

    def q_sample(self, x0, t, eps):
        bar = self.gather(self.alpha_bar, t)
        return bar.sqrt() * x0 + (1.0 - bar).sqrt() * eps

    def p_sample(self, xt, t):
        beta, bar = self.gather(self.beta, t), self.gather(self.alpha_bar, t)
        mean = (xt - beta / (1.0 - bar).sqrt() * self.eps_model(xt, t)) / (1.0 - beta).sqrt()
        return mean + beta.sqrt() * torch.randn(xt.shape, device=xt.device)

    def loss(self, x0, noise=None):
        t = torch.randint(0, self.n_steps, (x0.shape[0],), device=x0.device)
        noise = torch.randn_like(x0) if noise is None else noise
        return torch.nn.functional.mse_loss(noise, self.eps_model(self.q_sample(x0, t, noise), t))


class OfNumbers:
    """Tables and steps of vectors; its step wants t as a number, and does not say so."""

    def __init__(self, num_timesteps=1000):
        self.betas = torch.linspace(1e-4, 0.02, num_timesteps)
        self.alphas_cumprod = torch.cumprod(1.0 - self.betas, 0)

    def add_noise(self, original_samples, noise, timesteps):
        bar = self.alphas_cumprod[timesteps].flatten()[:, None]
        return bar.sqrt() * original_samples + (1.0 - bar).sqrt() * noise

    def step(self, model_output, timestep, sample):
        beta, bar = self.betas[timestep], self.alphas_cumprod[timestep]
        before = self.alphas_cumprod[timestep - 1] if timestep > 0 else 1.0
        x_start = (sample - (1.0 - bar).sqrt() * model_output) / bar.sqrt()
        mean = before**0.5 * beta * x_start + (1.0 - beta).sqrt() * (1.0 - before) * sample
        noise = 0.0
        if timestep > 0:
            noise = (beta * (1.0 - before) / (1.0 - bar)).sqrt() * torch.randn_like(sample)
        return mean / (1.0 - bar) + noise
