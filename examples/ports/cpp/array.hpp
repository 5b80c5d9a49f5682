// What NumPy is to the reference: as much of arrays as the formulas need.
#pragma once

#include <algorithm>
#include <cstddef>
#include <stdexcept>
#include <string>
#include <valarray>
#include <vector>

namespace ddpm {

using std::size_t;
using Column = std::valarray<double>;  // one number for each example
using Times = std::valarray<size_t>;   // one time for each example; or those that a sampler visits

const double PI = 3.141592653589793, LOG_2PI = 1.8378770664093453;

[[noreturn]] inline void refuse(const std::string& why) { throw std::invalid_argument(why); }

/// B examples of d numbers, row by row.
template <class R>
struct Array {
    size_t B, d;
    std::vector<R> x;

    Array(size_t rows, size_t columns, R value = 0) : B(rows), d(columns), x(rows * columns, value) {}
    R* operator[](size_t b) { return x.data() + b * d; }
    const R* operator[](size_t b) const { return x.data() + b * d; }

    friend Array operator+(const Array& a, const Array& b) {
        return map([](R p, R q) { return p + q; }, a, b);
    }
    friend Array operator-(const Array& a, const Array& b) {
        return map([](R p, R q) { return p - q; }, a, b);
    }
    friend Array operator*(double c, const Array& a) { return Column(c, a.B) * a; }
    friend Array operator*(const Column& c, const Array& a) {  // here coefficients are rounded to R
        if (c.size() != a.B) refuse("there must be one time or coefficient for each example");
        Array y = a;
        for (size_t i = 0; i < y.x.size(); ++i) y.x[i] *= static_cast<R>(c[i / a.d]);
        return y;
    }
};

/// f of the entries of arrays that share one shape.
template <class F, class R, class... Rest>
Array<R> map(F f, const Array<R>& a, const Rest&... rest) {
    if (((rest.B != a.B || rest.d != a.d) || ...)) refuse("arrays must share one shape (B, d)");
    Array<R> y = a;
    for (size_t i = 0; i < y.x.size(); ++i) y.x[i] = f(a.x[i], rest.x[i]...);
    return y;
}

/// Sum over the d numbers of each example, in double.
template <class R>
Column sum_products(const Array<R>& a, const Array<R>& b) {
    Column total(a.B);
    for (size_t i = 0; i < a.x.size(); ++i) total[i / a.d] += double(a.x[i]) * double(b.x[i]);
    return total;
}

template <class R>
Column sum_squares(const Array<R>& a) {
    return sum_products(a, a);
}

inline Column minimum(Column c, double limit) {
    for (double& value : c) value = std::min(value, limit);
    return c;
}

/// Numbers for t = 0..T; another t throws.
struct Table : std::vector<double> {
    using std::vector<double>::vector;
    double& operator[](size_t t) { return data()[check(t)]; }
    double operator[](size_t t) const { return data()[check(t)]; }
    Column operator[](const Times& t) const {
        Column c(t.size());
        for (size_t b = 0; b < t.size(); ++b) c[b] = (*this)[t[b]];
        return c;
    }
    size_t check(size_t t) const {
        if (t >= size()) throw std::out_of_range("t must be between 1 and T, and every table end at T");
        return t;
    }
};

/// A sum whose error does not grow with the number of terms, Kahan 1965; not with -ffast-math.
struct Sum {
    double total = 0.0, excess = 0.0;
    double add(double term) {
        const double before = total;
        total = before + (term - excess);
        excess = (total - before) - (term - excess);
        return total;
    }
};

}  // namespace ddpm
