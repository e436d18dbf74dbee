"""Series of one training over radii, and their correlations beside the published ones."""

from dataclasses import asdict

import pandas as pd
import pytest
from scipy import stats

from benchmark.report import published
from benchmark.report.read import Run
from benchmark.report.trends import grids, trends
from benchmark.storage.rows import Record

STRENGTHS = (0.0, 0.2, 0.4, 0.6, 0.8)
SCORES = (0.01, 0.03, 0.02, 0.05, 0.07)
ACCURACIES = (0.9, 0.85, 0.86, 0.7, 0.6)


def row(trainer, threat, metric, value, seed=0, params="", dataset="cifar10"):
    return asdict(
        Record(
            dataset=dataset, model="cnn", trainer=trainer, train_threat=threat, seed=seed, threat="",
            metric=metric, family="fidelity", label=metric.upper(), params=params, measure="score",
            at=float("nan"), value=value, low=value - 0.1, high=value + 0.1, stderr=0.05, n=100,
            direction="higher", range="-1..1", headline=True, reconstruction=False, key="k", note="",
        )
    )  # fmt: skip


def records(label="pgd_at ({}, steps=10)", dataset="cifar10", seeds=(0,)):
    rows = []
    for seed in seeds:
        for eps, score, accuracy in zip(STRENGTHS, SCORES, ACCURACIES, strict=True):
            threat = f"L2 {eps}" if eps else ""
            trainer = label.format(threat) if eps else "standard"
            shift = 0.01 * (seed - sum(seeds) / len(seeds))
            rows.append(row(trainer, threat, "roar", score + shift, seed, dataset=dataset))
            rows.append(
                row(trainer, threat, "clean_accuracy", accuracy, seed, dataset=dataset)
                | {"family": "robustness", "range": "0..1"}
            )
    rows.append(row("trades (L2 0.2)", "L2 0.2", "roar", 0.5, dataset=dataset))
    return pd.DataFrame(rows)


@pytest.mark.parametrize("seeds", [(0,), (0, 1, 2)])
def test_a_series_is_one_training_over_its_radii_with_standard_as_zero(seeds):
    (trend,) = trends(records(seeds=seeds))
    assert (trend.series, trend.norm, trend.label) == ("pgd_at (L2, steps=10)", "L2", "ROAR")
    assert tuple(trend.models["strength"]) == STRENGTHS
    assert tuple(trend.models["value"]) == pytest.approx(SCORES)
    assert tuple(trend.models["accuracy"]) == pytest.approx(ACCURACIES)


def test_the_series_of_a_reconstruction_has_its_dagger():
    found = records()
    found["reconstruction"] = found["trainer"].str.startswith("pgd_at")
    (trend,) = trends(found)
    assert trend.series == "pgd_at (L2, steps=10)†"
    (grid,) = grids(Run(found))
    assert "†: reconstruction" in grid.caption


def test_correlations_are_scipys():
    (trend,) = trends(records())
    found = trend.correlations()
    for other, values in (("strength", STRENGTHS), ("accuracy", ACCURACIES)):
        linear, rank = found[other]
        assert linear.value == pytest.approx(stats.pearsonr(values, SCORES).statistic)
        assert rank.value == pytest.approx(stats.spearmanr(values, SCORES).statistic)
        assert linear.low < linear.value < linear.high


def test_controls_have_no_trends():
    found = records()
    maps = [found[found["metric"] == "roar"].assign(metric="road", params=given, label=given)
            for given in ("", '{"attribution": "random"}', '{"attribution": "blurred_gradient"}')]  # fmt: skip
    assert [trend.metric for trend in trends(pd.concat([found, *maps]))] == ["roar", "road"]


def test_what_training_costs_has_no_trend():
    found = records()
    cost = found[found["metric"] == "roar"].assign(metric="cost", family="cost", label="Training")
    assert [trend.label for trend in trends(pd.concat([found, cost]))] == ["ROAR"]


def test_two_radii_are_no_series():
    few = records()
    assert not trends(few[few["train_threat"].isin(["", "L2 0.2", "L2 0.4"])])


def test_three_radii_are_one_with_standard_training_and_without():
    whole = records()
    three = whole[whole["train_threat"].isin(["L2 0.2", "L2 0.4", "L2 0.6"])]
    assert [len(trend.models) for trend in trends(three)] == [3]


def test_cells_that_failed_are_no_models_of_a_series():
    found = records()
    gone = found["metric"].eq("roar") & found["train_threat"].isin(["L2 0.2"])
    found.loc[gone, "value"] = float("nan")
    (trend,) = trends(found)
    assert tuple(trend.models["strength"]) == (0.0, 0.4, 0.6, 0.8)
    (grid,) = grids(Run(found))
    assert grid.rows[0][2] == "4"
    gone = found["metric"].eq("roar") & found["train_threat"].isin(["L2 0.2", "L2 0.4"])
    found.loc[gone, "value"] = float("nan")
    assert not trends(found), "two radii are left"


def test_two_architectures_are_two_series():
    found = pd.concat([records(), records().assign(model="mlp")])
    names = ["pgd_at (L2, steps=10), cnn", "pgd_at (L2, steps=10), mlp"]
    assert [trend.series for trend in trends(found)] == names
    assert [tuple(trend.models["strength"]) for trend in trends(found)] == [STRENGTHS] * 2


def test_settings_that_share_a_label_are_told_apart():
    found = records()
    margin = found[found["metric"] == "roar"].assign(
        params='{"loss": "margin", "percents": [30, 70]}', value=lambda rows: -rows["value"]
    )
    plain, other = trends(pd.concat([found, margin]))
    assert (plain.label, other.label) == ("ROAR", "ROAR loss=margin, percents=30/70")
    assert tuple(other.models["value"]) == pytest.approx([-score for score in SCORES])


@pytest.mark.parametrize(
    ("label", "stated"), [("pgd_at ({})", "0.95"), ("pgd_at ({}, loss=margin)", "0.96")]
)
def test_the_papers_figures_stand_beside_its_suites_own(label, stated):
    (grid,) = grids(Run(records(label), {"suite": "kim2019-small"}))
    ((_, measure, models, _, pearson, _, _, _, accuracy, *_),) = grid.rows
    assert (measure, models, pearson, accuracy) == ("ROAR", "5", stated, "-0.97")
    assert grid.headings.count("published") == 4


def test_the_papers_scores_stand_beside_those_of_standard_training_and_the_strongest():
    """Of the gradient under L2, cross-entropy: .0190 and .0662; radii between have no row."""
    (grid,) = published.grids(Run(records(), {"suite": "kim2019-small"}))
    source = "Kim, Seo & Jeon 2019"
    assert grid.rows == (
        ("standard", "ROAR", "0.0190", "0.0100 (-0.0900 to 0.1100)", "100", source),
        (
            "pgd_at (ℓ₂ 0.8, steps=10)",
            "ROAR",
            "0.0662",
            "0.0700 (-0.0300 to 0.1700)",
            "100",
            source,
        ),
    )
    assert "read off the figures" in grid.caption
    smaller = records().loc[lambda rows: rows["train_threat"] != "L2 0.8"]
    (grid,) = published.grids(Run(smaller, {"suite": "kim2019"}))
    assert [row[0] for row in grid.rows] == ["standard"], "of another radius the paper says nothing"


@pytest.mark.parametrize(("suite", "dataset"), [("mine", "cifar10"), ("kim2019-small", "mnist")])
def test_other_runs_have_no_published_figures(suite, dataset):
    run = Run(records(dataset=dataset), {"suite": suite})
    (grid,) = grids(run)
    assert len(grid.rows) == 1
    assert "published" not in grid.headings
    assert not published.grids(run)


def test_a_run_without_a_series_has_no_such_table():
    assert not grids(Run(records().iloc[:2], {"suite": "quick"}))
    assert not trends(records().assign(headline=False))


def test_how_many_models_of_a_series_beat_their_controls_stands_beside():
    found = records()
    noise = found[found["metric"] == "roar"].assign(
        measure="random_score", headline=False, direction=""
    )
    beaten = noise.assign(value=[0.5, 0.5, -0.5, 0.5, -0.5, 0.5])
    (grid,) = grids(Run(pd.concat([found, beaten])))
    assert dict(zip(grid.headings, grid.rows[0], strict=True))["Above controls"] == "2 of 5"
    assert "Above controls: of how many models" in grid.caption
    (plain,) = grids(Run(found))
    assert "Above controls" not in plain.headings
