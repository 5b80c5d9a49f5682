"""Methods of an adapter that nobody will call, because their names are not those of the protocol."""

import difflib
import inspect

from ddpm_np.testing.protocol import CompleteImplementation, Implementation

CLOSE = 0.8


def unknown_methods(implementation: Implementation) -> tuple[str, ...]:
    """A sentence for each method that seems to be meant for one that is not offered.

    It is close to it by name, or has the same parameters, two at least. Other helpers are its
    own affair.
    """
    wanted = {name: _parameters(method) for name, method in _methods(CompleteImplementation).items()}
    missing = [name for name in wanted if not callable(getattr(implementation, name, None))]
    sentences = []
    for name in _methods(implementation).keys() - wanted.keys():
        same = [other for other in missing if len(wanted[other]) >= 2]
        parameters = _parameters(getattr(implementation, name, None))
        meant = _close(name, missing) or [other for other in same if wanted[other] == parameters]
        if meant:
            sentences.append(f"unknown method {name!r}: did you mean {' or '.join(meant)}?")
    return tuple(sorted(sentences))


def _close(name: str, others: list[str]) -> list[str]:
    return difflib.get_close_matches(name.lower(), others, n=1, cutoff=CLOSE)


def _methods(thing: object) -> dict[str, object]:
    """Its public callables; properties are not evaluated."""
    found = {}
    for name in dir(thing):
        value = inspect.getattr_static(thing, name, None)
        if not name.startswith("_") and (callable(value) or isinstance(value, staticmethod)):
            found[name] = value
    return found


def _parameters(method: object) -> tuple[str, ...]:
    try:
        names = tuple(inspect.signature(method).parameters) if callable(method) else ()
    except (TypeError, ValueError):  # a built-in function
        return ()
    return tuple(name for name in names if name != "self")
