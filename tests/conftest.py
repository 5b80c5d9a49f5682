"""Shared fixtures: one array library and device at a time, and the Hypothesis profiles."""

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, settings

# Some tests import the examples, which import their neighbour, as scripts do.
sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))

# Deterministic by default; `HYPOTHESIS_PROFILE=explore pytest` draws new examples each time.
_COMMON = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("ci", derandomize=True, max_examples=50, database=None, **_COMMON)
settings.register_profile("explore", max_examples=1000, **_COMMON)
# Failing fast without shrinking is all that the mutation tests need.
settings.register_profile(
    "mutation",
    derandomize=True,
    max_examples=20,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    **_COMMON,
)
settings.register_profile(
    "control", derandomize=True, max_examples=1, database=None, phases=[Phase.generate], **_COMMON
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


@dataclass(frozen=True)
class Library:
    """An array library on one device."""

    name: str
    xp: Any
    device: Any

    def array(self, values: Any, dtype: str = "float64") -> Any:
        """Host values as an array of this library, on its device."""
        return self.xp.asarray(np.asarray(values), dtype=getattr(self.xp, dtype), device=self.device)

    def host(self, x: Any) -> np.ndarray:
        """An array of this library on the host, after checking that it stayed on its device."""
        import array_api_compat

        from ddpm_np._arrays import to_host

        assert array_api_compat.device(x) == self.device
        return to_host(x)


def _numpy() -> Library:
    import array_api_compat.numpy as xp

    return Library("numpy", xp, "cpu")


def _strict() -> Library:
    xp = pytest.importorskip("array_api_strict")
    return Library("array-api-strict", xp, xp.Device("device1"))


def _cupy() -> Library:
    from backends import BackendError, get_backend

    try:
        get_backend("cupy")
    except BackendError as error:
        pytest.skip(str(error))
    import array_api_compat.cupy as xp

    return Library("cupy", xp, xp.cuda.Device())


@pytest.fixture(params=[_numpy, _strict, _cupy], ids=["numpy", "strict", "cupy"])
def lib(request: pytest.FixtureRequest) -> Library:
    """Every array library that the mathematics must run on."""
    library: Library = request.param()
    return library


@pytest.fixture(params=["float32", "float64"])
def dtype(request: pytest.FixtureRequest) -> str:
    """Both supported precisions."""
    return str(request.param)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say once for each reason how many tests were skipped."""
    reasons = [report.longrepr[2] for report in terminalreporter.stats.get("skipped", [])]
    for reason in sorted(set(reasons)):
        terminalreporter.write_line(
            f"skipped {reasons.count(reason)}: {reason.removeprefix('Skipped: ')}"
        )
