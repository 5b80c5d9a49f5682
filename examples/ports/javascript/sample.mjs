/**
 * Samples from a network that ddpm_np trained, in the dtype of its weights, as JSON, shape (B, d).
 *
 *     python examples/swiss_roll.py
 *     python -m ddpm_np.runs.export runs/swiss_roll/checkpoint.npz --to json
 *     node examples/ports/javascript/sample.mjs runs/swiss_roll/checkpoint.json 1000
 *
 * In place of a number, a JSON file gives the noise: "x_T", shape (B, d), and "noise", shape (T + 1, B, d),
 * whose entry t is for the step from t.
 */

import { readFileSync } from "node:fs";
import { ancestralSample, reverseVariance, scheduleFromBeta } from "./ddpm.mjs";
import { mlpDenoiser, normal, unravelled } from "./mlp.mjs";

const read = (path) => JSON.parse(readFileSync(path, "utf8"));
const [path, source = "1000"] = process.argv.slice(2);
const { about, beta, shapes, weights } = read(path);
const [d, n] = shapes.weight;
const sizes = { d, n, layers: shapes.hidden_weight[0], size: shapes.time_weight[0] };

const vector = (numbers) => (about.dtype === "float32" ? Float32Array : Float64Array).from(numbers);
const flat = vector(unravelled.flatMap((name) => weights[name].flat(Infinity)));
const s = scheduleFromBeta(beta.slice(1)); // entry 0 of an exported table is t = 0
const predict = mlpDenoiser(flat, sizes, s.T);

const draw = () => vector(Array.from({ length: d }, () => normal()));
const given = isNaN(source) && read(source);
const starts = given ? given.x_T : Array.from({ length: source }, draw);
const { target } = about.configuration;
const samples = starts.map((x_T, b) => {
  const noise = (t) => (given ? vector(given.noise[t][b]) : draw());
  const [x_0] = ancestralSample(s, predict, vector(x_T), noise, reverseVariance(s, "beta"), target);
  return [...x_0];
});
console.log(JSON.stringify(samples));
