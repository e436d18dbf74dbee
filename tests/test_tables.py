"""Tables: which columns they have, what is bold, and that every format says the same."""

from __future__ import annotations

import io
import json
import math
import re
import shlex
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import Result
from rich.console import Console
from typer.main import get_command
from typer.testing import CliRunner

from benchmark.cli import app
from benchmark.errors import BenchError
from benchmark.report import asked
from benchmark.report.formats.grid_tex import grid_latex
from benchmark.report.formats.grids import grid_markdown
from benchmark.report.formats.latex import document, latex, latex_document
from benchmark.report.formats.markdown import markdown
from benchmark.report.formats.terminal import terminal
from benchmark.report.formats.tidy_csv import tidy_csv
from benchmark.report.formats.tidy_json import tidy_json
from benchmark.report.grid import Grid
from benchmark.report.read import COLUMNS, ReportError, Run, read, tidy
from benchmark.report.tables.best import INTERVAL
from benchmark.report.tables.chosen import EVERYTHING, main_words
from benchmark.report.tables.columns import GRIDS, NAMES, ColumnError, check, choice
from benchmark.report.tables.sets import all_tables, tables
from benchmark.report.tables.table import Table, table
from benchmark.statistics.paired import FLIPPED, MCNEMAR, NETWORKS, difference, holm
from benchmark.suite import SuiteError
from benchmark.suite import read as read_suite

MEASURES = {
    ("clean_accuracy", ""): ("robustness", "Clean", "accuracy", "0..1"),
    ("pgd", "Linf 0.1"): ("robustness", "PGD-20", "robust_accuracy", "0..1"),
    ("pgd", "L2 1.0"): ("robustness", "PGD-20", "robust_accuracy", "0..1"),
    ("pgd", "Linf 0.05"): ("robustness", "PGD-20", "robust_accuracy", "0..1"),
    ("auto_attack", "Linf 0.1"): ("robustness", "AutoAttack", "robust_accuracy", "0..1"),
    ("roar", ""): ("fidelity", "ROAR gradient", "score", "-1..1"),
    ("infidelity", ""): ("fidelity", "Infidelity gradient", "infidelity", "0.."),
    ("etmann_alignment", ""): ("manifold", "Alignment", "alignment", "unbounded"),
    ("gini", ""): ("sharpness", "Gini gradient", "gini", "0..1"),
    ("entropy", ""): ("sharpness", "Entropy gradient", "entropy", "0..1"),
    ("mine", ""): ("own", "Mine", "mine", "unbounded"),
}
Scores = Mapping[str, Mapping[tuple[str, str], np.ndarray]]
"""Trainer -> metric and threat -> (seeds, refits, n)."""


def line(
    trainer: str, seed: int, metric: str, threat: str, value: float, **more: object
) -> dict[str, object]:
    family, label, measure, scope = MEASURES[metric, threat]
    usual = dict.fromkeys(COLUMNS, "") | {
        "dataset": "digits", "model": "mlp", "trainer": trainer, "seed": seed, "metric": metric, "threat": threat,
        "family": family, "label": label, "measure": measure, "range": scope, "direction": "higher", "at": math.nan,
        "value": value, "low": value - 0.05, "high": value + 0.05, "stderr": 0.02, "n": 300, "headline": True,
        "reconstruction": False,
    }  # fmt: skip
    return {**usual, **more}


def run_of(
    scores: Scores, folder: Path | None = None, manifest: dict[str, object] | None = None
) -> Run:
    """A run with these scores; without a folder the scores of single images are not kept."""
    rows, samples = [], []
    for trainer, own in scores.items():
        for (metric, threat), values in own.items():
            for seed, refits in enumerate(values):
                rows.append(line(trainer, seed, metric, threat, float(np.nanmean(refits))))
                for refit, each in enumerate(refits):
                    samples.append(pd.DataFrame({
                        "dataset": "digits", "model": "mlp", "trainer": trainer, "threat": threat, "metric": metric,
                        "params": "", "seed": seed, "refit": refit, "measure": rows[-1]["measure"], "at": math.nan,
                        "image": np.arange(len(each)), "label": 0, "value": each,
                    }))  # fmt: skip
    if folder:
        pd.DataFrame(rows).to_parquet(folder / "records.parquet")
        pd.concat(samples).to_parquet(folder / "samples.parquet")
        (folder / "manifest.json").write_text(json.dumps(manifest or {}))
        return read(folder)
    return Run(tidy(pd.DataFrame(rows)), manifest or {})


def everything(
    seed: int = 0, names: Sequence[str] = ("standard", "pgd_at (Linf 0.1)", "sagr")
) -> Scores:
    rng = np.random.default_rng(seed)
    return {name: {key: rng.random((2, 1, 30)) for key in MEASURES} for name in names}


def labels(made: Table) -> list[str]:
    return [f"{column.label} {column.threat}".strip() for column in made.columns]


def test_the_short_table_has_what_most_papers_show_and_what_is_ones_own() -> None:
    run = run_of(everything())
    assert labels(tables(run, "main")[0]) == [
        "Clean", "AutoAttack Linf 0.1", "ROAR gradient", "Alignment", "Gini gradient", "Mine",
    ]  # fmt: skip
    assert main_words(run.records[run.records["metric"] != "auto_attack"])[-2:] == (
        "etmann_alignment",
        "own/*",
    )
    assert "pgd" in main_words(run.records[run.records["metric"] != "auto_attack"])


def test_a_short_run_is_shown_whole() -> None:
    few = {name: dict(list(own.items())[:4]) for name, own in everything().items()}
    assert main_words(run_of(few).records) == EVERYTHING


def test_the_sets_are_by_family_and_threats_stand_together() -> None:
    run = run_of(everything())
    assert labels(tables(run, "robustness")[0]) == [
        "Clean", "PGD-20 Linf 0.05", "PGD-20 Linf 0.1", "AutoAttack Linf 0.1", "PGD-20 L2 1.0",
    ]  # fmt: skip
    assert labels(tables(run, "fidelity")[0]) == ["ROAR gradient", "Infidelity gradient"]
    assert tables(run, "cost") == []
    assert len(tables(run, "all")[0].columns) == len(MEASURES)
    assert [each.name for each in all_tables(run)] == [
        "main",
        "robustness",
        "fidelity",
        "sharpness",
    ]
    with pytest.raises(ReportError, match=r"no such table.*'robustness'"):
        tables(run, "robustnes")


OWN = {
    "paper": {
        "title": "Two things",
        "columns": ["gini", "pgd@Linf", "pgd.margin", "roar:gradient", "auto_attack@L2"],
    }
}


def test_a_suites_own_table_has_its_columns_in_its_order() -> None:
    run = run_of(everything(), manifest={"invocations": [{"definition": {"tables": OWN}}]})
    margin = [
        line(
            "standard",
            0,
            "pgd",
            "Linf 0.1",
            0.3,
            measure="margin",
            headline=False,
            range="unbounded",
        )
    ]
    run = Run(tidy(pd.concat([run.records, pd.DataFrame(margin)])), run.manifest)
    (made,) = tables(run, "paper")
    assert labels(made) == [
        "Gini gradient", "PGD-20 Linf 0.1", "PGD-20 Linf 0.05", "PGD-20 margin Linf 0.1", "ROAR gradient",
    ]  # fmt: skip
    assert made.title == "Two things on digits"
    assert made.caption.endswith("Not in this run: auto_attack@L2.")
    assert markdown(made) in map(markdown, all_tables(run))


def test_the_cost_of_a_training_that_failed_says_so() -> None:
    gini = [line(name, 0, "gini", "", 0.5) for name in ("standard", "fails", "waits")]
    gini[1] |= {"value": math.nan, "n": 0, "note": "its model failed: the loss is nan"}
    gini[2] |= {"value": math.nan, "n": 0, "note": "not computed yet"}
    theirs = {**gini[0], "model": "file:theirs.pt@mlp", "trainer": "pretrained"}
    cost = {"metric": "cost", "family": "cost", "label": "Training", "measure": "work"}
    rows = [*gini, theirs, {**gini[0], **cost, "value": 1.0}]
    (made,) = tables(Run(tidy(pd.DataFrame(rows))), "main")
    reasons = {row.name: row.cells[-1].reason for row in made.rows}
    assert reasons == {
        "standard": "",
        "fails": "its training failed",
        "waits": "not computed yet",
        "theirs.pt": "not part of this run",
    }


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("roar gradient", r"form METRIC\[\.MEASURE\]\[:SETTING\]\[@THREAT\]"),
        ("rar", "no metric 'rar' .did you mean 'roar'"),
        ("pgd.accuracy", "pgd has no measure 'accuracy'"),
        ("pgd:stps=20", "no setting 'stps' .did you mean 'steps'"),
        ("gini@Linf", "gini is measured under no threat"),
        ("pgd@Lmax", "no threat 'Lmax'; valid: Linf, L2, L1"),
        ("sharp/*", "no family 'sharp'"),
    ],
)
def test_words_that_choose_nothing_are_refused(word: str, message: str) -> None:
    with pytest.raises(ColumnError, match=message):
        check(word)


@pytest.mark.parametrize(
    "word", ["pgd", "pgd.margin:steps=20@Linf 8/255", "roar:gradient_x_input", "cost", "manifold/*"]
)
def test_words_that_can_choose_are_taken(word: str) -> None:
    check(word)


def suite(tmp_path: Path, tables: str) -> Path:
    path = tmp_path / "mine.toml"
    path.write_text(
        f'name = "mine"\n[[metric]]\nname = "clean_accuracy"\n[[metric]]\nname = "./own.py"\n{tables}'
    )
    return path


def test_a_suites_tables_are_checked_when_it_is_read(tmp_path: Path) -> None:
    good = read_suite(str(suite(tmp_path, '[tables.a]\ncolumns = ["own", "clean_accuracy"]')))
    assert good.tables["a"].columns == ["own", "clean_accuracy"]
    for content, message in {
        '[tables.a]\ncolumns = ["gini", "clen_accuracy"]': r"toml: tables\.a\.columns\[1\] = 'clen_accuracy': no",
        '[tables.main]\ncolumns = ["gini"]': r"tables\.main: the name of a usual table",
        '[tables.health]\ncolumns = ["gini"]': r"tables\.health: the name of a usual table",
        "[tables.a]\ncolumns = []": r"tables\.a\.columns",
        '[tables."表"]\ncolumns = ["gini"]': r"tables\.表 = '表': a name is of letters, digits, _ and -",
        '[tables.a]\ncolumn = ["gini"]': r"unknown key 'tables\.a\.column' \(did you mean 'columns'\?\)",
    }.items():
        with pytest.raises(SuiteError, match=message):
            read_suite(str(suite(tmp_path, content)))


def bits(share: float, n: int = 400, seed: int = 0) -> np.ndarray:
    """0/1 scores; the same images are the hard ones for every share."""
    return (np.random.default_rng(seed).random(n) < share).astype(float)


def bold(made: Table) -> list[str]:
    return [row.name for row in made.rows if row.cells[0].best]


def test_bold_is_what_the_same_images_do_not_tell_from_the_best(tmp_path: Path) -> None:
    key = ("clean_accuracy", "")
    noise = bits(0.9)
    noise[:4] = 1 - noise[:4]
    scores = {
        "best": {key: bits(0.9)[None, None]},
        "noise": {key: noise[None, None]},
        "worse": {key: bits(0.87)[None, None]},
    }
    paired, alone = tables(run_of(scores, tmp_path), "main")[0], tables(run_of(scores), "main")[0]
    assert bold(paired) == ["best", "noise"]
    assert {row.name: row.cells[0].compared for row in paired.rows if row.cells[0].compared}[
        "worse"
    ] == MCNEMAR
    assert paired.rows[2].cells[0].p < 0.05
    assert "exact McNemar tests of 0/1 scores" in paired.caption
    # the intervals alone, of 5 points, cannot tell them
    assert bold(alone) == []
    assert "all pairs" in paired.caption
    assert "all pairs" not in alone.caption


@pytest.mark.parametrize("direction", ["higher", "lower"])
def test_a_row_that_is_no_worse_on_the_common_images_is_not_passed_over(
    tmp_path: Path, direction: str
) -> None:
    """The best by its mean has no scores of the hard images, and is worse on every one that it has."""
    key, sign = ("gini", ""), 1 if direction == "higher" else -1
    hard = np.linspace(0, 1, 60)
    easy = np.where(hard > 0.5, hard - 0.05, np.nan)
    own = {"easy": easy, "whole": hard, "poor": hard - 1}
    run_of({name: {key: sign * each[None, None]} for name, each in own.items()}, tmp_path)
    records = pd.read_parquet(tmp_path / "records.parquet").assign(direction=direction)
    records.to_parquet(tmp_path / "records.parquet")
    made = tables(read(tmp_path), "main")[0]
    best, whole, _ = (row.cells[0] for row in made.rows)
    assert sign * best.mean > sign * whole.mean
    assert sign * whole.gap > 0
    assert whole.p < 0.05
    assert bold(made) == ["easy", "whole"]


def test_the_caption_names_settings_that_headings_do_not_tell() -> None:
    given = {
        ("auto_attack", "Linf 0.1"): {"queries": 1},
        ("pgd", "Linf 0.1"): {"steps": 20, "loss": "margin"},
        ("roar", ""): {"percents": [50], "controls": []},
        ("gini", ""): {},
    }
    rows = [line("a", 0, *key, 0.5, params=json.dumps(own)) for key, own in given.items()]
    made = tables(Run(tidy(pd.DataFrame(rows))), "all")[0]
    said = made.caption.partition("Settings other than the defaults: ")[2]
    assert "AutoAttack: queries=1" in said
    assert "PGD-20: steps=20, loss=margin" in said
    assert "ROAR gradient: percents=50, controls=none" in said
    assert "Gini" not in said
    usual = tables(Run(tidy(pd.DataFrame(rows).assign(params=""))), "all")[0]
    assert "other than the defaults" not in usual.caption


def test_the_caption_names_settings_of_methods_that_come_from_the_data_set() -> None:
    names = ("standard", "trades (Linf 0.1)", "mine (outer_weight=2)", "pgd_at (Linf 0.1, steps=3)")
    run = run_of(everything(names=names))
    given = {
        "standard": "", "trades (Linf 0.1)": '{"beta": 1.0}',
        "mine (outer_weight=2)": '{"outer_weight": 2, "weight": 3}',
        "pgd_at (Linf 0.1, steps=3)": '{"loss": "margin", "steps": 3}',
    }  # fmt: skip
    rows = [{"trainer": name, "settings": own} for name, own in given.items() for _ in range(2)]
    told = tables(replace(run, trainings=pd.DataFrame(rows).assign(dataset="digits")), "main")[0]
    assert (
        "The data set's own settings of methods: trades (Linf 0.1): beta=1.0; "
        "mine (outer_weight=2): weight=3; "
        "pgd_at (Linf 0.1, steps=3): loss=margin."
    ) in told.caption
    assert "own settings" not in tables(run, "main")[0].caption
    rows = [{"trainer": name, "settings": '{"random_start": false}'} for name in names]
    told = tables(replace(run, trainings=pd.DataFrame(rows).assign(dataset="digits")), "main")[0]
    assert "own settings of methods: all: random_start=False." in told.caption


def test_without_single_images_intervals_decide_and_the_caption_says_so() -> None:
    key = ("gini", "")
    made = tables(
        run_of(
            {
                name: {key: np.full((1, 1, 9), v)}
                for name, v in (("a", 0.9), ("b", 0.88), ("c", 0.7))
            }
        ),
        "main",
    )[0]
    assert bold(made) == ["a", "b"]
    assert "clearly worse (whose interval holds the best's mean)" in made.caption


def test_refits_and_seeds_are_in_the_test_and_in_the_caption_where_there_are_any(
    tmp_path: Path,
) -> None:
    rng = np.random.default_rng(0)
    refits = np.array([[[0.0], [0.2]], [[0.1], [0.0]]])
    levels = {"a": 0.5, "b": 0.47, "c": -0.9}
    apart = {
        name: {("roar", ""): v + refits + rng.normal(0, 0.01, (2, 2, 50))}
        for name, v in levels.items()
    }
    made = tables(run_of(apart, tmp_path), "main")[0]
    assert bold(made) == ["a", "b"]
    assert made.rows[1].cells[0].compared == NETWORKS
    assert "Refits: 2, their spread is not in it." in made.caption
    once = {name: {("roar", ""): own["roar", ""][:, :1]} for name, own in apart.items()}
    (tmp_path / "once").mkdir()
    made = tables(run_of(once, tmp_path / "once"), "main")[0]
    assert made.rows[1].cells[0].compared == FLIPPED
    assert "efits" not in made.caption
    apart = {name: {("roar", ""): own["roar", ""].repeat(2, axis=1)} for name, own in apart.items()}
    (tmp_path / "more").mkdir()
    made = tables(run_of(apart, tmp_path / "more"), "main")[0]
    assert "From 3 refits on their spread is in it, too." in made.caption


def beside(folder: Path | None, scores: Mapping[str, Mapping[str, np.ndarray]]) -> Table:
    """The fidelity table of ROAR with measures beside its score: trainer -> measure -> (seeds, refits, n)."""
    rows, samples = [], []
    for trainer, own in scores.items():
        for measure, values in own.items():
            head = {} if measure == "score" else {"headline": False, "direction": ""}
            measured = np.isfinite(values).any((1, 2))  # what is all NaN was not
            for seed, refits in ((i, values[i]) for i in np.flatnonzero(measured)):
                facts = {"measure": measure, **head}
                rows.append(line(trainer, seed, "roar", "", float(refits.mean()), **facts))
                samples += [
                    pd.DataFrame({
                        "dataset": "digits", "model": "mlp", "trainer": trainer, "threat": "", "metric": "roar",
                        "params": "", "seed": seed, "refit": refit, "measure": measure, "at": math.nan,
                        "image": np.arange(len(each)), "label": 0, "value": each,
                    })
                    for refit, each in enumerate(refits)
                ]  # fmt: skip
    if folder is None:
        return tables(Run(tidy(pd.DataFrame(rows))), "fidelity")[0]
    pd.DataFrame(rows).to_parquet(folder / "records.parquet")
    pd.concat(samples).to_parquet(folder / "samples.parquet")
    return tables(read(folder), "fidelity")[0]


def spread(level: float, seed: int, shape: tuple[int, ...] = (1, 1, 60)) -> np.ndarray:
    return level + np.random.default_rng(seed).normal(0, 0.05, shape)


def smooth_and_sound() -> dict[str, dict[str, np.ndarray]]:
    """The best map scores less than its blur, the next more than either control, the last as much as the edges."""
    edge = spread(0.1, 0)
    return {
        "smooth": {"score": spread(0.4, 1), "edge_score": edge, "blurred_score": spread(0.5, 2)},
        "sound": {"score": spread(0.39, 3), "edge_score": edge, "blurred_score": spread(0.2, 4)},
        "edgy": {"score": spread(0.1, 5), "edge_score": edge, "blurred_score": spread(0.0, 6)},
    }


def test_what_does_not_beat_its_controls_has_a_double_dagger_and_is_not_bold(
    tmp_path: Path,
) -> None:
    made = beside(tmp_path, smooth_and_sound())
    assert [row.cells[0].unbeaten for row in made.rows] == [("blurred",), (), ("edge",)]
    # the best of the column by its number, and what the images do not tell from it
    assert made.rows[0].cells[0].mean == max(row.cells[0].mean for row in made.rows)
    assert made.rows[1].cells[0].p > 0.05
    assert bold(made) == ["sound"]
    ((mark, note),) = made.footnotes
    assert mark == "‡"
    assert note.startswith("not significantly better than a control (p < 0.05 on the same images")
    assert "interval" not in note
    assert "Sobel's edges" in made.caption
    edge, blurred = made.controls
    assert (edge.name, blurred.name) == ("control: edge", "control: blurred")
    assert edge.cells[0].shown == made.columns[0].written(spread(0.1, 0).mean())
    least, most = (made.columns[0].written(spread(*one).mean()) for one in ((0.0, 6), (0.5, 2)))
    assert blurred.cells[0].shown == f"{least} to {most}"


def test_a_paired_test_decides_whether_a_control_is_beaten_and_counts_shared_networks_once(
    tmp_path: Path,
) -> None:
    shape = (2, 2, 60)
    edge = np.repeat(spread(0.1, 0, (1, 2, 60)), 2, axis=0)
    scores = {
        name: {
            "score": spread(level, i, shape),
            "edge_score": edge,
            "blurred_score": spread(0, 9 + i, shape),
        }
        for i, (name, level) in enumerate({"a": 0.115, "b": 0.11}.items(), start=1)
    }
    cells = [row.cells[0] for row in beside(tmp_path, scores).rows]
    raw = [difference(own["score"], edge[:1]).p for own in scores.values()]
    assert [cell.beside[0].p for cell in cells] == pytest.approx(holm(raw))
    twice = [difference(own["score"], edge).p for own in scores.values()]
    assert raw != pytest.approx(twice)
    own = [own["score"] - own["blurred_score"] for own in scores.values()]
    raw = [difference(each, 0.0).p for each in own]
    assert [cell.beside[1].p for cell in cells] == pytest.approx(holm(raw))
    assert {each.compared for cell in cells for each in cell.beside} == {NETWORKS}


def test_a_control_that_lacks_a_seed_is_compared_in_the_mean(tmp_path: Path) -> None:
    scores = {
        name: {
            "score": spread(0.4, i, (2, 1, 60)),
            "blurred_score": spread(0.2, 5 + i, (1, 1, 60)),
        }
        for i, name in enumerate(("a", "b"))
    }
    cells = [row.cells[0] for row in beside(tmp_path, scores).rows]
    assert [cell.beside[0].beaten for cell in cells] == [True, True]
    assert {cell.beside[0].compared for cell in cells} == {FLIPPED}


@pytest.mark.parametrize("seeds", [3, 4])
def test_a_seed_that_a_control_lacks_leaves_the_spread_of_the_others_in_the_test(
    tmp_path: Path, seeds: int
) -> None:
    """Seeds .1 apart, by which a score and its control differ alike; the control's first one failed."""
    luck = 0.1 * np.arange(seeds)[:, None, None]
    own, blurred = (luck + spread(level, i, (seeds, 1, 60)) for i, level in enumerate((0.25, 0.2)))
    blurred[0] = np.nan
    made = beside(tmp_path, {name: {"score": own, "blurred_score": blurred} for name in "ab"})
    alone = difference(own, blurred)  # two are too few for a spread of the differences
    paired = difference((own - blurred)[1:], 0.0)
    ((found,), _) = (row.cells[0].beside for row in made.rows)
    assert found.compared == NETWORKS
    assert found.p == pytest.approx(min(1, 2 * (alone if seeds == 3 else paired).p))
    assert made.rows[0].cells[0].unbeaten == (("blurred",) if seeds == 3 else ())


@pytest.mark.parametrize("gone", ["blurred_score", "edge_score"])
def test_a_score_without_one_of_its_controls_is_not_judged(tmp_path: Path, gone: str) -> None:
    scores = smooth_and_sound()
    del scores["sound"][gone]
    made = beside(tmp_path, scores)
    cell = made.rows[1].cells[0]
    assert (cell.judged, cell.hollow, cell.best, cell.unbeaten) == (False, True, False, ())
    name = gone.removesuffix("_score")
    reason = f"not judged: no score of the control {name} (not part of this run)"
    assert cell.signs == "a"
    assert made.footnotes[-1] == ("a", reason)
    assert [row.cells[0].judged for row in made.rows] == [True, False, True]


@pytest.mark.parametrize(("apart", "beaten"), [(0.01, True), (0.2, False)])
def test_the_luck_of_a_control_that_all_share_is_in_its_comparison(
    tmp_path: Path, apart: float, beaten: bool
) -> None:
    """Three seeds agree on 0.1 above random maps; what those say by themselves is `apart` from one to the next."""
    luck = apart * np.array([-1.0, 0.0, 1.0])[:, None]
    random = np.repeat((luck + spread(0.0, 9, (3, 60)))[None], 3, axis=0)
    random -= random.mean((1, 2), keepdims=True)
    scores = {
        name: {"score": spread(level, i, (3, 1, 60)), "random_score": random}
        for i, (name, level) in enumerate({"above": 0.1, "below": -0.1, "at": 0.0}.items())
    }
    made = beside(tmp_path, scores)
    assert [row.cells[0].signs for row in made.rows] == ["" if beaten else "‡", "‡", "‡"]
    assert [cell.mean for cell in made.controls[0].cells] == pytest.approx([0], abs=1e-9)
    assert {each.compared for row in made.rows for each in row.cells[0].beside} == {NETWORKS}


def test_without_single_images_a_control_is_beaten_where_the_interval_leaves_it_out() -> None:
    # the interval is ± 0.05
    levels = {"above": 0.2, "near": 0.14, "below": 0.0}
    scores = {
        name: {"score": np.full((1, 1, 9), v), "edge_score": np.full((1, 1, 9), 0.1)}
        for name, v in levels.items()
    }
    made = beside(None, scores)
    assert [row.cells[0].signs for row in made.rows] == ["", "‡", "‡"]
    assert {each.compared for row in made.rows for each in row.cells[0].beside} == {INTERVAL}
    note = dict(made.footnotes)["‡"]
    assert "not clearly better than a control (without scores of single images the int" in note
    assert "p < 0.05" not in note


def test_controls_stand_in_every_format(tmp_path: Path) -> None:
    made = beside(tmp_path, smooth_and_sound())
    shown = [cell.shown for row in made.controls for cell in row.cells]
    lines = shown_as(made)
    for text in lines.values():
        assert "control: edge" in text
        assert all(each in text for each in shown)
        assert "‡" in text or r"\ddagger" in text
    assert f"<sup>‡</sup> |\n| *control: edge* | {shown[0]}" in lines["markdown"]
    latex_rows = lines["latex"].splitlines()
    at = latex_rows.index(next(row for row in latex_rows if row.startswith("control: edge")))
    assert latex_rows[at - 1] == r"\midrule"
    content = json.loads(tidy_json(made))
    assert content["controls"][1]["cells"] == [{"shown": shown[1]}]
    smooth = content["rows"][0]["cells"][0]
    assert [(each["control"], each["beaten"]) for each in smooth["controls"]] == [
        ("edge", True), ("blurred", False),
    ]  # fmt: skip
    frame = pd.read_csv(io.StringIO(tidy_csv(made)))
    blurred = frame[(frame["row"] == "smooth") & (frame["control"] == "blurred")].iloc[0]
    assert blurred["mean"] == pytest.approx(spread(0.5, 2).mean())
    assert not blurred["beaten"]
    assert blurred["p_control"] < 0.05
    assert len(frame) == 3 + 6


def shown_as(made: Table) -> dict[str, str]:
    console = Console(width=100, record=True, file=io.StringIO())
    for part in terminal(made):
        console.print(part)
    return {
        "markdown": markdown(made),
        "latex": latex(made),
        "terminal": console.export_text(),
    }


def attributed(folder: Path, metric: str, family: str, levels: Mapping[str, float]) -> Run:
    """A metric of two models with several attributions, the models' own the better the earlier."""
    rows, samples = [], []
    for i, trainer in enumerate(("first", "second")):
        for j, (attribution, level) in enumerate(levels.items()):
            params = "" if attribution == "gradient" else json.dumps({"attribution": attribution})
            values = spread(level - 0.1 * i, 10 * i + j)[0, 0]
            facts = {
                "metric": metric,
                "params": params,
                "measure": "score",
                "trainer": trainer,
                "seed": 0,
            }
            label = f"{metric.title()} {attribution.replace('_', ' ')}"
            usual = line(trainer, 0, "roar", "", float(values.mean()))
            rows.append({**usual, **facts, "family": family, "label": label})
            samples.append(pd.DataFrame({
                **facts, "dataset": "digits", "model": "mlp", "threat": "", "refit": 0, "at": math.nan,
                "image": np.arange(60), "label": 0, "value": values,
            }))  # fmt: skip
    pd.DataFrame(rows).to_parquet(folder / "records.parquet")
    pd.concat(samples).to_parquet(folder / "samples.parquet")
    return read(folder)


LEVELS = {"gradient": 0.5, "random": 0.1, "sobel": 0.3, "blurred_gradient": 0.8}


NAMED = [f"insertion:{attribution}" for attribution in LEVELS]


def test_a_control_that_is_asked_for_by_name_has_a_column_that_says_so_and_is_never_bold(
    tmp_path: Path,
) -> None:
    made = table(attributed(tmp_path, "insertion", "fidelity", LEVELS), "own", NAMED)
    assert labels(made) == [
        "Insertion gradient", "Insertion random (control)", "Insertion sobel (control)",
        "Insertion blurred gradient (control)",
    ]  # fmt: skip
    assert {cell.best for row in made.rows for cell in row.cells[1:]} == {False}
    assert [row.cells[0].unbeaten for row in made.rows] == [("blurred",)] * 2
    # they are seen beside the map: no rows say it again
    assert made.controls == ()


@pytest.mark.parametrize("words", [["insertion"], ["fidelity/*"], ["insertion.score"], EVERYTHING])
def test_a_control_stands_below_the_map_that_it_is_measured_beside(
    tmp_path: Path, words: Sequence[str]
) -> None:
    made = table(attributed(tmp_path, "insertion", "fidelity", LEVELS), "own", words)
    assert labels(made) == ["Insertion gradient"]
    assert [row.name for row in made.controls] == [
        "control: random", "control: edge", "control: blurred",
    ]  # fmt: skip
    assert [row.cells[0].unbeaten for row in made.rows] == [("blurred",)] * 2


def test_a_control_without_a_map_beside_it_is_a_column(tmp_path: Path) -> None:
    alone = {"random": 0.1, "blurred_integrated_gradients": 0.4, "gradient": 0.5}
    (made,) = tables(attributed(tmp_path, "insertion", "fidelity", alone), "fidelity")
    assert labels(made) == [
        "Insertion blurred integrated gradients (control)",
        "Insertion gradient",
    ]


def test_a_setting_that_the_controls_share_does_not_name_them(tmp_path: Path) -> None:
    made = table(
        attributed(tmp_path, "insertion", "fidelity", LEVELS), "own", ["insertion:of=log_odds"]
    )
    assert labels(made) == ["Insertion gradient"]


def test_controls_do_not_make_a_run_one_of_many_measures(tmp_path: Path) -> None:
    run = attributed(tmp_path, "insertion", "fidelity", LEVELS)
    others = [run.records.assign(metric=f"own_{i}", label=f"Own {i}") for i in range(3)]
    assert main_words(tidy(pd.concat([run.records, *others]))) == EVERYTHING


def test_the_controls_of_a_metric_whose_card_is_not_read_are_known_too(tmp_path: Path) -> None:
    (made,) = tables(attributed(tmp_path, "mine", "own", LEVELS), "all")
    assert labels(made) == ["Mine gradient"]
    assert len(made.controls) == 3


@pytest.mark.parametrize(
    ("metric", "family"),
    [("gini", "sharpness"), ("local_lipschitz", "stability"), ("sensitivity", "fidelity")],
)
def test_to_be_less_sharp_or_less_steady_than_a_control_is_no_fault(
    tmp_path: Path, metric: str, family: str
) -> None:
    (made,) = tables(attributed(tmp_path, metric, family, LEVELS), "all")
    assert [cell.unbeaten for row in made.rows for cell in row.cells] == [(), ()]
    assert [cell.best for row in made.rows for cell in row.cells] == [True, False]
    blurred = made.rows[0].cells[0].beside[2]
    assert (blurred.control, blurred.beaten) == ("blurred", None)
    assert blurred.mean > made.rows[0].cells[0].mean
    assert made.footnotes == ()
    assert "describe a map: there they are for comparison" in made.caption
    told = json.loads(tidy_json(made))["rows"][0]["cells"][0]["controls"][2]
    assert (told["control"], told["beaten"]) == ("blurred", None)
    assert pd.read_csv(io.StringIO(tidy_csv(made)))["beaten"].isna().all()


@pytest.mark.parametrize("family", ["fidelity", "sanity", "manifold", "localisation"])
def test_what_claims_something_of_the_model_has_to_beat_its_controls(
    tmp_path: Path, family: str
) -> None:
    (made,) = tables(attributed(tmp_path, "insertion", family, LEVELS), "all")
    assert [row.cells[0].signs for row in made.rows] == ["‡", "‡"]
    assert "for comparison" not in made.caption


def test_json_says_what_the_table_says() -> None:
    made = tables(run_of(everything()), "all")[0]
    content = json.loads(tidy_json(made))
    assert [column["label"] for column in content["columns"]] == [
        column.label for column in made.columns
    ]
    for row, own in zip(content["rows"], made.rows, strict=True):
        assert row["name"] == own.name
        for told, cell, column in zip(row["cells"], own.cells, made.columns, strict=True):
            assert told["shown"] == f"{cell.shown} ± {cell.reach}"
            assert format(told["mean"], column.spec) == cell.shown
            assert (told["best"], told["n"], told["p"]) == (cell.best, cell.n, None)


def test_several_data_sets_are_a_list_in_json() -> None:
    run = run_of(everything())
    twice = Run(tidy(pd.concat([run.records, run.records.assign(dataset="other")])))
    assert [each["dataset"] for each in json.loads(asked.text(twice, "main", "json"))] == [
        "digits",
        "other",
    ]
    assert asked.text(twice, "main", "latex").count(r"\label{tab:") == 2
    lines = pd.read_csv(io.StringIO(asked.text(twice, "main", "csv")))
    assert lines["dataset"].value_counts().nunique() == 1
    assert set(lines["dataset"]) == {"digits", "other"}


def test_a_list_among_the_settings_is_chosen_as_tables_show_it() -> None:
    column = {
        "family": "fidelity",
        "metric": "roar",
        "threat": "",
        "measure": "score",
        "headline": True,
    }
    few, one = ({**column, "params": json.dumps({"percents": own})} for own in ([30, 70], [50]))
    words = ("roar:percents=30/70", "roar:30/70", "roar:percents=50", "roar:percents=[50]")
    taken = [[choice(word).takes(each) for each in (few, one)] for word in words]
    assert taken == [[True, False], [True, False], [False, True], [False, True]]


NASTY = [
    "<script>alert('x')</script>",
    "a_b & 100% of $x_1$ #7 ~^\\{}",
    "Äpfel, 中文, α",
    "x" * 200,
    "many_words_" * 18,
    "[7] Wong et al.",
    "*ours",
]


def compiled(text: str, folder: Path) -> str:
    """What pdflatex says."""
    (folder / "table.tex").write_text(text, encoding="utf-8")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "table.tex"]
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, errors="replace", check=False
    )
    if "booktabs.sty' not found" in done.stdout:
        pytest.skip("this TeX has no booktabs")
    assert done.returncode == 0, done.stdout[-2000:]
    return done.stdout


@pytest.mark.skipif(not shutil.which("pdflatex"), reason="no pdflatex is installed")
def test_twenty_rows_and_nasty_names_fit_the_page(tmp_path: Path) -> None:
    scores = everything(names=[*NASTY, *(f"method_{i} (Linf 8/255)" for i in range(15))])
    made = tables(run_of(scores), "all")[0]
    finding = Grid(
        "health",
        "digits",
        "Health",
        ("", "Level", "Why"),
        tuple((n, "FAIL", f"{n}\nwhy " * 9) for n in NASTY),
        "No.",
    )
    said = compiled(document(latex(made) + grid_latex(finding)), tmp_path)
    assert "Overfull" not in said
    assert "multiply defined" not in said


def compared(models: int, measures: int, mean: str = "87.78‡") -> Grid:
    """A comparison as `bench compare --baseline` makes it."""
    rows = [
        (f"jacobian (weight={i}, activation=gelu)", f"AutoAttack Linf 0.{j} ↑", "75.78", mean,
         "12.00", "1.99 to 22.01", "<0.001", "B", "107 : 43", "150", "12.94")
        for i in range(models) for j in range(measures)
    ]  # fmt: skip
    heads = ("Model B", "", "A", "B", "B − A", "95% interval", "p", "Better", "B : A", "n")
    spare = {8: "B : A: on how many images.", 10: "", 9: "", 2: ""}
    return Grid("compare", "mnist", "All against standard", (*heads, "Detectable"), tuple(rows), "Means.",
                frozenset({2, 3, 4, 6, 9, 10}), spare=spare)  # fmt: skip


def correlated(rows: int = 14) -> Grid:
    """Trends beside the paper's figures."""
    found = ("−0.94 [−1.00, −0.31]", "−0.97") * 4
    kinds = [
        f"{kind}, {other}" for other in ("strength", "accuracy") for kind in ("Pearson", "Spearman")
    ]
    heads = [text for kind in kinds for text in (kind, "published")]
    names = (f"pgd_at (L2, steps={i // 7})" for i in range(rows))
    lines = ((name, "ROAR gradient x input", "5", "0 of 5", *found) for name in names)
    heads = ["Training", "Measure", "Models", "Above controls", *heads]
    return Grid("trends", "cifar10", "Trends", tuple(heads), tuple(lines), "Correlations.",
                frozenset(range(2, 12)), cuts=(8,))  # fmt: skip


def test_a_long_comparison_is_cut_into_floats_and_names_each_model_once_a_page() -> None:
    text = grid_latex(compared(13, 12))
    floats = text.split(r"\begin{table*}")[1:]
    assert len(floats) == 4
    assert [part.count(r"\label{") for part in floats] == [1, 0, 0, 0]
    assert ["Means." in part for part in floats] == [False, False, False, True]
    assert all(r"\addtocounter{table}{-1}" in part for part in floats[1:])
    assert text.count("AutoAttack") == 156
    assert all(text.count(rf"\textit{{jacobian (weight={i}, ") == 1 for i in range(13))
    assert "Detectable" in text
    # two rows a model: names above where a column of them has no room, as it has of one row
    assert [grid_latex(compared(9, n)).count(r"\textit{") for n in (1, 2)] == [0, 9]
    assert "AutoAttack $\\ell_\\infty$ 0.0~" in text
    # more rows of one model than a page has
    pages = grid_latex(compared(1, 120)).split(r"\begin{table*}")[1:]
    assert [r"activation=gelu)} (continued)" in part for part in pages] == [False, True, True]


def test_columns_that_a_page_has_no_room_for_are_cut_or_left_out_and_said_to_be() -> None:
    text = grid_latex(correlated())
    strength, accuracy = text.split(r"\medskip")
    assert (strength.count("ROAR"), accuracy.count("ROAR")) == (14, 14)
    assert "Pearson, accuracy" not in strength
    assert "Models" not in accuracy
    narrow = grid_latex(compared(2, 2, mean="1" * 45))
    assert "% left out for want of room: B : A" in narrow
    assert "on how many images" not in narrow


@pytest.mark.skipif(not shutil.which("pdflatex"), reason="no pdflatex is installed")
@pytest.mark.parametrize(
    "grid",
    [compared(13, 12), compared(20, 2), compared(60, 1), compared(1, 120), correlated(), correlated(70)],
)  # fmt: skip
def test_grids_fit_the_page(grid: Grid, tmp_path: Path) -> None:
    said = compiled(document(grid_latex(grid)), tmp_path)
    assert "Overfull" not in said
    assert "too large" not in said


def one_column(body: str, textwidth: float) -> str:
    """A document as a paper of one column is."""
    return (
        r"\documentclass[10pt]{article}\usepackage{booktabs,array}"
        rf"\usepackage[textwidth={textwidth}pt,textheight=9in]{{geometry}}"
        rf"\begin{{document}}{body}\end{{document}}"
    )


@pytest.mark.skipif(not shutil.which("pdflatex"), reason="no pdflatex is installed")
@pytest.mark.parametrize("textwidth", [397.0, 345.0])
def test_tables_fit_the_text_that_they_are_made_for(textwidth: float, tmp_path: Path) -> None:
    names = ["standard", "trades (Linf 8/255, beta=6.0)", "fgsm_rs (Linf 0.3, eps_ramp=0.0)"]
    made = tables(run_of(everything(names=names)), "all")[0]
    body = latex(made, textwidth) + grid_latex(compared(2, 2, mean="87.78"), textwidth)
    assert "Overfull" not in compiled(one_column(body, textwidth), tmp_path)
    assert "Overfull" in compiled(one_column(latex(made), textwidth), tmp_path)


def test_every_name_survives_in_every_format() -> None:
    made = tables(run_of(everything(names=NASTY)), "main")[0]
    text = latex(made)
    for name in NASTY[:3]:
        assert name in json.loads(tidy_json(made))["rows"][NASTY.index(name)]["name"]
    assert r"\ensuremath{<}script\ensuremath{>}alert('x')\ensuremath{<}/" in text
    assert r"a\_b \& 100\% of \$x\_1\$" in text
    assert "".join(re.findall(r"x{10,}", text)).count("x") == 200
    assert latex_document(made).count(r"\begin{tabular*}") == 1


def test_a_grid_says_the_same_in_every_format() -> None:
    grid = Grid(
        "health",
        "a_b",
        "T & <i>",
        ("", "n"),
        (("x|y", "1"), ("z\nz", "WARN")),
        "Why.",
        frozenset({1}),
        {"WARN": "red"},
    )
    assert grid_markdown(grid).splitlines()[2:6] == [
        "|  | n |",
        "| :-- | --: |",
        r"| x\|y | 1 |",
        "| z<br>z | **WARN** |",
    ]
    assert r"x\ensuremath{|}y & 1 \\" in grid_latex(grid)


def test_one_table_is_printed_and_nothing_written(tmp_path: Path) -> None:
    run_of(everything(), tmp_path)
    done = CliRunner().invoke(
        app, ["report", str(tmp_path), "--table", "fidelity", "--format", "json"]
    )
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["name"] == "fidelity"
    assert not (tmp_path / "report").exists()
    done = CliRunner().invoke(app, ["report", str(tmp_path), "--format", "latex"])
    assert r"\label{tab:digits}" in done.stdout
    with pytest.raises(BenchError, match="no such table"):
        CliRunner().invoke(app, ["report", str(tmp_path), "--table", "x"], catch_exceptions=False)


LACKING = {"paper": {"columns": ["kar", "pgd@L1"]}}


def printed(folder: Path, *words: str) -> Result:
    done = CliRunner().invoke(app, ["report", str(folder), *words])
    assert isinstance(done.exception, BenchError | SystemExit | None)
    return done


def test_a_table_that_shows_nothing_is_an_error_that_names_what_there_is(tmp_path: Path) -> None:
    few = {"standard": {("gini", ""): np.ones((1, 1, 30))}}
    run_of(few, tmp_path, {"invocations": [{"definition": {"tables": LACKING}}]})
    for name, form, why in (
        ("paper", "terminal", "this run has no column for kar, pgd@L1"),
        ("paper", "csv", "this run has no column for kar, pgd@L1"),
        ("robustness", "latex", "this run has no column for robustness/*"),
        ("cost", "json", "this run has nothing to show in it"),
        ("trends", "terminal", "this run has nothing to show in it"),
    ):
        done = printed(tmp_path, "--table", name, "--format", form)
        assert done.stdout == ""
        assert isinstance(done.exception, ReportError)
        assert done.exception.status == 2
        assert str(done.exception) == f"--table {name!r}: {why}; it has main, sharpness, all"


def test_a_suites_table_without_columns_is_a_note_in_the_report(tmp_path: Path) -> None:
    few = {"standard": {("gini", ""): np.ones((1, 1, 30))}}
    run_of(few, tmp_path, {"invocations": [{"definition": {"tables": LACKING}}]})
    assert printed(tmp_path).exit_code == 0
    report = (tmp_path / "report" / "report.md").read_text()
    assert "paper on digits" in report
    assert "Not in this run: kar, pgd@L1." in report
    # a paper that has it as \input goes on to compile
    assert "Not in this run" in (tmp_path / "report" / "table-paper-digits.tex").read_text()


def test_the_other_tables_of_a_report_are_printed_by_their_names(tmp_path: Path) -> None:
    gini = line("standard", 0, "gini", "", 1.0)
    passed = {**gini, "metric": "preflight", "family": "preflight", "headline": False}
    run_of({"standard": {("gini", ""): np.ones((1, 1, 30))}}, tmp_path)
    records = pd.concat([pd.read_parquet(tmp_path / "records.parquet"), pd.DataFrame([passed])])
    records.to_parquet(tmp_path / "records.parquet")
    assert "Health on digits" in printed(tmp_path, "--table", "health").stdout
    assert "## Health on digits" in printed(tmp_path, "--table", "health", "-f", "markdown").stdout
    assert (
        r"\label{tab:health-digits}" in printed(tmp_path, "--table", "health", "-f", "latex").stdout
    )
    told = str(printed(tmp_path, "--table", "health", "-f", "csv").exception)
    assert told == "--table health --format csv: valid formats are terminal, markdown, latex"
    unknown = str(printed(tmp_path, "--table", "helth").exception)
    assert "did you mean 'health'" in unknown
    assert all(name in unknown for name in (*NAMES, *GRIDS))


def test_the_names_of_usual_tables_are_all_known() -> None:
    run = run_of(everything())
    assert all(isinstance(tables(run, name), list) for name in NAMES)
    assert table(run, "mine", ["gini"], "Title").title == "Title on digits"


PAGE = (Path(__file__).parent.parent / "docs" / "tables.md").read_text(encoding="utf-8")


def test_the_documented_commands_exist() -> None:
    commands = get_command(app).commands  # type: ignore[attr-defined]
    blocks = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
    lines = [shlex.split(line, comments=True) for block in blocks for line in block.splitlines()]
    assert len(lines) >= 6
    for words in lines:
        options = {name for parameter in commands[words[1]].params for name in parameter.opts}
        assert {word for word in words if word.startswith("-")} <= options, words


def test_the_documented_lines_of_a_suite_are_read(tmp_path: Path) -> None:
    blocks = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    (controls,) = (block for block in blocks if block.startswith("controls"))
    (own,) = (block for block in blocks if block.startswith("[tables"))
    path = suite(tmp_path, own)
    path.write_text(controls + path.read_text())
    found = read_suite(str(path))
    assert len(found.tables["paper"].columns) == 6
    assert found.controls == ["random", "blurred"]
