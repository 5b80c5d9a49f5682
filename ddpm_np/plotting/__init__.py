"""Pictures of points, of images and of budgets."""

from ddpm_np.plotting.budgets import plot_budget
from ddpm_np.plotting.points import (
    PALETTE,
    animate_reverse,
    plot_elbo,
    plot_loss,
    plot_samples,
    plot_schedule,
    plot_trajectory,
    save,
)

__all__ = [
    "PALETTE",
    "animate_reverse",
    "plot_budget",
    "plot_elbo",
    "plot_loss",
    "plot_samples",
    "plot_schedule",
    "plot_trajectory",
    "save",
]
