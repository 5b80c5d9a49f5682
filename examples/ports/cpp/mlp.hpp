// The swiss roll's network, as ddpm_np.nn.MLPDenoiser has it: forward only.
#pragma once

#include <cmath>
#include <vector>

#include "array.hpp"

namespace ddpm {

/// (sin(t' f_1), ..., sin(t' f_k), cos(t' f_1), ..., cos(t' f_k)), t' = 1000 t / T, k = size / 2,
/// f_i = 10000^(-(i-1) / k)
template <class R>
Array<R> time_embedding(size_t T, size_t size, const Times& t) {
    if (size == 0 || size % 2) refuse("size must be even, half sines and half cosines");
    const size_t half = size / 2;
    Array<R> embedding(t.size(), size);
    for (size_t b = 0; b < t.size(); ++b)
        for (size_t i = 0; i < half; ++i) {
            const double frequency = std::exp(-std::log(10000.0) * double(i) / double(half));
            const double angle = 1000.0 / double(T) * double(t[b]) * frequency;
            embedding[b][i] = static_cast<R>(std::sin(angle));
            embedding[b][half + i] = static_cast<R>(std::cos(angle));
        }
    return embedding;
}

/// y = x weight + bias; (B, n), (n, m), (1, m) to (B, m).
template <class R>
Array<R> linear(const Array<R>& x, const Array<R>& weight, const Array<R>& bias) {
    if (x.d != weight.B || bias.x.size() != weight.d) refuse("weights must fit what they multiply");
    Array<R> y(x.B, weight.d);
    for (size_t b = 0; b < x.B; ++b) {
        for (size_t i = 0; i < x.d; ++i)
            for (size_t j = 0; j < y.d; ++j) y[b][j] += x[b][i] * weight[i][j];
        for (size_t j = 0; j < y.d; ++j) y[b][j] += bias.x[j];
    }
    return y;
}

template <class R>
Array<R> silu(const Array<R>& x) {
    return map([](R u) { return u / (R(1) + std::exp(-u)); }, x);
}

/// h = silu(x_t weight + embedding(t) time_weight + bias)
/// h = h + silu(h hidden_weight[l] + hidden_bias[l]) for each l
/// prediction = h out_weight + out_bias
template <class R>
struct Mlp {
    size_t T;
    Array<R> weight, time_weight, bias;
    std::vector<Array<R>> hidden_weight, hidden_bias;
    Array<R> out_weight, out_bias;

    Array<R> operator()(const Array<R>& x_t, const Times& t) const {
        const Array<R> embedding = time_embedding<R>(T, time_weight.B, t), none(1, weight.d);
        Array<R> h = silu(linear(x_t, weight, none) + linear(embedding, time_weight, bias));
        for (size_t l = 0; l < hidden_weight.size(); ++l)
            h = h + silu(linear(h, hidden_weight[l], hidden_bias[l]));
        return linear(h, out_weight, out_bias);
    }
    Array<R> operator()(const Array<R>& x_t, size_t t) const { return (*this)(x_t, Times(t, x_t.B)); }
};

}  // namespace ddpm
