"""One row for what two methods say alike: a step asked for alone, and the same step in the loop."""

from collections.abc import Iterable, Iterator
from dataclasses import replace

from ddpm_np.testing._claims import Claims
from ddpm_np.testing.report import Row

SAME = {
    "sample: coefficient of x_t": "reverse_step: coefficient of x_t",
    "sample: coefficient of the prediction": "reverse_step: coefficient of eps",
    "sample: variance of the noise": "reverse_step: variance of the noise",
    "sample: no noise at the last step": "reverse_step: no noise at t = 1",
}


def merged(rows: Iterable[Row], claims: Claims, T: int) -> list[Row]:
    """Join the rows of ``sample`` to those of ``reverse_step`` that say the same of the same steps.

    A loop that visits fewer times, is DDIM, or asks for another target than eps has other steps.
    """
    found = {row.identity: row for row in rows}
    if claims.target != "eps" or claims.eta is not None or len(claims.times) < T:
        return list(found.values())
    for loop, step in SAME.items():
        if loop in found and step in found and _agree(found[loop], found[step]):
            found[step] = _joined(found[step], found.pop(loop))
    return list(found.values())


def _agree(a: Row, b: Row) -> bool:
    """Whether both hold, or both fail for the same reason."""
    if a.verdict == "FAILS":
        return b.verdict == "FAILS" and _reason(a) == _reason(b) != ""
    return a.verdict == b.verdict == "holds"


def _reason(row: Row) -> str:
    """The explanation without the numbers at the worst time."""
    return row.explanation.rpartition("; at t = ")[0]


def _joined(step: Row, loop: Row) -> Row:
    worse = max(step, loop, key=lambda row: row.residual / max(row.tolerance, 1e-300))
    said: Iterator[str] = filter(None, (step.explanation, loop.explanation))
    return replace(
        worse,
        identity=step.identity.replace("reverse_step:", "reverse_step, sample:"),
        equation=step.equation,
        explanation=step.explanation if step.verdict == "FAILS" else "; ".join(dict.fromkeys(said)),
        also=(step.identity, loop.identity),
    )
