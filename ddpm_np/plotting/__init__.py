"""Pictures of points and of images."""

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
    "plot_elbo",
    "plot_loss",
    "plot_samples",
    "plot_schedule",
    "plot_trajectory",
    "save",
]
