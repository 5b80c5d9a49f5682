"""What a run needs around Algorithm 1: batches, checkpoints, a log, evaluation."""

from ddpm_np.runs.log import MetricsLog, Progress, prepare_folder, read_metrics

__all__ = [
    "MetricsLog",
    "Progress",
    "prepare_folder",
    "read_metrics",
]
