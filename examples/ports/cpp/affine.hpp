// A network that says slope[t] x_t + offset[t]: every x_t is Gaussian, and log p(x_0), the bound and
// its gap are known. A port can be held to this without another program.
#pragma once

#include <cmath>

#include "ddpm.hpp"

namespace ddpm {

/// p_theta(x_{t-1} | x_t) = N(a[t] x_t + b[t], sigma2[t] I), and the laws N(m[t], P[t] I) of its x_t.
template <class R>
class AffineModel {
   public:
    AffineModel(const Diffusion<R>& q, const Table& slope, const Table& offset, Target target,
                const Table& sigma2)
        : q_(q), sigma2_(sigma2), a_(q.T() + 1), b_(q.T() + 1), m_(q.T() + 1), P_(q.T() + 1, 1.0) {
        const Diffusion<double> exact(q);
        const Array<double> zero(1, 1), one(1, 1, 1.0);
        for (size_t t = q.T(); t >= 1; --t) {
            // the model mean is linear in x_t and the prediction
            a_[t] = exact.model_mean(one, {t}, slope[t] * one, target).x[0];
            b_[t] = exact.model_mean(zero, {t}, offset[t] * one, target).x[0];
            m_[t - 1] = a_[t] * m_[t] + b_[t];
            P_[t - 1] = a_[t] * a_[t] * P_[t] + sigma2[t];
        }
    }

    /// M2 (2): x_T ... x_1 integrated out one by one.
    Column log_density(const Array<R>& x0) const {
        return normal_log_density(x0, {Array<R>(x0.B, x0.d, R(m_[0])), Column(P_[0], x0.B)});
    }

    /// M2 (19), (32): E|B x_t + c|^2 = |B sqrt(alpha_bar[t]) x_0 + c|^2 + (1 - alpha_bar[t]) d B^2
    Column expected_elbo(const Array<R>& x0) const {
        const double d = double(x0.d);
        Column total = q_.prior_term(x0);
        for (size_t t = 1; t <= q_.T(); ++t) {
            const Column c_xt = q_.c_xt({t}), c_x0 = q_.c_x0({t});
            const double B = c_xt[0] - a_[t], at_x0 = c_x0[0] + std::sqrt(q_.alpha_bar[t]) * B;
            const Column square = sum_squares(affine(at_x0, x0, -b_[t]));
            total -= 0.5 * (square + q_.one_minus_alpha_bar[t] * d * B * B) / sigma2_[t];
            if (t == 1) total -= 0.5 * d * (std::log(sigma2_[1]) + LOG_2PI);
            else total += q_.loss_constant({t}, sigma2_, x0.d)[0];
        }
        return total;
    }

    /// KL(q(x_{1:T} | x_0) || p_theta(x_{1:T} | x_0)), M2 p. 25, step by step in the direction of q:
    /// by Bayes' rule p_theta(x_t | x_{t-1}) = N(K x_{t-1} + k, V I).
    Column gap(const Array<R>& x0) const {
        const double d = double(x0.d);
        Column total(x0.B);
        for (size_t t = 1; t <= q_.T(); ++t) {
            const double V = P_[t] * sigma2_[t] / P_[t - 1], K = P_[t] * a_[t] / P_[t - 1];
            const double k = m_[t] - K * m_[t - 1], B = std::sqrt(q_.alpha[t]) - K;
            const Column centre = sum_squares(affine(B * std::sqrt(q_.alpha_bar[t - 1]), x0, -k));
            total += 0.5 * (centre + d * q_.one_minus_alpha_bar[t - 1] * B * B) / V;
            total += 0.5 * d * excess_less_log(q_.beta[t], V);
        }
        return total;
    }

   private:
    static Array<R> affine(double a, const Array<R>& x, double b) {
        return a * x + Array<R>(x.B, x.d, R(b));
    }

    Diffusion<R> q_;
    Table sigma2_, a_, b_, m_, P_;
};

}  // namespace ddpm
