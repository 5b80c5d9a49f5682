"""The PyTorch port behind the vectors' protocol.

python -m ddpm_np.testing.vectors --run "python examples/ports/pytorch/runner.py"
"""

import copy
import sys
from pathlib import Path

import ddpm
import torch

sys.path.append(str(Path(__file__).parents[1]))
import serving


def make(dtype):
    """The functions of the vectors, and what makes a tensor."""
    floats = getattr(torch, dtype)

    def array(value, integers=False):
        return torch.tensor(value, dtype=torch.int64 if integers else floats)

    return {**serving.functions(ddpm, array, torch.sin), **NETWORKS}, array


def time_embedding(T, size, t):
    """The embedding of these times."""
    return {"embedding": ddpm.time_embedding(T, size)[t]}


def silu(x):
    """SiLU and its derivative."""
    y, (slope,) = with_gradients(torch.nn.functional.silu, [x], torch.ones_like(x))
    return {"y": y, "slope": slope}


def linear_backward(x, weight, bias, dy):
    """A linear map, forward and backward."""
    inputs = [x, weight, bias]
    y, (dx, dweight, dbias) = with_gradients(lambda x, weight, bias: x @ weight + bias, inputs, dy)
    return {"y": y, "dx": dx, "dweight": dweight, "dbias": dbias}


def with_gradients(function, inputs, dy):
    """The value, and the gradients of sum(dy * value) by the inputs."""
    inputs = [x.requires_grad_() for x in inputs]
    y = function(*inputs)
    return y.detach(), torch.autograd.grad(y, inputs, dy)


def network(T, weights):
    """The network that has these weights."""
    (d, width), layers, size = (
        weights["weight"].shape,
        len(weights["hidden_weight"]),
        len(weights["time_weight"]),
    )
    model = ddpm.MLP(T, d, width, layers, size).to(torch.float64).to(weights["weight"].dtype)
    shaped = {name: weights[name].reshape(p.shape) for name, p in model.named_parameters()}
    model.load_state_dict(shaped)
    return model


def mlp_forward(T, weights, x_t, t):
    """The prediction."""
    return {"prediction": network(T, weights)(x_t, t).detach()}


def mlp_loss_gradient(T, weights, x_t, t, truth, loss_weight):
    """The loss of a batch, and its gradient by autograd."""
    model = network(T, weights)
    loss = ddpm.squared_error(model(x_t, t), truth, loss_weight[:, None])
    loss.backward()
    gradients = {f"d{name}": p.grad for name, p in model.named_parameters()}
    return {"loss": loss.detach(), **gradients}


def adam(rates, params, grads, beta_1, beta_2, epsilon, weight_decay):
    """PyTorch's own AdamW, whose weight decay is decoupled."""
    param, moved = torch.nn.Parameter(params.clone()), []
    optimizer = torch.optim.AdamW(
        [param], betas=(beta_1, beta_2), eps=epsilon, weight_decay=weight_decay
    )
    for rate, grad in zip(rates.tolist(), grads, strict=True):
        optimizer.param_groups[0]["lr"], param.grad = rate, grad
        optimizer.step()
        moved.append(param.detach().clone())
    return {"params": torch.stack(moved)}


def ema(decay, params0, updates):
    """The average after each update."""
    average, averages = params0.clone(), []
    for step, params in enumerate(updates):
        ddpm.ema_update([average], [params], step, decay)
        averages.append(average.clone())
    return {"average": torch.stack(averages)}


def training(beta, weights, x0, t, noise, rates, target, decay):
    """Steps of Algorithm 1 on given batches."""
    schedule, model = ddpm.schedule_from_beta(beta), network(len(beta), weights)
    average, losses = copy.deepcopy(model), []
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0)
    for step, rate in enumerate(rates.tolist()):
        optimizer.param_groups[0]["lr"] = rate
        batch = x0[step], t[step], noise[step]
        losses.append(ddpm.train_step(schedule, model, average, optimizer, step, *batch, target, decay))
    flat = (torch.cat([p.detach().ravel() for p in m.parameters()]) for m in (model, average))
    return {"losses": torch.stack(losses), **dict(zip(("params", "average"), flat, strict=True))}


NETWORKS = {
    f.__name__: f
    for f in (time_embedding, silu, linear_backward, mlp_forward, mlp_loss_gradient, adam, ema, training)
}

if __name__ == "__main__":
    serving.serve("pytorch", make)
