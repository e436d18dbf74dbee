"""The cells of a table: the mean, its interval, and both as the text that every format shows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import pandas as pd

from benchmark.report.names import arrow
from benchmark.storage.rows import WAITING

NO_MORE = "‡"
"""The sign of a score that is not significantly better than a control's."""


Spread = Literal["interval", "ends", "seeds"]
"""What stands behind a mean: ± the 95% interval's farther end, both of its ends, or ± the seeds' standard deviation."""


@dataclass(frozen=True)
class Column:
    """One measure: its family, its heading, which way is better, and how its numbers are written."""

    family: str
    label: str
    threat: str
    measure: str
    direction: str
    scale: float
    """100 for accuracies, which are shown in percent."""
    spec: str
    """The format of every number of the column (".1f")."""
    scope: str = "unbounded"
    """The measure's range as its card says it ("0..1"); intervals keep to it."""
    metric: str = ""
    params: str = ""
    """The metric's settings that differ from its defaults, as JSON."""

    @property
    def arrow(self) -> str:
        """The sign of the better direction."""
        return arrow(self.direction)

    @property
    def unit(self) -> str:
        """The unit of the shown numbers."""
        return "%" if self.scale == 100 else ""

    def written(self, value: float) -> str:
        """A value of the records as it is shown."""
        return signless(format(value * self.scale, self.spec))


@dataclass(frozen=True)
class Beside:
    """What a control of the same measure scored on the same model."""

    control: str
    """A name of benchmark/controls.py."""
    mean: float
    low: float
    high: float
    p: float = np.nan
    """Of the difference from the model's own score, after Holm's correction; NaN where there is no test of it."""
    compared: str = ""
    """How the two were compared: the test, or "interval"."""
    beaten: bool | None = None
    """Whether the model's own score is significantly better; None where the measure claims nothing of the model."""


@dataclass(frozen=True)
class Cell:
    """A mean over seeds with its 95% interval, in the records' own unit, and its text."""

    mean: float
    low: float
    high: float
    n: int
    seeds: int
    seed_min: float = np.nan
    seed_max: float = np.nan
    seed_sd: float = np.nan
    """Standard deviation over seeds, with n - 1; NaN for a single one."""
    shown: str = "–"
    reach: str = ""
    """What stands behind ±: the distance to the farther end of the interval, so that mean ± reach never says too
    little; or the seeds' standard deviation. Without ±: both ends of the interval, in brackets."""
    best: bool = False
    """Whether it is the best of its column, or not significantly worse."""
    p: float = np.nan
    """Of the difference from the best of the column, corrected for all its pairs; NaN where there is no test of it."""
    gap: float = np.nan
    """That difference, on the images that both have scores of."""
    compared: str = ""
    """How it was compared with the best: the test, or "interval"; empty for the best and where there is no error."""
    reason: str = ""
    """Why there is no value, or not of all seeds."""
    mark: str = ""
    """The letter of the footnote with the reason."""
    beside: tuple[Beside, ...] = ()
    """The controls of the same measure."""
    lacking: tuple[str, ...] = ()
    """The controls that it has to beat and that have no score of this row."""

    @property
    def behind(self) -> str:
        """What stands behind the mean, with its sign."""
        return self.reach if self.reach[:1] in ("", "[") else f"± {self.reach}"

    @property
    def unbeaten(self) -> tuple[str, ...]:
        """The controls that the score is not significantly better than."""
        return tuple(each.control for each in self.beside if each.beaten is False)

    @property
    def judged(self) -> bool:
        """Whether it is known if the score beats all its controls."""
        beaten = any(each.beaten for each in self.beside)
        return bool(self.unbeaten) or (beaten and not self.lacking)

    @property
    def hollow(self) -> bool:
        """Whether nothing says that the score beats its controls: it is not bold, and no corner of a Pareto front."""
        return bool(self.unbeaten or self.lacking)

    @property
    def signs(self) -> str:
        """The signs of its footnotes."""
        return NO_MORE * bool(self.unbeaten) + self.mark


ABSENT = Cell(np.nan, np.nan, np.nan, 0, 0, reason="not part of this run")
UNTRAINED = replace(ABSENT, reason="its training failed")
LATER = replace(ABSENT, reason=WAITING)
EMPTY = Cell(np.nan, np.nan, np.nan, 0, 0, shown="")
"""Where nothing is expected."""


def cell(row: Mapping[Any, Any], column: Column, spread: Spread = "interval") -> Cell:
    """The cell of one pooled row."""
    made = Cell(
        *(row["value"], row["low"], row["high"], int(row["n"]), int(row["seeds"])),
        *(row["seed_min"], row["seed_max"], row["seed_sd"]),
        reason=row["note"],
    )
    if np.isnan(made.mean):
        return made
    return replace(made, shown=column.written(made.mean), reach=_reach(made, column, spread))


def _reach(made: Cell, column: Column, spread: Spread) -> str:
    """The text of what stands behind a mean."""
    if spread == "seeds":
        return column.written(made.seed_sd) if np.isfinite(made.seed_sd) else ""
    reach = max(made.mean - made.low, made.high - made.mean)
    # an interval of "± 0.0" would tell nothing: a count (operations of a step) is the same for every seed, or nearly
    if not np.isfinite(reach) or column.written(reach) == column.written(0):
        return ""
    if spread == "ends":
        return f"[{column.written(made.low)}, {column.written(made.high)}]"
    return column.written(reach)


def signless(number: str) -> str:
    """Without the sign of a rounded zero."""
    return number.lstrip("-") if float(number) == 0 else number


def number_format(values: pd.Series, reaches: pd.Series) -> tuple[float, str]:
    """Scale 1 and a format: three significant digits of a column's largest value, more or fewer as intervals ask."""
    largest = float(values.abs().max())
    if not np.isfinite(largest) or largest == 0:
        return 1.0, ".3f"
    narrow = float(reaches.median())
    digits = 2 - _magnitude(largest)
    if np.isfinite(narrow) and narrow > 0:
        place = -_magnitude(narrow)
        digits = min(max(digits, place), digits + 2, place + 1)
    # beyond these, zeros would fill the cell
    return 1.0, f".{max(digits, 0)}f" if -4 < digits <= 5 else ".2e"


def _magnitude(value: float) -> int:
    return int(np.floor(np.log10(value)))
