"""`bench compare`: what is noise and what is not, what cannot be compared, and the gate for CI."""

from __future__ import annotations

import csv
import io
import json
import re
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import Result
from rich.console import Console
from typer.testing import CliRunner

from benchmark.cli import app
from benchmark.compare import compare
from benchmark.gate import failures, gate
from benchmark.report.compared import comparison, text
from benchmark.report.embed import with_tables
from benchmark.report.formats.grids import grid_terminal
from benchmark.report.read import COLUMNS
from benchmark.sides import CompareError
from benchmark.statistics.paired import MCNEMAR
from benchmark.storage.ledger import Entry

N = 1000
CLEAN = {"metric": "clean_accuracy", "family": "robustness", "label": "Clean", "measure": "accuracy", "threat": "",
         "range": "0..1", "direction": "higher"}  # fmt: skip
DISTANCE = {"metric": "reconstruction_distance", "family": "manifold", "label": "Manifold distance", "threat": "",
            "measure": "distance", "range": "unbounded", "direction": "lower"}  # fmt: skip
RECONSTRUCTIONS = ("sagr",)
Scores = dict[str, list[np.ndarray]]


def wrong(share: float, n: int = N) -> np.ndarray:
    """0/1 scores, wrong on this share of the images, the first ones."""
    scores = np.ones(n)
    scores[: round(share * n)] = 0
    return scores


def folder(
    place: Path, models: dict[str, np.ndarray], what: dict[str, str] = CLEAN, first: int = 0,
    edge: np.ndarray | None = None,
) -> Path:  # fmt: skip
    """A run's folder with one measure of these models, and what edges score in it."""
    rows, samples = [], []
    control = {**what, "measure": f"edge_{what['measure']}", "direction": ""}
    scored = [(name, scores, what) for name, scores in models.items()]
    scored += [(name, edge, control) for name in models if edge is not None]
    for name, scores, measure in scored:
        own = {
            **dict.fromkeys(COLUMNS, ""),
            **measure,
            "dataset": "digits",
            "model": "mlp",
            "trainer": name,
            "seed": 0,
        }
        mean = float(scores.mean())
        rows.append({**own, "at": np.nan, "value": mean, "low": mean, "high": mean, "stderr": 0.0, "n": len(scores),
                     "headline": measure is what, "reconstruction": name in RECONSTRUCTIONS})  # fmt: skip
        facts = {
            key: own[key]
            for key in (
                "dataset",
                "model",
                "trainer",
                "threat",
                "metric",
                "params",
                "measure",
                "seed",
            )
        }
        images = np.arange(first, first + len(scores))
        samples.append(
            pd.DataFrame(
                {
                    **facts,
                    "refit": 0,
                    "at": np.nan,
                    "image": images,
                    "label": images % 10,
                    "value": scores,
                }
            )
        )
    place.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(rows).to_parquet(place / "records.parquet")
    pd.concat(samples).to_parquet(place / "samples.parquet")
    return place


@pytest.fixture
def three(tmp_path: Path) -> Path:
    """A model that is 9% wrong, one of 0.3 points less and one of 3 points less, on 1,000 images."""
    rng = np.random.default_rng(0)
    base = wrong(0.09)
    near, far = base.copy(), base.copy()
    # more discordant images than the difference needs: 13 and 10, 60 and 30
    for scores, lost, won in ((near, 13, 10), (far, 60, 30)):
        scores[rng.choice(np.flatnonzero(base == 1), lost, replace=False)] = 0
        scores[rng.choice(np.flatnonzero(base == 0), won, replace=False)] = 1
    return folder(tmp_path / "run", {"base": base, "near": near, "far": far})


def test_a_difference_of_three_tenths_of_a_point_is_noise_and_one_of_three_is_not(
    three: Path,
) -> None:
    near, far = compare(three, baseline="base")
    assert near.difference.value == pytest.approx(-0.003)
    assert (near.better, near.p > 0.5, near.difference.test) == ("", True, MCNEMAR)
    assert far.difference.value == pytest.approx(-0.03)
    assert (far.better, far.p < 0.01, far.difference.n) == ("A", True, N)
    # 3 points are more than 90 discordant images let one find, 0.3 less than 23 do
    assert far.difference.detectable < 0.03
    assert near.difference.detectable > 0.003
    (grid,) = comparison([near, far])
    assert [row[7] for row in grid.rows] == ["n.s.", "A"]
    assert [row[8] for row in grid.rows] == ["10 : 13", "30 : 60"]


def test_p_values_are_corrected_for_all_that_is_asked(three: Path) -> None:
    (alone,) = compare(three, models=("base", "far"))
    both = compare(three, baseline="base")
    assert alone.p == alone.difference.p
    assert both[1].p == pytest.approx(2 * alone.p)


def test_lower_is_better_where_the_measure_says_so(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    far = rng.random(200)
    (line,) = compare(
        folder(tmp_path / "run", {"a": far, "b": far - 0.1 + rng.normal(0, 0.01, 200)}, DISTANCE)
    )
    assert line.better == "B"
    assert line.gain[0] == pytest.approx(0.1, abs=0.01)
    assert failures([gate("reconstruction_distance:0.05")], [line]) == []
    assert comparison([line])[0].rows[0][7].startswith("200 :")


def test_two_runs_pair_what_bears_the_same_name(tmp_path: Path) -> None:
    one = folder(tmp_path / "one", {"x": wrong(0.1), "y": wrong(0.2)})
    other = folder(tmp_path / "two", {"x": wrong(0.1), "y": wrong(0.4), "z": wrong(0.3)})
    lines = compare(one, other)
    assert [(line.a, line.b, line.better) for line in lines] == [("x", "x", ""), ("y", "y", "A")]
    assert [row[7] for row in comparison(lines)[0].rows] == ["n.s.", "A"]
    back = compare(other, one, models=("y", "y"))
    assert [line.better for line in back] == ["B"]
    assert compare(one, other, models=("x", "z"))[0].difference.value == pytest.approx(-0.2)
    alone = folder(tmp_path / "three", {"w": wrong(0.3)})
    assert [
        (line.a, line.b) for line in compare(alone, folder(tmp_path / "four", {"v": wrong(0.3)}))
    ] == [("w", "v")]


def test_a_model_without_scores_does_not_stop_the_others(three: Path) -> None:
    for name in ("records", "samples"):
        table = pd.read_parquet(three / f"{name}.parquet")
        failed = table[table["trainer"] == "near"].assign(trainer="failed")
        kept = [table, failed.assign(value=np.nan)] if name == "records" else [table]
        pd.concat(kept).to_parquet(three / f"{name}.parquet")
    told: list[str] = []
    lines = compare(three, baseline="base", tell=told.append)
    assert [line.b for line in lines] == ["near", "far"]
    assert told == ["failed on digits: no scores of single images, left out"]
    assert told[0] in bench(three, "--baseline", "base").stderr


def test_an_order_compares_neighbours(three: Path) -> None:
    lines = compare(three, orders=[("far", "base", "near")])
    assert [(line.a, line.b) for line in lines] == [("far", "base"), ("base", "near")]
    alone = [
        compare(three, models=pair)[0].difference for pair in (("far", "base"), ("base", "near"))
    ]
    assert [line.difference for line in lines] == alone
    (grid,) = comparison(lines)
    assert grid.title == "Neighbours in a predicted order on digits"
    assert [row[0] for row in grid.rows] == ["far < base", "base < near"]
    with pytest.raises(CompareError, match="two or more models of one run"):
        compare(three, orders=[("far",)])
    with pytest.raises(CompareError, match="give only one of them"):
        compare(three, orders=[("far", "base")], baseline="base")


def test_a_method_is_a_name_where_one_model_is_of_it(tmp_path: Path) -> None:
    scores = {
        "standard": wrong(0.1),
        "pgd_at (L2 1.0)": wrong(0.2),
        "trades (Linf 0.1)": wrong(0.3),
    }
    run = folder(tmp_path / "run", scores)
    lines = compare(run, orders=[("trades", "pgd_at", "standard")])
    assert [(line.a, line.b) for line in lines] == [
        ("trades (Linf 0.1)", "pgd_at (L2 1.0)"), ("pgd_at (L2 1.0)", "standard"),
    ]  # fmt: skip
    both = folder(tmp_path / "both", scores | {"pgd_at (Linf 0.1)": wrong(0.2)})
    with pytest.raises(CompareError, match=r"2 models are 'pgd_at': pgd_at \(L2 1.0\), pgd_at \(L"):
        compare(both, orders=[("standard", "pgd_at")])


def test_several_orders_are_one_table_and_corrected_together(three: Path) -> None:
    chains = ("far < base", "base < near", "far < base < near")
    given = [word for each in chains for word in ("--order", each)]
    rows = json.loads(bench(three, *given, "--json").stdout)
    assert [(row["a"], row["b"]) for row in rows] == [("far", "base"), ("base", "near")]
    assert [row["p"] for row in rows] == [
        line.p for line in compare(three, orders=[("far", "base", "near")])
    ]
    assert "'standard < pgd_at < trades'" in str(bench(three, "--order", "far").exception)


def test_a_data_set_without_one_of_the_models_is_left_out(tmp_path: Path) -> None:
    place = folder(tmp_path / "run", {"standard": wrong(0.1), "pgd_at (Linf 0.3)": wrong(0.2)})
    for name in ("records", "samples"):
        table = pd.read_parquet(place / f"{name}.parquet")
        other = table.assign(
            dataset="cifar10",
            trainer=table["trainer"].replace("pgd_at (Linf 0.3)", "pgd_at (Linf 0.1)"),
        )
        pd.concat([table, other]).to_parquet(place / f"{name}.parquet")
    told: list[str] = []
    for asked in (
        {"models": ("standard", "pgd_at (Linf 0.1)")},
        {"orders": [("pgd_at (Linf 0.1)", "standard")]},
    ):
        (line,) = compare(place, tell=told.append, **asked)  # type: ignore[arg-type]
        assert line.dataset == "cifar10"
        assert told.pop().startswith("digits is left out: no model 'pgd_at (Linf 0.1)'")
    assert {line.dataset for line in compare(place, baseline="standard", tell=told.append)} == {
        "digits",
        "cifar10",
    }
    assert not told
    with pytest.raises(CompareError, match="no model 'pgd'"):
        compare(place, models=("standard", "pgd"))


def test_a_comparison_of_two_runs_says_which_is_which(tmp_path: Path) -> None:
    one, other, same = (
        folder(tmp_path / place, {"x": wrong(0.1), "y": wrong(0.2)})
        for place in ("old", "new", "elsewhere/old")
    )

    def grid(*runs: Path, **asked: object) -> tuple[str, str]:
        (made,) = comparison(compare(*runs, **asked))  # type: ignore[arg-type]
        return made.title, made.caption.partition(" Means")[0]

    assert grid(one, other, models=("x", "x")) == (
        "x (new) against x (old) on digits",
        "A: x (old). B: x (new).",
    )
    assert grid(one, other, baseline="x") == (
        "All against x (old) on digits",
        "A: x (old). B: of new.",
    )
    assert grid(one, other)[1] == "A: of old. B: of new."
    assert grid(one, models=("x", "y"))[1] == "A: x. B: y."
    assert str(same) in grid(one, same)[1]
    told = json.loads(text(compare(one, other), ".json"))
    assert {(row["run_a"], row["run_b"]) for row in told} == {("old", "new")}


def test_a_page_gets_an_order(three: Path) -> None:
    mark = f"<!-- order: {three.name} clean_accuracy: far < base < near -->\n"
    page = with_tables(f"{mark}earlier\n<!-- end of table -->\n", three.parent)
    lines = compare(three, orders=[("far", "base", "near")], words=("clean_accuracy",))
    assert text(lines, ".md").partition("\n")[2].strip() in page
    assert "**Neighbours in a predicted order on digits**" in page, (
        "no heading among the page's own"
    )
    assert "#" not in page.replace("<!-- order: ", "")
    assert "earlier" not in page


def test_what_cannot_be_paired_is_refused(three: Path, tmp_path: Path) -> None:
    with pytest.raises(CompareError, match=r"which of the 3 models\? .* base, near, far"):
        compare(three)
    with pytest.raises(CompareError, match=r"no model 'fra' .did you mean 'far'"):
        compare(three, models=("base", "fra"))
    with pytest.raises(CompareError, match="only one of them"):
        compare(three, models=("base", "far"), baseline="base")
    shifted = folder(tmp_path / "shifted", {"base": wrong(0.1)}, first=5)
    with pytest.raises(
        CompareError, match=r"different images of digits .1000 and 1000, or their labels differ"
    ):
        compare(three, shifted)
    with pytest.raises(CompareError, match="no model bears the same name"):
        compare(three, folder(tmp_path / "others", {"q": wrong(0.1)}))
    with pytest.raises(CompareError, match="no metric 'gini' was measured"):
        compare(three, models=("base", "far"), words=["gini"])
    (three / "samples.parquet").unlink()
    with pytest.raises(CompareError, match="scores of single images"):
        compare(three, models=("base", "far"))


def plan(place: Path, images: str) -> None:
    """The ledger of a run whose test images have this fingerprint."""
    texts = dict.fromkeys(Entry.__dataclass_fields__, "")
    line = Entry(**{**texts, "dataset": "digits", "images": images, "reconstruction": False, "seed": 0,
                    "directions": {"accuracy": "higher"}, "ranges": {"accuracy": "0..1"}})  # type: ignore[arg-type]  # fmt: skip
    content = {"suite": "s", "entries": [asdict(line)], "failures": {}}
    (place / "plan.json").write_text(json.dumps(content))


def test_other_fingerprints_are_refused(tmp_path: Path) -> None:
    one, other = (folder(tmp_path / name, {"x": wrong(0.1)}) for name in ("one", "two"))
    plan(one, "aaaa")
    plan(other, "bbbb")
    with pytest.raises(
        CompareError, match=r"different images of digits \(fingerprints aaaa and bbbb\).*--limit"
    ):
        compare(one, other)
    plan(other, "aaaa")
    assert len(compare(one, other)) == 1


@pytest.mark.parametrize(
    "text", ["clean_accuracy:x y", "clean_accuracy:-1", ":0.1", "clean_accuracy:inf"]
)
def test_gates_that_say_nothing_are_refused(text: str, three: Path) -> None:
    with pytest.raises(Exception, match=r"gate|form METRIC") as caught:
        failures([gate(text)], compare(three, baseline="base"))
    assert type(caught.value).__name__ in ("CompareError", "ColumnError")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (
            "clean_acuracy",
            r"no metric 'clean_acuracy' was measured \(did you mean 'clean_accuracy'\?\)",
        ),
        ("auto_attack", "no metric 'auto_attack' was measured; valid: clean_accuracy"),
        ("sharpnes/*", "no family 'sharpnes' was measured; valid: robustness"),
        ("clean_accuracy.loss", "nothing of this measure, setting or threat"),
    ],
)
def test_a_word_that_chooses_nothing_is_refused_with_what_was_meant(
    text: str, why: str, three: Path
) -> None:
    with pytest.raises(CompareError, match=f"--measure '{re.escape(text)}': .*{why}"):
        compare(three, baseline="base", words=["clean_accuracy", text])
    with pytest.raises(CompareError, match=f"--gate '{re.escape(text)}:0.1': .*{why}.*be judged"):
        failures([gate(f"{text}:0.1")], compare(three, baseline="base"))


def test_a_margin_that_is_no_number_is_called_one(three: Path) -> None:
    with pytest.raises(CompareError, match=r"'clean_accuracy:one': the margin 'one' is not a numb"):
        failures([gate("clean_accuracy:one")], compare(three, baseline="base"))


def test_a_gate_on_the_headline_judges_no_other_measure_that_was_named(three: Path) -> None:
    for name in ("records", "samples"):
        table = pd.read_parquet(three / f"{name}.parquet")
        margin = table.assign(measure="margin", headline=False)
        margin.loc[margin["trainer"] == "near", "value"] -= 0.5
        pd.concat([table, margin]).to_parquet(three / f"{name}.parquet")
    words = ["clean_accuracy", "clean_accuracy.margin"]
    lines = compare(three, models=("base", "near"), words=words)
    assert [(line.measure, line.headline) for line in lines] == [
        ("accuracy", True), ("margin", False),
    ]  # fmt: skip
    assert failures([gate("clean_accuracy:0.1")], lines) == []
    assert len(failures([gate("clean_accuracy.margin:0.1")], lines)) == 1


def test_measures_without_scores_are_named(three: Path) -> None:
    records = pd.read_parquet(three / "records.parquet")
    gini = records.assign(metric="gini", family="sharpness", measure="gini")
    pd.concat([records, gini]).to_parquet(three / "records.parquet")
    told: list[str] = []
    compare(three, baseline="base", words=["gini", "clean_accuracy"], tell=told.append)
    assert told == ["--measure gini: no scores of single images in both, left out"]
    with pytest.raises(CompareError, match="no measure with scores of single images"):
        compare(three, baseline="base", words=["gini"])


def bench(*words: object) -> Result:
    return CliRunner().invoke(app, ["compare", *map(str, words)])


def test_the_gate_fails_on_what_is_surely_worse(three: Path) -> None:
    assert bench(three, "--models", "base", "far", "--gate", "clean_accuracy:0.001").exit_code == 1
    assert (
        bench(three, "--models", "base", "far", "--gate", "clean_accuracy:0.02").exit_code == 0
    ), "3 points may be 2"
    assert bench(three, "--models", "base", "near", "--gate", "clean_accuracy").exit_code == 0
    assert bench(three, "--models", "far", "base", "--gate", "clean_accuracy").exit_code == 0, (
        "better is not worse"
    )
    with pytest.raises(CompareError, match="cannot be judged"):
        failures([gate("auto_attack:0.01")], compare(three, baseline="base"))


def test_every_format_has_the_same_numbers(three: Path, tmp_path: Path) -> None:
    lines = compare(three, baseline="base")
    rows = json.loads(text(lines, ".json"))
    table = list(csv.DictReader(io.StringIO(text(lines, ".csv"))))
    for row, other, line in zip(rows, table, lines, strict=True):
        assert row["difference"] == line.difference.value == float(other["difference"])
        assert (row["better"], row["p"]) == (line.better, line.p)
        shown = f"{100 * line.difference.value:.2f}"
        assert f"| {shown} |" in text(lines, ".md")
        minus = shown.replace("-", r"\ensuremath{-}")
        assert f"& {minus} &" in text(lines, ".tex")
    for ending in ("md", "tex", "csv", "json"):
        file = tmp_path / f"table.{ending}"
        assert bench(three, "--baseline", "base", "--out", file).exit_code == 0
        assert file.read_text() == text(lines, f".{ending}")
    assert json.loads(bench(three, "--baseline", "base", "--json").stdout) == rows
    assert bench(three, "--baseline", "base", "--out", "table.doc").exit_code != 0


def test_reconstructions_have_their_dagger_and_are_named_without_it(tmp_path: Path) -> None:
    run = folder(tmp_path / "run", {"standard": wrong(0.1), "sagr": wrong(0.2)})
    lines = compare(run, None, ("standard", "sagr"), None)
    (grid,) = comparison(lines)
    assert grid.title.startswith("sagr† against standard")
    assert "†: reconstruction" in grid.caption
    assert [line["b"] for line in json.loads(text(lines, ".json"))] == ["sagr"]


@pytest.mark.parametrize(
    ("width", "left_out"), [(50, "A, B : A, n, Detectable"), (80, "B : A, Detectable"), (120, "")]
)
def test_a_narrow_terminal_goes_without_spare_columns_never_without_names_intervals_and_p(
    three: Path, width: int, left_out: str
) -> None:
    grid = comparison(compare(three, None, None, "base"))[0]
    console = Console(width=width, record=True, file=io.StringIO())
    for part in grid_terminal(grid, width):
        console.print(part)
    shown, _, notes = console.export_text().partition("A: base")
    assert "Clean" in shown
    assert "…" not in shown
    for row in grid.rows:
        assert set(row[5].split()) <= set(shown.split())
        assert row[6] in shown
    assert ("Detectable" in shown) == (not left_out)
    said = " ".join(notes.split())
    assert "the intervals are not corrected" in said
    assert ("Detectable: the true difference" in said) == (not left_out)
    told = f"Left out for want of room: {left_out} (--out FILE has them)."
    assert said.endswith(told) if left_out else "Left out" not in said


def test_files_explain_every_column(three: Path) -> None:
    lines = compare(three, baseline="base")
    for ending in (".md", ".tex"):
        assert "on how many images" in text(lines, ending)
        assert "Detectable: the true difference" in text(lines, ending)


ROAR = {"metric": "roar", "family": "fidelity", "label": "ROAR gradient", "threat": "", "measure": "score",
        "range": "unbounded", "direction": "higher"}  # fmt: skip


@pytest.fixture
def controlled(tmp_path: Path) -> Path:
    """Edges score 0.2; one model less, one no more, one more, each better than the one before."""
    noise = np.random.default_rng(0).normal(0, 0.02, (4, 200))
    means = {"less": 0.1, "same": 0.2, "more": 0.3}
    models = {name: mean + noise[i] for i, (name, mean) in enumerate(means.items())}
    return folder(tmp_path / "run", models, ROAR, edge=0.2 + noise[3])


def test_what_does_not_beat_its_controls_says_so_and_its_lead_is_not_bold(controlled: Path) -> None:
    same, more = compare(controlled, baseline="less")
    assert (same.better, more.better) == ("B", "B")
    assert (same.unbeaten, more.unbeaten) == ((("edge",), ("edge",)), (("edge",), ()))
    assert (same.hollow, more.hollow) == (True, False)
    (grid,) = comparison([same, more])
    assert [row[2:4] for row in grid.rows] == [("0.100‡", "0.198‡"), ("0.100‡", "0.300")]
    assert [row[7] for row in grid.rows] == ["B‡", "B"]
    assert grid.best == {(1, 7)}
    assert "‡: not significantly better than a control" in grid.caption
    # without a score that is marked there is nothing to explain
    assert "‡" not in comparison(compare(controlled, models=("more", "more")))[0].caption


def test_the_mark_stands_in_every_format(controlled: Path) -> None:
    lines = compare(controlled, models=("less", "more"))
    assert "0.100‡" in text(lines, ".md")
    assert r"0.100\rlap{\textsuperscript{\ensuremath{\ddagger}}} & 0.300 &" in text(lines, ".tex")
    (row,) = json.loads(text(lines, ".json"))
    assert (row["unbeaten_a"], row["unbeaten_b"]) == (["edge"], [])
    (line,) = csv.DictReader(io.StringIO(text(lines, ".csv")))
    assert (line["unbeaten_a"], line["unbeaten_b"]) == ("edge", "")
    shown = bench(controlled, "--models", "less", "more").stdout
    assert "0.100‡" in shown
    assert "‡: not significantly better" in " ".join(shown.split())


def test_a_mark_is_that_of_the_own_run(controlled: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    easy = folder(
        tmp_path / "easy", {"less": 0.1 + rng.normal(0, 0.02, 200)}, ROAR, edge=np.zeros(200)
    )
    (line,) = compare(controlled, easy)
    assert line.unbeaten == (("edge",), ())


def test_settings_that_share_a_label_are_told_apart(three: Path) -> None:
    (line,) = compare(three, models=("base", "far"))
    other = replace(line, params='{"of": "logit"}')
    (grid,) = comparison([line, other])
    assert [row[0] for row in grid.rows] == ["Clean ↑", "Clean of=logit ↑"]
    assert comparison([other])[0].rows[0][0] == "Clean ↑", "alone its label is enough"


def test_scores_of_control_maps_are_named_so_and_never_win_in_bold(tmp_path: Path) -> None:
    sobel = {
        **ROAR,
        "metric": "insertion",
        "label": "Insertion sobel",
        "params": '{"attribution": "sobel"}',
    }
    scores = {name: mean + np.zeros(50) for name, mean in (("a", 0.1), ("b", 0.9))}
    scores["a"][:25] += 0.01
    (grid,) = comparison(compare(folder(tmp_path / "run", scores, sobel)))
    assert grid.rows[0][0] == "Insertion sobel (control) ↑"
    assert (grid.rows[0][6], grid.best) == ("B", frozenset())
