/**
 * A network for ddpm.mjs, with a backward pass written by hand, and its training.
 *
 * Vectors and schedules (s) are those of ddpm.mjs; a batch is a list of vectors. Parameters are one flat
 * vector, which the optimiser passes over, and the weights are views of it; sizes are { d, n, layers, size }:
 * coordinates, width, residual layers, and size of the time's embedding. d<name> is the gradient of <name>.
 */

import { mix, norm2, qPosterior, qSample, sum, vFromX0AndEps } from "./ddpm.mjs";

const { sqrt, exp, log, sin, cos, min, PI } = Math;

/** All sin(1000 t / T f_i), then all cosines; f_i = 10000^(-2 (i - 1) / size), i = 1 ... size / 2. */
export function timeEmbedding(T, size, t) {
  const angles = Array.from({ length: size / 2 }, (_, i) => ((1000 * t) / T) * 10000 ** ((-2 * i) / size));
  return Float64Array.from([...angles.map(sin), ...angles.map(cos)]);
}

/** SiLU and its slope: y = x gate, gate = 1 / (1 + exp(-x)). */
export function silu(x) {
  const gate = x.map((x_i) => 1 / (1 + exp(-x_i)));
  const y = x.map((x_i, i) => x_i * gate[i]);
  return [y, gate.map((g, i) => g + y[i] * (1 - g))];
}

/** y = x weight + bias; weight[i * m + j] leads from x[i] to y[j]. */
export function linear(x, weight, bias) {
  const y = bias.slice();
  for (let i = 0; i < x.length; i++)
    for (let j = 0; j < y.length; j++) y[j] += x[i] * weight[i * y.length + j];
  return y;
}

/** The gradient of x; those of weight and bias are added to what is there, since a batch shares them. */
export function linearBackward(dy, x, weight, dweight, dbias) {
  const [dx, m] = [x.map(() => 0), dy.length];
  for (let j = 0; j < m; j++) dbias[j] += dy[j];
  for (let i = 0; i < x.length; i++)
    for (let j = 0; j < m; j++) {
      dweight[i * m + j] += x[i] * dy[j];
      dx[i] += dy[j] * weight[i * m + j];
    }
  return dx;
}

/** The weights within a flat vector, and their order there. */
const LAYERS = ["hidden_weight", "hidden_bias"];
export const unravelled = ["weight", "time_weight", "bias", ...LAYERS, "out_weight", "out_bias"];
export function unravel(flat, { d, n, layers, size }) {
  let end = 0;
  const take = (count) => flat.subarray(end, (end += count));
  const perLayer = (count) => Array.from({ length: layers }, () => take(count));
  const first = { weight: take(d * n), time_weight: take(size * n), bias: take(n) };
  const hidden = { hidden_weight: perLayer(n * n), hidden_bias: perLayer(n) };
  return { ...first, ...hidden, out_weight: take(n * d), out_bias: take(d) };
}

/** h = silu(x weight + embedding time_weight + bias); h = h + silu(h hidden_weight + hidden_bias) ...; y. */
export function mlp(w, x, embedding) {
  const [h0, slope0] = silu(linear(x, w.weight, linear(embedding, w.time_weight, w.bias)));
  const [hidden, slopes] = [[h0], [slope0]];
  w.hidden_weight.forEach((weight, l) => {
    const [change, slope] = silu(linear(hidden[l], weight, w.hidden_bias[l]));
    hidden.push(mix(1, hidden[l], 1, change));
    slopes.push(slope);
  });
  return { y: linear(hidden.at(-1), w.out_weight, w.out_bias), cache: { x, embedding, hidden, slopes } };
}

/** mlp in reverse: gradients of the weights are added to dw. */
export function mlpBackward(dy, { x, embedding, hidden, slopes }, w, dw) {
  let dh = linearBackward(dy, hidden.at(-1), w.out_weight, dw.out_weight, dw.out_bias);
  for (let l = w.hidden_weight.length - 1; l >= 0; l--) {
    const dchange = dh.map((g, i) => g * slopes[l + 1][i]);
    const [weight, dweight, dbias] = [w.hidden_weight[l], dw.hidden_weight[l], dw.hidden_bias[l]];
    dh = mix(1, dh, 1, linearBackward(dchange, hidden[l], weight, dweight, dbias));
  }
  dh = dh.map((g, i) => g * slopes[0][i]);
  linearBackward(dh, embedding, w.time_weight, dw.time_weight, dw.bias);
  linearBackward(dh, x, w.weight, dw.weight, new Float64Array(dh.length)); // the bias is shared
}

/** A predictor for the samplers and the bound: the network of these parameters. */
export function mlpDenoiser(flat, sizes, T) {
  const w = unravel(flat, sizes);
  return (x_t, t) => mlp(w, x_t, flat.constructor.from(timeEmbedding(T, sizes.size, t))).y;
}

// --- training ---------------------------------------------------------------------------------

/** A draw from N(0, 1), Box & Muller 1958. */
export const normal = (uniform = Math.random) =>
  sqrt(-2 * log(1 - uniform())) * cos(2 * PI * uniform());

/** Weights from N(0, 1 / inputs), biases 0. */
export function initMlp(sizes, draw = normal) {
  const { d, n, layers, size } = sizes;
  const flat = new Float64Array(d * n + size * n + n + layers * (n * n + n) + n * d + d);
  const w = unravel(flat, sizes);
  const fill = (weight, inputs) => weight.forEach((_, i) => (weight[i] = draw() / sqrt(inputs)));
  [...w.hidden_weight, w.out_weight].forEach((weight) => fill(weight, n));
  fill(w.weight, d);
  fill(w.time_weight, size);
  return flat;
}

/** loss = mean(weight (prediction - truth)^2) over all entries of a batch, and its gradient. */
export function lossAndGradient(flat, sizes, T, { x_t, t, truth, weight }) {
  const [w, gradient] = [unravel(flat, sizes), flat.map(() => 0)];
  const [dw, count] = [unravel(gradient, sizes), x_t.length * sizes.d];
  const loss = sum(x_t, (x, b) => {
    const { y, cache } = mlp(w, x, flat.constructor.from(timeEmbedding(T, sizes.size, t[b])));
    const error = mix(1, y, -1, truth[b]);
    mlpBackward(error.map((e) => (2 * weight[b] * e) / count), cache, w, dw);
    return (weight[b] * norm2(error)) / count;
  });
  return { loss, gradient };
}

/** Adam, Kingma & Ba 2015, with decoupled weight decay; step counts from 1. */
export function adam(params, grad, state, rate, settings = {}) {
  const { beta_1 = 0.9, beta_2 = 0.999, epsilon = 1e-8, decay = 0 } = settings;
  const step = state.step + 1;
  const m = mix(beta_1, state.m, 1 - beta_1, grad);
  const v = mix(beta_2, state.v, 1 - beta_2, grad.map((g) => g * g));
  const [mScale, vScale] = [1 / (1 - beta_1 ** step), 1 / (1 - beta_2 ** step)];
  const size = v.map((v_i) => sqrt(v_i * vScale) + epsilon);
  return [params.map((p, i) => (1 - rate * decay) * p - (rate * mScale * m[i]) / size[i]), { step, m, v }];
}

/** The average of the parameters after another step, of which step were done; a young one forgets faster. */
export function ema(average, params, decay, step) {
  const keep = min(decay, (1 + step) / (10 + step));
  return mix(keep, average, 1 - keep, params);
}

/** What changes in training: sample with the average. */
export const initState = (params) => ({
  ...{ params, average: params, loss: 0 },
  adam: { step: 0, m: params.map(() => 0), v: params.map(() => 0) },
});

/** What a perfect network says of x_t = qSample(s, x0, t, noise). */
export function trainingTarget(s, x0, t, noise, target) {
  if (target === "mean") return qPosterior(s, x0, qSample(s, x0, t, noise), t)[0];
  return { eps: noise, x0, v: vFromX0AndEps(s, t, x0, noise) }[target];
}

/** One gradient step on given x_0, t and noise, Ho Algorithm 1. */
export function trainStep(s, sizes, state, { x0, t, noise }, rate, target, decay = 0.999) {
  const x_t = x0.map((x, b) => qSample(s, x, t[b], noise[b]));
  const truth = x0.map((x, b) => trainingTarget(s, x, t[b], noise[b], target));
  const batch = { x_t, t, truth, weight: x0.map(() => 1) };
  const { loss, gradient } = lossAndGradient(state.params, sizes, s.T, batch);
  const [params, optimiser] = adam(state.params, gradient, state.adam, rate);
  return { params, average: ema(state.average, params, decay, state.adam.step), loss, adam: optimiser };
}
