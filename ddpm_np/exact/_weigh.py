"""Bayes' rule over the components of a mixture: which of them an observation came from."""

import math

from ddpm_np._arrays import Array, Samples, Table, array_namespace, coefficient, device

# Entries of the largest temporary array, small enough for a processor's cache; three exist at once.
CHUNK = 2**16


def weigh_means(
    x: Array, log_weights: Table, means: Samples, inverse_std: float | Table, signal: float | Table
) -> tuple[Array, Array]:
    """Weigh the means by how well each explains x, in chunks of the batch.

        l[b, k] = log_weights[k] - |x[b] - signal * means[k]|^2 * inverse_std^2 / 2

    Returns
    -------
    log_total : array, shape (B,)
        log(sum over k of exp(l[b, k])).
    centre : array, shape (B, d)
        E[mean | x], the average of ``means`` with weights softmax(l). Columns of ``means`` beyond
        those of x are averaged too, but not compared.
    """
    xp, where = array_namespace(x), {"dtype": x.dtype, "device": device(x)}
    d = x.shape[1]
    # The squares below must not overflow; x further away than this is clamped.
    limit = math.sqrt(float(xp.finfo(x.dtype).max) / (16 * d)) / inverse_std
    bound = xp.zeros_like(x) + coefficient(limit, x)
    scale, shift = coefficient(inverse_std, x), coefficient(signal * inverse_std, x)
    z = scale * xp.minimum(xp.maximum(x, -bound), bound)  # clip waits for the device in CuPy
    host = xp.asarray(log_weights.copy(), **where), xp.asarray(means.copy(), **where)
    batch, rows = x.shape[0], max(1, CHUNK // len(log_weights))
    chunks = [slice(i, min(i + rows, batch)) for i in range(0, batch, rows)]
    parts = [
        _weigh_chunk(z[c, :], shift if isinstance(shift, float) else shift[c, :], *host) for c in chunks
    ]
    if len(parts) == 1:
        return parts[0]
    return xp.concat([p[0] for p in parts]), xp.concat([p[1] for p in parts])


def _weigh_chunk(
    z: Array, shift: Array | float, log_weights: Array, means: Array
) -> tuple[Array, Array]:
    """Weigh one chunk; z is x in standard deviations, and ``shift`` scales the means to match."""
    xp = array_namespace(z)
    logits = xp.zeros((z.shape[0], means.shape[0]), dtype=z.dtype, device=device(z))
    for i in range(z.shape[1]):
        # Differences before squares: z^2 - 2 z m + m^2 would cancel.
        difference = z[:, i : i + 1] - shift * means[:, i][None, :]
        difference *= difference
        logits += difference
    logits *= -0.5
    logits += log_weights
    largest = xp.max(logits, axis=1, keepdims=True)
    logits -= largest
    weights = xp.exp(logits)
    total = xp.sum(weights, axis=1)
    return largest[:, 0] + xp.log(total), (weights @ means) / total[:, None]
