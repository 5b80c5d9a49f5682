"""Code that draws from PyTorch, and what a network looks like to it.

Samplers take images of shape (B, C, H, W) and times that count from 0; the checker has arrays of
shape (B, d) and times from 1.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddpm_np.testing.adapters.draws import Draws, Shape
from ddpm_np.testing.protocol import Values

try:
    import torch
    from torch.overrides import TorchFunctionMode
except ImportError as error:
    raise ImportError("ddpm_np.testing.adapters.pytorch needs PyTorch: pip install torch") from error


# --- arrays and tensors -------------------------------------------------------------------


def to_tensor(x: Any, shape: Shape = (-1,), dtype: Any = torch.float32, device: Any = "cpu") -> Any:
    """A tensor of shape (B, *shape) of an array of shape (B, d); shape (-1, 1, 1) is d channels."""
    return torch.as_tensor(np.array(x), dtype=dtype, device=device).reshape(len(x), *shape)


def as_times(t: int, batch: int, first: int = 0, device: Any = "cpu") -> Any:
    """One time for all, of shape (batch,), as the code counts them, from ``first``."""
    return torch.full((batch,), t - 1 + first, dtype=torch.int64, device=device)


def to_array(x: Any) -> Values:
    """An array of shape (B, d) of a tensor of shape (B, ...)."""
    host = x.detach().cpu().numpy().astype(np.float64)
    return host.reshape(len(host), -1)


def as_network(predict: Callable[[Values, Any], Values], first: int = 0) -> Callable[..., Any]:
    """``predict`` as a network: tensors in, a tensor out; ``first`` is the code's least time.

    Further arguments, such as classes, are ignored. In training ``predict`` gets the times as they
    are, shape (B,); in sampling, where all are one, as an int.
    """

    def network(x: Any, t: Any, *_: Any, **__: Any) -> Any:
        times = np.asarray(t.detach().cpu() if torch.is_tensor(t) else t)
        if times.dtype.kind == "f" and not np.array_equal(times, np.rint(times)):
            raise ValueError(
                f"the network is told t = {times.ravel()[0]:g}, which is no whole number: "
                "undo the scaling of t in an adapter"
            )
        times = times.astype(np.int64) - first + 1
        told: Any = int(times.ravel()[0]) if times.size == 1 or np.ptp(times) == 0 else times.reshape(-1)
        prediction = torch.as_tensor(
            np.array(predict(to_array(x), told)), dtype=x.dtype, device=x.device
        )
        return prediction.reshape(x.shape)

    return network


def as_batch_network(predict: Callable[[Values, Any], Values], first: int = 0) -> Callable[..., Any]:
    """:func:`as_network` for ``loss``, where ``predict`` gets one time per example, shape (B,)."""

    def each(x: Values, t: Any) -> Values:
        return predict(x, np.broadcast_to(np.asarray(t, dtype=np.int64), (len(x),)).copy())

    return as_network(each, first)


# --- random numbers -----------------------------------------------------------------------


@contextmanager
def torch_draws(draws: Draws) -> Iterator[None]:
    """Redirect what PyTorch draws, by whatever name it was imported, while the code runs."""
    with _Redirected(draws):
        yield


class _Redirected(TorchFunctionMode):  # type: ignore[misc]
    def __init__(self, draws: Draws) -> None:
        super().__init__()
        self._draws = draws

    def __torch_function__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        redirected = _REDIRECTED.get(getattr(function, "__name__", ""))
        if redirected is None:
            return function(*args, **(kwargs or {}))
        return redirected(self._draws, *args, **(kwargs or {}))


def _randn(draws: Draws, *size: Any, **options: Any) -> Any:
    return _made(draws.normal(_size(size, options)), options)


def _randn_like(draws: Draws, like: Any, **options: Any) -> Any:
    return _made(draws.normal(tuple(like.shape)), options, like)


def _rand(draws: Draws, *size: Any, **options: Any) -> Any:
    return _made(draws.uniform(_size(size, options)), options)


def _rand_like(draws: Draws, like: Any, **options: Any) -> Any:
    return _made(draws.uniform(tuple(like.shape)), options, like)


def _normal(draws: Draws, mean: Any = 0.0, std: Any = 1.0, size: Any = None, **options: Any) -> Any:
    if size is None:
        size = np.broadcast_shapes(np.shape(mean), np.shape(std))
    like = next((x for x in (mean, std) if torch.is_tensor(x)), None)
    return mean + std * _made(draws.normal(tuple(size)), options, like)


def _normal_in_place(draws: Draws, x: Any, mean: float = 0.0, std: float = 1.0, **_: Any) -> Any:
    return x.copy_(mean + std * _made(draws.normal(tuple(x.shape)), {}, x))


def _uniform_in_place(draws: Draws, x: Any, low: float = 0.0, high: float = 1.0, **_: Any) -> Any:
    return x.copy_(low + (high - low) * _made(draws.uniform(tuple(x.shape)), {}, x))


def _randint(draws: Draws, *bounds: Any, **options: Any) -> Any:
    low, high, size = options.pop("low", 0), options.pop("high", None), options.pop("size", None)
    given = list(bounds)
    if size is None:
        size = given.pop()
    if len(given) == 2:
        low, high = given
    elif given:
        high = given[0]
    return _made(draws.integers(low, high, tuple(size)), {"dtype": torch.int64, **options})


def _randint_like(draws: Draws, like: Any, *bounds: Any, **options: Any) -> Any:
    named = (options.pop(name) for name in ("low", "high") if name in options)
    low, high = (0, *bounds, *named)[-2:]
    return _made(draws.integers(low, high, tuple(like.shape)), options, like)


def _randperm(draws: Draws, n: int, **options: Any) -> Any:
    return _made(draws.permutation(n), {"dtype": torch.int64, **options})


def _multinomial(draws: Draws, weights: Any, count: int, replacement: bool = False, **_: Any) -> Any:
    if not replacement:
        raise NotImplementedError("multinomial without replacement is not redirected")
    ends = np.cumsum(weights.detach().cpu().numpy().astype(np.float64))
    found = np.searchsorted(ends / ends[-1], draws.uniform((count,)), side="right")
    return torch.as_tensor(found, device=weights.device)


_REDIRECTED: dict[str, Callable[..., Any]] = {
    "randn": _randn,
    "randn_like": _randn_like,
    "rand": _rand,
    "rand_like": _rand_like,
    "normal": _normal,
    "normal_": _normal_in_place,
    "uniform_": _uniform_in_place,
    "randint": _randint,
    "randint_like": _randint_like,
    "randperm": _randperm,
    "multinomial": _multinomial,
}


def _size(size: tuple[Any, ...], options: dict[str, Any]) -> Shape:
    named = options.pop("size", None)
    if named is not None:
        return tuple(named)
    return tuple(size[0]) if len(size) == 1 and not isinstance(size[0], int) else tuple(size)


def _made(drawn: NDArray[Any], options: dict[str, Any], like: Any = None) -> Any:
    """A tensor of what was drawn, with the dtype and device that were asked for."""
    dtype, device = options.get("dtype"), options.get("device")
    if dtype is None:
        dtype = torch.get_default_dtype() if like is None else like.dtype
    if device is None and like is not None:
        device = like.device
    return torch.as_tensor(np.array(drawn), dtype=dtype, device=device)
