"""What a run needs around Algorithm 1: its folder, batches, checkpoints, a log, evaluation."""

from ddpm_np.runs.folder import hold_folder, prepare_folder
from ddpm_np.runs.log import MetricsLog, Progress, read_metrics

__all__ = [
    "MetricsLog",
    "Progress",
    "hold_folder",
    "prepare_folder",
    "read_metrics",
]
