"""A port: a program that is asked the cases, and started anew where it breaks."""

import shlex
import time
from collections import Counter
from collections.abc import Collection, Mapping
from types import TracebackType
from typing import Any

from ddpm_np.testing.vectors._comparing import WrongAnswer
from ddpm_np.testing.vectors._files import Case, Function, VectorsError
from ddpm_np.testing.vectors._judging import NOT_OFFERED, Skipped, judge
from ddpm_np.testing.vectors._program import Broken, Program
from ddpm_np.testing.vectors._protocols import Language, ReadLine
from ddpm_np.testing.vectors._report import Report

START_SECONDS = 60.0
"""For a port's first line: some libraries take long to load."""
MOST_OF_ONE_FUNCTION = 3
"""Breaks after which the other cases of a function are not asked."""
MOST_IN_A_ROW = 6
"""Breaks without an answer between them after which nothing more is asked."""


class Port:
    """A program that answers cases. Use it in a ``with`` block, which ends the program.

    Raises
    ------
    VectorsError
        If the program cannot be started, or does not say who it is.
    """

    def __init__(self, command: str, language: Language, dtype: str, seconds: float) -> None:
        try:
            self._command = shlex.split(command)
        except ValueError as error:
            raise VectorsError(f"the command {command!r} cannot be split: {error}") from None
        if not self._command:
            raise VectorsError("the command of the port is empty")
        self._language, self._dtype, self._seconds = language, dtype, seconds
        self._program: Program | None = None
        self._breaks: Counter[str] = Counter()
        self._in_a_row = 0
        try:
            self._start()
        except BaseException as reason:  # Ctrl-C too: nothing else would end the program
            self._end()
            if not isinstance(reason, Broken):
                raise
            raise VectorsError(f"{command} is no port, or not for these vectors: {reason}") from None

    def __enter__(self) -> "Port":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def ask(self, case: Case) -> Mapping[str, Any]:
        """Return the outputs of a case; raises Skipped or WrongAnswer."""
        if not self.greeting.offers(case.function):
            raise Skipped(NOT_OFFERED)
        if self._in_a_row >= MOST_IN_A_ROW:
            raise WrongAnswer(f"not asked, since the port broke {self._in_a_row} times in a row")
        if self._breaks[case.function] >= MOST_OF_ONE_FUNCTION:
            raise WrongAnswer(f"not asked, since the port broke {MOST_OF_ONE_FUNCTION} times before it")
        try:
            answer = self._exchange(case)
        except Broken as reason:
            self._end()
            self._breaks[case.function] += 1
            self._in_a_row += 1
            raise WrongAnswer(str(reason)) from None
        except (Skipped, WrongAnswer):
            self._in_a_row = 0
            raise
        self._in_a_row = 0
        return answer

    def finish(self) -> tuple[str, ...]:
        """Let the program end; what was wrong with that, in sentences."""
        if self._program is None:
            return ()
        problem = self._program.finish(self._seconds)
        return (f"after the last case: {problem}.",) if problem else ()

    def _start(self) -> Program:
        self._program = program = Program(self._command)
        program.send(self._language.greet(self._dtype))
        read = self._reader(program, max(self._seconds, START_SECONDS))
        self.greeting = self._language.read_greeting(read, self._dtype)
        if self.greeting.dtype != self._dtype:
            raise Broken(f"it computes in {self.greeting.dtype}, and {self._dtype} was asked")
        return program

    def _exchange(self, case: Case) -> Mapping[str, Any]:
        program = self._program or self._start()
        program.send(self._language.ask(case))
        return self._language.read_answer(self._reader(program, self._seconds), case)

    @staticmethod
    def _reader(program: Program, seconds: float) -> ReadLine:
        """Read lines until so many seconds from now."""
        deadline = time.monotonic() + seconds
        return lambda: program.receive(deadline - time.monotonic())

    def _end(self) -> None:
        if self._program is not None:
            self._program.kill()
            self._program = None


def check_port(
    command: str,
    functions: Collection[Function],
    language: Language,
    dtype: str,
    seconds: float,
    known: Collection[str] = (),
) -> Report:
    """Ask a program all cases of some functions; errors as :class:`Port`.

    A case may take so many seconds. The program is started anew after a case that ends it, takes too
    long, or is answered by something else.
    """
    with Port(command, language, dtype, seconds) as port:
        results = judge(functions, port.ask, dtype, known)
        return Report(port.greeting.name, dtype, results, port.finish())
