// Samples from a network that ddpm_np trained, in the dtype of its weights, as JSON, shape (B, d).
//
//     python examples/swiss_roll.py
//     python -m ddpm_np.runs.export runs/swiss_roll/checkpoint.npz --to json
//     make -C examples/ports/cpp
//     examples/ports/cpp/build/sample runs/swiss_roll/checkpoint.json 1000
//
// In place of a number, a JSON file gives the noise: "x_T", shape (B, d), and "noise", shape
// (T + 1, B, d), whose entry t is for the step from t.
#include <fstream>
#include <iostream>
#include <iterator>
#include <random>
#include <string>

#include "convert.hpp"
#include "ddpm.hpp"

using namespace ddpm;

namespace {

json::Value read(const std::string& path) {
    std::ifstream file(path);
    if (!file) throw std::runtime_error(path + " cannot be read");
    return json::parse({std::istreambuf_iterator<char>(file), {}});
}

template <class R>
json::Value sample(const json::Value& network, const std::string& source) {
    const Table table = to_table(network["beta"]);  // entry 0 is t = 0
    const Diffusion<R> model(schedule_from_beta({table.begin() + 1, table.end()}));
    const Mlp<R> predict = to_mlp<R>(network["weights"], model.T());
    const Target target = to_target(network["about"]["configuration"]["target"]);
    const Table sigma2 = model.reverse_variance("beta");

    if (source.find_first_not_of("0123456789") != std::string::npos) {
        const json::Value given = read(source);
        const auto noise = to_arrays<R>(given["noise"]);
        const auto x_T = to_array<R>(given["x_T"]);
        const auto draw = [&](size_t t) { return noise.at(t); };
        return to_json(model.ancestral_sample(predict, x_T, draw, sigma2, target)[0]);
    }
    std::mt19937_64 bits(std::random_device{}());
    std::normal_distribution<R> normal;
    const Array<R> shape(std::stoul(source), predict.weight.B);
    const auto draw = [&](size_t) { return map([&](R) { return normal(bits); }, shape); };
    return to_json(model.ancestral_sample(predict, draw(model.T()), draw, sigma2, target)[0]);
}

}  // namespace

int main(int count, char** arguments) {
    if (count < 2 || count > 3) {
        std::cerr << "usage: sample WEIGHTS.json [NUMBER | NOISE.json]\n";
        return 2;
    }
    try {
        const json::Value network = read(arguments[1]);
        const std::string source = count == 3 ? arguments[2] : "1000";
        const bool single = network["about"]["dtype"].as_text() == "float32";
        std::cout << json::to_text((single ? sample<float> : sample<double>)(network, source)) << '\n';
    } catch (const std::exception& error) {
        std::cerr << "sample: " << error.what() << '\n';
        return 1;
    }
}
