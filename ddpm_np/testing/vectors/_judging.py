"""Every case is asked, and its answer judged; who answers, a program or an object, is not known here."""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from ddpm_np.testing.vectors._comparing import Distance, WrongAnswer, compare
from ddpm_np.testing.vectors._files import Case, Function

NOT_OFFERED = "not offered"

Status: TypeAlias = Literal["passed", "failed", "skipped", "known to fail"]


class Skipped(Exception):
    """The implementation does not claim to answer this; the message is its reason."""


@dataclass(frozen=True)
class Result:
    """What became of one case."""

    case: Case
    status: Status
    distance: Distance | None = None
    """None where there was nothing to compare."""
    message: str = ""
    """Why it was skipped, or failed where there was nothing to compare."""
    expected_to_fail: bool = False
    """It is in the list of known failures."""


def judge(
    functions: Iterable[Function],
    ask: Callable[[Case], Mapping[str, Any]],
    dtype: str,
    known: Collection[str] = (),
) -> tuple[Result, ...]:
    """Ask every case, in order, and compare what comes back.

    ``ask`` returns the outputs by name, or raises Skipped or WrongAnswer; ``known`` are ids of cases,
    or names of functions, that are known to fail.
    """
    return tuple(
        _judged(case, ask, dtype, case.id in known or case.function in known)
        for function in functions
        for case in function.cases
    )


def _judged(
    case: Case, ask: Callable[[Case], Mapping[str, Any]], dtype: str, expected_to_fail: bool
) -> Result:
    failed: Status = "known to fail" if expected_to_fail else "failed"
    try:
        distance = compare(case, ask(case), dtype)
    except Skipped as reason:
        return Result(case, "skipped", None, str(reason), expected_to_fail)
    except WrongAnswer as reason:
        return Result(case, failed, None, str(reason), expected_to_fail)
    status: Status = "passed" if distance.tolerances <= 1.0 else failed
    return Result(case, status, distance, "", expected_to_fail)
