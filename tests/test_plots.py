"""The plots: what they draw of what the records, the samples and the epochs hold."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import to_rgb
from matplotlib.image import imread
from scipy.integrate import trapezoid

from benchmark.report import write as write_module
from benchmark.report.drawing.curves import REST
from benchmark.report.drawing.placing import place_labels
from benchmark.report.drawing.style import GREY, looks, styled
from benchmark.report.plots.attack_strength import attack_strength
from benchmark.report.plots.cost_quality import cost_quality
from benchmark.report.plots.diff_roar import diff_roar
from benchmark.report.plots.fidelity_controls import fidelity_controls
from benchmark.report.plots.fidelity_curves import fidelity_curves
from benchmark.report.plots.manifold_distances import manifold_distances
from benchmark.report.plots.tradeoff import tradeoff
from benchmark.report.plots.training_curves import training_curves
from benchmark.report.read import Run, read, tidy
from benchmark.report.write import draw, images
from benchmark.statistics.relations import pearson
from benchmark.storage.rows import Record

RADII = (0.1, 0.2, 0.4)
TRAININGS = {"standard": 0.0, **{f"pgd_at (L2 {eps})": eps for eps in RADII}}


def record(
    trainer: str, metric: str, family: str, label: str, value: float, **more: object
) -> Record:
    """One row of one seed; the interval is ± 0.02."""
    eps = TRAININGS[trainer]
    usual = {
        "dataset": "digits", "model": "mlp", "trainer": trainer, "seed": 0, "threat": "", "params": "",
        "train_threat": f"L2 {eps}" if eps else "", "measure": "score", "at": math.nan, "value": value,
        "low": value - 0.02, "high": value + 0.02, "stderr": 0.01, "n": 100, "direction": "higher",
        "range": "0..1" if family == "robustness" else "unbounded", "headline": True,
        "reconstruction": False, "key": "0", "note": "",
    }  # fmt: skip
    own = {"metric": metric, "family": family, "label": label}
    return Record(**{**usual, **own, **more})  # type: ignore[arg-type]


def rows() -> Iterator[Record]:
    """The larger the radius, the less accurate, the more robust, the better explained and the dearer."""
    for trainer, eps in TRAININGS.items():
        accurate = {"measure": "accuracy"}
        yield record(trainer, "clean_accuracy", "robustness", "Clean", 0.9 - eps, **accurate)
        attacked = {"measure": "robust_accuracy", "threat": "L2 0.5"}
        yield record(trainer, "auto_attack", "robustness", "AutoAttack", 0.2 + eps, **attacked)
        # not quite on a line
        yield record(trainer, "diff_roar", "fidelity", "DiffROAR gradient", 0.1 + eps + eps**3)
        for at in (0.1, 0.5, 0.9):
            point = {"at": at, "headline": False, "direction": "", "range": "0..1"}
            for measure, value in (("top_accuracy", 0.6 + eps), ("bottom_accuracy", 0.6 - at / 10)):
                more = {**point, "measure": measure}
                yield record(trainer, "diff_roar", "fidelity", "DiffROAR gradient", value, **more)
        distance = {"measure": "distance", "direction": "lower"}
        yield record(
            trainer,
            "reconstruction_distance",
            "manifold",
            "Manifold distance",
            0.6 - eps,
            **distance,
        )
        work = {"measure": "work", "direction": "lower", "low": math.nan, "high": math.nan}
        yield record(trainer, "cost", "cost", "Training", 1 + 20 * eps, **work)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run folder with samples and epochs."""
    folder = tmp_path_factory.mktemp("run")
    pd.DataFrame([asdict(row) for row in rows()]).to_parquet(folder / "records.parquet")
    rng = np.random.default_rng(0)
    samples, epochs, trainings = [], [], []
    for trainer, eps in TRAININGS.items():
        who = {"dataset": "digits", "model": "mlp", "trainer": trainer, "seed": 0}
        for measure, middle in (("distance", 0.6 - eps), ("clean_distance", 0.2)):
            facts = {**who, "metric": "reconstruction_distance", "params": "", "measure": measure,
                     "threat": "", "refit": 0, "at": math.nan, "label": 0}  # fmt: skip
            values = {"image": np.arange(50), "value": rng.normal(middle, 0.05, 50)}
            samples.append(pd.DataFrame({**facts, **values}))
        epochs += [{**who, "epoch": e, "loss": 1 / (e + 1), "validation": e / 10} for e in range(5)]
        trainings.append({**who, "kept": 3, "loss": 0.25, "validation": 0.3})
    pd.concat(samples).to_parquet(folder / "samples.parquet")
    pd.DataFrame(epochs).to_csv(folder / "epochs.csv", index=False)
    pd.DataFrame(trainings).to_csv(folder / "trainings.csv", index=False)
    return read(folder)


@pytest.fixture(autouse=True)
def look() -> Iterator[None]:
    """The style of every plot."""
    with styled():
        yield


def points(axis: Axes) -> list[tuple[float, float]]:
    """The markers of an axis that stand alone or in a row without a line."""
    found = [line for line in axis.lines if line.get_linestyle() == "None"]
    return [(float(x), float(y)) for line in found for x, y in zip(*line.get_data(), strict=True)]


def test_strength_is_the_radius_relative_to_the_largest_with_standard_training_at_zero(
    run: Run,
) -> None:
    figure = attack_strength(run)["attack-strength-digits"]
    titles = [axis.get_title() for axis in figure.axes]
    assert titles == [
        *("Clean accuracy ↑", "DiffROAR gradient ↑", "Manifold distance ↓", "AutoAttack ℓ₂ 0.5 ↑"),
    ]
    expected = {eps / 0.4: 0.1 + eps + eps**3 for eps in TRAININGS.values()}
    assert dict(points(figure.axes[1])) == pytest.approx(expected)
    told = figure.axes[1].texts[0].get_text()
    r = pearson(list(expected), list(expected.values()))
    assert told.startswith(f"r {r.value:.2f} [{r.low:.2f}, {r.high:.2f}]   ρ 1.00")
    (name,) = [text.get_text() for text in figure.legends[0].get_texts()]
    assert name == "pgd_at (ℓ₂), up to 0.4"


def test_a_run_of_other_families_alone_has_a_figure(run: Run) -> None:
    own = run.records.assign(family="stability")
    figure = attack_strength(Run(own[own["metric"] == "diff_roar"]))["attack-strength-digits"]
    assert [axis.get_title() for axis in figure.axes] == ["DiffROAR gradient ↑"]
    accurate = own["metric"].eq("clean_accuracy")
    both = Run(own[own["metric"].eq("diff_roar") | accurate])
    titles = [axis.get_title() for axis in attack_strength(both)["attack-strength-digits"].axes]
    assert titles == ["Clean accuracy ↑", "DiffROAR gradient ↑"]


def test_the_series_of_two_architectures_are_both_drawn(run: Run) -> None:
    two = pd.concat([run.records, run.records.assign(model="small_cnn")])
    figure = attack_strength(Run(two))["attack-strength-digits"]
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert names == ["pgd_at (ℓ₂), mlp, up to 0.4", "pgd_at (ℓ₂), small_cnn, up to 0.4"]
    assert len(points(figure.axes[0])) == 2 * len(TRAININGS)


def test_two_radii_are_no_series(run: Run) -> None:
    few = run.records[run.records["trainer"] != "pgd_at (L2 0.4)"]
    assert attack_strength(Run(few)) == {}


def test_diff_roar_is_top_minus_bottom(run: Run) -> None:
    figure = diff_roar(run)["diff-roar-digits"]
    (axis,) = figure.axes
    curve = axis.lines[1]  # after the line at 0
    assert np.asarray(curve.get_ydata(), float) == pytest.approx([0.01, 0.05, 0.09])


def test_densities_peak_where_the_images_are(run: Run) -> None:
    figure = manifold_distances(run)["manifold-distances-digits"]
    (axis,) = figure.axes
    curves = [line for line in axis.lines if line.get_linestyle() != "None"]
    assert len(curves) == len(TRAININGS)
    peaks = [float(line.get_xdata()[np.argmax(line.get_ydata())]) for line in curves]  # type: ignore[index]
    assert peaks == pytest.approx([0.6 - eps for eps in TRAININGS.values()], abs=0.04)
    area = [trapezoid(line.get_ydata(), line.get_xdata()) for line in curves]
    assert area == pytest.approx([1.0] * len(curves), abs=0.02)


def test_training_curves_ring_the_kept_epoch(run: Run) -> None:
    loss, validation = training_curves(run)["training-curves-digits"].axes
    assert list(loss.lines[0].get_xdata()) == [1, 2, 3, 4, 5]
    rings = [line for line in validation.lines if line.get_linestyle() == "None"]
    assert [(float(r.get_xdata()[0]), float(r.get_ydata()[0])) for r in rings] == [(4, 0.3)] * 4  # type: ignore[index]


def test_what_costs_least_is_on_the_front(run: Run) -> None:
    figure = cost_quality(run)["cost-quality-digits"]
    robust = figure.axes[0]
    assert robust.get_xscale() == "log"
    (front,) = [line for line in robust.lines if line.get_color() == "#7d7d7d"]
    # the dearer the better: all four are corners
    corners = set(zip(*map(tuple, front.get_data()), strict=True))
    assert {(round(1 + 20 * e, 6), round(0.2 + e, 6)) for e in TRAININGS.values()} <= {
        (round(float(x), 6), round(float(y), 6)) for x, y in corners
    }


@pytest.mark.parametrize("works", [(7.9, 9.2), (12, 15), (150, 400), (1.7,), (1, 9)])
def test_what_trainings_cost_can_be_read_from_the_axis(run: Run, works: tuple[float, ...]) -> None:
    names = list(TRAININGS)[: len(works)]
    records = run.records[run.records["trainer"].isin(names)]
    work = records["trainer"].map(dict(zip(names, works, strict=True)))
    found = cost_quality(
        Run(records.assign(value=work.where(records["metric"] == "cost", records["value"])))
    )
    axis = found["cost-quality-digits"].axes[0]
    low, high = axis.get_xlim()
    assert sum(low <= tick <= high for tick in axis.get_xticks()) > 1


def test_the_front_leaves_out_what_is_beaten(run: Run) -> None:
    beaten = run.records["trainer"] == "pgd_at (L2 0.2)"
    scores = beaten & run.records["headline"] & (run.records["metric"] == "diff_roar")
    worse = run.records.assign(value=run.records["value"].where(~scores, -1.0))
    figure = tradeoff(Run(worse))["tradeoff-digits"]
    (front,) = [line for line in figure.axes[1].lines if line.get_color() == "#7d7d7d"]
    # more radius is more robust and better explained: only the largest is not beaten
    assert {round(float(x), 6) for x in front.get_xdata()[1:]} == {0.6}  # type: ignore[index]


def test_every_plot_is_drawn_with_a_sentence_that_says_what_it_is(run: Run) -> None:
    drawn = draw(run)
    assert {d.stem for d in drawn} == {
        *("attack-strength-digits", "cost-quality-digits", "diff-roar-digits"),
        *("manifold-distances-digits", "tradeoff-digits", "training-curves-digits"),
    }
    assert all(d.title.endswith(".") and d.dataset == "digits" for d in drawn)
    assert not any(d.failure for d in drawn)
    assert all(set(d.files) == {"pdf", "png"} for d in drawn)
    assert mpl.rcParams["text.parse_math"] is False


def test_a_plot_that_fails_is_named_and_takes_nothing_with_it(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(run: Run) -> dict[str, mpl.figure.Figure]:
        """A plot."""
        raise ZeroDivisionError("no <panels>")

    monkeypatch.setattr(write_module, "plots", lambda: [broken, diff_roar])
    run.records.to_parquet(tmp_path / "records.parquet")
    told: list[str] = []
    names = {path.name for path in write_module.write(tmp_path, tell=told.append)}
    assert {"diff-roar-digits.pdf", "table-digits.tex"} <= names
    (line,) = told
    assert line.startswith(
        "The plot broken of digits could not be drawn: ZeroDivisionError: no <panels> (write.py, line "
    )
    report = tmp_path / "report"
    safe = line.replace("<", "&lt;").replace(">", "&gt;")
    assert safe in (report / "report.md").read_text()
    assert safe in (report / "index.html").read_text()


def test_files_of_an_earlier_version_are_no_trouble(run: Run) -> None:
    bare = Run(run.records, folder=Path("nowhere"))
    assert (training_curves(bare), manifold_distances(bare)) == ({}, {})


def test_a_name_stands_nearer_to_its_own_point_than_to_another() -> None:
    figure = mpl.figure.Figure(figsize=(3, 3))
    axis = figure.subplots()
    axis.set(xlim=(0, 1), ylim=(0, 1))
    at = {"one": (0.5, 0.5), "two": (0.5, 0.6)}
    assert place_labels(axis, [(x, y, name, "#000000") for name, (x, y) in at.items()], [])
    for text in axis.texts:
        box = text.get_window_extent()
        middle = np.array([(box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2])
        far = {
            name: float(np.hypot(*(axis.transData.transform(point) - middle)))
            for name, point in at.items()
        }
        assert min(far, key=lambda name: far[name]) == text.get_text()


def test_a_name_that_stands_apart_is_led_to_its_point_and_small_points_stay_free() -> None:
    figure = mpl.figure.Figure(figsize=(3, 3))
    axis = figure.subplots()
    axis.set(xlim=(0, 1), ylim=(0, 1))
    near = [(0.5, 0.5 + 0.03 * i) for i in range(3)]
    assert place_labels(axis, [(x, y, "a name", "#000000") for x, y in near], [])
    assert any(text.arrow_patch for text in axis.texts)
    axis.clear()
    axis.set(xlim=(0, 1), ylim=(0, 1))
    free = lambda: axis.texts[-1].get_window_extent()  # noqa: E731
    place_labels(axis, [(0.5, 0.5, "alone", "#000000")], [])
    middle = axis.transData.inverted().transform(free().get_points().mean(axis=0))
    place_labels(axis, [(0.5, 0.5, "alone", "#000000")], [], [tuple(middle)])
    assert not free().contains(*axis.transData.transform(middle))
    assert axis.texts[0].arrow_patch is None


def crowd(count: int, name: str = "method") -> Run:
    """So many models with curves of two points; the later, the higher; edges below and blurred maps above them."""
    rows = []
    for i in range(count):
        level = i / count
        facts = {"trainer": f"{name} {i}", "train_threat": ""}
        usual = record("standard", "roar", "fidelity", "ROAR gradient", level)
        rows.append({**asdict(usual), **facts})
        beside = {"edge_score": -0.5, "blurred_score": level + 0.1}
        beside |= {"random_score": 0.0, "random_accuracy": 0.5}
        for measure, value in {"accuracy": level, "edge_accuracy": 0.4, **beside}.items():
            for at in (0.2, 0.6) if measure.endswith("accuracy") else (math.nan,):
                more = {
                    "measure": measure,
                    "value": value,
                    "at": at,
                    "headline": False,
                    "direction": "",
                }
                rows.append({**asdict(usual), **facts, **more})
    return Run(tidy(pd.DataFrame(rows)))


def test_of_many_curves_the_highest_and_the_lowest_have_names() -> None:
    figure = fidelity_curves(crowd(20))["fidelity-curves-digits"]
    (names,) = [[text.get_text() for text in one.get_texts()] for one in figure.legends]
    ends = [f"method {i}" for i in (0, 1, 2, 3, 16, 17, 18, 19)]
    assert names == [*ends, "12 others", "random control", "edge control"]
    (axis,) = figure.axes
    rest = [line for line in axis.lines if line.get_color() == REST["color"]]
    assert len(rest) == 12
    assert {float(line.get_ydata()[0]) for line in rest} == {i / 20 for i in range(4, 16)}  # type: ignore[index]
    few = fidelity_curves(crowd(12))["fidelity-curves-digits"]
    assert len(few.legends[0].get_texts()) == 14


def test_a_single_level_is_no_curve_its_intervals_are_bars_and_its_controls_lines() -> None:
    run = crowd(3)
    figure = fidelity_curves(Run(run.records[run.records["at"] != 0.6]))["fidelity-curves-digits"]
    (axis,) = figure.axes
    assert list(axis.get_xticks()) == [0.2]
    low, high = axis.get_xlim()
    grey = [line for line in axis.lines if line.get_color() == GREY]
    assert [list(line.get_xdata()) for line in grey] == [[low, high]] * 2
    spots = [float(line.get_xdata()[0]) for line in axis.lines if line.get_color() != GREY]  # type: ignore[index]
    assert len(set(spots)) == 3
    bars = [c for c in axis.collections if isinstance(c, LineCollection)]
    assert len(bars) == 3
    assert figure.legends[0].get_title().get_text().startswith("bars")


def test_a_metric_of_one_level_lacks_a_control_that_another_has() -> None:
    roar = crowd(3).records
    roar = roar[roar["at"] != 0.6]
    kar = roar[~roar["measure"].str.startswith("edge")].assign(metric="kar", label="KAR gradient")
    figure = fidelity_curves(Run(pd.concat([roar, kar])))["fidelity-curves-digits"]
    grey = [
        sum(line.get_color() == GREY for line in axis.lines)
        for axis in sorted(figure.axes, key=lambda axis: axis.get_title())
    ]
    assert grey == [1, 2]


def test_controls_are_grey_and_told_apart_without_colour() -> None:
    figure = fidelity_curves(crowd(3))["fidelity-curves-digits"]
    grey = [line for line in figure.axes[0].lines if line.get_color() == GREY]
    heights = [float(line.get_ydata()[0]) for line in grey]  # type: ignore[index]
    assert heights == pytest.approx([0.5, 0.4])
    assert len({str(line._dash_pattern) for line in grey}) == 2  # type: ignore[attr-defined]


def test_scores_stand_beside_their_controls() -> None:
    figure = fidelity_controls(crowd(3))["fidelity-controls-digits"]
    (axis,) = figure.axes
    assert axis.get_title() == "ROAR gradient ↑"
    grey = [line for line in axis.lines if line.get_color() == GREY]
    assert [float(line.get_xdata()[0]) for line in grey] == [0.0, -0.5]  # type: ignore[index]
    hollow = [line for line in axis.lines if line.get_markerfacecolor() == "white"]
    assert np.asarray(hollow[0].get_xdata()) == pytest.approx([0.1, 0.1 + 1 / 3, 0.1 + 2 / 3])
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert names == ["random maps", "edges", "the model's maps, blurred"]


def test_controls_of_a_model_whose_own_maps_failed_are_no_trouble() -> None:
    records = crowd(3).records
    failed = records["trainer"].eq("method 1") & records["measure"].eq("score")
    records.loc[failed, ["value", "low", "high"]] = math.nan
    (axis,) = fidelity_controls(Run(records))["fidelity-controls-digits"].axes
    assert [text.get_text() for text in axis.get_yticklabels()] == ["method 0", "method 2"]
    hollow = [line for line in axis.lines if line.get_markerfacecolor() == "white"]
    assert np.asarray(hollow[0].get_xdata()) == pytest.approx([0.1, 0.1 + 2 / 3])


def test_a_control_that_is_a_line_here_and_a_marker_there_has_one_entry_in_the_legend() -> None:
    one = crowd(3)
    varied = one.records.assign(metric="kar", label="KAR gradient")
    edges = varied["measure"] == "edge_score"
    varied.loc[edges, "value"] = [-0.5, -0.4, -0.3]
    both = replace(one, records=pd.concat([one.records, varied]))
    (figure,) = fidelity_controls(both).values()
    (legend,) = figure.legends
    names = [text.get_text() for text in legend.get_texts()]
    assert names == ["random maps", "edges", "the model's maps, blurred"]
    shown = [(line.get_linestyle(), line.get_marker()) for line in legend.get_lines()]
    assert shown == [("--", "None"), ("--", "s"), ("None", "D")]


def test_names_beside_a_plot_are_not_cut() -> None:
    (figure,) = fidelity_controls(crowd(3, "fgsm.pth@small_cnn")).values()
    picture = imread(io.BytesIO(images(figure)["png"]))
    assert (picture[:, 0, :3] == 1).all()
    assert (picture[:, 0, :3] == picture[:, -1, :3]).all()


def test_looks_differ_in_print_without_colour_and_their_ink_can_be_read() -> None:
    many = looks(f"model {i}" for i in range(77)).values()
    assert len({(one.color, one.marker) for one in many}) == 77
    assert len({(one.marker, one.line) for one in list(many)[:11]}) == 11
    for one in many:
        linear = [
            part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4
            for part in to_rgb(one.ink)
        ]
        assert 1.05 / (np.dot(linear, [0.2126, 0.7152, 0.0722]) + 0.05) > 4.5, one.ink


def test_a_measure_that_few_models_tell_from_noise_is_marked_over_its_panel(run: Run) -> None:
    noise = run.records[run.records["metric"].eq("diff_roar") & run.records["at"].isna()]
    noise = noise.assign(measure="random_score", headline=False, direction="", value=9.0)
    figure = attack_strength(Run(pd.concat([run.records, noise])))["attack-strength-digits"]
    titles = [axis.get_title() for axis in figure.axes]
    assert titles[1] == "DiffROAR gradient ↑ ‡"
    assert not any("‡" in title for title in (titles[0], *titles[2:]))
    assert "‡: fewer than half" in figure.legends[0].get_title().get_text()
