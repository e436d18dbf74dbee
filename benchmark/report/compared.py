"""A comparison as tables: one for each pair of models, a row a measure."""

from __future__ import annotations

import csv
import io
import json
import math
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict
from itertools import groupby
from typing import Any, NamedTuple

import pandas as pd

from benchmark.compare import Line
from benchmark.report.formats.grid_tex import grid_latex
from benchmark.report.formats.grids import grid_markdown
from benchmark.report.formats.latex import WIDTH
from benchmark.report.grid import Grid
from benchmark.report.names import arrow, dataset_title, norm_sign, settings_in_words
from benchmark.report.pooling import in_percent
from benchmark.report.tables.beside import control
from benchmark.report.tables.cells import NO_MORE, number_format, signless
from benchmark.report.tables.table import DAGGER

_HEADINGS = ("", "A", "B", "B − A", "95% interval", "p", "Better", "B : A", "n", "Detectable")
_CAPTION = (
    "{sides} Means on the same images, seeds averaged (accuracies in %, their differences in points). {corrected}"
    "Better: the winner where p < 0.05; n.s.: not significant. Tests: {tests}."
)
_CORRECTED = "p after Holm's correction for {} comparisons; the intervals are not corrected. "
_SPARE = {
    "B : A": "B : A: on how many images the one and the other has the better score.",
    "Detectable": (
        "Detectable: the true difference that such a comparison finds four times in five (p < 0.05, uncorrected)."
    ),
    "n": "",
    # what B and the difference say as well
    "A": "",
}
"""Never the interval and p: without them a difference says nothing."""
_UNBEATEN = (
    " ‡: not significantly better than a control of its measure, as in the tables of its run: it is not shown to say "
    "more than that control, and neither is its lead, which is not bold."
)


def comparison(lines: Sequence[Line]) -> list[Grid]:
    """A grid for each data set; where there are several pairs, each has its rows."""
    sets = groupby(lines, key=lambda line: line.dataset)
    return [_grid(dataset, list(own), len(lines)) for dataset, own in sets]


def text(lines: Sequence[Line], ending: str, textwidth: float = WIDTH) -> str:
    """The comparison as the content of a file: .md, .tex (for a text of so many points), .csv or .json."""
    if ending in _TABLES:
        return "\n\n".join(_TABLES[ending](grid, textwidth) for grid in comparison(lines)) + "\n"
    rows = [_row(line) for line in lines]
    if ending == ".json":
        return json.dumps(rows, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    out = io.StringIO()
    writer = csv.DictWriter(out, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(
        {k: " ".join(v) if isinstance(v, tuple) else v for k, v in row.items()} for row in rows
    )
    return out.getvalue()


_TABLES: dict[str, Callable[[Grid, float], str]] = {
    ".md": lambda grid, _: grid_markdown(grid),
    ".tex": grid_latex,
}
ENDINGS = (*_TABLES, ".csv", ".json")


def _row(line: Line) -> dict[str, Any]:
    """All of a line, in the measure's own unit; None where there is no number."""
    pairs = ("runs", "reconstructions", "unbeaten")
    facts = {
        k: v for k, v in vars(line).items() if k not in (*pairs, "headline", "difference", "p")
    }
    for name, pair in zip(("run", "reconstruction", "unbeaten"), pairs, strict=True):
        facts |= dict(zip((f"{name}_a", f"{name}_b"), getattr(line, pair), strict=True))
    found = asdict(line.difference)
    numbers = {
        "mean_a": found.pop("baseline"), "mean_b": found.pop("mean"), "difference": found.pop("value"),
        "p_uncorrected": found.pop("p"), "p": line.p, **found,
    }  # fmt: skip
    clean = {k: None if isinstance(v, float) and math.isnan(v) else v for k, v in numbers.items()}
    return {**facts, **clean, "better": line.better}


def _grid(dataset: str, lines: list[Line], count: int) -> Grid:
    tests = ", ".join(dict.fromkeys(line.difference.test for line in lines if line.difference.test))
    layout = _layout(list(dict.fromkeys(map(_names, lines))), lines[0].runs)
    several = bool(layout.heading)
    corrected = _CORRECTED.format(count) if count > 1 else ""
    kinds = Counter(label for label, _ in {(line.label, line.params) for line in lines})
    shared = {label for label, n in kinds.items() if n > 1}
    notes = f" †: {DAGGER}" if any(any(line.reconstructions) for line in lines) else ""
    notes += _UNBEATEN if any(any(line.unbeaten) for line in lines) else ""
    return Grid(
        "compare", dataset, f"{layout.title} on {dataset_title(dataset)}",
        (*filter(None, [layout.heading]), *_HEADINGS),
        tuple(
            (*((layout.row.format(*_names(line)),) if several else ()), _measure(line, shared), *_cells(line))
            for line in lines
        ),
        _CAPTION.format(sides=layout.sides, corrected=corrected, tests=tests or "none") + notes,
        frozenset(i + several for i in (1, 2, 3, 5, 8, 9)),
        spare={_HEADINGS.index(name) + several: text for name, text in _SPARE.items()},
        best=frozenset((r, 6 + several) for r, line in enumerate(lines) if _tells(line)),
    )  # fmt: skip


class _Layout(NamedTuple):
    """How pairs of models are named: in the title, in the caption, in a column of their own and its rows."""

    title: str
    sides: str
    heading: str = ""
    row: str = "{1}"


def _layout(pairs: list[tuple[str, str]], runs: tuple[str, str]) -> _Layout:
    """Of two runs with the names of these."""
    one, other = runs if runs[0] != runs[1] else ("", "")
    of_one, of_other = (f" ({run})" * bool(run) for run in (one, other))
    if len(pairs) == 1:
        ((a, b),) = pairs
        a, b = a + of_one, b + of_other
        return _Layout(f"{b} against {a}", f"A: {a}. B: {b}.")
    if len({a for a, _ in pairs}) == 1:
        base = pairs[0][0] + of_one
        others = f" B: of {other}." * bool(other)
        return _Layout(f"All against {base}", f"A: {base}.{others}", "Model B")
    if all(a == b for a, b in pairs):
        return _Layout("Models of one name in two runs", f"A: of {one}. B: of {other}.", "Model B")
    return _Layout(
        "Neighbours in a predicted order",
        "A is predicted to be worse than B.",
        "A < B",
        "{0} < {1}",
    )


def _names(line: Line) -> tuple[str, str]:
    """A and B, reconstructions with their dagger."""
    one, other = line.reconstructions
    return line.a + "†" * one, line.b + "†" * other


def _measure(line: Line, shared: Collection[str]) -> str:
    """The measure as the rows name it; with its settings where it shares its label with others."""
    told = settings_in_words(line.params) if line.label in shared else ""
    of_control = "(control)" * _of_control(line)
    words = [line.label, told, of_control, norm_sign(line.threat), arrow(line.direction)]
    return " ".join(filter(None, words))


def _cells(line: Line) -> tuple[str, ...]:
    d = line.difference
    if math.isnan(d.value):
        return (*("–",) * 5, "", "–", str(d.n), "–")
    scale, spec = _format(line)
    show = lambda value: signless(format(scale * value, spec))  # noqa: E731
    higher, lower = (d.lower, d.higher) if line.direction == "lower" else (d.higher, d.lower)
    better = line.better or ("n.s." if line.direction else "")
    one, other = (NO_MORE * bool(controls) for controls in line.unbeaten)
    return (
        show(d.baseline) + one, show(d.mean) + other, show(d.value), f"{show(d.low)} to {show(d.high)}",
        "<0.001" if line.p < 0.001 else f"{line.p:.3f}", better + NO_MORE * line.hollow, f"{higher} : {lower}",
        str(d.n), show(d.detectable),
    )  # fmt: skip


def _of_control(line: Line) -> bool:
    """Whether the scores are those of maps that know nothing of the models."""
    return bool(control(line.metric, line.params))


def _tells(line: Line) -> bool:
    """Whether a side is better, in more than what controls score as well."""
    return bool(line.better) and not line.hollow and not _of_control(line)


def _format(line: Line) -> tuple[float, str]:
    """Percent with a digit more than tables have, for differences are small."""
    if in_percent(line.family, line.range):
        return 100.0, ".2f"
    d = line.difference
    return number_format(pd.Series([d.mean, d.baseline]), pd.Series([d.high - d.low]))
