"""Samples from a network that ddpm_np trained, in the dtype of its weights, as JSON, shape (B, d).

    python examples/swiss_roll.py
    python -m ddpm_np.runs.export runs/swiss_roll/checkpoint.npz --to safetensors
    python examples/ports/pytorch/sample.py runs/swiss_roll/checkpoint.safetensors 1000

In place of a number, a JSON file gives the noise: "x_T", shape (B, d), and "noise", shape (T + 1, B, d),
whose entry t is for the step from t.
"""

import json
import sys
from pathlib import Path

import ddpm
import torch

sys.path.append(str(Path(__file__).parents[1]))
import exported

path, source = (*sys.argv[1:], "1000")[:2]
beta, weights, configuration = exported.read_network(path)
x_T, noise = map(torch.from_numpy, exported.read_noise(source, len(beta), weights))

weights = {name: torch.from_numpy(array) for name, array in weights.items()}
(d, width), layers, size = (
    weights["weight"].shape,
    len(weights["hidden_weight"]),
    len(weights["time_weight"]),
)
model = ddpm.MLP(len(beta), d, width, layers, size).to(x_T.dtype)
model.load_state_dict(weights)

schedule = ddpm.schedule_from_beta(beta)
sigma2, target = schedule.reverse_variance("beta"), configuration["target"]
with torch.no_grad():
    x_0 = schedule.ancestral_sample(model, x_T, noise, sigma2, target)[0]
print(json.dumps(x_0.tolist()))
