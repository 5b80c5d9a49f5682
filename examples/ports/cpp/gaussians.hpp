// Gaussian densities and divergences, in nats for each example; and the decoders p(x_0 | x_1) of L_0.
#pragma once

#include <cmath>
#include <utility>

#include "array.hpp"

namespace ddpm {

/// N(mean, variance I), for each example.
template <class R>
struct Gaussian {
    Array<R> mean;
    Column variance;

    Gaussian(Array<R> m, Column v) : mean(std::move(m)), variance(std::move(v)) {
        if (variance.size() != mean.B) refuse("there must be one variance for each example");
    }
};

template <class R>
Column normal_log_density(const Array<R>& x, const Gaussian<R>& p) {
    const double d = double(x.d);
    return -0.5 * (sum_squares(x - p.mean) / p.variance + d * (log(p.variance) + LOG_2PI));
}

/// r - 1 - log(r), r = v_1 / v_2, without cancellation for nearly equal variances.
inline double excess_less_log(double v_1, double v_2) {
    const double excess = (v_1 - v_2) / v_2;
    return excess - (excess < -0.5 ? std::log(v_1 / v_2) : std::log1p(excess));
}

/// KL(N(m_1, s_1^2) || N(m_2, s_2^2)), L 1.3:
/// log(s_2 / s_1) + (s_1^2 + (m_1 - m_2)^2) / (2 s_2^2) - 1/2
inline double kl_normal_1d(double m_1, double s_1, double m_2, double s_2) {
    return 0.5 * (excess_less_log(s_1 * s_1, s_2 * s_2) + std::pow((m_1 - m_2) / s_2, 2));
}

/// KL(p || q) = 1/2 sum(r - 1 - log(r) + (p.mean - q.mean)^2 / q.variance), r = p.variance / q.variance
template <class R>
Column kl_isotropic(const Gaussian<R>& p, const Gaussian<R>& q) {
    Column kl = sum_squares(p.mean - q.mean) / q.variance;
    for (size_t b = 0; b < kl.size(); ++b)
        kl[b] += double(p.mean.d) * excess_less_log(p.variance[b], q.variance[b]);
    return 0.5 * kl;
}

/// L with L L^T = a, symmetric and positive definite.
inline Array<double> cholesky(const Array<double>& a) {
    Array<double> L(a.d, a.d);
    for (size_t i = 0; i < a.d; ++i)
        for (size_t j = 0; j <= i; ++j) {
            double sum = a[i][j];
            for (size_t k = 0; k < j; ++k) sum -= L[i][k] * L[j][k];
            if (i == j && !(sum > 0.0)) refuse("covariances must be positive definite");
            L[i][j] = i == j ? std::sqrt(sum) : sum / L[j][j];
        }
    return L;
}

/// KL of Gaussians with any covariance, L 6.2; means of shape (1, d), covariances (d, d):
/// 1/2 (log(det cov_2 / det cov_1) - d + tr(cov_2^-1 cov_1) + (m_2 - m_1)^T cov_2^-1 (m_2 - m_1))
inline double kl_full(const Array<double>& mean_1, const Array<double>& cov_1,
                      const Array<double>& mean_2, const Array<double>& cov_2) {
    const Array<double> L_1 = cholesky(cov_1), L_2 = cholesky(cov_2), shift = mean_2 - mean_1;
    const size_t d = shift.d;
    double kl = 0.0;
    Array<double> M(d, d + 1);  // L_2^-1 (L_1, shift): the trace is |L_2^-1 L_1|^2
    for (size_t i = 0; i < d; ++i) {
        for (size_t j = 0; j <= d; ++j) {
            double sum = j < d ? L_1[i][j] : shift[0][i];
            for (size_t k = 0; k < i; ++k) sum -= L_2[i][k] * M[k][j];
            M[i][j] = sum / L_2[i][i];
            kl += 0.5 * M[i][j] * M[i][j];
        }
        kl += std::log(L_2[i][i] / L_1[i][i]) - 0.5;
    }
    return kl;
}

/// Slope and variance of x given z: integral of N(x; a y, s2) N(y; b z, t2) dy, M2 (37)
inline std::pair<double, double> marginalise(double a, double s2, double b, double t2) {
    return {a * b, s2 + t2 * a * a};
}

template <class R>
Column gaussian_decoder(const Array<R>& x0, const Array<R>& mean, double variance) {
    return normal_log_density(x0, {mean, Column(variance, x0.B)});
}

/// Log of the standard normal mass from a >= 0 to a + width, however far out:
/// exp(-a^2 / 2) times the integral of exp(-s (a + s / 2)) from 0 to width, by the tanh-sinh rule.
inline double log_upper_mass(double a, double width) {
    const double end = 80.0 / (a + std::sqrt(a * a + 80.0)), h = 0.0625;  // where exp is exp(-40)
    const double length = std::min(width, end);
    double integral = 0.0;
    for (int k = -54; k <= 54; ++k) {
        const double y = 1.0 / (1.0 + std::exp(-PI * std::sinh(k * h))), s = length * y;
        const double weight = h * PI * std::cosh(k * h) * length * y * (1.0 - y);
        integral += weight * std::exp(-s * (a + 0.5 * s));
    }
    return std::log(integral) - 0.5 * a * a - 0.5 * LOG_2PI;
}

/// Log of the mass of N(0, 1) from a to b > a; if most is inside, from the little that is outside.
inline double log_mass(double a, double b, double width) {
    if (a >= 0.0 || b <= 0.0) return log_upper_mass(std::max(a, -b), width);
    const double outside = 0.5 * std::erfc(b / std::sqrt(2.0)) + 0.5 * std::erfc(-a / std::sqrt(2.0));
    const double inside = 0.5 * (std::erf(b / std::sqrt(2.0)) - std::erf(a / std::sqrt(2.0)));
    return outside < 0.5 ? std::log1p(-outside) : std::log(inside);
}

/// log p(x_0 | x_1) of levels on [-1, 1], in bins of width 2 / (levels - 1), open at both ends, Ho 3.3.
template <class R>
Column discretised_gaussian(const Array<R>& x0, const Array<R>& mean, double variance, size_t levels) {
    const double N = double(levels - 1), sigma = std::sqrt(variance);
    Column log_p(x0.B);
    for (size_t i = 0; i < x0.x.size(); ++i) {
        const double x = double(x0.x[i]), m = double(mean.x[i]);
        const double k = std::nearbyint((x + 1.0) * N / 2.0);
        if (!(std::abs((2.0 * k - N) / N - x) < 0.01 / N)) refuse("x0 must lie on the levels");
        const double a = k == 0.0 ? -INFINITY : ((2.0 * k - N - 1.0) / N - m) / sigma;
        const double b = k == N ? INFINITY : ((2.0 * k - N + 1.0) / N - m) / sigma;
        log_p[i / x0.d] += log_mass(a, b, k == 0.0 || k == N ? INFINITY : 2.0 / N / sigma);
    }
    return log_p;
}

}  // namespace ddpm
