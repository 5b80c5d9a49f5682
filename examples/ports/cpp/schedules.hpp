// Noise schedules: how fast q(x_t | x_0) forgets x_0.
#pragma once

#include <cmath>

#include "array.hpp"

namespace ddpm {

struct Schedule {
    Table beta{0.0}, alpha{1.0}, alpha_bar{1.0}, log_alpha_bar{0.0}, one_minus_alpha_bar{0.0};
    Table posterior_variance{0.0};

    size_t T() const { return beta.size() - 1; }
    void add_step(double b, double a, double a_bar, double log_a_bar, double one_minus) {
        posterior_variance.push_back(one_minus_alpha_bar.back() / one_minus * b);  // M2 (25)
        beta.push_back(b);
        alpha.push_back(a);
        alpha_bar.push_back(a_bar);
        log_alpha_bar.push_back(log_a_bar);
        one_minus_alpha_bar.push_back(one_minus);
    }
    Column c_xt(const Times& t) const {  // the coefficients of M2 (26), 0 and 1 at t = 1
        return sqrt(alpha[t]) * one_minus_alpha_bar[t - 1] / one_minus_alpha_bar[t];
    }
    Column c_x0(const Times& t) const {
        return sqrt(alpha_bar[t - 1]) * (beta[t] / one_minus_alpha_bar[t]);
    }
    double noise_to_signal(size_t t) const {  // the time of the probability flow
        return std::sqrt(one_minus_alpha_bar[t]) * std::exp(-0.5 * log_alpha_bar[t]);
    }
    double half_log_snr(size_t t) const {
        return 0.5 * (log_alpha_bar[t] - std::log(one_minus_alpha_bar[t]));
    }
};

/// From beta_1..beta_T; beta_T may be 1, zero terminal SNR.
inline Schedule schedule_from_beta(const std::vector<double>& beta) {
    Schedule s;
    Sum log_alpha_bar;
    for (double b : beta) {
        if (!(b > 0.0 && b <= 1.0 && s.alpha.back() > 0.0))
            refuse("beta must lie strictly between 0 and 1, but for beta_T, which may be 1");
        const double log = b < 1.0 ? log_alpha_bar.add(std::log1p(-b)) : -INFINITY;
        s.add_step(b, 1.0 - b, std::exp(log), log, s.T() == 0 ? b : -std::expm1(log));
    }
    return s;
}

/// From alpha_bar_0 = 1 to alpha_bar_T, which may be 0: beta[t] = 1 - alpha_bar[t] / alpha_bar[t-1].
inline Schedule schedule_from_alpha_bar(const std::vector<double>& table) {
    Schedule s;
    if (table.empty() || table[0] != 1.0) refuse("alpha_bar must be 1 at t = 0");
    for (size_t t = 1; t < table.size(); ++t) {
        const double before = table[t - 1], now = table[t];
        if (!(now < before && now >= 0.0)) refuse("alpha_bar must decrease to 0 or more");
        s.add_step((before - now) / before, now / before, now, std::log(now), 1.0 - now);
    }
    return s;
}

/// beta_t = step(share), share from 0 at t = 1 to 1 at t = T.
template <class F>
Schedule schedule_along_ramp(size_t T, F step) {
    std::vector<double> beta(T);
    for (size_t i = 0; i < T; ++i) beta[i] = step(double(i) / double(std::max<size_t>(T - 1, 1)));
    return schedule_from_beta(beta);
}

/// Ho et al. 2020.
inline Schedule linear_schedule(size_t T, double beta_1 = 1e-4, double beta_T = 0.02) {
    return schedule_along_ramp(T, [=](double u) { return beta_1 + (beta_T - beta_1) * u; });
}

/// The same times 1000 / T, so that alpha_bar_T hardly depends on T.
inline Schedule scaled_linear_schedule(size_t T, double beta_1 = 1e-4, double beta_T = 0.02) {
    const double scale = 1000.0 / double(T);
    return schedule_along_ramp(T, [=](double u) { return (beta_1 + (beta_T - beta_1) * u) * scale; });
}

/// sqrt(beta) is linear; diffusers calls it "scaled_linear".
inline Schedule quadratic_schedule(size_t T, double beta_1 = 1e-4, double beta_T = 0.02) {
    const double low = std::sqrt(beta_1), high = std::sqrt(beta_T);
    return schedule_along_ramp(T, [=](double u) { return std::pow(low + (high - low) * u, 2); });
}

/// beta_1 + (beta_T - beta_1) sigmoid(from -width to width)
inline Schedule sigmoid_schedule(size_t T, double beta_1 = 1e-4, double beta_T = 0.02,
                                 double width = 6.0) {
    return schedule_along_ramp(T, [=](double u) {
        return beta_1 + (beta_T - beta_1) / (1.0 + std::exp(-width * (2.0 * u - 1.0)));
    });
}

/// alpha_bar[t] = cos(a_t)^2 / cos(a_0)^2, a_t = (t / T + s) / (1 + s) pi / 2, Nichol & Dhariwal 2021.
inline Schedule cosine_schedule(size_t T, double s = 0.008, double max_beta = 0.999) {
    // beta[t] = sin(a_t - a_{t-1}) sin(a_t + a_{t-1}) / cos(a_{t-1})^2 does not cancel; nor do sines of
    // what is left to pi / 2 and to pi.
    const double N = double(T), quarter = PI / 2.0 / (1.0 + s);
    std::vector<double> beta(T);
    for (size_t i = 0; i < T; ++i) {
        const double t = double(i + 1), cosine = std::sin((N - t + 1.0) / N * quarter);
        const double sum = ((2.0 * t - 1.0) / N + 2.0 * s) * quarter;
        const double left = (2.0 * (N - t) + 1.0) / N * quarter;
        const double b = std::sin(quarter / N) * std::sin(std::min(sum, left)) / (cosine * cosine);
        beta[i] = std::min(b, max_beta);
    }
    return schedule_from_beta(beta);
}

/// Log SNR linear in t, 1 - alpha_bar_1 = noise^2, alpha_bar_T = signal^2, Kingma et al. 2021; T >= 2.
inline Schedule log_snr_schedule(size_t T, double noise, double signal = 0.03) {
    const double first = std::log1p(-noise * noise) - 2.0 * std::log(noise);
    const double last = 2.0 * std::log(signal) - std::log1p(-signal * signal);
    std::vector<double> alpha_bar(T + 1, 1.0);
    for (size_t i = 0; i < T; ++i) {
        const double log_snr = i + 1 == T ? last : first + double(i) * ((last - first) / double(T - 1));
        alpha_bar[i + 1] = 1.0 / (1.0 + std::exp(-log_snr));
    }
    return schedule_from_alpha_bar(alpha_bar);
}

/// Visited times increase, from 1 or more to T; from the first, a sampler goes to t = 0, the data.
inline void check_visits(const Times& times, size_t T) {
    for (size_t before = 0, i = 0; i < times.size(); before = times[i++])
        if (times[i] <= before) refuse("times must increase, from 1 or more");
    if (times.size() == 0 || times[times.size() - 1] != T) refuse("the last of times must be T");
}

/// The chain that visits only these times: alpha_bar'[i] = alpha_bar[times[i-1]],
/// beta'[i] = 1 - alpha_bar'[i] / alpha_bar'[i-1], which is not beta there, Nichol & Dhariwal 2021.
inline Schedule respaced_schedule(const Schedule& s, const Times& times) {
    Schedule r;
    check_visits(times, s.T());
    for (size_t before = 0, i = 0; i < times.size(); before = times[i++]) {
        const size_t t = times[i];
        Sum log;  // of products of alpha, not of ratios of alpha_bar: beta keeps its digits
        for (size_t u = before + 1; u <= t && s.alpha[u] > 0.0; ++u)
            log.add(s.beta[u] < 0.5 ? std::log1p(-s.beta[u]) : std::log(s.alpha[u]));
        double beta = -std::expm1(log.total), alpha = std::exp(log.total);
        if (before == 0) beta = s.one_minus_alpha_bar[t], alpha = s.alpha_bar[t];
        if (t == before + 1 || s.alpha[t] == 0.0) beta = s.beta[t], alpha = s.alpha[t];
        r.add_step(beta, alpha, s.alpha_bar[t], s.log_alpha_bar[t], s.one_minus_alpha_bar[t]);
    }
    return r;
}

/// f(i, share), i = 1..S, share from 0 to 1, rounded and moved apart where they coincide.
template <class F>
Times distinct_times(size_t T, size_t S, F f) {
    if (S < 1 || S > T) refuse("S must be between 1 and T");
    Times times(S);
    for (size_t i = 0; i < S; ++i) {
        const double exact = f(double(i + 1), S > 1 ? double(i) / double(S - 1) : 1.0);
        times[i] = std::max<size_t>(size_t(std::nearbyint(exact)), i > 0 ? times[i - 1] + 1 : 1);
    }
    for (size_t i = 0; i < S; ++i) times[i] = std::min(times[i], T - (S - 1 - i));
    return times;
}
inline Times uniform_times(size_t T, size_t S) {
    return distinct_times(T, S, [=](double, double u) { return 1.0 + double(T - 1) * u; });
}
inline Times quadratic_times(size_t T, size_t S) {
    return distinct_times(T, S, [=](double, double u) { return 1.0 + double(T - 1) * (u * u); });
}
inline Times trailing_times(size_t T, size_t S) {
    return distinct_times(T, S, [=](double i, double) { return double(T) * i / double(S); });
}

/// Shift and scale sqrt(alpha_bar) to 0 at T, the same at t = 1, Lin et al. 2024, Algorithm 1; T >= 2.
inline Schedule zero_terminal_snr(const Schedule& s) {
    std::vector<double> beta(s.T(), s.beta[1]);
    Sum left;  // sqrt(alpha_bar[t-1]) - sqrt(alpha_bar[T]), a sum of its steps so that nothing cancels
    for (size_t t = s.T(); t >= 2; --t) {
        const double step = std::sqrt(s.alpha_bar[t - 1]) * s.beta[t] / (1.0 + std::sqrt(s.alpha[t]));
        const double share = step / left.add(step);
        beta[t - 1] = share * (2.0 - share);
    }
    return schedule_from_beta(beta);
}

}  // namespace ddpm
