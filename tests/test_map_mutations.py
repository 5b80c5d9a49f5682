"""docs/equations.md leads to tests that can fail: with a function spoiled, those of its row do."""

import re

import pytest

from tests.mutants import assert_caught, copy_project, run_tests
from tests.test_docs import ROWS

pytestmark = pytest.mark.slow

# Put at the end of a function's module, in a copy: whoever imports the function gets a wrong one.
SPOIL = """

def _spoil(function):
    def worse(value):
        if isinstance(value, tuple):
            parts = [worse(part) for part in value]
            return type(value)(*parts) if hasattr(value, "_fields") else tuple(parts)
        return 1.01 * value + 0.01

    return lambda *args, **kwargs: worse(function(*args, **kwargs))

"""


def pairs():
    """Each function of the table with its module, and the tests of its row."""
    for numbers, _, _, functions, tests in ROWS:
        cited = re.findall(r"`(test_\w+\.py::test_\w+)`", tests)
        for name, module in re.findall(
            r"`ddpm_np\.([\w.]+)`\]\(\.\./ddpm_np/([\w/]+\.py)#L\d+\)", functions
        ):
            inside = re.sub(r"^(?:[a-z]\w*\.)*(?=\w)", "", name)  # without modules: q_step, Class.method
            if not inside.startswith("Schedule."):  # whose tables come from functions
                yield pytest.param(inside, module, cited, id=f"({numbers}) {inside}")


@pytest.mark.parametrize(("name", "module", "cited"), [*pairs()])
def test_a_spoiled_function_is_noticed(tmp_path, name, module, cited):
    copy_project(tmp_path)
    with (tmp_path / "ddpm_np" / module).open("a") as file:
        file.write(f"{SPOIL}{name} = _spoil({name})\n")
    assert_caught(*run_tests(tmp_path, *cited))
