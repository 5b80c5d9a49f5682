/**
 * Answers the test vectors with ddpm.mjs and mlp.mjs: one JSON line in, one out; docs/vectors.md.
 *
 *     python -m ddpm_np.testing.vectors --run "node examples/ports/javascript/runner.mjs"
 *
 * With float32 every vector is a Float32Array; without, a Float64Array.
 */

import { createInterface } from "node:readline";
import * as ddpm from "./ddpm.mjs";
import * as net from "./mlp.mjs";

const { scheduleFromBeta } = ddpm;
const SHORT = { beta: "beta", alpha_bar: "alphaBar", one_minus_alpha_bar: "oneMinusAlphaBar" };
const ALL = { ...SHORT, posterior_variance: "posteriorVariance", log_alpha_bar: "logAlphaBar" };

/** Tables of a schedule by their names in the vectors, at some times or all. */
const tables = (s, names, at = s.beta.keys()) => {
  const times = [...at];
  return Object.fromEntries(Object.entries(names).map(([name, key]) => [name, times.map((t) => s[key][t])]));
};
const schedule = (make) => (inputs) => tables(make(inputs), ALL, inputs.at);

/** Turn the two outer axes of nested lists. */
const turned = (lists) => Array.from(lists[0], (_, i) => lists.map((list) => list[i]));

/** A function of one example, for a batch: the inputs that are named differ from example to example. */
const batched = (names, f) => (inputs) => {
  const own = names.split(" ");
  const s = inputs.beta && scheduleFromBeta(inputs.beta);
  const found = Array.from(inputs[own[0]], (_, b) =>
    f({ ...inputs, s, ...Object.fromEntries(own.map((name) => [name, inputs[name][b]])) }),
  );
  return Object.fromEntries(Object.keys(found[0]).map((key) => [key, found.map((outputs) => outputs[key])]));
};

/** A sampler for a batch: the whole way, with the batch as second axis; noise has times as first axis. */
const sampled = (start, f) => (inputs) => {
  const noise = inputs.noise && turned(inputs.noise);
  const [s, predict] = [scheduleFromBeta(inputs.beta), network(inputs)];
  const one = (x, b) => f({ ...inputs, s, predict, [start]: x, z: (t) => noise[b][t] });
  return { trajectory: turned(inputs[start].map(one)) };
};

/** slope[t] x_t + offset[t] + curve[t] sin(x_t). */
const network = ({ slope, offset, curve }) => (x_t, t) =>
  x_t.map((x) => slope[t] * x + offset[t] + (curve ? curve[t] * Math.sin(x) : 0));

const weight = (name) => batched("t", ({ s, t, sigma2 }) => ({ weight: ddpm[name](s, t, sigma2) }));
const moments = ([mean, variance]) => ({ mean, variance });

// --- weights: nested lists by name, in and out ------------------------------------------------

const sizesOf = ({ weight, bias, hidden_weight, time_weight }) => {
  const [d, n, layers, size] = [weight, bias, hidden_weight, time_weight].map((part) => part.length);
  return { d, n, layers, size };
};
const flatten = (value) => (ArrayBuffer.isView(value) ? [...value] : value.flatMap(flatten));
const flatWeights = (w) => vector(flatten(Object.values(w)));

/** Numbers in the shape of nested lists. */
const shaped = (like, numbers) =>
  ArrayBuffer.isView(like) ? like.map(() => numbers.next().value) : like.map((part) => shaped(part, numbers));

function mlpLossGradient({ T, weights, x_t, t, truth, loss_weight }) {
  const batch = { x_t, t, truth, weight: loss_weight };
  const { loss, gradient } = net.lossAndGradient(flatWeights(weights), sizesOf(weights), T, batch);
  const numbers = gradient.values();
  const named = Object.entries(weights).map(([name, w]) => [`d${name}`, shaped(w, numbers)]);
  return { loss, ...Object.fromEntries(named) };
}

function linearBackward({ x, weight, bias, dy }) {
  const flat = vector(flatten(weight));
  const [dflat, dbias] = [flat.map(() => 0), bias.map(() => 0)];
  const y = x.map((row) => net.linear(row, flat, bias));
  const dx = x.map((row, b) => net.linearBackward(dy[b], row, flat, dflat, dbias));
  return { y, dx, dweight: shaped(weight, dflat.values()), dbias };
}

function silu(x) {
  const found = ArrayBuffer.isView(x) ? net.silu(x) : turned(x.map((row) => Object.values(silu(row))));
  return { y: found[0], slope: found[1] };
}

function adam({ rates, params, grads, weight_decay, ...settings }) {
  let state = net.initState(params).adam;
  const moved = grads.map((grad, n) => {
    [params, state] = net.adam(params, grad, state, rates[n], { ...settings, decay: weight_decay });
    return params;
  });
  return { params: moved };
}

function ema({ decay, params0, updates }) {
  let average = params0;
  return { average: updates.map((params, n) => (average = net.ema(average, params, decay, n))) };
}

function training({ beta, weights, x0, t, noise, rates, target, decay }) {
  const [s, sizes] = [scheduleFromBeta(beta), sizesOf(weights)];
  let state = net.initState(flatWeights(weights));
  const losses = Array.from(rates, (rate, n) => {
    state = net.trainStep(s, sizes, state, { x0: x0[n], t: t[n], noise: noise[n] }, rate, target, decay);
    return state.loss;
  });
  return { losses, params: state.params, average: state.average };
}

// --- what the port claims ---------------------------------------------------------------------

const FUNCTIONS = {
  linear_schedule: schedule(({ T, beta_1, beta_T }) => ddpm.linearSchedule(T, beta_1, beta_T)),
  scaled_linear_schedule: schedule(({ T, beta_1, beta_T }) => ddpm.scaledLinearSchedule(T, beta_1, beta_T)),
  quadratic_schedule: schedule(({ T, beta_1, beta_T }) => ddpm.quadraticSchedule(T, beta_1, beta_T)),
  sigmoid_schedule: schedule(({ T, beta_1, beta_T, width }) =>
    ddpm.sigmoidSchedule(T, beta_1, beta_T, width),
  ),
  cosine_schedule: schedule(({ T, s, max_beta }) => ddpm.cosineSchedule(T, s, max_beta)),
  log_snr_schedule: schedule(({ T, noise, signal }) => ddpm.logSnrSchedule(T, noise, signal)),
  schedule_from_beta: schedule(({ beta }) => scheduleFromBeta(beta)),
  schedule_from_alpha_bar: schedule(({ alpha_bar }) => ddpm.scheduleFromAlphaBar(alpha_bar)),
  respaced_schedule: ({ beta, times }) => tables(ddpm.respacedSchedule(scheduleFromBeta(beta), times), ALL),
  zero_terminal_snr: ({ beta }) => tables(ddpm.zeroTerminalSnr(scheduleFromBeta(beta)), SHORT),
  uniform_times: ({ T, S }) => ({ times: ddpm.uniformTimes(T, S) }),
  quadratic_times: ({ T, S }) => ({ times: ddpm.quadraticTimes(T, S) }),
  trailing_times: ({ T, S }) => ({ times: ddpm.trailingTimes(T, S) }),

  q_step_moments: batched("x_prev t", ({ s, x_prev, t }) => moments(ddpm.qStepMoments(s, x_prev, t))),
  q_step: batched("x_prev t noise", ({ s, x_prev, t, noise }) => ({ x_t: ddpm.qStep(s, x_prev, t, noise) })),
  q_two_step_moments: batched("x_prev2 t", ({ s, x_prev2, t }) =>
    moments(ddpm.qTwoStepMoments(s, x_prev2, t)),
  ),
  q_moments: batched("x0 t", ({ s, x0, t }) => moments(ddpm.qMoments(s, x0, t))),
  q_sample: batched("x0 t noise", ({ s, x0, t, noise }) => ({ x_t: ddpm.qSample(s, x0, t, noise) })),
  q_posterior: batched("x0 x_t t", ({ s, x0, x_t, t }) => moments(ddpm.qPosterior(s, x0, x_t, t))),
  posterior_mean_from_eps: batched("x_t t eps", ({ s, x_t, t, eps }) => ({
    mean: ddpm.posteriorMeanFromEps(s, x_t, t, eps),
  })),
  x0_from_eps: batched("x_t t eps", ({ s, x_t, t, eps }) => ({ x0: ddpm.x0FromEps(s, x_t, t, eps) })),
  eps_from_x0: batched("x_t t x0", ({ s, x_t, t, x0 }) => ({ eps: ddpm.epsFromX0(s, x_t, t, x0) })),
  x0_from_mean: batched("x_t t mean", ({ s, x_t, t, mean }) => ({ x0: ddpm.x0FromMean(s, x_t, t, mean) })),
  eps_from_mean: batched("x_t t mean", ({ s, x_t, t, mean }) => ({ eps: ddpm.epsFromMean(s, x_t, t, mean) })),
  v_from_x0_and_eps: batched("t x0 eps", ({ s, t, x0, eps }) => ({ v: ddpm.vFromX0AndEps(s, t, x0, eps) })),
  x0_from_v: batched("x_t t v", ({ s, x_t, t, v }) => ({ x0: ddpm.x0FromV(s, x_t, t, v) })),
  eps_from_v: batched("x_t t v", ({ s, x_t, t, v }) => ({ eps: ddpm.epsFromV(s, x_t, t, v) })),

  model_mean: batched("x_t t prediction", ({ s, x_t, t, prediction, target }) => ({
    mean: ddpm.modelMean(s, x_t, t, prediction, target),
  })),
  reverse_variance: ({ beta, kind }) => ({ sigma2: ddpm.reverseVariance(scheduleFromBeta(beta), kind) }),
  learned_variance: batched("v t", ({ s, v, t }) => ({ sigma2: ddpm.learnedVariance(s, v, t) })),
  reverse_step: batched("x_t t prediction noise", ({ s, x_t, t, prediction, target, sigma2, noise }) => ({
    x_prev: ddpm.reverseStep(s, x_t, t, prediction, target, sigma2, noise),
  })),
  eps_loss_weight: weight("epsLossWeight"),
  x0_loss_weight: weight("x0LossWeight"),
  v_loss_weight: weight("vLossWeight"),
  mean_loss_weight: weight("meanLossWeight"),
  min_snr_weight: batched("t", ({ s, t, k, target }) => ({ weight: ddpm.minSnrWeight(s, t, k, target) })),
  loss_constant: batched("t", ({ s, t, sigma2, d }) => ({ constant: ddpm.lossConstant(s, t, sigma2, d) })),

  kl_normal_1d: ({ mean_1, std_1, mean_2, std_2 }) => ({ kl: ddpm.klNormal1d(mean_1, std_1, mean_2, std_2) }),
  kl_isotropic: batched("mean_1 var_1 mean_2 var_2", ({ mean_1, var_1, mean_2, var_2 }) => ({
    kl: ddpm.klIsotropic(mean_1, var_1, mean_2, var_2),
  })),
  kl_full: ({ mean_1, cov_1, mean_2, cov_2 }) => ({ kl: ddpm.klFull(mean_1, cov_1, mean_2, cov_2) }),
  normal_log_density: batched("x mean variance", ({ x, mean, variance }) => ({
    log_density: ddpm.normalLogDensity(x, mean, variance),
  })),
  marginalise: ({ a, s2, b, t2 }) => {
    const [slope, variance] = ddpm.marginalise(a, s2, b, t2);
    return { slope, variance };
  },
  gaussian_decoder: batched("x0 mean", ({ x0, mean, variance }) => ({
    log_prob: ddpm.gaussianDecoder(x0, mean, variance),
  })),
  discretised_gaussian: batched("x0 mean", ({ x0, mean, variance, levels }) => ({
    log_prob: ddpm.discretisedGaussian(x0, mean, variance, levels),
  })),

  prior_term: batched("x0", ({ s, x0 }) => ({ L_T: ddpm.priorTerm(s, x0) })),
  middle_term: batched("x0 x_t mean", ({ s, x0, x_t, t, mean, sigma2 }) => ({
    L: ddpm.middleTerm(s, x0, x_t, t, mean, sigma2),
  })),
  elbo_affine: ({ beta, x0, noise, sigma2, target, decoder, ...tables }) => {
    const [s, predict, draws] = [scheduleFromBeta(beta), network(tables), turned(noise)];
    const levels = (x, mean, variance) => ddpm.discretisedGaussian(x, mean, variance, decoder.levels);
    const decode = decoder === "gaussian" ? ddpm.gaussianDecoder : levels;
    const terms = x0.map((x, b) =>
      ddpm.elboDecomposition(s, predict, x, (t) => draws[b][t], sigma2, target, decode),
    );
    const all = (name) => terms.map((term) => term[name]);
    return { L_T: all("L_T"), L: turned(all("L")), L_0: all("L_0"), total: all("total") };
  },

  ancestral_sample: sampled("x_T", ({ s, predict, x_T, z, sigma2, target }) =>
    ddpm.ancestralSample(s, predict, x_T, z, sigma2, target),
  ),
  ddim_sample: sampled("x_T", ({ s, predict, x_T, z, eta, times, target }) =>
    ddpm.ddimSample(s, predict, x_T, z, eta, times, target),
  ),
  dpm_solver_sample: sampled("x_T", ({ s, predict, x_T, order, times, target }) =>
    ddpm.dpmSolverSample(s, predict, x_T, order, times, target),
  ),
  heun_sample: sampled("x_T", ({ s, predict, x_T, times, target }) =>
    ddpm.heunSample(s, predict, x_T, times, target),
  ),
  ddim_invert: sampled("x_0", ({ s, predict, x_0, times, target }) =>
    ddpm.ddimInvert(s, predict, x_0, times, target),
  ),
  guided: batched("conditional unconditional", ({ conditional, unconditional, guidance }) => ({
    prediction: ddpm.guided(conditional, unconditional, guidance),
  })),
  clipped_x0: batched("x_t t prediction", ({ s, x_t, t, prediction, target, low, high }) => ({
    x0: ddpm.clippedX0(s, x_t, t, prediction, target, low, high),
  })),

  time_embedding: batched("t", ({ T, size, t }) => ({ embedding: vector(net.timeEmbedding(T, size, t)) })),
  silu: ({ x }) => silu(x),
  linear_backward: linearBackward,
  mlp_forward: batched("x_t t", ({ T, weights, x_t, t }) => ({
    prediction: net.mlpDenoiser(flatWeights(weights), sizesOf(weights), T)(x_t, t),
  })),
  mlp_loss_gradient: mlpLossGradient,
  adam,
  ema,
  training,
};

// --- the protocol -----------------------------------------------------------------------------

let vector; // from numbers to a vector of the dtype

/** Inputs with every list of numbers as a vector. */
function typed(value) {
  if (Array.isArray(value)) return typeof value[0] === "number" ? vector(value) : value.map(typed);
  if (value === null || typeof value !== "object") return value;
  return Object.fromEntries(Object.entries(value).map(([name, part]) => [name, typed(part)]));
}

/** Outputs as JSON, which has neither vectors nor infinity. */
const answer = (value) =>
  JSON.stringify(value, (_, part) => {
    if (ArrayBuffer.isView(part)) return [...part];
    return typeof part === "number" && !Number.isFinite(part)
      ? { NaN: "nan", Infinity: "inf", "-Infinity": "-inf" }[part]
      : part;
  });

for await (const line of createInterface({ input: process.stdin })) {
  const { id, function: name, inputs, dtype } = JSON.parse(line);
  if (!vector) {
    const type = dtype === "float32" ? Float32Array : Float64Array;
    vector = (numbers) => type.from(numbers);
    console.log(answer({ port: "javascript", dtype, functions: Object.keys(FUNCTIONS) }));
  } else if (!(name in FUNCTIONS)) {
    console.log(answer({ id, skip: "not in this port" }));
  } else {
    try {
      console.log(answer({ id, outputs: FUNCTIONS[name](typed(inputs)) }));
    } catch (error) {
      console.log(answer({ id, error: String(error) }));
    }
  }
}
