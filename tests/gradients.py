"""The outside oracle for hand-written gradients: complex-step differentiation."""

import numpy as np

from ddpm_np.nn.ops import GENERIC
from ddpm_np.nn.tree import named_leaves, with_leaves

STEP = 1e-30
"""Far below the rounding of any real part, so the derivative suffers no cancellation at all."""


def check_gradients(forward, backward, params, x, *, ops=GENERIC, seed=0, tolerance=1e-12):
    """Compare backward with the derivative of the inner product <dy, forward(params, x)>.

    forward(params, x, ops) -> (y, cache) and backward(params, cache, dy, ops) -> (dx, grads)
    run in float64 with ``ops``. The derivative by every single entry of params and x comes from
    forward with the array-generic operations, which are holomorphic: with one entry moved by
    ih, the imaginary part of <dy, y> is h times the derivative, to about 1e-16.

    1e-12 leaves room for sums of hundreds of terms; a wrong gradient is wrong by 1e-2 or more.
    """
    y, cache = forward(params, x, ops)
    dy = np.random.default_rng(seed).standard_normal(y.shape)
    dx, grads = backward(params, cache, dy, ops)
    assert type(grads) is type(params)

    inputs, derivatives = {"params": params, "x": x}, {"params": grads, "x": dx}
    found = dict(named_leaves(derivatives))
    leaves = {name: leaf.astype(np.complex128) for name, leaf in named_leaves(inputs)}
    assert list(found) == list(leaves)
    expected = {}
    for name, leaf in leaves.items():
        expected[name] = np.empty(leaf.shape)
        for index in np.ndindex(leaf.shape):
            leaf[index] += STEP * 1j
            moved = with_leaves(inputs, leaves.values())
            z, _ = forward(moved["params"], moved["x"], GENERIC)
            expected[name][index] = np.sum(dy * z).imag / STEP
            leaf[index] = leaf[index].real
    size = np.sqrt(sum(np.sum(leaf**2) for leaf in expected.values()))
    assert size > 0.0
    for name, leaf in expected.items():
        assert found[name].shape == leaf.shape, name
        error = np.max(np.abs(found[name] - leaf)) / size
        assert error < tolerance, f"gradient of {name} is off by {error:.1e}"


def randomised(params, seed=0):
    """The same tree with standard normal leaves: biases start at 0, where mistakes hide."""
    rng = np.random.default_rng(seed)
    return with_leaves(params, [rng.standard_normal(leaf.shape) for _, leaf in named_leaves(params)])
