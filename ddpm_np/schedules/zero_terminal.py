"""Schedules that end in pure noise."""

import numpy as np

from ddpm_np._arrays import cumulative_sum
from ddpm_np._checks import check_integer
from ddpm_np.schedules.tables import Schedule, check_schedule, schedule_from_beta


def zero_terminal_snr(schedule: Schedule) -> Schedule:
    """Leave nothing of x_0 in x_T, and x_1 as it is: Lin et al. 2024 (arXiv 2305.08891), Algorithm 1.

        signal = sqrt(alpha_bar)
        sqrt(alpha_bar'[t]) = (signal[t] - signal[T]) * signal[1] / (signal[1] - signal[T]),  t = 1..T

    Then beta[T] = 1, L_T = 0 and x_T is eps, exactly: only x0, v or the mean says something about x_0
    there. T must be at least 2.
    """
    T = check_integer("schedule.T", check_schedule(schedule).T, 2)
    # Without cancellation, from fall[t] = signal[t-1] - signal[t], t = 2..T:
    # with share = fall[t] / (signal[t-1] - signal[T]), beta'[t] is 1 - (1 - share)^2.
    fall = schedule.sqrt_alpha_bar[1:T] * schedule.beta[2:] / (1.0 + np.sqrt(schedule.alpha[2:]))
    left = cumulative_sum(fall[::-1])[::-1]
    if not left[-1] > 0.0:
        raise ValueError("schedule must leave something of x_0 up to T - 1: alpha_bar underflows to 0")
    share = fall / left
    return schedule_from_beta(np.concatenate([schedule.beta[1:2], share * (2.0 - share)]))
