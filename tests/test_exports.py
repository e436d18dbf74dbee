"""What a run gives to others: the papers to cite, RobustBench's claims, frames for a notebook."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import Result
from typer.testing import CliRunner

import benchmark
from benchmark.cards import cards
from benchmark.cards.references import SourceError, cited, plain, references, sources, words
from benchmark.cli import app
from benchmark.report.citations import bibtex
from benchmark.report.claims import claims
from benchmark.report.read import COLUMNS, ReportError, Run, tidy
from benchmark.storage.samples import COLUMNS as SAMPLE_COLUMNS
from benchmark.storage.trainings import COLUMNS as TRAININGS
from benchmark.storage.trainings import EPOCHS

PAPERS = {
    f"{kind} {name}": card.sections["Paper"]
    for kind in ("trainers", "metrics")
    for name, card in cards(kind).items()
    if "Paper" in card.sections
}


@pytest.mark.parametrize("method", PAPERS)
def test_every_paper_of_every_card_has_an_entry(method: str) -> None:
    paper = " ".join(PAPERS[method].split())
    found = cited(paper)
    assert len(found) == paper.count(";") + 1
    for entry, part in zip(found, paper.split(";"), strict=True):
        assert entry.year in part
        named = words(entry.surname) in words(part) or any(what == "alias" for what, _ in entry.of)
        assert named, f"{entry.key} is by {entry.surname}, the card says {part!r}"


def test_every_attribution_has_a_source_but_the_controls() -> None:
    own = {"random", "sobel"}
    names = {name for name in cards("attributions") if not name.startswith("blurred_")}
    assert {name for name in names if not sources("attribution", [name])} == own


def test_the_entries_are_whole_and_read_as_bibtex() -> None:
    text = (Path(benchmark.__file__).parent / "cards/references.bib").read_text(encoding="utf-8")
    assert len(references()) == len(re.findall(r"^@", text, re.MULTILINE)), (
        "an entry is not of the form that is read"
    )
    for key, entry in references().items():
        fields = dict(entry.fields)
        assert fields["author"], key
        assert re.fullmatch(r"(19|20)\d\d", entry.year), key
        assert entry.year in key, key
        assert entry.bibtex().count("{") == entry.bibtex().count("}"), key
        venue = {"article": "journal", "inproceedings": "booktitle", "techreport": "institution"}
        assert entry.kind == "misc" or venue[entry.kind] in fields, key
    datasets = {
        name for entry in references().values() for what, name in entry.of if what == "dataset"
    }
    assert datasets == set(cards("datasets")) - {"folder", "planted"}


def test_a_paper_without_an_entry_is_an_error() -> None:
    with pytest.raises(
        SourceError, match=r"Nobody 1999.*which entry of references\.bib is it\? none"
    ):
        cited('Nobody 1999, "Nothing"')
    with pytest.raises(SourceError, match="several: croce2020"):
        cited("Croce & Hein 2020")
    assert cited("") == []


def test_accents_are_read() -> None:
    assert plain(r"B{\"o}hle, M{\k{a}}dry, {\'E}, {RISE} \& x") == "Böhle, Mądry, É, RISE & x"


def line(
    metric: str,
    value: float,
    model: str = "mlp",
    trainer: str = "pgd_at (Linf 8/255)",
    **more: object,
) -> dict[str, object]:
    usual = dict.fromkeys(COLUMNS, "") | {
        "dataset": "cifar10", "model": model, "trainer": trainer, "metric": metric, "family": "robustness", "seed": 0,
        "value": value, "low": value - 0.01, "high": value + 0.01, "n": 500, "headline": True, "at": np.nan,
        "reconstruction": False, "measure": "accuracy", "range": "0..1", "direction": "higher", "label": metric,
    }  # fmt: skip
    return {**usual, **more}


THEIRS = "robustbench:cifar10/Linf/Wong2020Fast?dir=x"
ROWS = [
    line("clean_accuracy", 0.8),
    line("auto_attack", 0.41234, threat="Linf 8/255"),
    line("auto_attack", 0.5, threat="Linf 8/255", params='{"queries": 10}'),
    line("roar", 0.1, family="fidelity", params='{"attribution": "integrated_gradients"}'),
    line("clean_accuracy", 0.83, THEIRS, "pretrained"),
    line("auto_attack", 0.43, THEIRS, "pretrained", threat="Linf 8/255"),
    line(
        "masking",
        0.3,
        THEIRS,
        "pretrained",
        measure="zero_gradient",
        threat="Linf 8/255",
        headline=False,
    ),
]
MANIFEST = {"invocations": [{"versions": {"torch": "2", "captum": "0.9", "pandas": ""}}]}


def run(*rows: dict[str, object]) -> Run:
    return Run(tidy(pd.DataFrame(rows)), MANIFEST)


def test_the_bibliography_has_what_was_used_and_nothing_else() -> None:
    text = bibtex(run(*ROWS))
    keys = re.findall(r"^@\w+\{(.*),$", text, re.MULTILINE)
    assert len(keys) == len(set(keys))
    used = {"bridgebench", "madry2018towards", "croce2020reliable", "hooker2019benchmark", "sundararajan2017axiomatic",
            "krizhevsky2009learning", "paszke2019pytorch", "Wong2020Fast", "holm1979simple"}  # fmt: skip
    assert used <= set(keys)
    assert not {
        "mckinney2010data",
        "zhang2019theoretically",
        "lecun1998gradient",
        "simonyan2014deep",
    } & set(keys)
    assert "% training pgd_at" in text
    assert "keywords" not in text
    assert "smilkov2017smoothgrad" not in text


def test_the_longest_beginning_of_a_label_tells_the_trainer() -> None:
    text = bibtex(run(line("clean_accuracy", 0.5, trainer="awp on trades (Linf 8/255)")))
    assert "% training awp\n" in text
    assert "wu2020adversarial" in text


def test_a_claim_has_robustbenchs_fields() -> None:
    found = {path: json.loads(content) for path, content in claims(run(*ROWS)).items()}
    assert set(found) == {"cifar10/Linf/pgd_at-linf-8-255.json", "cifar10/Linf/Wong2020Fast.json"}
    ours, theirs = (
        found["cifar10/Linf/pgd_at-linf-8-255.json"],
        found["cifar10/Linf/Wong2020Fast.json"],
    )
    assert (ours["clean_acc"], ours["autoattack_acc"], ours["eps"]) == ("80.00", "41.23", "8/255")
    assert (ours["architecture"], theirs["architecture"]) == ("mlp", "PreActResNet-18")
    assert "500 test images (95% interval 40.23 to 42.23)" in ours["footnote"]
    # the fields of robustbench.utils.ModelInfo that are no corruptions, and the one that its leaderboard adds
    assert set(ours) == {
        "link", "name", "authors", "additional_data", "number_forward_passes", "dataset", "venue", "architecture",
        "eps", "clean_acc", "reported", "autoattack_acc", "footnote", "unreliable",
    }  # fmt: skip


def test_seeds_are_checkpoints_of_their_own() -> None:
    rows = [{**row, "seed": seed} for row in ROWS[:2] for seed in (0, 1)]
    assert [Path(path).stem[-5:] for path in claims(run(*rows))] == ["seed0", "seed1"]


def test_of_several_radii_each_has_a_claim() -> None:
    auto = [row for row in ROWS if row["metric"] == "auto_attack"]
    half = [{**row, "threat": "Linf 4/255", "value": 0.6} for row in auto]
    found = {path: json.loads(content) for path, content in claims(run(*ROWS, *half)).items()}
    assert {path: content["eps"] for path, content in found.items()} == {
        "cifar10/Linf/pgd_at-linf-8-255-eps-8-255.json": "8/255",
        "cifar10/Linf/pgd_at-linf-8-255-eps-4-255.json": "4/255",
        "cifar10/Linf/Wong2020Fast-eps-8-255.json": "8/255",
        "cifar10/Linf/Wong2020Fast-eps-4-255.json": "4/255",
    }


def test_without_autoattack_there_is_no_claim() -> None:
    with pytest.raises(ReportError, match="it takes clean_accuracy and auto_attack"):
        claims(run(ROWS[0], ROWS[2]))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A run's folder as `bench run` leaves it, with two models."""
    rows = [
        line(metric, share, trainer=trainer, threat=threat, dataset="digits")
        for trainer, share in (("standard", 0.5), ("pgd_at (Linf 0.1)", 0.75))
        for metric, threat in (("clean_accuracy", ""), ("auto_attack", "Linf 0.1"))
    ]
    facts = set(SAMPLE_COLUMNS) - {"refit", "image", "label", "value"}
    samples = [
        {
            **{name: row[name] for name in facts},
            "refit": 0,
            "image": image,
            "label": image % 10,
            "value": float(image < 20 * float(str(row["value"]))),
        }
        for row in rows
        for image in range(20)
    ]
    verdicts = [
        {"dataset": "digits", "model": "mlp", "trainer": "standard", "seed": 0,
         "threat": "Linf 0.1", "image": i, "label": 0,
         "clean_correct": True, "broken_by": "APGD" if i % 2 else "", "norm": 0.1, "margin": 0.5}
        for i in range(6)
    ]  # fmt: skip
    pd.DataFrame(rows).assign(key="k").to_parquet(tmp_path / "records.parquet")
    pd.DataFrame(samples).to_parquet(tmp_path / "samples.parquet")
    pd.DataFrame(verdicts).to_parquet(tmp_path / "verdicts.parquet")
    pd.DataFrame([dict.fromkeys(TRAININGS, 1)]).to_csv(tmp_path / "trainings.csv", index=False)
    return tmp_path


def test_results_say_in_a_line_what_they_are(folder: Path) -> None:
    (folder / "manifest.json").write_text('{"suite": "mine"}')
    told = f"Results(suite mine on digits: 2 models, 2 measures, in {folder})"
    assert repr(benchmark.load(folder)) == told


def test_a_folder_is_frames_in_one_line(folder: Path) -> None:
    results = benchmark.load(folder)
    assert [
        len(frame)
        for frame in (results.records, results.samples, results.verdicts, results.trainings)
    ] == [4, 80, 6, 1]
    assert (
        set(results.records)
        == set(pd.read_parquet(folder / "records.parquet"))
        == {*COLUMNS, "key"}
    )
    table = results.table()
    assert table.loc["standard", ("robustness", "clean_accuracy", "")] == pytest.approx(50)
    assert table.shape == (2, 2)
    assert results.table("robustness").equals(table)
    assert r"\begin{table*}" in results.text("main", "latex")
    with pytest.raises(ReportError, match="no such table"):
        results.table("nothing")


def test_the_examples_of_the_documentation_run(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = Path(__file__).parent.parent / "docs" / "data.md"
    examples = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    assert len(examples) >= 3
    own = benchmark.load
    monkeypatch.setattr(benchmark, "load", lambda _: own(folder))
    for example in examples:
        exec(compile(example, str(page), "exec"), {})
    assert capsys.readouterr().out


def test_the_documented_columns_are_those_that_there_are() -> None:
    from benchmark.storage.rows import COLUMNS as RECORDS
    from benchmark.storage.verdicts import COLUMNS as VERDICTS

    page = (Path(__file__).parent.parent / "docs" / "data.md").read_text(encoding="utf-8")
    for name, columns in {
        "records": RECORDS,
        "samples": SAMPLE_COLUMNS,
        "verdicts": VERDICTS,
        "trainings": TRAININGS,
        "epochs": EPOCHS,
    }.items():
        section = page.partition(f"## {name}.")[2].partition("\n## ")[0]
        told = re.findall(r"^\| ((?:`\w+`(?:, )?)+) \|", section, re.MULTILINE)
        assert {column for cell in told for column in re.findall(r"\w+", cell)} == set(columns), (
            name
        )


def bench(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["export", *map(str, arguments)])


def test_the_command_writes_files(folder: Path, tmp_path: Path) -> None:
    assert "@misc{alpaydin1998optical," in bench(folder, "--what", "bibtex").stdout
    assert bench(folder, "-w", "bibtex", "-o", tmp_path / "a.bib").exit_code == 0
    assert (tmp_path / "a.bib").read_text() == bench(folder, "-w", "bibtex").stdout
    done = bench(folder, "-w", "robustbench")
    assert done.exit_code == 0
    assert len(list((folder / "model_info" / "digits" / "Linf").glob("*.json"))) == 2
    assert "no leaderboard of digits" in done.stderr
