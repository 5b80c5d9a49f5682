/**
 * Denoising diffusion in plain JavaScript, from the schedule to the samplers. One equation, one function.
 *
 * An example is a vector, a Float64Array or a Float32Array, and what is computed from it is of its type;
 * sums and coefficients are float64 either way. Time is t = 1 ... T as in the slides; tables (s: those of a
 * schedule) have length T + 1, and index 0 is the data end. A network is a function (x_t, t) => prediction
 * of its target: "eps", "x0", "mean" or "v". Numbers in brackets are M2's equations, see docs/equations.md.
 */

const { sqrt, exp, log, log1p, expm1, sin, cos, sinh, cosh, min, max, abs, PI } = Math;
const LOG_2PI = log(2 * PI);
/** a x + b y, entry by entry, which most equations are. */
export const mix = (a, x, b, y) => x.map((x_i, i) => a * x_i + b * y[i]);
export const sum = (x, term) => x.reduce((total, x_i, i) => total + term(x_i, i), 0);
export const norm2 = (x) => sum(x, (x_i) => x_i ** 2);
const distance2 = (x, y) => sum(x, (x_i, i) => (x_i - y[i]) ** 2);
const table = (T, entry) => Float64Array.from({ length: T + 1 }, (_, t) => entry(t));

// --- schedules --------------------------------------------------------------------------------
/** All tables of the chain with variances beta_1 ... beta_T of its steps; only the last may be 1. */
export function scheduleFromBeta(steps) {
  const beta = Float64Array.from([0, ...steps]);
  const logAlphaBar = runningSums(beta.map((b) => log1p(-b)));
  if (beta.at(-1) === 1) logAlphaBar[steps.length] = -Infinity;
  return complete({
    beta,
    alpha: beta.map((b) => 1 - b),
    alphaBar: logAlphaBar.map(exp),
    logAlphaBar,
    oneMinusAlphaBar: logAlphaBar.map((l) => -expm1(l)), // without cancellation
  });
}

/** The same from alpha_bar_0 ... alpha_bar_T, which starts with 1 and falls. */
export function scheduleFromAlphaBar(values) {
  const alphaBar = Float64Array.from(values);
  return complete({
    beta: alphaBar.map((now, t) => (t ? (alphaBar[t - 1] - now) / alphaBar[t - 1] : 0)),
    alpha: alphaBar.map((now, t) => (t ? now / alphaBar[t - 1] : 1)),
    alphaBar,
    logAlphaBar: alphaBar.map(log),
    oneMinusAlphaBar: alphaBar.map((a) => 1 - a),
  });
}

/** Running sums, compensated after Neumaier, so that the error does not grow with T. */
function runningSums(terms) {
  let [total, lost] = [0, 0];
  return terms.map((term) => {
    const next = total + term;
    lost += abs(total) >= abs(term) ? total - next + term : term - next + total;
    total = next;
    return total + lost;
  });
}

/** Add the tables that follow from the others: (25), the coefficients of (26), roots and ratios. */
function complete({ beta, alpha, alphaBar, logAlphaBar, oneMinusAlphaBar }) {
  const T = beta.length - 1;
  oneMinusAlphaBar[1] = beta[1]; // to the last bit: at t = 1 the posterior mean is x_0
  const sqrtAlphaBar = alphaBar.map(sqrt);
  const sqrtOneMinusAlphaBar = oneMinusAlphaBar.map(sqrt);
  const from1 = (entry) => table(T, (t) => (t ? entry(t) : 0));
  return {
    ...{ T, beta, alpha, alphaBar, logAlphaBar, oneMinusAlphaBar, sqrtAlphaBar, sqrtOneMinusAlphaBar },
    posteriorVariance: from1((t) => (oneMinusAlphaBar[t - 1] / oneMinusAlphaBar[t]) * beta[t]),
    cXt: from1((t) => (sqrt(alpha[t]) * oneMinusAlphaBar[t - 1]) / oneMinusAlphaBar[t]),
    cX0: from1((t) => sqrtAlphaBar[t - 1] * (beta[t] / oneMinusAlphaBar[t])),
    noiseToSignal: logAlphaBar.map((l, t) => sqrtOneMinusAlphaBar[t] * exp(-0.5 * l)),
  };
}

/** count numbers from 0 to 1; one alone is 0. */
const ramp = (count) => Array.from({ length: count }, (_, i) => i / max(count - 1, 1));
/** Linear beta, Ho et al. 2020. */
export const linearSchedule = (T, beta_1 = 1e-4, beta_T = 0.02) =>
  scheduleFromBeta(ramp(T).map((u) => beta_1 + (beta_T - beta_1) * u));
/** Linear beta, scaled by 1000 / T. */
export const scaledLinearSchedule = (T, beta_1 = 1e-4, beta_T = 0.02) =>
  scheduleFromBeta(ramp(T).map((u) => (beta_1 + (beta_T - beta_1) * u) * (1000 / T)));
/** Beta whose root is linear. */
export const quadraticSchedule = (T, beta_1 = 1e-4, beta_T = 0.02) =>
  scheduleFromBeta(ramp(T).map((u) => (sqrt(beta_1) + (sqrt(beta_T) - sqrt(beta_1)) * u) ** 2));
/** Beta along a sigmoid, from -width to width. */
export const sigmoidSchedule = (T, beta_1 = 1e-4, beta_T = 0.02, width = 6) =>
  scheduleFromBeta(ramp(T).map((u) => beta_1 + (beta_T - beta_1) / (1 + exp(-width * (2 * u - 1)))));
/**
 * Cosine alpha_bar, Nichol & Dhariwal 2021: alpha_bar[t] = cos(a_t)^2 / cos(a_0)^2.
 * 1 - cos(a)^2 / cos(b)^2 = sin(a - b) sin(a + b) / cos(b)^2 does not cancel; nor do angles left to pi / 2.
 */
export function cosineSchedule(T, s = 0.008, maxBeta = 0.999) {
  const quarter = PI / 2 / (1 + s);
  const beta = ramp(T).map((_, i) => {
    const both = ((2 * i + 1) / T + 2 * s) * quarter; // a_{t-1} + a_t, at t = i + 1
    const left = ((2 * (T - i) - 1) / T) * quarter; // pi less that
    return (sin(quarter / T) * sin(min(both, left))) / sin(((T - i) / T) * quarter) ** 2;
  });
  return scheduleFromBeta(beta.map((b) => min(b, maxBeta)));
}

/** Even log-SNR l_t from noise^2 = 1 - alpha_bar_1 to signal^2 = alpha_bar_T, Kingma et al. 2021. */
export function logSnrSchedule(T, noise, signal = 0.03) {
  const [first, last] = [log1p(-(noise ** 2)) - 2 * log(noise), 2 * log(signal) - log1p(-(signal ** 2))];
  return scheduleFromAlphaBar([1, ...ramp(T).map((u) => 1 / (1 + exp(-first - (last - first) * u)))]);
}

/** The chain that visits some times of a long one, Nichol & Dhariwal 2021; times[i - 1] is at i. */
export function respacedSchedule(s, times) {
  const visits = [0, ...times];
  const at = (values) => Float64Array.from(visits, (t) => values[t]);
  const logAlpha = at(s.beta).map((_, i) => {
    let total = 0; // a difference of logAlphaBar would cancel
    for (let t = visits[i - 1] + 1; t <= visits[i]; t++) total += log1p(-s.beta[t]);
    return total;
  });
  return complete({
    beta: logAlpha.map((l) => -expm1(l)),
    alpha: logAlpha.map(exp),
    alphaBar: at(s.alphaBar),
    logAlphaBar: at(s.logAlphaBar),
    oneMinusAlphaBar: at(s.oneMinusAlphaBar),
  });
}

/** Leave nothing of x_0 in x_T, Lin et al. 2024: r' = (r[t] - r[T]) r[1] / (r[1] - r[T]); r^2 = alpha_bar. */
export function zeroTerminalSnr(s) {
  let left = 0; // r[t - 1] - r[T], a sum of r[t - 1] - r[t], which do not cancel
  const beta = s.beta.slice(1);
  for (let t = s.T; t > 1; t--) {
    const fall = (s.sqrtAlphaBar[t - 1] * s.beta[t]) / (1 + sqrt(s.alpha[t]));
    left += fall;
    beta[t - 1] = (fall / left) * (2 - fall / left);
  }
  return scheduleFromBeta(beta);
}

/** S times evenly from 1 to T; a half is rounded to the even neighbour. */
export const uniformTimes = (T, S) => distinct(S, (i) => (S > 1 ? 1 + ((T - 1) * i) / (S - 1) : T));
/** S times from 1 to T whose roots are even, Song et al. 2021. */
export const quadraticTimes = (T, S) => distinct(S, (i) => 1 + (T - 1) * (S > 1 ? i / (S - 1) : 1) ** 2);
/** Ends of S equal parts of 1 ... T, Lin et al. 2024. */
export const trailingTimes = (T, S) => distinct(S, (i) => (T * (i + 1)) / S);
/** Round to S times that increase, from 1 or more. */
function distinct(S, time) {
  let before = 0;
  return Array.from({ length: S }, (_, i) => {
    const up = Math.round(time(i));
    return (before = max(up - time(i) === 0.5 && up % 2 ? up - 1 : up, before + 1));
  });
}

// --- the forward process q, which is the variational posterior ---------------------------------
/** q(x_t | x_{t-1}) = N(sqrt(alpha[t]) x_{t-1}, beta[t] I), (20). */
export const qStepMoments = (s, x_prev, t) => [x_prev.map((x) => sqrt(s.alpha[t]) * x), s.beta[t]];
/** x_t = sqrt(alpha[t]) x_{t-1} + sqrt(beta[t]) noise, (20). */
export const qStep = (s, x_prev, t, noise) => mix(sqrt(s.alpha[t]), x_prev, sqrt(s.beta[t]), noise);
/** q(x_t | x_{t-2}) = N(sqrt(alpha[t] alpha[t-1]) x_{t-2}, (1 - alpha[t] alpha[t-1]) I), (21). */
export const qTwoStepMoments = (s, x_prev2, t) => [
  x_prev2.map((x) => sqrt(s.alpha[t] * s.alpha[t - 1]) * x),
  s.beta[t] + s.alpha[t] * s.beta[t - 1],
];
/** q(x_t | x_0) = N(sqrt(alpha_bar[t]) x_0, (1 - alpha_bar[t]) I), (22). */
export const qMoments = (s, x0, t) => [x0.map((x) => s.sqrtAlphaBar[t] * x), s.oneMinusAlphaBar[t]];
/** x_t = sqrt(alpha_bar[t]) x_0 + sqrt(1 - alpha_bar[t]) noise, (27). */
export const qSample = (s, x0, t, noise) => mix(s.sqrtAlphaBar[t], x0, s.sqrtOneMinusAlphaBar[t], noise);
/** q(x_{t-1} | x_t, x_0) = N(c_xt[t] x_t + c_x0[t] x_0, beta_tilde[t] I), (24)-(26). */
export const qPosterior = (s, x0, x_t, t) => [mix(s.cXt[t], x_t, s.cX0[t], x0), s.posteriorVariance[t]];
/** mean = (x_t - (1 - alpha[t]) / sqrt(1 - alpha_bar[t]) eps) / sqrt(alpha[t]), (29). */
export const posteriorMeanFromEps = (s, x_t, t, eps) =>
  mix(1 / sqrt(s.alpha[t]), x_t, -s.beta[t] / s.sqrtOneMinusAlphaBar[t] / sqrt(s.alpha[t]), eps);

// --- what a network predicts: each target determines the others --------------------------------
/** x_0 = x_t / sqrt(alpha_bar[t]) - sqrt(1 - alpha_bar[t]) / sqrt(alpha_bar[t]) eps, (28). */
export const x0FromEps = (s, x_t, t, eps) => mix(exp(-0.5 * s.logAlphaBar[t]), x_t, -s.noiseToSignal[t], eps);
/** eps = (x_t - sqrt(alpha_bar[t]) x_0) / sqrt(1 - alpha_bar[t]), (27) solved for it. */
export const epsFromX0 = (s, x_t, t, x0) =>
  mix(1 / s.sqrtOneMinusAlphaBar[t], x_t, -s.sqrtAlphaBar[t] / s.sqrtOneMinusAlphaBar[t], x0);
/** x_0 = (mean - c_xt[t] x_t) / c_x0[t], (26) solved for it. */
export const x0FromMean = (s, x_t, t, mean) => mix(1 / s.cX0[t], mean, -s.cXt[t] / s.cX0[t], x_t);
/** eps = (x_t - sqrt(alpha[t]) mean) sqrt(1 - alpha_bar[t]) / (1 - alpha[t]), (29) solved for it. */
export const epsFromMean = (s, x_t, t, mean) =>
  mix(1, x_t, -sqrt(s.alpha[t]), mean).map((step) => (step * s.sqrtOneMinusAlphaBar[t]) / s.beta[t]);
/** v = sqrt(alpha_bar[t]) eps - sqrt(1 - alpha_bar[t]) x_0, Salimans & Ho 2022. */
export const vFromX0AndEps = (s, t, x0, eps) => mix(s.sqrtAlphaBar[t], eps, -s.sqrtOneMinusAlphaBar[t], x0);
/** x_0 = sqrt(alpha_bar[t]) x_t - sqrt(1 - alpha_bar[t]) v. */
export const x0FromV = (s, x_t, t, v) => mix(s.sqrtAlphaBar[t], x_t, -s.sqrtOneMinusAlphaBar[t], v);
/** eps = sqrt(1 - alpha_bar[t]) x_t + sqrt(alpha_bar[t]) v. */
export const epsFromV = (s, x_t, t, v) => mix(s.sqrtOneMinusAlphaBar[t], x_t, s.sqrtAlphaBar[t], v);

const asPredicted = (s, x_t, t, prediction) => prediction;
const X0_FROM = { eps: x0FromEps, x0: asPredicted, mean: x0FromMean, v: x0FromV };
const EPS_FROM = { eps: asPredicted, x0: epsFromX0, mean: epsFromMean, v: epsFromV };
/** The x_0 that a prediction of any target implies, and the noise. */
export const predictedX0 = (s, x_t, t, prediction, target) => X0_FROM[target](s, x_t, t, prediction);
export const predictedEps = (s, x_t, t, prediction, target) => EPS_FROM[target](s, x_t, t, prediction);

// --- the reverse process p_theta, the model -----------------------------------------------------
/** Mean of p_theta(x_{t-1} | x_t): (34) for the noise, (26) for the other targets. */
export function modelMean(s, x_t, t, prediction, target) {
  if (target === "eps") return posteriorMeanFromEps(s, x_t, t, prediction);
  if (target === "mean") return prediction;
  if (target === "x0") return qPosterior(s, prediction, x_t, t)[0];
  return mix(sqrt(s.alpha[t]), x_t, -s.cX0[t] * s.sqrtOneMinusAlphaBar[t], prediction); // v
}

/** sigma_t^2 of (31): beta_tilde, with beta_tilde_2 at t = 1 (Ho et al.), beta, or 1. */
export function reverseVariance(s, kind) {
  if (kind === "beta") return s.beta.slice();
  if (kind === "unit") return s.beta.map((_, t) => min(t, 1));
  const sigma2 = s.posteriorVariance.slice();
  sigma2[1] = s.T > 1 ? sigma2[2] : s.beta[1];
  return sigma2;
}

/** sigma^2 = exp(v log beta[t] + (1 - v) log beta_tilde[t]), Nichol & Dhariwal 2021 (15). */
export function learnedVariance(s, v, t) {
  const low = reverseVariance(s, "posterior")[t];
  return v.map((v_i) => s.beta[t] ** v_i * low ** (1 - v_i));
}

/** x_{t-1} = mean + sigma_t z, J (13); no noise at t = 1. */
export function reverseStep(s, x_t, t, prediction, target, sigma2, z) {
  const mean = modelMean(s, x_t, t, prediction, target);
  return t > 1 ? mix(1, mean, sqrt(sigma2[t]), z) : mean;
}

// --- weights of the squared error in -L_{t-1} ---------------------------------------------------
/** 1 / (2 sigma_t^2), (32) and (33). */
export const meanLossWeight = (s, t, sigma2) => 1 / (2 * sigma2[t]);
/** (1 - alpha[t])^2 / (2 sigma_t^2 alpha[t] (1 - alpha_bar[t])), (35) with its missing alpha_t. */
export const epsLossWeight = (s, t, sigma2) =>
  s.beta[t] ** 2 / (2 * sigma2[t] * s.alpha[t] * s.oneMinusAlphaBar[t]);
/** alpha_bar[t-1] (1 - alpha[t])^2 / (2 sigma_t^2 (1 - alpha_bar[t])^2), L 6.2. */
export const x0LossWeight = (s, t, sigma2) => s.cX0[t] ** 2 / (2 * sigma2[t]);
/** (1 - alpha_bar[t]) times that of x_0. */
export const vLossWeight = (s, t, sigma2) => s.oneMinusAlphaBar[t] * x0LossWeight(s, t, sigma2);
/** min(snr, k) in units of x_0, snr = alpha_bar[t] / (1 - alpha_bar[t]), Hang et al. 2023. */
export function minSnrWeight(s, t, k, target) {
  const snr = s.alphaBar[t] / s.oneMinusAlphaBar[t];
  if (target === "eps") return min(1, k * s.noiseToSignal[t] ** 2);
  return min(snr, k) * { x0: 1, v: s.oneMinusAlphaBar[t], mean: 1 / s.cX0[t] ** 2 }[target];
}

/** -(d/2) (r - 1 - log(r)), r = beta_tilde[t] / sigma_t^2: what a perfect mean still costs. */
export const lossConstant = (s, t, sigma2, d) => -0.5 * d * excess(s.posteriorVariance[t], sigma2[t]);

// --- Gaussians and decoders, in nats ------------------------------------------------------------
/** r - 1 - log(r), r = a / b, to the last digits for r near 1 too. */
function excess(a, b) {
  const r1 = (a - b) / b;
  return r1 - (a / b < 0.5 ? log(a / b) : log1p(r1));
}

/** log N(x; mean, variance I). */
export const normalLogDensity = (x, mean, variance) =>
  -0.5 * (distance2(x, mean) / variance + x.length * (log(variance) + LOG_2PI));
/** KL of N(mean_1, std_1^2) from N(mean_2, std_2^2), L 1.3. */
export const klNormal1d = (mean_1, std_1, mean_2, std_2) =>
  log(std_2 / std_1) + (std_1 ** 2 + (mean_1 - mean_2) ** 2) / (2 * std_2 ** 2) - 0.5;
/** KL of N(mean_1, var_1 I) from N(mean_2, var_2 I). */
export const klIsotropic = (mean_1, var_1, mean_2, var_2) =>
  0.5 * (mean_1.length * excess(var_1, var_2) + distance2(mean_1, mean_2) / var_2);
/** KL of Gaussians with full covariances, L 6.2; with L L^T = cov, tr(cov_2^-1 cov_1) = |L_2^-1 L_1|^2. */
export function klFull(mean_1, cov_1, mean_2, cov_2) {
  const [L_1, L_2] = [cholesky(cov_1), cholesky(cov_2)];
  const ratio2 = (column) => norm2(solveLower(L_2, column)); // |L_2^-1 column|^2
  const columns = L_1.map((_, j) => L_1.map((row) => row[j]));
  const trace = sum(columns, ratio2) - mean_1.length;
  const logDet = sum(L_1, (row, i) => log(L_2[i][i]) - log(row[i]));
  return logDet + 0.5 * (trace + ratio2(mean_2.map((m, i) => m - mean_1[i])));
}

function cholesky(cov) {
  const L = cov.map((row) => new Float64Array(row.length));
  for (let i = 0; i < L.length; i++)
    for (let j = 0; j <= i; j++) {
      const rest = cov[i][j] - sum(L[j].subarray(0, j), (l, k) => l * L[i][k]);
      L[i][j] = i === j ? sqrt(rest) : rest / L[j][j];
    }
  return L;
}

function solveLower(L, b) {
  const x = new Float64Array(b.length);
  b.forEach((b_i, i) => (x[i] = (b_i - sum(x.subarray(0, i), (x_j, j) => L[i][j] * x_j)) / L[i][i]));
  return x;
}

/** Slope and variance of x given z where y is integrated out: N(x; a y, s2) N(y; b z, t2), (37). */
export const marginalise = (a, s2, b, t2) => [a * b, s2 + t2 * a ** 2];
/** p(x_0 | x_1) for continuous data. */
export const gaussianDecoder = normalLogDensity;
/** p(x_0 | x_1) for levels on [-1, 1]: the mass of each bin, the outer ones open, Ho et al. 2020, 3.3. */
export function discretisedGaussian(x0, mean, variance, levels) {
  const sigma = sqrt(variance);
  const edge = (k) => (2 * k) / (levels - 1) - 1;
  return sum(x0, (x, i) => {
    const k = Math.round(((x + 1) / 2) * (levels - 1));
    const a = k > 0 ? (edge(k - 0.5) - mean[i]) / sigma : -Infinity;
    const b = k < levels - 1 ? (edge(k + 0.5) - mean[i]) / sigma : Infinity;
    // Most of the mass inside: its logarithm comes from what is outside.
    const outside = a < 0 && b > 0 ? exp(logMass(-a, Infinity)) + exp(logMass(b, Infinity)) : 1;
    if (outside < 0.5) return log1p(-outside);
    const width = k > 0 && k < levels - 1 ? 2 / (levels - 1) / sigma : Infinity;
    return logMass(max(a, -b), width);
  });
}

/**
 * Log of the standard normal mass from start >= -1 to start + width, which does not cancel:
 * exp(-start^2 / 2) times the integral from 0 to width of exp(-s (start + s / 2)) ds.
 */
function logMass(start, width) {
  if (start === Infinity) return -Infinity;
  const length = min(width, 80 / (start + sqrt(start ** 2 + 80))); // from there on less than exp(-40)
  const integral = sum(QUADRATURE, ([node, weight]) => {
    const s = node * length;
    return weight * exp(-s * (start + 0.5 * s));
  });
  return log(length * integral) - 0.5 * start ** 2 - 0.5 * LOG_2PI;
}

/** Nodes and weights on [0, 1] of the tanh-sinh rule, Takahasi & Mori 1974. */
const QUADRATURE = Array.from({ length: 105 }, (_, i) => {
  const u = (i - 52) / 16;
  const node = 1 / (1 + exp(-PI * sinh(u)));
  return [node, (PI / 16) * cosh(u) * node * (1 - node)];
});

// --- the bound: log p(x_0) >= L_T + sum of L_{t-1} + L_0, (3) and (19), in nats -------------------
/** L_T = -KL(q(x_T | x_0) || N(0, I)), (36). */
export function priorTerm(s, x0) {
  const [mean, variance] = qMoments(s, x0, s.T);
  return -klIsotropic(mean, variance, x0.map(() => 0), 1);
}

/** L_{t-1} = -KL(q(x_{t-1} | x_t, x_0) || N(mean, sigma_t^2 I)) at one x_t, (14)-(18); t >= 2. */
export const middleTerm = (s, x0, x_t, t, mean, sigma2) =>
  -klIsotropic(...qPosterior(s, x0, x_t, t), mean, sigma2[t]);
/** Every term of the bound from one draw of noise(t) for each t, (19); L[t] is L_{t-1}. */
export function elboDecomposition(s, predict, x0, noise, sigma2, target, decoder = gaussianDecoder) {
  const mean = (x_t, t) => modelMean(s, x_t, t, predict(x_t, t), target);
  const L = table(s.T, (t) => {
    if (t < 2) return 0;
    const x_t = qSample(s, x0, t, noise(t));
    return middleTerm(s, x0, x_t, t, mean(x_t, t), sigma2);
  });
  const L_T = priorTerm(s, x0);
  const L_0 = decoder(x0, mean(qSample(s, x0, 1, noise(1)), 1), sigma2[1]);
  return { L_T, L, L_0, total: L_T + sum(L, (l) => l) + L_0 };
}

// --- samplers: the way from x_T; its entry i is at the i-th visited time, entry 0 is the data -----
function walk(times, x_T, step) {
  const [path, visits] = [[x_T], [0, ...times]];
  for (let i = times.length; i >= 1; i--) path.unshift(step(path[0], visits[i], visits[i - 1], i));
  return path;
}

/** Ho Algorithm 2, J (13). */
export function ancestralSample(s, predict, x_T, noise, sigma2, target) {
  const step = (x, t) => reverseStep(s, x, t, predict(x, t), target, sigma2, noise(t));
  return walk([...s.beta.keys()].slice(1), x_T, step);
}

/**
 * DDIM, Song, Meng & Ermon 2021 (12), (16), from t to s, the visited time before it:
 * x_s = sqrt(alpha_bar[s]) x_0 + sqrt(1 - alpha_bar[s] - sigma^2) eps + sigma z, sigma^2 = eta^2 beta_tilde'.
 */
export function ddimSample(s, predict, x_T, noise, eta, times, target) {
  const short = respacedSchedule(s, times);
  return walk(times, x_T, (x_t, t, _, i) => {
    const prediction = predict(x_t, t);
    const x0 = predictedX0(s, x_t, t, prediction, target);
    const eps = predictedEps(s, x_t, t, prediction, target);
    const before = short.oneMinusAlphaBar[i - 1];
    const shrunk = (short.alpha[i] * before ** 2) / short.oneMinusAlphaBar[i]; // before - beta_tilde'
    const x = mix(short.sqrtAlphaBar[i - 1], x0, sqrt((1 - eta ** 2) * before + eta ** 2 * shrunk), eps);
    return i > 1 && eta > 0 ? mix(1, x, eta * sqrt(short.posteriorVariance[i]), noise(t)) : x;
  });
}

/**
 * DPM-Solver++ of order 1 or 2 (2M), Lu et al. 2022, with h = l[s] - l[t], l half the log-SNR:
 * x_s = sigma[s] / sigma[t] x_t - sqrt(alpha_bar[s]) (exp(-h) - 1) D. First and last step are of order 1.
 */
export function dpmSolverSample(s, predict, x_T, order, times, target) {
  const short = respacedSchedule(s, times);
  let [x0Before, hBefore] = [x_T, Infinity];
  return walk(times, x_T, (x_t, t, to, i) => {
    const x0 = predictedX0(s, x_t, t, predict(x_t, t), target);
    const h = -0.5 * log1p(-short.beta[i] / short.oneMinusAlphaBar[i]); // does not cancel
    const half = order > 1 && to > 0 ? h / (2 * hBefore) : 0; // 1 / (2 r)
    const D = mix(1 + half, x0, -half, x0Before);
    [x0Before, hBefore] = [x0, h];
    const ratio = s.sqrtOneMinusAlphaBar[to] / s.sqrtOneMinusAlphaBar[t];
    return mix(ratio, x_t, -s.sqrtAlphaBar[to] * expm1(-h), D);
  });
}

/** Heun's method for the flow dy/dn = eps, y = x / sqrt(alpha_bar), n = noiseToSignal, Karras et al. 2022. */
export function heunSample(s, predict, x_T, times, target) {
  const slope = (x, t) => predictedEps(s, x, t, predict(x, t), target);
  const at = (y, t) => y.map((y_i) => s.sqrtAlphaBar[t] * y_i);
  let y = x_T.map((x) => x / s.sqrtAlphaBar[s.T]);
  return walk(times, x_T, (x_t, t, to) => {
    const step = s.noiseToSignal[to] - s.noiseToSignal[t];
    const d = slope(x_t, t);
    const euler = mix(1, y, step, d);
    y = to > 0 ? mix(1, y, step, mix(0.5, d, 0.5, slope(at(euler, to), to))) : euler;
    return at(y, to);
  });
}

/** From x_0 to the x_T that DDIM with eta = 0 maps to it: each of its steps is solved for x_t. */
export function ddimInvert(s, predict, x_0, times, target) {
  const path = [x_0];
  for (const [i, t] of times.entries()) {
    const ratio = s.sqrtAlphaBar[t] / s.sqrtAlphaBar[i ? times[i - 1] : 0];
    const step = s.sqrtAlphaBar[t] * (s.noiseToSignal[t] - s.noiseToSignal[i ? times[i - 1] : 0]);
    const start = path[i].map((x) => ratio * x);
    path.push(fixedPoint((x) => mix(1, start, step, predictedEps(s, x, t, predict(x, t), target)), start));
  }
  return path;
}

/** The x that move leaves as it is, extrapolated along the last change (Anderson's method of depth 1). */
function fixedPoint(move, start) {
  const enough = (start instanceof Float32Array ? 2 ** -21 : 2 ** -50) ** 2;
  let before = move(start);
  let [x, changeBefore] = [before, mix(1, before, -1, start)];
  for (let round = 0; round < 1000; round++) {
    const moved = move(x);
    const change = mix(1, moved, -1, x);
    if (norm2(change) <= enough * (norm2(start) + norm2(moved))) return moved;
    const turn = mix(1, change, -1, changeBefore);
    const share = sum(change, (c, i) => c * turn[i]) / norm2(turn);
    [x, before, changeBefore] = [mix(1 - share, moved, share, before), moved, change];
  }
  throw new Error("the inversion does not settle: the step is too long");
}

/** Classifier-free guidance, Ho & Salimans 2022 (6): (1 + w) conditional - w unconditional. */
export const guided = (conditional, unconditional, w) => mix(1 + w, conditional, -w, unconditional);
/** The predicted x_0, within the range of the data. */
export const clippedX0 = (s, x_t, t, prediction, target, low, high) =>
  predictedX0(s, x_t, t, prediction, target).map((x) => min(max(x, low), high));
