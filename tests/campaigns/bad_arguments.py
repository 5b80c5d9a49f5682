"""Public functions with valid arguments of which one or two are replaced by something bad.

Right is an error that names an argument in one short line, an error of the caller's own callable, or a
finite result in float32 or float64. The rules, and what they leave open, each with its reason:

- The same values in another guise (a list, a matrix, big-endian numbers) give the same result or an
  error. But not float32 where noise is drawn: it is drawn in the dtype of the data, from other bits.
- Hidden values must not come out of their mask without a word.
- A result keeps its shape as long as arrays keep theirs: the values of an array decide nothing about
  shapes. Numbers and flags do: how many, how long, whether all of it.
- Layers, and the loss of a denoiser, know no dtype: a complex step takes their derivatives, longdouble
  checks their digits. So they may return it. (They take float16 with it.)
- What a callable raises is the caller's own, and so is what comes of calling a type. What comes back
  and is called by the caller, such as a decoder, has arguments of its own to name.
- Training and samplers that come to NaN or infinity say FloatingPointError, and where it began.
- For a recipe, a generator and their like Python's own error will do: see OWN_TYPES.
"""

import dataclasses
import functools
import inspect
import os
import re
import warnings
from collections.abc import Callable, Sequence
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ddpm_np.data.files import FileError
from ddpm_np.schedules import Schedule
from tests.campaigns.base_arguments import (
    OWN_TYPES,
    PLUMBING,
    SCHEDULE,
    THEN,
    Entry,
    entries,
    write_files,
)
from tests.campaigns.cases import Case, TookTooLong, memory_limit, not_a_sentence, time_limit

TRIED = "public functions with one or two bad arguments"
CASES = 10_000
SECONDS, MEMORY = 10.0, 2**31
ERRORS = (TypeError, ValueError, FloatingPointError, FileError)
PRINTED = {"prediction", "noise", "predict", "x_t", "x_T", "x_prev", "conditional", "unconditional"}
DIVERGED = re.compile("diverged at t = |training diverged by step |inversion does not settle ")
"""Names in messages, beside those of the parameters: what callables return is called so."""
MUST_SAY = re.compile(r"samplers\.|flow\.(ddim|flow)_")
"""Whose result must not be NaN, whatever a callable returns."""


DTYPE_FREE = re.compile(r"nn\..*\.forward|nn\.denoisers\.(mlp_)?loss_and_gradient")
"""Functions that know no dtype."""


class CallersOwn(Exception):
    """Raised by a bad callable."""


class CallersType:
    """A type that is given for a callable: calling it fails in its own words."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        raise CallersOwn


class Bad(NamedTuple):
    """Something to put in the place of an argument."""

    what: str
    value: Any
    same: bool = False
    """Whether it is the old value in another guise, so that the result must be the same."""
    finite: bool = True
    hidden: bool = False
    """Whether it is masked, so that no result is right."""


def prepare(folder: Path, numbers: Sequence[int]) -> None:
    """Nothing: the functions are found by each process."""


def try_case(case: Case, context: None) -> None:
    """Call a function, each in turn."""
    functions = entries()
    round_, place = divmod(case.number, len(functions))
    entry = functions[place]
    if entry.name.startswith("plotting.") and round_ % 4:  # they take as long as a hundred others
        entry = case.choose(functions)
    here = os.getcwd()
    os.chdir(case.folder)
    try:
        if {"path", "checkpoint"} & entry.arguments.keys():
            write_files()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of matrices, and of casts that lose something
            _try(case, entry)
    finally:
        os.chdir(here)


def _try(case: Case, entry: Entry) -> None:
    if not case.expect(not entry.missing, f"{entry.name}: no valid value for it here", entry.missing):
        return
    base = _base(entry.name)
    if isinstance(base, Exception):
        kind = f"{entry.name}: fails with the arguments that are thought valid"
        case.expect(False, kind, f"{type(base).__name__}: {base}")
        return
    names = [name for name in entry.arguments if name not in PLUMBING]
    if not names:
        case.note("functions that take nothing from users")
        return
    chosen = case.rng.permutation(len(names))[: int(case.choose([1, 1, 1, 2]))]
    bad = {names[k]: case.choose(_pool(entry.arguments[names[k]])) for k in chosen}
    _judge(case, entry, base, bad)


@functools.cache
def _base(name: str) -> Any:
    """What comes of the valid arguments."""
    entry = next(entry for entry in entries() if entry.name == name)
    try:
        return _call(entry, {})
    except Exception as error:
        return error


def _judge(case: Case, entry: Entry, base: Any, bad: dict[str, Bad]) -> None:
    finite = all(value.finite for value in bad.values())
    values = {name: value.value for name, value in bad.items()}
    given = "; ".join(f"{name} is {value.what}" for name, value in bad.items())

    def expect(right: bool, problem: str, detail: object = "") -> None:
        kind = f"{entry.name}({', '.join(bad)}): {problem}"
        case.expect(right, kind, f"{given}: {detail}"[:800])

    try:
        with memory_limit(MEMORY), time_limit(SECONDS):
            found = _call(entry, values)
    except CallersOwn:
        return
    except RuntimeWarning as warning:
        expect(not finite, "RuntimeWarning", warning)
        return
    except TookTooLong:
        expect(False, f"takes more than {SECONDS:g} s")
        return
    except OSError:
        return
    except ERRORS as error:
        text, kind = str(error), type(error).__name__
        problem = not_a_sentence(text)
        expect(not problem, f"the message of {kind} {problem}", text)
        said = isinstance(error, FileError) or _says_which(entry, bad, text)
        said = said or (isinstance(error, FloatingPointError) and bool(DIVERGED.search(text)))
        expect(said, f"{kind} that names no argument", text)
        return
    except Exception as error:
        pythons = isinstance(error, AttributeError | LookupError) and OWN_TYPES & bad.keys()
        expect(bool(pythons), type(error).__name__, error)
        return
    expect(not any(value.hidden for value in bad.values()), "a mask is dropped")
    problem = _problem(
        base, found, finite or bool(MUST_SAY.match(entry.name)), DTYPE_FREE.match(entry.name)
    )
    drawn = {"seed", "rng"} & entry.arguments.keys()
    if not problem and all(
        value.same and (value.what != "float32" or not drawn) for value in bad.values()
    ):
        problem = "" if _alike(base, found) else "another result for the same values"
    if not problem and all(_keeps_shape(entry.arguments[name], values[name]) for name in bad):
        problem = "" if _shapes(base) == _shapes(found) else "a result of another shape"
    expect(not problem, problem, repr(found)[:300])


def _says_which(entry: Entry, bad: dict[str, Bad], text: str) -> bool:
    """Whether a message names one of the arguments, as a word; or what a callable returned."""
    names = "|".join(map(re.escape, {*entry.arguments, *PRINTED, *_names_of_result(entry.name)}))
    if re.search(rf"(?<![\w'’])({names})(?![\w'’])", text, re.IGNORECASE):
        return True
    if any(callable(value.value) for value in bad.values()) and re.match(r"\w+(\[.*?\])? must ", text):
        return True
    return bool(OWN_TYPES & bad.keys())


@functools.cache
def _names_of_result(name: str) -> tuple[str, ...]:
    """The parameters of what comes back, if that can be called."""
    if name not in THEN:
        return ()
    entry = next(entry for entry in entries() if entry.name == name)
    return tuple(inspect.signature(entry.call(**entry.arguments)).parameters)


def _call(entry: Entry, bad: dict[str, Any]) -> Any:
    """Call, and call or go through what comes back, as a user would."""
    arguments = {name: _fresh(value) for name, value in entry.arguments.items()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", RuntimeWarning)
        found = entry.call(**{**arguments, **bad})
        if entry.name in THEN and callable(found):
            found = found(*map(_fresh, THEN[entry.name]))
        if hasattr(found, "__next__"):
            found = [next(found)]
        if hasattr(found, "__enter__") and entry.name.startswith("runs."):
            with found:
                pass
            found = None
    return found


def _fresh(value: Any) -> Any:
    """A copy of what a call may change."""
    if isinstance(value, np.random.Generator):
        return np.random.default_rng(0)
    return value.copy() if type(value) in (np.ndarray, dict, list) else value


# --- bad things ---------------------------------------------------------------------------


def _pool(old: Any) -> list[Bad]:
    """What to put in the place of an argument, by what it was."""
    pool = [
        *[Bad(repr(value), value) for value in (None, "eps", b"eps", [], (), {}, True, 1j, -1, 0, 0.5)],
        *[
            Bad(repr(value), value)
            for value in ("", "\x1b[2J\n", [1.0], ["a"], (3, 2), {1}, 2**62, 2**63)
        ],
        *[Bad(f"10**400 * {sign}", sign * 10**400) for sign in (1, -1)],
        *[Bad(str(value), value, finite=False) for value in (np.nan, np.inf, -np.inf)],
        Bad("a long string", "x" * 1000),
        Bad("an object", object()),
        Bad("a type", CallersType),
        Bad("a fraction", Fraction(1, 3)),
        Bad("a decimal", Decimal("0.3")),
        Bad("a longdouble", np.longdouble(0.3)),
        Bad("a float16", np.float16(0.3)),
        Bad("a date", np.datetime64("2020")),
        Bad("a 0-d array", np.array(0.5)),
        Bad("a 0-d object", np.array(None)),
        Bad("an empty array", np.zeros(0)),
        Bad("an array of no rows", np.zeros((0, 2))),
        Bad("an array of strings", np.array(["a", "b"])),
        Bad("a wrong array", np.ones((2, 5))),
    ]
    if isinstance(old, np.ndarray):
        pool += _arrays(old) * 2
    elif callable(old):
        pool += _callables(old) * 3
    elif isinstance(old, int | float) and not isinstance(old, bool):
        pool += _numbers(old)
    elif old is SCHEDULE:
        pool += _schedules()
    return pool


def _arrays(old: Any) -> list[Bad]:
    """Arrays that are like the old one, but for one thing."""
    spoiled = [old.astype(np.float64) for _ in range(3)]
    for array, value in zip(spoiled, (np.nan, np.inf, -np.inf), strict=True):
        array.reshape(-1)[-1] = value
    mask = np.zeros(old.shape, bool)
    mask.reshape(-1)[-1] = True
    guises = {
        "a list": old.tolist(),
        "float32": old.astype(np.float32),
        "longdouble": old.astype(np.longdouble),
        "big-endian": old.astype(old.dtype.newbyteorder(">")),
        "objects": old.astype(object),
        "complex": old.astype(complex),
        "Fortran order": np.asfortranarray(old),
        "strided": np.repeat(old, 2, axis=0)[::2],
        "read-only": _read_only(old),
        "masked, nothing hidden": np.ma.masked_array(old),
        "int64": old.astype(np.int64) if np.all(old == np.rint(old)) else old.astype(object),
    }
    if old.ndim <= 2:
        guises["a matrix"] = np.matrix(old) if old.ndim == 2 else old.astype(np.longdouble)
    others = {
        "float16": old.astype(np.float16),
        "bool": old > 0,
        "strings": old.astype(str),
        "a record": np.zeros(old.shape, [("a", "f8")]),
        "one row": old[:1],
        "a row more": np.concatenate([old, old[:1]]),
        "no rows": old[:0],
        "an axis in front": old[None],
        "an axis at the end": old[..., None],
        "flat": old.reshape(-1),
        "transposed": old.T if old.ndim > 1 else old[:-1],
        "an element": old.reshape(-1)[0],
        "0-d": np.array(old.reshape(-1)[0]),
        "negative": -1.0 - np.abs(old),
        "zeros": np.zeros_like(old),
        "int8": np.clip(old, -100, 100).astype(np.int8),
        "uint64": np.abs(old).astype(np.uint64),
    }
    return [
        *[Bad(what, value, same=True) for what, value in guises.items()],
        *[Bad(what, value) for what, value in others.items()],
        *[Bad("not finite inside", value, finite=False) for value in spoiled],
        Bad("masked", np.ma.masked_array(old, mask=mask), hidden=True),
    ]


def _read_only(old: Any) -> Any:
    copy = old.copy()
    copy.flags.writeable = False
    return copy


def _callables(old: Callable[..., Any]) -> list[Bad]:
    """Callables that return rubbish, or raise."""

    def returns(change: Callable[[Any], Any]) -> Callable[..., Any]:
        def called(*arguments: Any, **options: Any) -> Any:
            value = old(*arguments, **options)
            if isinstance(value, tuple):
                return (change(value[0]), *value[1:])
            return None if value is None else change(value)

        return called

    def raises(*arguments: Any, **options: Any) -> Any:
        raise CallersOwn

    def times(value: float) -> Callable[[Any], Any]:
        return lambda found: np.asarray(found) * value

    return [
        Bad("a callable that returns None", lambda *_, **__: None),
        Bad("a callable that returns a string", lambda *_, **__: "x"),
        Bad("a callable that returns a list", returns(lambda found: np.asarray(found).tolist())),
        Bad("a callable that returns NaN", returns(times(np.nan)), finite=False),
        Bad("a callable that returns infinity", returns(times(np.inf)), finite=False),
        Bad("a callable that returns complex numbers", returns(times(1j))),
        Bad(
            "a callable that returns another shape", returns(lambda found: np.asarray(found)[..., None])
        ),
        Bad("a callable that returns one row", returns(lambda found: np.atleast_1d(found)[:1])),
        Bad("a callable that returns float16", returns(lambda found: np.asarray(found, np.float16))),
        Bad("a callable that returns objects", returns(lambda found: np.asarray(found, object))),
        Bad("a callable that returns a masked array", returns(np.ma.masked_array)),
        Bad("a callable that raises", raises),
    ]


def _numbers(old: float) -> list[Bad]:
    """Numbers that are like the old one, but for one thing."""
    whole = isinstance(old, int)
    return [
        Bad("negative", -old if old else -1),
        Bad("as a string", str(old)),
        Bad("as a complex number", complex(old)),
        Bad("in a list", [old]),
        Bad("in an array", np.array([old])),
        Bad("in a matrix", np.matrix([[old]])),
        Bad("twice in an array", np.array([old, old])),
        Bad("masked", np.ma.masked_array([old], mask=[True])[0]),
        Bad("as a float", float(old), same=not whole),
        Bad("a half more", old + 0.5),
        Bad("ten times", old * 10),
        Bad("in 0-d longdouble", np.array(old, np.longdouble)),
        Bad("in 0-d big-endian", np.array(old, ">f8" if not whole else ">i8"), same=True),
    ]


def _schedules() -> list[Bad]:
    """Schedules of another length, and what looks like one."""
    from ddpm_np import linear_schedule

    class LooksLike:
        T, beta, alpha_bar = SCHEDULE.T, SCHEDULE.beta, SCHEDULE.alpha_bar

    others = [Bad(f"of T = {T}", linear_schedule(T, 0.05, 0.6)) for T in (2, 5, 7, 20)]
    return [*others * 2, Bad("a look-alike", LooksLike()), Bad("its beta", SCHEDULE.beta)]


# --- results ------------------------------------------------------------------------------


def _leaves(value: Any) -> list[Any]:
    """The arrays and numbers in a result."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = {field.name for field in dataclasses.fields(value)}
        if isinstance(value, Schedule):
            names.remove("log_alpha_bar")  # -inf where nothing is left of x_0, as beta_T = 1 wants it
        return _leaves([getattr(value, name) for name in sorted(names)])
    if isinstance(value, dict):
        return _leaves(list(value.values()))
    if isinstance(value, list | tuple):
        return [leaf for part in value for leaf in _leaves(part)]
    return [value] if isinstance(value, np.ndarray | np.generic | int | float | complex) else []


def _problem(base: Any, found: Any, finite: bool, any_dtype: object = None) -> str:
    """What is wrong with a result, in itself."""
    good = all(_is_finite(leaf) for leaf in _leaves(base))
    for leaf in _leaves(found):
        if isinstance(leaf, np.ndarray) and type(leaf) is not np.ndarray:
            return f"a result of type {type(leaf).__name__}"
        dtype = np.asarray(leaf).dtype
        odd = dtype.kind == "c" or (dtype.kind == "f" and dtype.itemsize not in (4, 8))
        if dtype.kind in "OSUVmM" or (odd and not any_dtype):
            return f"a result of dtype {dtype}"
        if finite and good and not _is_finite(leaf):
            return "NaN or infinity without a word"
    return ""


def _is_finite(leaf: Any) -> bool:
    array = np.asarray(leaf)
    return array.dtype.kind not in "fc" or bool(np.all(np.isfinite(array)))


def _keeps_shape(old: Any, new: Any) -> bool:
    """Whether both are arrays, of one shape."""
    return isinstance(old, np.ndarray) and isinstance(new, np.ndarray) and old.shape == new.shape


def _shapes(value: Any) -> list[Any]:
    return [np.shape(leaf) for leaf in _leaves(value)]


def _alike(base: Any, found: Any) -> bool:
    """Equal but for float32, which adds up tens of nats; what is no number is not looked at."""
    pairs = list(zip(_leaves(base), _leaves(found), strict=False))
    return len(_leaves(base)) == len(_leaves(found)) and all(
        np.shape(a) == np.shape(b) and np.allclose(a, b, rtol=1e-3, atol=1e-4, equal_nan=True)
        for a, b in pairs
    )
