"""The health table: findings and verdicts from the records of a run, in every form they are shown in."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pandas as pd
import pytest
from rich.console import Console

from benchmark.gradient_masking import REMEDIES
from benchmark.report import health
from benchmark.report.formats.grid_tex import grid_latex
from benchmark.report.formats.grids import grid_markdown
from benchmark.report.read import COLUMNS, Run, tidy
from benchmark.report.write import terminal, write

MEASURES = {
    "masked": 0.0, "fgsm": 0.5, "pgd20": 0.5, "pgd100": 0.5, "margin": 0.5, "white_box": 0.5, "square": 0.6,
    "noise": 0.9, "fgsm_only": 0.0, "pgd20_only": 0.0, "margin_only": 0.0, "square_only": 0.0,
    "noise_only": 0.0, "large_eps": 0.0, "zero_gradient": 0.0, "saturated": 0.0,
}  # fmt: skip
Rows = list[dict[str, object]]


def row(trainer: str, metric: str, measure: str, value: float, **more: object) -> dict[str, object]:
    usual = dict.fromkeys(COLUMNS, "") | {
        "dataset": "digits", "model": "mlp", "at": float("nan"), "low": value, "high": value, "stderr": 0.0,
        "n": 1, "seed": 0, "headline": False, "reconstruction": False, "direction": "higher", "range": "0..1",
    }  # fmt: skip
    return {
        **usual,
        "trainer": trainer,
        "metric": metric,
        "measure": measure,
        "value": value,
        **more,
    }


def looked(trainer: str, seed: int = 0, **notes: tuple[float, str]) -> Rows:
    """Preflight's rows: two passed checks, and what the notes say."""
    checks = {"finite": (1.0, ""), "classes": (1.0, ""), **notes}
    return [
        row(trainer, "preflight", name, value, note=note, seed=seed, family="preflight")
        for name, (value, note) in checks.items()
    ]


def measured(trainer: str, seed: int = 0, threat: str = "Linf 0.1", **changes: float) -> Rows:
    values = {**MEASURES, **changes}
    return [
        row(trainer, "masking", name, value, n=100, seed=seed, threat=threat, headline=name == "masked",
            family="robustness", label="Masked", direction="lower")
        for name, value in values.items()
    ]  # fmt: skip


def run(*rows: Rows) -> Run:
    return Run(tidy(pd.DataFrame([each for part in rows for each in part], columns=list(COLUMNS))))


def text_of(found: Run) -> str:
    return "\n\n".join(map(grid_markdown, health.grids(found)))


SOFT = (0.5, "log-probabilities: leave it out: now")
LATE = (0.0, "train-mode: call model.eval()")


def test_the_worst_of_all_findings_counts_and_is_told_first() -> None:
    table = health.health(
        run(
            looked("good"), measured("good"),
            looked("odd", logits=SOFT), measured("odd"),
            looked("bad", logits=SOFT, mode=LATE), measured("bad", zero_gradient=0.5, saturated=0.3),
        ).records
    )  # fmt: skip
    assert [(line.name, line.preflight, line.masking) for line in table] == [
        ("good", "PASS", "PASS"), ("odd", "WARN", "PASS"), ("bad", "FAIL", "FAIL"),
    ]  # fmt: skip
    assert table[0].reasons == ()
    assert table[1].reasons == ("WARN log-probabilities: leave it out: now",)
    assert [reason.partition(":")[0] for reason in table[2].reasons] == [
        "FAIL train-mode", "FAIL zero-gradient under ℓ∞ 0.1",
        "WARN log-probabilities", "WARN saturated under ℓ∞ 0.1",
    ]  # fmt: skip
    assert "50.0% of 100 images have a gradient of exactly 0" in table[2].reasons[1]
    assert REMEDIES["zero-gradient"] in table[2].reasons[1]


def test_what_was_not_looked_at_is_no_pass() -> None:
    failed = [row("failed", "masking", "masked", float("nan"), n=0, note="out of memory")]
    table = health.health(run(looked("only"), measured("other"), failed).records)
    assert [(line.name, line.preflight, line.masking) for line in table] == [
        ("only", "PASS", ""), ("other", "", "PASS"), ("failed", "", ""),
    ]  # fmt: skip
    assert health.health(run([row("pgd_at", "pgd", "robust_accuracy", 0.5)]).records) == []
    assert text_of(run([row("pgd_at", "pgd", "robust_accuracy", 0.5)])) == ""


def test_an_inspection_that_failed_is_told() -> None:
    rows = [row("t", "preflight", "inspection", 0.0, note="out of memory")]
    (line,) = health.health(run(rows).records)
    assert (line.preflight, line.reasons) == ("FAIL", ("FAIL inspection: out of memory",))


def test_a_reason_names_its_seeds_unless_they_are_all() -> None:
    parts = [
        *(looked("t", seed, mode=LATE) for seed in (0, 1, 2)),
        *(measured("t", seed, zero_gradient=0.5 * (seed == 1)) for seed in (0, 1, 2)),
    ]
    (line,) = health.health(run(*parts).records)
    assert (line.preflight, line.masking) == ("FAIL", "FAIL")
    mode, dead = line.reasons
    assert mode == "FAIL train-mode: call model.eval()"
    assert dead.endswith("(seed 1)")


def test_every_threat_has_a_verdict_of_its_own() -> None:
    parts = [measured("t"), measured("t", threat="L2 1.0", large_eps=0.5)]
    (line,) = health.health(run(*parts).records)
    assert line.masking == "FAIL"
    assert [reason.partition(":")[0] for reason in line.reasons] == [
        "FAIL large-eps-holds under ℓ₂ 1.0"
    ]


def test_markdown_shows_text_as_it_is() -> None:
    text = text_of(run(looked("a|b", logits=(0.5, "log-probabilities: x | y"))))
    (line,) = (line for line in text.splitlines() if "WARN" in line and line.startswith("| a"))
    assert line == r"| a\|b | **WARN** | – | WARN log-probabilities: x \| y |"
    assert text.startswith("## Health on digits\n\n|  | Preflight | Masking | Reasons |\n")
    assert text.endswith(health.CAPTION)


def test_latex_has_the_levels_and_the_reasons() -> None:
    (grid,) = health.grids(run(looked("a_b & <c>", logits=SOFT), measured("a_b & <c>")))
    text = grid_latex(grid)
    assert (
        r"a\_b \& \ensuremath{<}c\ensuremath{>} & \textbf{WARN} & PASS & WARN log-probabilities"
        in text
    )
    assert r"\label{tab:health-digits}" in text


def test_the_csv_holds_every_finding() -> None:
    files = health.tidy_csv(run(looked("t", logits=SOFT), measured("t", zero_gradient=0.5)))
    lines = list(csv.DictReader(io.StringIO(files["digits"])))
    assert [(line["check"], line["level"], line["code"]) for line in lines] == [
        ("finite", "PASS", ""), ("classes", "PASS", ""), ("logits", "WARN", "log-probabilities"),
        ("masking", "FAIL", "zero-gradient"),
    ]  # fmt: skip
    assert lines[3]["threat"] == "Linf 0.1"


def test_a_reconstruction_has_its_dagger_here_too() -> None:
    built = [{**each, "reconstruction": True} for each in measured("sagr")]
    (grid,) = health.grids(run(looked("standard"), looked("sagr"), built))
    assert [cells[0] for cells in grid.rows] == ["standard", "sagr†"]
    assert "†: reconstruction" in grid.caption
    (other,) = health.grids(run(looked("standard")))
    assert "†" not in other.caption


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rows = [
        *looked("t", mode=LATE),
        *measured("t"),
        row("t", "pgd", "robust_accuracy", 0.5, headline=True),
    ]
    pd.DataFrame(rows, columns=list(COLUMNS)).to_parquet(tmp_path / "records.parquet")
    (tmp_path / "manifest.json").write_text(json.dumps({}))
    return tmp_path


def test_it_stands_in_the_report_and_in_the_terminal(folder: Path) -> None:
    (folder / "report").mkdir()
    stale = folder / "report" / "health-gone.csv"
    stale.touch()
    names = {path.name for path in write(folder)}
    assert "health-digits.csv" in names
    assert not stale.exists(), "of a data set that the run has no longer"
    page = (folder / "report" / "report.md").read_text(encoding="utf-8")
    assert "| t | **FAIL** | PASS | FAIL train-mode: call model.eval() |" in page
    console = Console(width=100, record=True, file=io.StringIO())
    for part in terminal(folder):
        console.print(part)
    shown = console.export_text()
    assert "Health on digits" in shown
    assert "FAIL train-mode: call model.eval()" in shown


def attacked(trainer: str, seed: int, pgd: float, auto_attack: float) -> Rows:
    usual = {"seed": seed, "threat": "Linf 0.1", "headline": True, "family": "robustness"}
    return [
        row(trainer, "pgd", "robust_accuracy", pgd + 0.2, label="PGD-10", **usual),
        row(trainer, "pgd", "robust_accuracy", pgd, label="PGD-20", **usual),
        row(trainer, "auto_attack", "robust_accuracy", auto_attack, label="AutoAttack", **usual),
    ]


def test_what_looks_robust_to_pgd_and_falls_to_autoattack_is_told_so() -> None:
    found = run(
        attacked("honest", 0, 0.60, 0.55), attacked("honest", 1, 0.62, 0.49),
        attacked("masked", 0, 0.60, 0.02), attacked("masked", 1, 0.50, 0.00),
    )  # fmt: skip
    honest, masked = (health.Health("honest", "", "", ()), health.health(found.records)[1])
    assert health.health(found.records)[0] == honest
    assert (masked.name, masked.masking) == ("masked", "WARN")
    assert masked.reasons == (
        "WARN pgd-overrates under ℓ∞ 0.1: PGD-20 says 55.0%, AutoAttack 1.0%: quote AutoAttack",
    )
