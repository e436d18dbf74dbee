"""The trade-off: which measure stands for interpretability, and what the plot says of scores that beat no control."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

from benchmark.report.drawing.style import styled
from benchmark.report.interpretability import standing
from benchmark.report.plots.tradeoff import tradeoff
from benchmark.report.quantities import interpretability, robust_accuracy
from benchmark.report.read import COLUMNS, Run, tidy
from benchmark.report.series import named
from benchmark.report.tables.table import table

MODELS = ("standard", "pgd_at (Linf 0.1)", "sagr")
FRONT = "#7d7d7d"


@pytest.fixture(autouse=True)
def look() -> Iterator[None]:
    """The style of every plot."""
    with styled():
        yield


def measure(
    metric: str,
    family: str,
    values: Sequence[float],
    models: Sequence[str] = MODELS,
    **more: object,
) -> Iterator[dict[str, object]]:
    """A measure of these models, ± 0.02, and its controls, `edge=[...]` of every model."""
    controls = {name: more.pop(name) for name in ("edge", "blurred") if name in more}
    for name, own in {"score": values, **controls}.items():
        headline = name == "score"
        for model, value in zip(models, own, strict=True):  # type: ignore[call-overload]
            yield {
                **dict.fromkeys(COLUMNS, ""), "dataset": "digits", "model": "mlp", "trainer": model, "seed": 0,
                "metric": metric, "family": family, "label": metric.upper(), "at": math.nan, "value": value,
                "measure": name if headline else f"{name}_score", "low": value - 0.02, "high": value + 0.02,
                "stderr": 0.01, "n": 100, "range": "unbounded", "direction": "higher" if headline else "",
                "headline": headline, "reconstruction": model == "sagr", **more,
            }  # fmt: skip


def run_of(*measures: Iterator[dict[str, object]]) -> Run:
    return Run(tidy(pd.DataFrame([row for own in measures for row in own])))


def accuracies(models: Sequence[str] = MODELS) -> Iterator[dict[str, object]]:
    values = np.linspace(0.95, 0.75, len(models))
    return measure("clean_accuracy", "robustness", values, models, measure="accuracy", range="0..1")  # type: ignore[arg-type]


FIRST = ("roar", "fidelity", (0.5, 0.1, 0.1))
SECOND = ("diff_roar", "fidelity", (0.1, 0.5, 0.6))
BAR: Mapping[str, Sequence[float]] = {"edge": (0.2, 0.2, 0.2), "blurred": (0.1, 0.2, 0.3)}


def test_the_first_measure_on_which_half_of_the_models_beat_their_controls_stands_for_them() -> (
    None
):
    run = run_of(
        measure("gini", "sharpness", (1, 2, 3)),
        measure(*FIRST, **BAR),
        measure("tangent", "manifold", (1, 2, 3)),
        measure(*SECOND, **BAR),
    )
    made = table(run, "all", ("*",))
    found = standing(made)
    assert found is not None
    assert made.columns[found.place].label == "DIFF_ROAR"
    assert found.passed == ("ROAR",)
    assert found.unbeaten == {"standard"}
    assert found.controls == {"edge": (0.2, 0.2), "blurred": (0.1, 0.3)}
    chosen = interpretability(run)
    assert chosen is not None
    assert chosen.title == "DIFF_ROAR (↑ better)"
    assert chosen.notes == ("passed over, as most models do not beat their controls: ROAR",)


def test_what_no_control_judges_comes_before_what_beats_none_and_says_so() -> None:
    run = run_of(measure(*FIRST, **BAR), measure("tangent", "manifold", (1, 2, 3)))
    chosen = interpretability(run)
    assert chosen is not None
    assert chosen.title.startswith("TANGENT")
    passed, alone = chosen.notes
    assert passed.endswith(": ROAR")
    assert alone == "measured beside no control: TANGENT"
    many = [measure(f"m{i}", "fidelity", FIRST[2], **BAR) for i in range(5)]
    told = interpretability(run_of(*many, measure("tangent", "manifold", (1, 2, 3))))
    assert told is not None
    assert told.notes[0].endswith("M0, M1, M2 and 2 more")


def test_where_nothing_tells_the_first_is_shown_hollow_and_without_a_front() -> None:
    run = run_of(accuracies(), measure("roar", "fidelity", (0.0, 0.1, 0.1), **BAR))
    chosen = interpretability(run)
    assert chosen is not None
    assert chosen.notes == ()
    assert chosen.unbeaten == {"standard", "pgd_at (Linf 0.1)", "sagr†"}
    (axis,) = tradeoff(run)["tradeoff-digits"].axes
    assert not [line for line in axis.lines if line.get_color() == FRONT]


def test_what_does_not_beat_its_controls_is_hollow_and_no_corner_of_the_front() -> None:
    # standard is the most accurate and explains most, but less than edges do beside it
    run = run_of(accuracies(), measure("roar", "fidelity", (0.7, 0.5, 0.6), edge=(0.8, 0.2, 0.2)))
    figure = tradeoff(run)["tradeoff-digits"]
    (axis,) = figure.axes
    points = [
        line for line in axis.lines if line.get_markersize() > 5 and line.get_linestyle() == "None"
    ]
    hollow = {float(p.get_ydata()[0]): p.get_markerfacecolor() == "white" for p in points}  # type: ignore[index]
    assert hollow == {0.7: True, 0.5: False, 0.6: False}
    (front,) = [line for line in axis.lines if line.get_color() == FRONT]
    assert set(np.round(np.asarray(front.get_ydata(), float), 6)[:-1]) == {0.5, 0.6}
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert names == ["not seen to beat its controls ‡", "control: edge (range)"]
    low, high = axis.get_ylim()
    assert low < 0.2 < 0.8 < high


@pytest.mark.parametrize("margin_last", [True, False])
def test_the_strongest_of_two_settings_with_one_label_is_the_robust_accuracy(
    margin_last: bool,
) -> None:
    """Whatever stands last."""
    facts = {"threat": "Linf 0.1", "range": "0..1", "measure": "robust_accuracy"}
    settings = [
        measure("pgd", "robustness", [0.5, 0.6, 0.5], **facts),
        measure("pgd", "robustness", [0.2, 0.3, 0.1], params='{"loss": "margin"}', **facts),
    ]
    found = robust_accuracy(named(run_of(*settings[:: 1 if margin_last else -1]).records))
    assert found is not None
    assert sorted(found.records["value"]) == [0.1, 0.2, 0.3]
    assert found.title == "robust accuracy (PGD loss=margin, ℓ∞ 0.1)"


def test_a_control_of_one_score_is_a_line() -> None:
    run = run_of(accuracies(), measure("roar", "fidelity", (0.7, 0.5, 0.6), edge=(0.2,) * 3))
    figure = tradeoff(run)["tradeoff-digits"]
    flat = [line for line in figure.axes[0].lines if list(line.get_xdata()) == [0, 1]]
    assert [list(line.get_ydata()) for line in flat] == [[0.2, 0.2]]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["control: edge"]


def crowded(count: int) -> Run:
    rng = np.random.default_rng(count)
    models = [f"interpretation_regularisation (Linf 0.1, beta={i})" for i in range(count)]
    values = rng.random(count)
    seeds = [
        measure(
            *(metric, family, np.clip(values * slope + rng.normal(0, 0.05, count), 0, 1), models),  # type: ignore[arg-type]
            seed=seed, edge=[0.3] * count, blurred=list(values / 2),
        )
        for seed in range(3)
        for metric, family, slope in (("roar", "fidelity", 1.0), ("clean_accuracy", "robustness", 0.9))
    ]  # fmt: skip
    return run_of(*seeds)


def texts(figure: Figure) -> list[Text]:
    """All that is written into a drawn figure, ticks and axes' names left out."""
    shown = [text for axis in figure.axes for text in axis.texts]
    for legend in figure.legends:
        shown += [*legend.get_texts(), legend.get_title()]
    return [*shown, *(axis.xaxis.label for axis in figure.axes)]


@pytest.mark.parametrize("count", [3, 8, 12, 14, 40])
def test_nothing_that_is_written_overlaps(count: int) -> None:
    (figure,) = tradeoff(crowded(count)).values()
    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw_without_rendering()
    # of the words alone, without the line that leads to a point
    boxes = {text.get_text(): Text.get_window_extent(text, renderer) for text in texts(figure)}
    assert sum("interpretation" in name for name in boxes) == count
    for (one, a), (other, b) in combinations(boxes.items(), 2):
        assert not a.overlaps(b), (one, other)
