// From JSON to what the formulas take, and back.
#pragma once

#include <cmath>
#include <string>
#include <type_traits>
#include <vector>

#include "ddpm.hpp"
#include "json.hpp"

namespace ddpm {

inline std::vector<double> to_numbers(const json::Value& list) {
    std::vector<double> numbers;
    for (const json::Value& value : list.as_list()) numbers.push_back(value.as_number());
    return numbers;
}

inline Column to_column(const json::Value& list) {
    const std::vector<double> numbers = to_numbers(list);
    return Column(numbers.data(), numbers.size());
}

inline Table to_table(const json::Value& list) {
    const std::vector<double> numbers = to_numbers(list);
    return Table(numbers.begin(), numbers.end());
}

inline size_t to_size(const json::Value& number) {
    const double x = number.as_number();
    if (!(x >= 0.0 && x < 1e15 && x == std::floor(x))) refuse("times and sizes must be integers >= 0");
    return static_cast<size_t>(x);
}

inline Times to_times(const json::Value& list) {
    Times times(list.as_list().size());
    for (size_t i = 0; i < times.size(); ++i) times[i] = to_size(list.as_list()[i]);
    return times;
}

inline Target to_target(const json::Value& name) {
    const char* const names[] = {"eps", "x0", "mean", "v"};
    for (const Target target : {Target::eps, Target::x0, Target::mean, Target::v})
        if (name.as_text() == names[static_cast<int>(target)]) return target;
    refuse("target must be eps, x0, mean or v");
}

/// A list of rows; a list of numbers is one row.
template <class R>
Array<R> to_array(const json::Value& list) {
    const auto& rows = list.as_list();
    if (rows.empty()) refuse("an array must have at least one row");
    if (rows[0].kind == json::Value::number) return to_array<R>(std::vector<json::Value>{list});
    Array<R> a(rows.size(), rows[0].as_list().size());
    for (size_t b = 0; b < a.B; ++b) {
        const std::vector<double> row = to_numbers(rows[b]);
        if (row.size() != a.d) refuse("the rows of an array must be of one length");
        for (size_t j = 0; j < a.d; ++j) a[b][j] = static_cast<R>(row[j]);
    }
    return a;
}

template <class R>
std::vector<Array<R>> to_arrays(const json::Value& list) {
    std::vector<Array<R>> arrays;
    for (const json::Value& value : list.as_list()) arrays.push_back(to_array<R>(value));
    return arrays;
}

inline json::Value to_json(double x) { return x; }

template <class Numbers>  // a Column, a Table or Times
json::Value to_json(const Numbers& numbers) {
    std::vector<json::Value> values;
    for (const auto& x : numbers) values.emplace_back(static_cast<double>(x));
    return values;
}

template <class R>
json::Value to_json(const Array<R>& a) {
    std::vector<json::Value> rows;
    for (size_t b = 0; b < a.B; ++b) rows.push_back(to_json(std::vector<R>(a[b], a[b] + a.d)));
    return rows;
}

template <class T>
json::Value to_json(const std::vector<T>& arrays) {  // of arrays or numbers
    std::vector<json::Value> values;
    for (const T& value : arrays) {
        if constexpr (std::is_arithmetic_v<T>) values.emplace_back(static_cast<double>(value));
        else values.push_back(to_json(value));
    }
    return values;
}

/// A network from its weights, by their names in ddpm_np.
template <class R>
Mlp<R> to_mlp(const json::Value& weights, size_t T) {
    const auto at = [&](const char* name) { return to_array<R>(weights[name]); };
    const auto each = [&](const char* name) { return to_arrays<R>(weights[name]); };
    return {T, at("weight"), at("time_weight"), at("bias"), each("hidden_weight"), each("hidden_bias"),
            at("out_weight"), at("out_bias")};
}

}  // namespace ddpm
