"""Old import paths: modules that lay flat in ddpm_np still import, with a DeprecationWarning."""

import importlib
import sys
import warnings
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

MOVED = {
    "array_files": ("data.files",),
    "baselines": ("data.baselines",),
    "batches": ("runs.batches",),
    "checkpoint": ("runs.checkpoint",),
    "evaluation": ("runs.evaluation",),
    "files": ("runs.files",),
    "image_plots": ("plotting.images",),
    "images": ("data.images", "schedules"),
    "metrics": ("data.distances",),
    "normal_mixtures": ("data.normal_mixtures",),
    "posterior": ("targets",),
    "step_errors": ("estimators.step_errors", "estimators.variances"),
    "term_identities": ("identities.terms",),
    "times": ("estimators.times",),
}
"""Where the names of each old module are now; `posterior` remains, but lost its conversions."""


class _OldAddresses(MetaPathFinder, Loader):
    """Stands in for modules that no longer exist."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        package, _, name = fullname.rpartition(".")
        return ModuleSpec(fullname, self) if package == "ddpm_np" and name in MOVED else None

    def exec_module(self, module: ModuleType) -> None:
        forward(module)


def forward(module: ModuleType) -> None:
    """Let a module forward the names that moved out of it (PEP 562)."""
    places = MOVED[module.__name__.rpartition(".")[2]]

    def find(name: str) -> Any:
        moved = [importlib.import_module(f"ddpm_np.{place}") for place in places]
        if name == "__all__":
            names = {name for new in (module, *moved) for name in vars(new)}
            return sorted(name for name in names if not name.startswith("_"))
        for new in () if name.startswith("__") else moved:
            if hasattr(new, name):
                message = f"{module.__name__}.{name} is now {new.__name__}.{name}"
                warnings.warn(message, DeprecationWarning, stacklevel=2)
                return getattr(new, name)
        raise AttributeError(f"module {module.__name__!r} has no attribute {name!r}")

    module.__dict__["__getattr__"] = find


sys.meta_path.append(_OldAddresses())
