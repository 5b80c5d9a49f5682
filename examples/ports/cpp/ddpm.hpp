// Denoising diffusion, C++17 and no framework: every equation a function.
//
// Time is t = 1..T, as on the slides; tables have length T + 1, and alpha_bar[0] = 1 is the data end.
// An Array<R> holds B examples of d numbers, R = float or double. Tables, and what there is one
// number of for each example, are double whatever R is. Densities, divergences and the terms of the
// bound are in nats. "M2 (22)" is an equation of docs/equations.md. Arguments that do not go
// together throw std::invalid_argument, a t that no table has std::out_of_range.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "array.hpp"
#include "gaussians.hpp"
#include "mlp.hpp"
#include "schedules.hpp"

namespace ddpm {

/// What a network predicts; given x_t and t, each determines the others.
enum class Target { eps, x0, mean, v };

struct Elbo {
    Column L_T;
    std::vector<Column> L;  // entry t is L_{t-1}, t = 2..T
    Column L_0, total;
};

/// x = move(x), each example extrapolated along its last change (Anderson's method of depth 1), until
/// changes no longer fall; then they must be small beside start + step * noise.
template <class R, class Move>
Array<R> fixed_point(const Move& move, const Array<R>& start, double step) {
    const double eps2 = std::pow(std::numeric_limits<R>::epsilon(), 2);
    const double noise2 = step * step * double(start.d);
    const Column enough = std::pow(2.0, 24) * eps2 * (sum_squares(start) + noise2);
    Array<R> moved = move(start), change = moved - start, x = moved, best = moved;
    Column least(INFINITY, start.B);
    for (int round = 0, stale = 0; round < 200; ++round, ++stale) {
        if (stale >= 4 && (least - enough).max() <= 0.0) return best;
        const Array<R> moved_before = moved, change_before = change;
        moved = move(x);
        change = moved - x;
        const Array<R> turn = change - change_before;
        const Column error = sum_squares(change) + eps2 * sum_squares(moved), size = sum_squares(turn);
        Column share = sum_products(change, turn);
        for (size_t b = 0; b < start.B; ++b) {
            share[b] = size[b] > 0.0 ? share[b] / size[b] : 0.0;
            if (!(error[b] < least[b])) continue;
            least[b] = error[b];
            std::copy(moved[b], moved[b] + start.d, best[b]);
            stale = -1;
        }
        x = moved - share * (moved - moved_before);
    }
    throw std::runtime_error("inversion does not settle: visit more times");
}

template <class R>
struct Diffusion : Schedule {
    using A = Array<R>;
    using G = Gaussian<R>;
    using Path = std::vector<A>;  // entry 0 is the data, the last x_T

    explicit Diffusion(Schedule schedule) : Schedule(std::move(schedule)) {}

    // The forward process q, which is the variational posterior.
    G q_step_moments(const A& x_prev, const Times& t) const {  // M2 (20)
        return {sqrt(alpha[t]) * x_prev, beta[t]};
    }
    A q_step(const A& x_prev, const Times& t, const A& noise) const {  // M2 (20)
        return sqrt(alpha[t]) * x_prev + sqrt(beta[t]) * noise;
    }
    G q_two_step_moments(const A& x_prev2, const Times& t) const {  // M2 (21), 1 - alpha[t] alpha[t-1]
        return {sqrt(alpha[t] * alpha[t - 1]) * x_prev2, beta[t] + alpha[t] * beta[t - 1]};
    }
    G q_moments(const A& x0, const Times& t) const {  // M2 (22)
        return {sqrt(alpha_bar[t]) * x0, one_minus_alpha_bar[t]};
    }
    A q_sample(const A& x0, const Times& t, const A& noise) const {  // M2 (27)
        return sqrt(alpha_bar[t]) * x0 + sqrt(one_minus_alpha_bar[t]) * noise;
    }

    // Its posterior, q(x_{t-1} | x_t, x_0).
    G q_posterior(const A& x0, const A& x_t, const Times& t) const {  // M2 (24), (25), (26)
        return {c_xt(t) * x_t + c_x0(t) * x0, posterior_variance[t]};
    }
    A posterior_mean_from_eps(const A& x_t, const Times& t, const A& eps) const {  // M2 (29)
        check_eps(t);
        const Column root = sqrt(alpha[t]);
        return 1.0 / root * x_t - beta[t] / sqrt(one_minus_alpha_bar[t]) / root * eps;
    }

    // Conversions of what a network predicts.
    A x0_from_eps(const A& x_t, const Times& t, const A& eps) const {  // M2 (28)
        check_eps(t);
        const Column root = exp(0.5 * log_alpha_bar[t]);  // of alpha_bar, even where that underflows
        return 1.0 / root * x_t - sqrt(one_minus_alpha_bar[t]) / root * eps;
    }
    A eps_from_x0(const A& x_t, const Times& t, const A& x0) const {  // M2 (27)
        const Column root = sqrt(one_minus_alpha_bar[t]);
        return 1.0 / root * x_t - sqrt(alpha_bar[t]) / root * x0;
    }
    A x0_from_mean(const A& x_t, const Times& t, const A& mean) const {  // M2 (26)
        return 1.0 / c_x0(t) * mean - c_xt(t) / c_x0(t) * x_t;
    }
    A eps_from_mean(const A& x_t, const Times& t, const A& mean) const {  // M2 (29)
        return sqrt(one_minus_alpha_bar[t]) / beta[t] * (x_t - sqrt(alpha[t]) * mean);
    }
    A v_from_x0_and_eps(const Times& t, const A& x0, const A& eps) const {  // Salimans & Ho 2022
        return sqrt(alpha_bar[t]) * eps - sqrt(one_minus_alpha_bar[t]) * x0;
    }
    A x0_from_v(const A& x_t, const Times& t, const A& v) const {
        return sqrt(alpha_bar[t]) * x_t - sqrt(one_minus_alpha_bar[t]) * v;
    }
    A eps_from_v(const A& x_t, const Times& t, const A& v) const {
        return sqrt(one_minus_alpha_bar[t]) * x_t + sqrt(alpha_bar[t]) * v;
    }
    A predicted_x0(const A& x_t, const Times& t, const A& prediction, Target target) const {
        if (target == Target::eps) return x0_from_eps(x_t, t, prediction);
        if (target == Target::mean) return x0_from_mean(x_t, t, prediction);
        return target == Target::v ? x0_from_v(x_t, t, prediction) : prediction;
    }
    A predicted_eps(const A& x_t, const Times& t, const A& prediction, Target target) const {
        if (target == Target::x0) return eps_from_x0(x_t, t, prediction);
        if (target == Target::mean) return eps_from_mean(x_t, t, prediction);
        return target == Target::v ? eps_from_v(x_t, t, prediction) : prediction;
    }

    // The reverse process p_theta, the generative model.
    A model_mean(const A& x_t, const Times& t, const A& prediction, Target target) const {  // M2 (34)
        if (target == Target::mean) return prediction;
        if (target == Target::x0) return q_posterior(prediction, x_t, t).mean;
        if (target == Target::eps) return posterior_mean_from_eps(x_t, t, prediction);
        // v: (26) at x0_from_v
        return sqrt(alpha[t]) * x_t - c_x0(t) * sqrt(one_minus_alpha_bar[t]) * prediction;
    }
    Table reverse_variance(const std::string& kind) const {  // M2 (31): sigma_t^2; Ho et al. 2020
        Table sigma2 = kind == "posterior" ? posterior_variance : beta;
        if (kind == "unit") std::fill(sigma2.begin() + 1, sigma2.end(), 1.0);
        else if (kind == "posterior") sigma2[1] = T() > 1 ? sigma2[2] : beta[1];  // beta_tilde_1 is 0
        else if (kind != "beta") refuse("the kind of variance must be posterior, beta or unit");
        return sigma2;
    }
    A learned_variance(const A& v, const Times& t) const {  // Nichol & Dhariwal 2021, (15)
        const Column low = log(reverse_variance("posterior")[t]), width = log(beta[t]) - low;
        const A ones(v.B, v.d, R(1));
        return map([](R x) { return std::exp(x); }, width * v + low * ones);
    }
    A reverse_step(const A& x_t, const Times& t, const A& prediction, Target target,
                   const Table& sigma2, const A& z) const {  // J (13): no noise at t = 1
        Column sigma = sqrt(sigma2[t]);
        sigma[t == size_t(1)] = 0.0;
        return model_mean(x_t, t, prediction, target) + sigma * z;
    }

    // Weights of |truth - prediction|^2 in -L_{t-1}, and what is left for a perfect prediction.
    Column mean_loss_weight(const Times& t, const Table& sigma2) const {  // M2 (33)
        return 0.5 / sigma2[t];
    }
    Column eps_loss_weight(const Times& t, const Table& sigma2) const {  // M2 (35), mended: E1
        check_eps(t);
        return beta[t] * beta[t] / (2.0 * sigma2[t] * alpha[t] * one_minus_alpha_bar[t]);
    }
    Column x0_loss_weight(const Times& t, const Table& sigma2) const {  // L 6.2
        return c_x0(t) * c_x0(t) / (2.0 * sigma2[t]);
    }
    Column v_loss_weight(const Times& t, const Table& sigma2) const {
        return one_minus_alpha_bar[t] * x0_loss_weight(t, sigma2);
    }
    Column loss_constant(const Times& t, const Table& sigma2, size_t d) const {  // M2 (32), t >= 2
        Column c(t.size());
        for (size_t b = 0; b < t.size(); ++b)
            c[b] = -0.5 * double(d) * excess_less_log(posterior_variance[t[b]], sigma2[t[b]]);
        return c;
    }
    Column min_snr_weight(const Times& t, double k, Target target) const {  // Hang et al. 2023
        const Column snr = alpha_bar[t] / one_minus_alpha_bar[t], weight = minimum(snr, k);
        if (target == Target::eps) return minimum(k / snr, 1.0);
        if (target == Target::v) return weight * one_minus_alpha_bar[t];
        return target == Target::mean ? Column(weight / (c_x0(t) * c_x0(t))) : weight;
    }

    // The bound: log p(x_0) >= ELBO = L_T + sum over t = 2..T of L_{t-1} + L_0, M2 (3), (19).
    Column prior_term(const A& x0) const {  // M2 (36): -KL(q(x_T | x_0) || p(x_T))
        return -kl_isotropic(q_moments(x0, Times(T(), x0.B)), G{A(x0.B, x0.d), Column(1.0, x0.B)});
    }
    Column middle_term(const A& x0, const A& x_t, size_t t, const A& mean,
                       const Table& sigma2) const {  // L_{t-1} at one x_t, M2 (14)-(18)
        return -kl_isotropic(q_posterior(x0, x_t, Times(t, x0.B)), G{mean, Column(sigma2[t], x0.B)});
    }
    /// noise(t) for x_t; decoder(x0, mean, variance) is log p(x_0 | x_1).
    template <class Predict, class Noise, class Decoder>
    Elbo elbo(const Predict& predict, const A& x0, const Noise& noise, const Table& sigma2,
              Target target, const Decoder& decoder) const {
        Elbo e{prior_term(x0), std::vector<Column>(T() + 1, Column(x0.B)), Column(x0.B), Column(x0.B)};
        for (size_t t = 1; t <= T(); ++t) {
            const Times all(t, x0.B);
            const A x_t = q_sample(x0, all, noise(t));
            const A mean = model_mean(x_t, all, predict(x_t, t), target);
            if (t == 1) e.L_0 = decoder(x0, mean, sigma2[1]);
            else e.L[t] = middle_term(x0, x_t, t, mean, sigma2);
            e.total += e.L[t];
        }
        e.total += e.L_T + e.L_0;
        return e;
    }

    // Samplers. predict(x_t, t); noise(t) is z of the step from t; times are visited, the last is T.

    /// Ho Algorithm 2, J (13).
    template <class Predict, class Noise>
    Path ancestral_sample(const Predict& predict, const A& x_T, const Noise& noise, const Table& sigma2,
                          Target target) const {
        Path x(T() + 1, x_T);
        for (size_t t = T(); t >= 1; --t) {
            x[t - 1] = model_mean(x[t], Times(t, x_T.B), predict(x[t], t), target);
            if (t > 1) x[t - 1] = x[t - 1] + std::sqrt(sigma2[t]) * noise(t);
        }
        return x;
    }

    /// Song, Meng & Ermon 2021, (12), (16), from t to s:
    /// x_s = sqrt(alpha_bar[s]) x0 + sqrt(1 - alpha_bar[s] - sigma^2) eps + sigma z
    template <class Predict, class Noise>
    Path ddim_sample(const Predict& predict, const A& x_T, double eta, const Noise& noise,
                     const Times& times, Target target) const {
        const Schedule s = respaced_schedule(*this, times);
        const double drawn = eta * eta, kept = 1.0 - drawn;
        Path x(s.T() + 1, x_T);
        for (size_t i = s.T(); i >= 1; --i) {
            const Times t(times[i - 1], x_T.B);
            const A prediction = predict(x[i], times[i - 1]);
            // 1 - alpha_bar[s] - sigma^2 as a sum, so that nothing cancels
            const double before = s.one_minus_alpha_bar[i - 1];
            const double now = s.one_minus_alpha_bar[i];
            const double rest = before * (kept + drawn * s.alpha[i] * before / now);
            x[i - 1] = std::sqrt(s.alpha_bar[i - 1]) * predicted_x0(x[i], t, prediction, target)
                     + std::sqrt(rest) * predicted_eps(x[i], t, prediction, target);
            const double sigma = eta * std::sqrt(s.posterior_variance[i]);
            if (sigma > 0.0) x[i - 1] = x[i - 1] + sigma * noise(times[i - 1]);
        }
        return x;
    }

    /// DPM-Solver++ of order 1 or 2 (2M), Lu et al. 2022: h = half_log_snr(s) - half_log_snr(t),
    /// x_s = sqrt((1 - alpha_bar[s]) / (1 - alpha_bar[t])) x_t - sqrt(alpha_bar[s]) (exp(-h) - 1) D
    /// D = (1 + 1/(2r)) x0 - 1/(2r) x0_before, r = h_before / h; x0 at first, and in the step to 0.
    template <class Predict>
    Path dpm_solver_sample(const Predict& predict, const A& x_T, int order, const Times& times,
                           Target target) const {
        check_visits(times, T());
        Path x(times.size() + 1, x_T);
        A x0_before = x_T;
        double h_before = INFINITY;
        for (size_t i = times.size(); i >= 1; --i) {
            const size_t t = times[i - 1], s = i > 1 ? times[i - 2] : 0;
            const double h = half_log_snr(s) - half_log_snr(t);
            const double half = order == 2 && s > 0 && h_before < INFINITY ? 0.5 * h / h_before : 0.0;
            const A x0 = predicted_x0(x[i], Times(t, x_T.B), predict(x[i], t), target);
            const A D = half > 0.0 ? (1.0 + half) * x0 - half * x0_before : x0;
            x[i - 1] = std::sqrt(one_minus_alpha_bar[s] / one_minus_alpha_bar[t]) * x[i]
                     - std::sqrt(alpha_bar[s]) * std::expm1(-h) * D;
            x0_before = x0;
            h_before = h;
        }
        return x;
    }

    /// Heun's method, Karras et al. 2022, Algorithm 1, for the probability flow, Song et al. 2021:
    /// dy/ds = eps(x, t), y = x / sqrt(alpha_bar), s = noise_to_signal; Euler's in the step to 0.
    template <class Predict>
    Path heun_sample(const Predict& predict, const A& x_T, const Times& times, Target target) const {
        check_flow(times);
        Path x(times.size() + 1, x_T);
        A y = 1.0 / std::sqrt(alpha_bar[T()]) * x_T;
        for (size_t i = times.size(); i >= 1; --i) {
            const size_t t = times[i - 1], s = i > 1 ? times[i - 2] : 0;
            const double signal = std::sqrt(alpha_bar[s]);
            const double step = noise_to_signal(s) - noise_to_signal(t);
            A slope = asked_eps(predict, x[i], t, target);
            const A euler = signal * (y + step * slope);
            if (s > 0) slope = 0.5 * (slope + asked_eps(predict, euler, s, target));
            y = y + step * slope;
            x[i - 1] = signal * y;
        }
        return x;
    }

    /// The x_T that DDIM with eta = 0 maps to x_0: each of its steps solved for x_t, from s to t.
    /// x_t = sqrt(alpha_bar[t]) (x_s / sqrt(alpha_bar[s]) + step eps(x_t, t))
    template <class Predict>
    Path ddim_invert(const Predict& predict, const A& x_0, const Times& times, Target target) const {
        check_flow(times);
        Path x(times.size() + 1, x_0);
        for (size_t i = 1; i <= times.size(); ++i) {
            const size_t t = times[i - 1], s = i > 1 ? times[i - 2] : 0;
            const double signal = std::sqrt(alpha_bar[t]);
            const double step = noise_to_signal(t) - noise_to_signal(s);
            const A start = signal / std::sqrt(alpha_bar[s]) * x[i - 1];
            const auto move = [&](const A& x_t) {
                return start + signal * step * asked_eps(predict, x_t, t, target);
            };
            x[i] = fixed_point<R>(move, start, signal * step);
        }
        return x;
    }

   private:
    /// Where alpha_bar_T = 0, x_T is eps, whatever x_0 is.
    void check_eps(const Times& t) const {
        for (double a : alpha[t])
            if (a == 0.0) refuse("eps says nothing of x_0 at t = T where alpha_bar_T = 0");
    }
    void check_flow(const Times& times) const {
        check_visits(times, T());
        if (alpha_bar[T()] < 1e-300) refuse("the probability flow cannot start where alpha_bar_T = 0");
    }
    template <class Predict>
    A asked_eps(const Predict& predict, const A& x_t, size_t t, Target target) const {
        return predicted_eps(x_t, Times(t, x_t.B), predict(x_t, t), target);
    }
};

/// Classifier-free guidance, Ho & Salimans 2022, (6), of any target.
template <class R>
Array<R> guided(const Array<R>& conditional, const Array<R>& unconditional, double guidance) {
    return (1.0 + guidance) * conditional - guidance * unconditional;
}

/// x_0 within the range of the data.
template <class R>
Array<R> clipped(const Array<R>& x0, double low, double high) {
    return map([=](R x) { return std::min(std::max(x, R(low)), R(high)); }, x0);
}

}  // namespace ddpm
