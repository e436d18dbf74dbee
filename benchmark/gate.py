"""`bench compare --gate`: what B must not be worse in than A, for CI."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from benchmark.compare import Line, not_there, takes
from benchmark.report.tables.columns import Choice, choice
from benchmark.sides import CompareError


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
    """`MEASURE` or `MEASURE:MARGIN`, the measure in the words of benchmark/report/tables/columns.py."""
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
        own = [line for line in lines if takes(one.choice, line)]
        if not own:
            raise CompareError(f"--gate {one.text!r}: {_why_none(one, lines)}; it cannot be judged")
        if any(np.isnan(line.difference.value) or not line.direction for line in own):
            raise CompareError(
                f"--gate {one.text!r}: no score, or no direction that is better; it cannot be judged"
            )
        found += [(one, line) for line in own if one.fails(line)]
    return found


def _why_none(one: Gate, lines: Sequence[Line]) -> str:
    """What is wrong with a gate that no comparison is of; what stands in the place of a margin may be meant as one."""
    *_, last = one.choice.settings or ("",)
    if last and any(takes(replace(one.choice, settings=()), line) for line in lines):
        return f"the margin {last!r} is not a number (0.01: a point), and no setting of what is compared either"
    return not_there(one.choice, pd.DataFrame(map(vars, lines)))
