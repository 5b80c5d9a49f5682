// Answers the test vectors of ddpm_np, one line of JSON for each case; docs/vectors.md.
//
//     python -m ddpm_np.testing.vectors --run examples/ports/cpp/build/runner
#include <functional>
#include <iostream>
#include <map>
#include <string>
#include <vector>

#include "affine.hpp"
#include "convert.hpp"
#include "ddpm.hpp"

using namespace ddpm;

namespace {

/// One input of a case, which becomes what the function that it is handed to takes.
template <class R>
struct Input {
    const json::Value& value;

    operator double() const { return value.as_number(); }
    operator int() const { return static_cast<int>(to_size(value)); }
    operator size_t() const { return to_size(value); }
    operator Array<R>() const { return to_array<R>(value); }
    operator Column() const { return to_column(value); }
    operator Table() const { return to_table(value); }
    operator Times() const { return to_times(value); }
    operator Target() const { return to_target(value); }
};

template <class R>
struct Inputs {
    const json::Value& values;

    Input<R> operator[](const char* name) const { return {values[name]}; }
    Diffusion<R> q() const { return Diffusion<R>(schedule_from_beta(to_table(values["beta"]))); }
    Gaussian<R> gaussian(const char* mean, const char* variance) const {
        return {(*this)[mean], (*this)[variance]};
    }
    /// slope[t] x_t + offset[t], and curve[t] sin(x_t) where there is a curve
    auto network() const {
        const Table a = (*this)["slope"], b = (*this)["offset"];
        const Table c = values.has("curve") ? to_table(values["curve"]) : Table(a.size());
        return [=](const Array<R>& x_t, size_t t) {
            return map([&](R x) { return R(a[t]) * x + R(b[t]) + R(c[t]) * std::sin(x); }, x_t);
        };
    }
    auto noise() const {
        return [draws = to_arrays<R>(values["noise"])](size_t t) { return draws.at(t); };
    }
    Mlp<R> mlp() const { return to_mlp<R>(values["weights"], to_size(values["T"])); }
};

template <class R>
using Function = std::function<json::Value(const Inputs<R>&)>;

/// A function of one output.
template <class R, class F>
Function<R> gives(const char* output, F f) {
    return [=](const Inputs<R>& in) { return json::Value().set(output, to_json(f(in))); };
}

/// A function that returns a Gaussian.
template <class R, class F>
Function<R> gives_moments(F f) {
    return [=](const Inputs<R>& in) {
        const Gaussian<R> g = f(in);
        return json::Value().set("mean", to_json(g.mean)).set("variance", to_json(g.variance));
    };
}

/// A function that returns a schedule, whose tables are asked at some times or, without them, whole.
template <class R, class F>
Function<R> gives_tables(F f) {
    return [=](const Inputs<R>& in) {
        const Schedule s = f(in);
        Times at(s.T() + 1);
        for (size_t t = 0; t <= s.T(); ++t) at[t] = t;
        if (in.values.has("at")) at = Times(in["at"]);
        return json::Value()
            .set("beta", to_json(s.beta[at]))
            .set("alpha_bar", to_json(s.alpha_bar[at]))
            .set("log_alpha_bar", to_json(s.log_alpha_bar[at]))
            .set("one_minus_alpha_bar", to_json(s.one_minus_alpha_bar[at]))
            .set("posterior_variance", to_json(s.posterior_variance[at]));
    };
}

template <class R>
Column decoded(const Inputs<R>& in, const Array<R>& x0, const Array<R>& mean, double variance) {
    const json::Value& decoder = in.values["decoder"];
    if (decoder.kind == json::Value::text) return gaussian_decoder(x0, mean, variance);
    return discretised_gaussian(x0, mean, variance, to_size(decoder["levels"]));
}

template <class R>
std::map<std::string, Function<R>> functions() {
    using A = Array<R>;
    using In = const Inputs<R>&;
    std::map<std::string, Function<R>> f;

    f["linear_schedule"] = gives_tables<R>([](In in) {
        return linear_schedule(in["T"], in["beta_1"], in["beta_T"]);
    });
    f["scaled_linear_schedule"] = gives_tables<R>([](In in) {
        return scaled_linear_schedule(in["T"], in["beta_1"], in["beta_T"]);
    });
    f["quadratic_schedule"] = gives_tables<R>([](In in) {
        return quadratic_schedule(in["T"], in["beta_1"], in["beta_T"]);
    });
    f["sigmoid_schedule"] = gives_tables<R>([](In in) {
        return sigmoid_schedule(in["T"], in["beta_1"], in["beta_T"], in["width"]);
    });
    f["cosine_schedule"] = gives_tables<R>([](In in) {
        return cosine_schedule(in["T"], in["s"], in["max_beta"]);
    });
    f["log_snr_schedule"] = gives_tables<R>([](In in) {
        return log_snr_schedule(in["T"], in["noise"], in["signal"]);
    });
    f["schedule_from_beta"] = gives_tables<R>([](In in) { return in.q(); });
    f["schedule_from_alpha_bar"] = gives_tables<R>([](In in) {
        return schedule_from_alpha_bar(to_table(in.values["alpha_bar"]));
    });
    f["respaced_schedule"] = gives_tables<R>([](In in) {
        return respaced_schedule(in.q(), in["times"]);
    });
    f["zero_terminal_snr"] = gives_tables<R>([](In in) { return zero_terminal_snr(in.q()); });
    f["uniform_times"] = gives<R>("times", [](In in) { return uniform_times(in["T"], in["S"]); });
    f["quadratic_times"] = gives<R>("times", [](In in) {
        return quadratic_times(in["T"], in["S"]);
    });
    f["trailing_times"] = gives<R>("times", [](In in) { return trailing_times(in["T"], in["S"]); });

    f["q_step_moments"] = gives_moments<R>([](In in) {
        return in.q().q_step_moments(in["x_prev"], in["t"]);
    });
    f["q_step"] = gives<R>("x_t", [](In in) {
        return in.q().q_step(in["x_prev"], in["t"], in["noise"]);
    });
    f["q_two_step_moments"] = gives_moments<R>([](In in) {
        return in.q().q_two_step_moments(in["x_prev2"], in["t"]);
    });
    f["q_moments"] = gives_moments<R>([](In in) { return in.q().q_moments(in["x0"], in["t"]); });
    f["q_sample"] = gives<R>("x_t", [](In in) {
        return in.q().q_sample(in["x0"], in["t"], in["noise"]);
    });
    f["q_posterior"] = gives_moments<R>([](In in) {
        return in.q().q_posterior(in["x0"], in["x_t"], in["t"]);
    });
    f["posterior_mean_from_eps"] = gives<R>("mean", [](In in) {
        return in.q().posterior_mean_from_eps(in["x_t"], in["t"], in["eps"]);
    });
    f["x0_from_eps"] = gives<R>("x0", [](In in) {
        return in.q().x0_from_eps(in["x_t"], in["t"], in["eps"]);
    });
    f["eps_from_x0"] = gives<R>("eps", [](In in) {
        return in.q().eps_from_x0(in["x_t"], in["t"], in["x0"]);
    });
    f["x0_from_mean"] = gives<R>("x0", [](In in) {
        return in.q().x0_from_mean(in["x_t"], in["t"], in["mean"]);
    });
    f["eps_from_mean"] = gives<R>("eps", [](In in) {
        return in.q().eps_from_mean(in["x_t"], in["t"], in["mean"]);
    });
    f["v_from_x0_and_eps"] = gives<R>("v", [](In in) {
        return in.q().v_from_x0_and_eps(in["t"], in["x0"], in["eps"]);
    });
    f["x0_from_v"] = gives<R>("x0", [](In in) {
        return in.q().x0_from_v(in["x_t"], in["t"], in["v"]);
    });
    f["eps_from_v"] = gives<R>("eps", [](In in) {
        return in.q().eps_from_v(in["x_t"], in["t"], in["v"]);
    });

    f["model_mean"] = gives<R>("mean", [](In in) {
        return in.q().model_mean(in["x_t"], in["t"], in["prediction"], in["target"]);
    });
    f["reverse_variance"] = gives<R>("sigma2", [](In in) {
        return in.q().reverse_variance(in.values["kind"].as_text());
    });
    f["learned_variance"] = gives<R>("sigma2", [](In in) {
        return in.q().learned_variance(in["v"], in["t"]);
    });
    f["reverse_step"] = gives<R>("x_prev", [](In in) {
        return in.q().reverse_step(in["x_t"], in["t"], in["prediction"], in["target"], in["sigma2"],
                                   in["noise"]);
    });
    f["mean_loss_weight"] = gives<R>("weight", [](In in) {
        return in.q().mean_loss_weight(in["t"], in["sigma2"]);
    });
    f["eps_loss_weight"] = gives<R>("weight", [](In in) {
        return in.q().eps_loss_weight(in["t"], in["sigma2"]);
    });
    f["x0_loss_weight"] = gives<R>("weight", [](In in) {
        return in.q().x0_loss_weight(in["t"], in["sigma2"]);
    });
    f["v_loss_weight"] = gives<R>("weight", [](In in) {
        return in.q().v_loss_weight(in["t"], in["sigma2"]);
    });
    f["loss_constant"] = gives<R>("constant", [](In in) {
        return in.q().loss_constant(in["t"], in["sigma2"], in["d"]);
    });
    f["min_snr_weight"] = gives<R>("weight", [](In in) {
        return in.q().min_snr_weight(in["t"], in["k"], in["target"]);
    });

    f["kl_normal_1d"] = gives<R>("kl", [](In in) {
        return kl_normal_1d(in["mean_1"], in["std_1"], in["mean_2"], in["std_2"]);
    });
    f["kl_isotropic"] = gives<R>("kl", [](In in) {
        return kl_isotropic(in.gaussian("mean_1", "var_1"), in.gaussian("mean_2", "var_2"));
    });
    f["kl_full"] = gives<R>("kl", [](In in) {
        const auto of = [&](const char* name) { return to_array<double>(in.values[name]); };
        return kl_full(of("mean_1"), of("cov_1"), of("mean_2"), of("cov_2"));
    });
    f["marginalise"] = [](In in) {
        const auto [slope, variance] = marginalise(in["a"], in["s2"], in["b"], in["t2"]);
        return json::Value().set("slope", slope).set("variance", variance);
    };
    f["normal_log_density"] = gives<R>("log_density", [](In in) {
        return normal_log_density<R>(in["x"], in.gaussian("mean", "variance"));
    });
    f["gaussian_decoder"] = gives<R>("log_prob", [](In in) {
        return gaussian_decoder<R>(in["x0"], in["mean"], in["variance"]);
    });
    f["discretised_gaussian"] = gives<R>("log_prob", [](In in) {
        return discretised_gaussian<R>(in["x0"], in["mean"], in["variance"], in["levels"]);
    });

    f["prior_term"] = gives<R>("L_T", [](In in) { return in.q().prior_term(in["x0"]); });
    f["middle_term"] = gives<R>("L", [](In in) {
        return in.q().middle_term(in["x0"], in["x_t"], in["t"], in["mean"], in["sigma2"]);
    });
    f["elbo_affine"] = [](In in) {
        const auto decoder = [&](const A& x0, const A& mean, double variance) {
            return decoded(in, x0, mean, variance);
        };
        const Elbo e = in.q().elbo(in.network(), in["x0"], in.noise(), in["sigma2"], in["target"],
                                   decoder);
        return json::Value()
            .set("L_T", to_json(e.L_T))
            .set("L", to_json(e.L))
            .set("L_0", to_json(e.L_0))
            .set("total", to_json(e.total));
    };
    f["affine_log_likelihood"] = [](In in) {
        const AffineModel<R> model(in.q(), in["slope"], in["offset"], in["target"], in["sigma2"]);
        const A x0 = in["x0"];
        return json::Value()
            .set("log_p", to_json(model.log_density(x0)))
            .set("expected_elbo", to_json(model.expected_elbo(x0)))
            .set("gap", to_json(model.gap(x0)));
    };

    f["ancestral_sample"] = gives<R>("trajectory", [](In in) {
        return in.q().ancestral_sample(in.network(), in["x_T"], in.noise(), in["sigma2"], in["target"]);
    });
    f["ddim_sample"] = gives<R>("trajectory", [](In in) {
        return in.q().ddim_sample(in.network(), in["x_T"], in["eta"], in.noise(), in["times"],
                                  in["target"]);
    });
    f["dpm_solver_sample"] = gives<R>("trajectory", [](In in) {
        return in.q().dpm_solver_sample(in.network(), in["x_T"], in["order"], in["times"],
                                        in["target"]);
    });
    f["heun_sample"] = gives<R>("trajectory", [](In in) {
        return in.q().heun_sample(in.network(), in["x_T"], in["times"], in["target"]);
    });
    f["ddim_invert"] = gives<R>("trajectory", [](In in) {
        return in.q().ddim_invert(in.network(), in["x_0"], in["times"], in["target"]);
    });
    f["guided"] = gives<R>("prediction", [](In in) {
        return guided<R>(in["conditional"], in["unconditional"], in["guidance"]);
    });
    f["clipped_x0"] = gives<R>("x0", [](In in) {
        const A x0 = in.q().predicted_x0(in["x_t"], in["t"], in["prediction"], in["target"]);
        return clipped(x0, in["low"], in["high"]);
    });

    f["time_embedding"] = gives<R>("embedding", [](In in) {
        return time_embedding<R>(in["T"], in["size"], in["t"]);
    });
    f["mlp_forward"] = gives<R>("prediction", [](In in) {
        return in.mlp()(in["x_t"], Times(in["t"]));
    });
    return f;
}

/// Answer the cases; what cannot be computed is an error of its case.
template <class R>
void serve(const char* dtype) {
    const auto known = functions<R>();
    std::vector<json::Value> names;
    for (const auto& [name, function] : known) names.emplace_back(name);
    json::Value greeting;
    greeting.set("port", "cpp").set("dtype", dtype).set("functions", names);
    std::cout << json::to_text(greeting) << std::endl;
    for (std::string line; std::getline(std::cin, line);) {
        json::Value answer;
        try {
            const json::Value asked = json::parse(line);
            answer.set("id", asked["id"]);
            const auto found = known.find(asked["function"].as_text());
            if (found == known.end()) answer.set("skip", "not in this port");
            else answer.set("outputs", found->second(Inputs<R>{asked["inputs"]}));
        } catch (const std::exception& error) {
            answer.set("error", error.what());
        }
        std::cout << json::to_text(answer) << std::endl;  // endl: the runner waits for it
    }
}

}  // namespace

int main() {
    try {
        std::string line;
        std::getline(std::cin, line);
        const json::Value greeting = json::parse(line);
        if (greeting["vectors"].as_number() != 1.0) refuse("only version 1 of the vectors is known");
        if (greeting["dtype"].as_text() == "float32") serve<float>("float32");
        else serve<double>("float64");
    } catch (const std::exception& error) {
        std::cerr << "runner: " << error.what() << '\n';
        return 1;
    }
}
