"""A PyTorch class with the names that most diffusion code shares, as it is: no adapter to write.

    python -m ddpm_np.testing my_package.diffusion:GaussianDiffusion --like pytorch

Methods are found by their names, arguments by those of the parameters. Times count from 0. A class
for images gets images of one pixel, whose channels are the checker's dimensions. Needs PyTorch.
"""

import inspect
import itertools
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

import numpy as np
import torch

from ddpm_np.testing._precision import is_single
from ddpm_np.testing.adapters.draws import Draws, from_arrays, from_generator, loop_draws
from ddpm_np.testing.adapters.names import (
    METHODS,
    NETWORKS,
    PIXEL,
    RESULTS,
    ROLES,
    TABLES,
    UnusualError,
    first,
    table,
)
from ddpm_np.testing.adapters.pytorch import (
    as_batch_network,
    as_network,
    as_times,
    to_array,
    to_tensor,
    torch_draws,
)
from ddpm_np.testing.protocol import BatchPredict, Predict, Values


class UsualNames:
    """An object of a PyTorch class, as an implementation to be checked.

    Parameters
    ----------
    diffusion : object
        With a table of betas, in an attribute ``betas`` or ``beta``.

    Raises
    ------
    UnusualError
        If it has none.
    """

    def __init__(self, diffusion: Any) -> None:
        self.diffusion = diffusion
        self.name = type(diffusion).__name__
        tables = {name: first(diffusion, names, callable_=False) for name, names in TABLES.items()}
        if tables["betas"] is None:
            raise UnusualError(
                f"{self.name} has no table {' or '.join(TABLES['betas'])}: write an adapter"
            )
        self._tables = {name: table(values) for name, values in tables.items() if values is not None}
        self.T = len(self._tables["betas"])
        found = {name: first(diffusion, names, callable_=True) for name, names in METHODS.items()}
        self._methods = {name: method for name, method in found.items() if method is not None}
        for name in {*TABLES, *METHODS} - {*self._tables, *self._methods}:
            setattr(self, name, None)  # not offered
        double = tables["betas"].dtype in (torch.float64, np.float64)
        self._dtype = torch.float64 if double else torch.float32
        self._of_images = any(hasattr(diffusion, name) for name in PIXEL)
        self._whole: set[str] = set()  # methods that take t as a number
        self._try_shapes()
        if self._casts():
            self._dtype = torch.float32

    @property
    def claims(self) -> dict[str, Any]:
        """The dtype of its tables, as an argument of ``check_identities``."""
        return {"dtype": "float64" if self._dtype == torch.float64 else "float32"}

    def betas(self) -> Values:
        """beta_1 ... beta_T."""
        return self._tables["betas"]

    def alpha_bars(self) -> Values:
        """alpha_bar_1 ... alpha_bar_T."""
        return self._tables["alpha_bars"]

    def reverse_variance(self, t: int) -> float:
        """Its ``posterior_variance``."""
        return float(self._tables["reverse_variance"][t - 1])

    def q_sample(self, x0: Values, t: int, noise: Values) -> Values:
        """Its q_sample."""
        with torch_draws(from_arrays([noise])):
            return self._ask("q_sample", x0, t, x0=self._tensor(x0), noise=self._tensor(noise))

    def q_posterior(self, x0: Values, x_t: Values, t: int) -> tuple[Values, Values]:
        """Mean and variance of its q_posterior."""
        found = self._call("q_posterior", x0, t, x0=self._tensor(x0), x_t=self._tensor(x_t))
        if not isinstance(found, tuple) or len(found) < 2:
            raise UnusualError("q_posterior returns no tuple (mean, variance, ...)")
        return to_array(found[0]), to_array(found[1] + 0.0 * found[0])

    def reverse_step(self, x_t: Values, t: int, eps: Values, z: Values) -> Values:
        """Its p_sample, or step."""
        output = self._tensor(eps)
        with torch_draws(from_arrays([z])), self._network(lambda *_, **__: output) as model:
            return self._ask("reverse_step", x_t, t, x_t=self._tensor(x_t), output=output, model=model)

    def sample(self, predict: Predict, x_T: Values, noise: Values) -> Values:
        """Its sampling loop, which draws x_T itself or takes it as its noise."""
        shape = tuple(self._tensor(x_T).shape)
        function = self._methods["sample"]
        takes_x_T = any(name in ROLES["noise"] for name in inspect.signature(function).parameters)
        draws = loop_draws(None if takes_x_T else x_T, noise)
        with torch_draws(draws), self._network(as_network(predict)) as model, self._pixel(x_T.shape[1]):
            result = self._ask(
                "sample", x_T, None, model=model, shape=shape, count=len(x_T), noise=self._tensor(x_T)
            )
        return result

    def loss(self, predict: BatchPredict, x0: Values, rng: np.random.Generator) -> Values | float:
        """Its training loss; where that takes t, uniform ones."""
        draws: Draws = from_generator(rng)
        network = as_batch_network(predict)
        with torch_draws(draws), self._network(network) as model, self._pixel(x0.shape[1]):
            loss = self._call(
                "loss", x0, self._drawn_times(rng, len(x0)), x0=self._tensor(x0), model=model
            )
        value = np.asarray(_result(loss).detach().cpu(), dtype=np.float64)
        return value if value.shape == (len(x0),) else float(value)

    # --- shapes and times that it takes -------------------------------------------------------

    def _try_shapes(self) -> None:
        """Whether it takes vectors or images, and its steps a number for t, by trying."""
        for name in ("q_sample", "reverse_step"):
            shapes = (self._of_images, not self._of_images)
            ways = itertools.product(shapes, (set(), {name})) if name in self._methods else ()
            before = self._of_images, self._whole
            for of_images, whole in ways:
                self._of_images, self._whole = of_images, before[1] | whole
                if self._works(name):
                    break
            else:
                self._of_images, self._whole = before

    def _casts(self) -> bool:
        """Whether tables in float64 are cast to float32 when they are used."""
        if "q_sample" not in self._methods:
            return False
        one = np.ones((2, 3))
        try:
            return is_single(self.q_sample(one, 1 + self.T // 2, 0.0 * one))
        except Exception:  # a stranger's code: a finding of the check
            return False

    def _works(self, name: str) -> bool:
        """Whether a method returns something of the right shape; 2 examples of 3 dimensions."""
        some = np.ones((2, 3))
        step = self.q_sample if name == "q_sample" else self._one_step
        try:
            return step(some, 1, some).shape == some.shape
        except Exception:  # a stranger's code: this is not the way it is called
            return False

    def _one_step(self, x: Values, t: int, z: Values) -> Values:
        return self.reverse_step(x, t, x, z)

    # --- finding and calling --------------------------------------------------------------

    def _drawn_times(self, rng: np.random.Generator, batch: int) -> Any:
        """Uniform times, where the method takes them; else it draws its own."""
        parameters = inspect.signature(self._methods["loss"]).parameters
        taken = any(name in ROLES["t"] for name in parameters)
        return torch.as_tensor(rng.integers(0, self.T, batch)) if taken else None

    def _tensor(self, x: Values) -> Any:
        return to_tensor(x, (-1, 1, 1) if self._of_images else (-1,), self._dtype)

    def _ask(self, name: str, x: Values, t: Any, **roles: Any) -> Values:
        return to_array(_result(self._call(name, x, t, **roles)))

    def _call(self, name: str, x: Values, t: Any, **roles: Any) -> Any:
        """Call a method with what its parameters' names ask for; t as a tensor, or as an int."""
        method = self._methods[name]
        parameters = inspect.signature(method).parameters
        given: dict[str, Any] = {}
        for parameter in parameters.values():
            role = next(
                (r for r in (*roles, "t") if parameter.name in ROLES[r] and r not in given), None
            )
            if role is not None and not (role == "t" and t is None):
                given[role] = parameter
            elif parameter.default is parameter.empty and parameter.kind not in (
                parameter.VAR_POSITIONAL,
                parameter.VAR_KEYWORD,
            ):
                raise UnusualError(
                    f"{method.__name__} wants {parameter.name!r}, a name that says nothing here: "
                    "write an adapter"
                )
        values = {given[role].name: value for role, value in roles.items() if role in given}
        if "t" not in given:
            return method(**values)
        wanted_int = name in self._whole or given["t"].annotation in (int, "int")
        if torch.is_tensor(t):
            time: Any = t
        else:
            time = t - 1 if wanted_int else as_times(t, len(x))
        with torch.no_grad():
            return method(**values, **{given["t"].name: time})

    # --- what the object holds while it runs ----------------------------------------------

    @contextmanager
    def _network(self, function: Callable[..., Any]) -> Iterator[Any]:
        """The network as a module, and in the place of the object's own."""
        network = _Network(function)
        with ExitStack() as stack:
            for name in self._networks():
                stack.enter_context(_set(self.diffusion, name, network))
            yield network

    def _networks(self) -> list[str]:
        """Where it holds its network: under a usual name, or the only module that it has."""
        usual = [name for name in NETWORKS if hasattr(self.diffusion, name)]
        own = {**vars(self.diffusion), **vars(self.diffusion).get("_modules", {})}
        modules = [name for name, value in own.items() if isinstance(value, torch.nn.Module)]
        return usual or (modules if len(modules) == 1 else [])

    @contextmanager
    def _pixel(self, dimensions: int) -> Iterator[None]:
        """Images of one pixel, and no scaling of values."""
        changes: dict[str, Any] = {
            **PIXEL,
            "channels": dimensions,
            "normalize": _same,
            "unnormalize": _same,
        }
        with ExitStack() as stack:
            for name, value in changes.items():
                old = getattr(self.diffusion, name, None)
                if old is not None:
                    new = (value,) * len(old) if isinstance(old, tuple) else value
                    stack.enter_context(_set(self.diffusion, name, new))
            yield


class _Network(torch.nn.Module):  # type: ignore[misc]
    """A function as a module, with attributes that such classes ask for."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self._function = function
        self.self_condition = False
        self.unused = torch.nn.Parameter(torch.zeros(1))  # says on which device it is

    def forward(self, *arguments: Any, **named: Any) -> Any:
        """Call the function."""
        return self._function(*arguments, **named)


def _same(x: Any) -> Any:
    return x


@contextmanager
def _set(owner: Any, name: str, value: Any) -> Iterator[None]:
    with mock.patch.object(owner, name, value):
        yield


def _result(found: Any) -> Any:
    """The tensor in what a method returns: a tuple's first, a list's last, or by its usual name."""
    if isinstance(found, dict):
        found = next((found[name] for name in RESULTS if name in found), found)
    if isinstance(found, tuple):
        found = found[0]
    if isinstance(found, list):
        found = found[-1]
    if isinstance(found, np.ndarray):
        found = torch.as_tensor(found)
    if not torch.is_tensor(found):
        found = next((getattr(found, name) for name in RESULTS if hasattr(found, name)), found)
    if not torch.is_tensor(found):
        raise UnusualError(f"a tensor is wanted, got {type(found).__name__}: write an adapter")
    return found


__all__ = ["UnusualError", "UsualNames"]
