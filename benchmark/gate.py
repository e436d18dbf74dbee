"""`bench compare --gate`: what B must not be worse in than A, for CI."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmark.compare import CompareError, Line
from benchmark.report.columns import Choice, choice


@dataclass(frozen=True)
class Gate:
    """A measure that B must not be worse in than A by more than a margin, in the measure's own unit (0.01: 1 point)."""

    text: str
    choice: Choice
    margin: float

    def fails(self, line: Line) -> bool:
        """Whether all of the 95% interval says that B is worse by more than the margin."""
        return line.gain[2] < -self.margin


def gate(text: str) -> Gate:
    """`MEASURE` or `MEASURE:MARGIN`, the measure in the words of benchmark/report/columns.py."""
    word, _, last = text.rpartition(":")
    try:
        margin = float(last)
    except ValueError:
        word, margin = text, 0.0
    if not word or not margin >= 0 or margin == np.inf:
        raise CompareError(
            f"--gate {text!r}: MEASURE or MEASURE:MARGIN with a margin of at least 0, as in auto_attack:0.01"
        )
    return Gate(text, choice(word), margin)


def failures(gates: Sequence[Gate], lines: Sequence[Line]) -> list[tuple[Gate, Line]]:
    """The gates that do not hold; CompareError if there is nothing that one could be judged by."""
    found = []
    for one in gates:
        own = [line for line in lines if one.choice.takes({**vars(line), "headline": True})]
        if not own or any(np.isnan(line.difference.value) or not line.direction for line in own):
            raise CompareError(
                f"--gate {one.text!r}: no such comparison with a better direction; it cannot be judged"
            )
        found += [(one, line) for line in own if one.fails(line)]
    return found
