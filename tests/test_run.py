"""The one loop: it finishes, repeats, survives a kill, keeps failures as rows, and notices damage."""

import json
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import torch

from benchmark import suite
from benchmark.controls import CONTROLS
from benchmark.errors import Interrupted
from benchmark.executors import processes
from benchmark.measuring.place import Place
from benchmark.planner import plan
from benchmark.report.read import read
from benchmark.report.tables.sets import tables
from benchmark.running.interrupts import stoppable
from benchmark.running.run import run
from benchmark.storage import manifest
from benchmark.store import Store, StoreError

TINY = """
name = "tiny"
dataset = "digits"
limit = 20
train_limit = 120
controls = false
gallery.images = 2

[recipe]
epochs = 1

[[trainer]]
name = "standard"

[[trainer]]
name = "pgd_at"
steps = 1

[[metric]]
name = "clean_accuracy"

[[metric]]
name = "pgd"
steps = 2
threat = ["Linf", "L2"]

[[metric]]
name = "roar"
percents = [50]
retrains = 2

[[metric]]
name = "gini"
"""

FAILING = '''
from torch import nan
from torch.nn import functional as F
from trainers.base import from_loss

@from_loss
def {name}(model, x, y, step, *, size: float = 1.0):
    """Fails.

    Formula: none
    """
    {body}
'''


@pytest.fixture(scope="module")
def toml(tmp_path_factory):
    path = tmp_path_factory.mktemp("suites") / "tiny.toml"
    path.write_text(TINY)
    return path


def done(made, folder, workers=1):
    seen = []

    def begin(jobs):
        seen.append(len(jobs))
        return lambda outcome: None

    result = run(made, Place(folder, None, "cpu"), workers, begin=begin, words="bench run")
    return result, seen[0]


@pytest.fixture(scope="module")
def finished(toml, tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished")
    made = plan(suite.read(str(toml)))
    return made, folder, done(made, folder)


def test_the_time_of_an_epoch_is_that_of_the_epochs_after_the_first(toml, tmp_path):
    """Which prepares what later ones find: libraries, memory, what the method makes before its first step."""
    base = suite.read(str(toml))
    done(
        plan(base.model_copy(update={"recipe": {"epochs": 3}, "metric": base.metric[:1]})), tmp_path
    )
    epochs, trained = (pd.read_csv(tmp_path / f"{name}.csv") for name in ("epochs", "trainings"))
    later = epochs[epochs["epoch"] > 0].groupby(["trainer", "seed"])["seconds"].median()
    own = trained.set_index(["trainer", "seed"])["seconds_per_epoch"]
    pd.testing.assert_series_equal(own.sort_index(), later.sort_index(), check_names=False)


def test_a_run_leaves_tidy_records_samples_and_a_manifest(finished):
    made, folder, (result, jobs) = finished
    assert jobs == result.computed == len(made.trainings) * 2 + len(made.cells)
    assert (result.failed, result.damaged, result.status(strict=True)) == ((), (), 0)
    records = pd.read_parquet(folder / "records.parquet")
    assert records.to_csv(index=False) == (folder / "records.csv").read_text()
    assert not records.duplicated(
        ["trainer", "seed", "metric", "params", "threat", "measure", "at"]
    ).any()
    assert set(records["metric"]) == {"clean_accuracy", "pgd", "roar", "gini", "preflight", "cost"}
    work = records[(records["metric"] == "cost") & (records["measure"] == "work")]
    assert set(work.loc[work["trainer"] == "standard", "value"]) == {1.0}
    measured = records[~records["metric"].isin(["preflight", "cost"])]
    assert (measured["n"] == 20).all()
    assert (measured["low"] <= measured["value"]).all()
    assert (measured["value"] <= measured["high"]).all()
    assert set(measured.loc[measured["headline"], "measure"]) == {
        "accuracy",
        "robust_accuracy",
        "score",
        "gini",
    }

    samples = pd.read_parquet(folder / "samples.parquet")
    keys = ["trainer", "seed", "metric", "threat", "measure", "at"]
    means = samples.fillna({"at": -1}).groupby(keys, observed=True)["value"].mean()
    for row in measured.fillna({"at": -1}).to_dict("records"):
        assert means[tuple(row[k] for k in keys)] == pytest.approx(row["value"], abs=1e-6)
    log = manifest.read(folder)
    assert log["data"]["digits"]["train"] == 120
    assert [i["versions"]["torch"] for i in log["invocations"]] == [torch.__version__]
    assert len(log["seconds"]) == result.computed
    index = json.loads((folder / "gallery/index.json").read_text())
    assert all((folder / "gallery" / line["file"]).is_file() for line in index)


def test_a_second_identical_run_does_nothing(finished):
    made, folder, _ = finished
    before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in files(folder)}
    result, jobs = done(made, folder)
    assert (jobs, result.computed) == (0, 0)
    assert {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in files(folder)} == before


def test_a_table_that_a_suite_is_given_later_is_written(finished, tmp_path):
    made, folder, _ = finished
    shutil.copytree(folder, tmp_path / "run")
    own = {"paper": suite.OwnTable(columns=["clean_accuracy"])}
    with_table = plan(made.suite.model_copy(update={"tables": own}))
    assert done(with_table, tmp_path / "run")[1] == 0
    (table,) = tables(read(tmp_path / "run"), "paper")
    assert [column.metric for column in table.columns] == ["clean_accuracy"]


def test_controls_are_measured_beside_the_maps_and_stand_below_them(toml, tmp_path):
    whole = suite.read(str(toml)).model_copy(update={"controls": list(CONTROLS)})
    made = plan(suite.changed(whole, metrics=["gini"]))
    result, jobs = done(made, tmp_path)
    assert (jobs, result.failed) == (2 * 2 + 2 * 4, ())
    found = read(tmp_path)
    (table,) = tables(found, "all")
    assert [c.label for c in table.columns if c.metric == "gini"] == ["Gini gradient"]
    assert [row.name for row in table.controls] == [f"control: {name}" for name in CONTROLS]
    noise = found.records[found.records["label"] == "Gini random"]
    assert noise["value"].nunique() == 1, "noise knows no model"
    assert table.controls[0].cells[0].mean == noise["value"].iloc[0]


def files(folder):
    return sorted(
        p
        for p in folder.rglob("*")
        if p.is_file() and not p.name.endswith(".lock") and "locks" not in p.parts
    )


@pytest.mark.parametrize("workers", [2, 3])
def test_workers_do_not_change_a_byte(finished, tmp_path, workers):
    made, folder, _ = finished
    done(made, tmp_path, workers)
    for name in ("records.csv", "verdicts.parquet"):
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes(), name


def test_warnings_and_failures_of_preflight_are_told_apart(toml, tmp_path):
    made = plan(
        suite.changed(suite.read(str(toml)), trainers=["standard"], metrics=["clean_accuracy"])
    )
    done(made, tmp_path)
    (path,) = (tmp_path / "store/inspections").glob("*.safetensors")
    store, tensors = Store(tmp_path), {}

    def look(**levels):
        findings = {name: [level, "odd", "mend it"] for name, level in levels.items()}
        store.save("inspections", path.stem, tensors, {"preflight": findings})
        (tmp_path / "records.csv").unlink()
        return done(made, tmp_path)[0]

    warned = look(finite="PASS", gradient="WARN")
    told = ("WARN", "digits, standard, seed 0: gradient: odd: mend it")
    assert warned.unfit == (told,)
    assert warned.status(strict=True) == 0
    failed = look(finite="PASS", gradient="WARN", logits="FAIL")
    assert failed.unfit == (told, ("FAIL", "digits, standard, seed 0: logits: odd: mend it"))
    assert (failed.status(strict=True), failed.status(strict=False)) == (3, 0)
    rows = pd.read_csv(tmp_path / "records.csv", keep_default_na=False)
    rows = rows.query("metric == 'preflight'").set_index("measure")
    assert rows["value"].astype(float).to_dict() == {"finite": 1.0, "gradient": 0.5, "logits": 0.0}
    assert rows["note"].to_dict() == {
        "finite": "",
        "gradient": "odd: mend it",
        "logits": "odd: mend it",
    }


def test_the_verdicts_are_those_of_the_samples(finished):
    """Per image: what the attack of each threat did, straight from the samples."""
    made, folder, _ = finished
    verdicts = pd.read_parquet(folder / "verdicts.parquet")
    samples = pd.read_parquet(folder / "samples.parquet")
    assert len(verdicts) == len(made.trainings) * 2 * 20
    keys = ["trainer", "threat", "image"]
    clean = samples[samples["measure"] == "accuracy"]
    clean = clean[clean["metric"] == "clean_accuracy"].set_index(["trainer", "image"])["value"]
    pgd = samples[samples["metric"] == "pgd"].pivot_table(
        index=keys, columns="measure", values="value", observed=True
    )
    for row in verdicts.itertuples():
        scores = pgd.loc[(row.trainer, row.threat, row.image)]
        assert row.clean_correct == (clean[row.trainer, row.image] == 1)
        broke = row.clean_correct and scores["robust_accuracy"] == 0
        assert row.broken_by == ("PGD-2" if broke else "")
        assert (row.norm, row.margin) == (scores["perturbation"], scores["margin"])


def test_more_seeds_and_metrics_compute_only_what_is_new(toml, tmp_path):
    first = suite.changed(suite.read(str(toml)), trainers=["standard"], metrics=["clean_accuracy"])
    assert done(plan(first), tmp_path)[1] == 3
    more = suite.changed(
        suite.read(str(toml)),
        trainers=["standard"],
        metrics=["clean_accuracy", "gini"],
        seeds=[0, 1],
    )
    assert done(plan(more), tmp_path)[1] == 1 + 4
    # an earlier, smaller command again: nothing to do, nothing lost
    assert done(plan(first), tmp_path)[1] == 0
    assert (
        len(pd.read_csv(tmp_path / "records.csv").query("metric not in ('preflight', 'cost')")) == 4
    )


def test_the_order_of_the_rows_is_that_of_the_plan_whatever_was_done_before(
    toml, finished, tmp_path
):
    base = suite.read(str(toml))
    done(plan(suite.changed(base, metrics=["gini"])), tmp_path)
    done(finished[0], tmp_path)
    assert (tmp_path / "records.csv").read_bytes() == (finished[1] / "records.csv").read_bytes()


def test_a_folder_of_another_suite_is_left_alone(toml, finished):
    _, folder, _ = finished
    before = {path: path.read_bytes() for path in files(folder)}
    other = suite.read(str(toml)).model_copy(update={"name": "other"})
    with pytest.raises(StoreError, match="holds results of suite 'tiny', not of 'other'"):
        done(plan(other), folder)
    assert {path: path.read_bytes() for path in files(folder)} == before


@pytest.mark.parametrize("workers", [1, 2])
def test_a_failure_is_a_row_with_its_reason_and_the_others_go_on(toml, tmp_path, workers):
    names = {"diverges": "return model(x).sum() * nan", "crashes": "raise OSError('no [luck]')"}
    for name, body in names.items():
        (tmp_path / f"{name}.py").write_text(FAILING.format(name=name, body=body))
    base = suite.read(str(toml))
    paths = [str(tmp_path / f"{name}.py") for name in names]
    made = plan(suite.changed(base, trainers=["standard", *paths], metrics=["clean_accuracy"]))
    result, _ = done(made, tmp_path / "out", workers)
    assert result.status(strict=False) == 1
    records = (
        pd.read_parquet(tmp_path / "out/records.parquet")
        .query("metric == 'clean_accuracy'")
        .set_index("trainer")
    )
    assert records.loc["standard", "value"] > 0
    assert records.loc["diverges", "note"].startswith(
        "its model failed: the training loss is nan in epoch 1, step 1"
    )
    assert records.loc["crashes", "note"] == "its model failed: OSError: no [luck]"
    assert records.loc[["diverges", "crashes"], "value"].isna().all()

    # mended, the same command continues: only the mended model is computed
    (tmp_path / "crashes.py").write_text(
        FAILING.format(name="crashes", body="return F.cross_entropy(model(x), y)")
    )
    clear_code_caches()
    again, _ = done(plan(made.suite), tmp_path / "out", workers=1)
    assert again.computed == 3
    notes = pd.read_parquet(tmp_path / "out/records.parquet").set_index("trainer")["note"]
    assert "no [luck]" not in " ".join(notes)


def clear_code_caches():
    from benchmark import keys

    keys.code_version.cache_clear()
    keys._code.cache_clear()


def test_a_damaged_model_is_noticed_and_told_apart_from_failure(toml, tmp_path):
    base = suite.read(str(toml))
    done(plan(suite.changed(base, trainers=["standard"], metrics=["clean_accuracy"])), tmp_path)
    (path,) = (tmp_path / "store/models").glob("*.safetensors")
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    more = plan(suite.changed(base, trainers=["standard"], metrics=["gini"]))
    result, _ = done(more, tmp_path)
    assert result.status(strict=False) == 5
    assert "delete it to have it computed anew" in result.failed[0][1]
    path.unlink()
    assert done(more, tmp_path)[0].status(strict=False) == 0


def bench(*words, **options):
    return subprocess.Popen([sys.executable, "-m", "benchmark.cli", *map(str, words)], **options)


@pytest.mark.parametrize("workers", [1, 2])
def test_killed_at_random_moments_it_continues_to_the_same_records(
    toml, finished, tmp_path, workers
):
    words = ["run", "--suite", toml, "--out", tmp_path, "--workers", workers]
    chance = random.Random(workers)
    for _ in range(3):
        process = bench(*words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(chance.uniform(1.5, 6.0))
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert bench(*words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).wait() == 0
    assert (tmp_path / "records.csv").read_bytes() == (finished[1] / "records.csv").read_bytes()
    assert not list(tmp_path.rglob(".writing-*"))


def test_interrupted_it_says_how_to_continue(toml, tmp_path):
    process = bench(
        "run",
        "--suite",
        toml,
        "--out",
        tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    while not (tmp_path / "plan.json").is_file():
        time.sleep(0.05)
        assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 4, said
    assert f"continue with the same command: bench run --suite {toml} --out {tmp_path}" in said
    assert "Traceback" not in said


def test_a_signal_waits_until_a_worker_has_begun(monkeypatch):
    begun = []

    def cut_off(process):
        signal.raise_signal(signal.SIGTERM)
        begun.append(process)

    monkeypatch.setattr(processes._SPAWN.Process, "start", cut_off)
    with pytest.raises(Interrupted, match="given again"), stoppable("given again"):
        processes.Processes(2)
    assert len(begun) == 1  # the signal came after the first and before the second


RUDE = {
    "leaves": ("raise SystemExit(0)", "SystemExit: 0"),
    "stops": ("raise KeyboardInterrupt", "KeyboardInterrupt: "),
    "silent": ("raise Mute", "Mute: (its message cannot be shown)"),
    "own": ("raise Own(1, 2)", "Own: (1, 2)"),
}


def test_whatever_a_users_code_raises_is_a_row_and_harms_no_other(toml, tmp_path):
    head = (
        "class Mute(Exception):\n    def __str__(self):\n        raise RuntimeError\n\n"
        "class Own(Exception):\n    def __init__(self, a, b):\n        super().__init__(a, b)\n"
    )
    for name, (body, _) in RUDE.items():
        (tmp_path / f"{name}.py").write_text(head + FAILING.format(name=name, body=body))
    paths = [str(tmp_path / f"{name}.py") for name in RUDE]
    base = suite.read(str(toml))
    made = plan(suite.changed(base, trainers=[*paths, "standard"], metrics=["clean_accuracy"]))
    done(made, tmp_path / "out", 2)
    rows = (
        pd.read_parquet(tmp_path / "out/records.parquet")
        .query("metric == 'clean_accuracy'")
        .set_index("trainer")
    )
    assert rows.loc["standard", "value"] > 0
    for name, (_, reason) in RUDE.items():
        assert rows.loc[name, "note"].strip() == f"its model failed: {reason}".strip(), name


METRIC = """
import numpy as np
import torch
{head}

def {name}(case):
    '''Words.

    Measures:
        x (higher, 0..1): X.
    '''
    {body}
    return {{"x": (case.y == case.y).float() * {value}}}
"""


def own_metric(folder, name, body="pass", value="0.5", head=""):
    path = folder / f"{name}.py"
    path.write_text(METRIC.format(name=name, body=body, value=value, head=head))
    return str(path)


def test_a_metric_that_spoils_its_inputs_or_global_state_harms_no_other(toml, finished, tmp_path):
    spoil = "case.x.mul_(0); case.y.mul_(0); torch.set_default_dtype(torch.float64); torch.set_grad_enabled(False)"
    base = suite.read(str(toml))
    first = suite.Entry(name=own_metric(tmp_path, "spoils", spoil))
    result, _ = done(
        plan(base.model_copy(update={"metric": [first, *base.metric]})), tmp_path / "out"
    )
    assert result.failed == ()
    folders = (tmp_path / "out", finished[1])
    spoilt, clean = (pd.read_csv(f / "records.csv").query("metric != 'spoils'") for f in folders)
    assert spoilt["value"].tolist() == clean["value"].tolist()


def test_a_metric_that_leaves_the_working_directory_harms_no_other(toml, tmp_path, monkeypatch):
    """Here, into a folder that was named from where the run began."""
    away = tmp_path / "away"
    away.mkdir()
    monkeypatch.chdir(tmp_path)
    leaves = own_metric(tmp_path, "leaves", f"import os; os.chdir({str(away)!r})")
    base = suite.read(str(toml))
    made = plan(suite.changed(base, trainers=["standard"], metrics=[leaves, "gini"]))
    assert done(made, Path("out"))[0].failed == ()
    rows = pd.read_csv("out/records.csv")
    assert {"leaves", "gini"} <= set(rows["metric"])
    assert not list(away.iterdir())


@pytest.mark.parametrize("value", ["5.0", "torch.inf", "-1.0"])
def test_scores_out_of_the_cards_range_are_refused(toml, tmp_path, value):
    path = own_metric(tmp_path, "wild", value=value)
    base = suite.read(str(toml))
    made = plan(suite.changed(base, trainers=["standard"], metrics=["clean_accuracy", path]))
    result, _ = done(made, tmp_path / "out")
    assert len(result.failed) == 1
    assert "its card says 0..1" in result.failed[0][1]


def test_helpers_of_a_users_file_are_imported_and_noticed_when_they_change(toml, tmp_path):
    (tmp_path / "helping").mkdir()
    path = own_metric(tmp_path, "helped", value="SHARE", head="from helping import SHARE")
    words = [
        "run",
        "--suite",
        toml,
        "--metric",
        path,
        "--metric",
        "clean_accuracy",
        "--trainer",
        "standard",
    ]
    for value in (0.75, 0.25):
        (tmp_path / "helping/__init__.py").write_text(f"SHARE = {value}\n")
        assert bench(*words, "--out", tmp_path / "out", stdout=subprocess.DEVNULL).wait() == 0
        rows = pd.read_csv(tmp_path / "out/records.csv").set_index("metric")
        assert rows.loc["helped", "value"] == value


def test_another_recipe_does_not_join_the_seeds_of_the_first(toml, tmp_path):
    base = suite.changed(suite.read(str(toml)), trainers=["standard"], metrics=["clean_accuracy"])
    done(plan(base), tmp_path)
    longer = base.model_copy(update={"recipe": {"epochs": 2}, "seeds": [1]})
    result, _ = done(plan(longer), tmp_path)
    assert result.dropped == 1
    rows = pd.read_csv(tmp_path / "records.csv").query("metric == 'clean_accuracy'")
    assert rows["seed"].tolist() == [1]


def test_a_row_that_left_the_suites_file_leaves_the_tables_and_comes_back(tmp_path):
    """One that a command's options added stays; a command that asks for less takes nothing away."""
    path, out = tmp_path / "mine.toml", tmp_path / "out"
    text = TINY[: TINY.index('[[metric]]\nname = "pgd"')]

    def rows(text, **options):
        path.write_text(text)
        result, jobs = done(plan(suite.changed(suite.read(str(path)), **options)), out)
        found = pd.read_csv(out / "records.csv").query("metric == 'clean_accuracy'")
        return {*zip(found["trainer"], found["seed"], strict=True)}, result.dropped, jobs

    both = {("standard", 0), ("pgd_at (Linf 0.1, steps=1)", 0)}
    added = ("standard", 4)
    assert rows(text)[0] == both
    assert rows(text, trainers=["standard"], seeds=[4])[:2] == ({*both, added}, 0)
    fewer = text.replace('[[trainer]]\nname = "pgd_at"\nsteps = 1\n', "")
    assert rows(fewer)[:2] == ({("standard", 0), added}, 1)
    assert rows(text) == ({*both, added}, 0, 0)


@pytest.mark.parametrize(
    "name", ["records.csv", "records.parquet", "gallery/index.json", "manifest.json"]
)
def test_files_made_from_the_store_come_back(toml, tmp_path, name):
    base = suite.read(str(toml))
    made = plan(suite.changed(base, trainers=["standard"], metrics=["clean_accuracy"]))
    done(made, tmp_path)
    before = (tmp_path / name).read_bytes()
    (tmp_path / name).unlink()
    assert done(made, tmp_path)[1] == 0
    if name != "manifest.json":
        assert (tmp_path / name).read_bytes() == before
        (tmp_path / name).write_bytes(before[:-5])
        done(made, tmp_path)
        assert (tmp_path / name).read_bytes() == before
    assert (tmp_path / name).is_file()


@pytest.mark.parametrize("kind", ["cells", "inspections", "models"])
def test_damage_is_told_and_the_rest_is_reported(toml, tmp_path, kind):
    base = suite.changed(suite.read(str(toml)), trainers=["standard"], metrics=["clean_accuracy"])
    done(plan(base), tmp_path)
    (path,) = (tmp_path / "store" / kind).glob("*.safetensors")
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    result, _ = done(plan(base), tmp_path)
    assert result.status(strict=False) == 5
    assert path.name in result.damaged[0]
    (tmp_path / "records.csv").unlink()
    done(plan(base), tmp_path)
    assert (tmp_path / "records.csv").is_file()
    path.unlink()
    assert done(plan(base), tmp_path)[0].status(strict=False) == 0


def test_the_store_of_a_run_holds_no_code(finished):
    """Everything written is safetensors, JSON or a table: nothing that could run when it is read."""
    _, folder, _ = finished
    assert {path.suffix for path in files(folder)} == {
        ".safetensors",
        ".json",
        ".csv",
        ".parquet",
        ".digest",
    }
