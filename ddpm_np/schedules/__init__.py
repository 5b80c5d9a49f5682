"""Noise schedules: how fast q(x_t | x_0) forgets x_0."""

from ddpm_np._arrays import Table as Table
from ddpm_np.schedules.named import (
    SCHEDULES,
    cosine_schedule,
    linear_schedule,
    log_snr_schedule,
    quadratic_schedule,
    scaled_linear_schedule,
    sigmoid_schedule,
)
from ddpm_np.schedules.respacing import (
    check_visits,
    log_snr_times,
    merge_first_steps,
    quadratic_times,
    respaced_schedule,
    trailing_times,
    uniform_times,
)
from ddpm_np.schedules.tables import (
    Schedule,
    at,
    check_eps,
    check_schedule,
    schedule_from_alpha_bar,
    schedule_from_beta,
)
from ddpm_np.schedules.zero_terminal import zero_terminal_snr

__all__ = [
    "SCHEDULES",
    "Schedule",
    "at",
    "check_eps",
    "check_schedule",
    "check_visits",
    "cosine_schedule",
    "linear_schedule",
    "log_snr_schedule",
    "log_snr_times",
    "merge_first_steps",
    "quadratic_schedule",
    "quadratic_times",
    "respaced_schedule",
    "scaled_linear_schedule",
    "schedule_from_alpha_bar",
    "schedule_from_beta",
    "sigmoid_schedule",
    "trailing_times",
    "uniform_times",
    "zero_terminal_snr",
]
