"""The command line: what it prints where, its exit status, and bad input - one line, status 2, nothing written."""

import json
import os
import pickle
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from typer.main import get_command

from benchmark.cards import cards
from benchmark.cli import _EXAMPLES, app
from benchmark.measuring.networks import untrained
from benchmark.measuring.place import dataset
from benchmark.plan import DataSpec
from benchmark.report.formats.latex import WIDTH
from benchmark.suite import read, scaled
from trainers.recipe import Recipe

ROOT = Path(__file__).resolve().parent.parent
SUITE = """
name = "tiny"
dataset = "digits"
limit = 20
train_limit = 100
gallery.images = 1
[recipe]
epochs = 1
[[trainer]]
name = "standard"
[[metric]]
name = "clean_accuracy"
"""


@pytest.fixture
def place(tmp_path):
    """A folder with a suite; commands run in it, so that anything they write is seen."""
    (tmp_path / "tiny.toml").write_text(SUITE)
    return tmp_path


def listed(place):
    return sorted(path.name for path in place.iterdir())


def bench(place, *words, **environment):
    clean = {k: v for k, v in os.environ.items() if not k.startswith("BENCH_")}
    return subprocess.run(
        [sys.executable, "-m", "benchmark.cli", *map(str, words)], cwd=place, text=True, check=False,
        capture_output=True, env={**clean, "PYTHONPATH": str(ROOT), **environment},
    )  # fmt: skip


@pytest.mark.parametrize(
    "what", ["trainers", "metrics", "attributions", "attacks", "datasets", "models", "suites"]
)
def test_list_names_everything_and_speaks_json(place, what):
    text, made = bench(place, "list", what), bench(place, "list", what, "--json")
    assert text.returncode == made.returncode == 0
    rows = json.loads(made.stdout)
    assert rows
    for row in rows:
        assert row["name"] in text.stdout
    expected = {"trainers": "sagr", "metrics": "roar", "attributions": "gradient", "attacks": "auto_attack",
                "datasets": "folder:PATH", "models": "resnet20", "suites": "quick"}  # fmt: skip
    assert expected[what] in [row["name"] for row in rows]
    assert "\x1b" not in text.stdout


def test_show_prints_the_card(place):
    text = bench(place, "show", "sagr").stdout
    card = cards("trainers")["sagr"]
    assert "RECONSTRUCTION" in text
    assert card.sections["Paper"] in text
    assert all(f"{p.name} = {p.default!r}" in text for p in card.parameters)
    facts = json.loads(bench(place, "show", "gini", "--json").stdout)
    assert facts["measures"][0]["direction"] == "higher"
    assert facts["settings"][0]["name"] == "attribution"
    assert "seeds" in bench(place, "show", "quick").stdout
    wrong = bench(place, "show", "sagrr")
    assert wrong.returncode == 2
    assert "did you mean 'sagr'" in wrong.stderr


def test_plan_counts_and_trains_nothing(place):
    made = bench(place, "plan", "--suite", "tiny.toml", "--seeds", "0,1,2", "--json")
    facts = json.loads(made.stdout)
    assert (facts["models"], facts["cells"], facts["refits"]) == (3, 3, 0)
    assert (
        "standard, seed 2"
        in bench(place, "plan", "--suite", "tiny.toml", "--seeds", "0,1,2").stdout
    )
    assert listed(place) == ["tiny.toml"]


def test_what_is_run_can_be_planned_by_the_same_line(place):
    commands = get_command(app).commands
    of_run, of_plan = (
        {name: each for each in commands[command].params for name in each.opts}
        for command in ("run", "plan")
    )
    assert of_run.keys() <= of_plan.keys()
    assert of_run["--suite"].default == of_plan["--suite"].default
    line = [
        *("--suite", "tiny.toml", "--device", "cuda", "--executor", "ray", "--address", "auto"),
        *(
            "--out",
            "here",
            "--store",
            "there",
            "--data",
            "d",
            "--refresh",
            "gini",
            "-q",
            "--strict",
        ),
    ]
    made = bench(place, "plan", *line)
    assert made.returncode == 0, made.stderr
    unused = "--device, --executor, --address, --out, --store, --data, --refresh, --quiet, --strict"
    assert made.stderr == f"without effect on a plan: {unused}\n"
    assert made.stdout == bench(place, "plan", "--suite", "tiny.toml").stdout
    assert listed(place) == ["tiny.toml"]


def test_plan_counts_the_controls_beside_their_metric(place):
    (place / "maps.toml").write_text(
        SUITE + '[[metric]]\nname = "gini"\nof = ["log_odds", "logit"]\n'
    )
    text = bench(place, "plan", "--suite", "maps.toml").stdout
    assert text.count("Gini gradient + 3 controls") == 1
    assert text.count("Gini gradient of=logit + 3 controls") == 1
    assert "Gini random" not in text
    assert "1 models x (3 metrics + 6 controls) = 9 cells on digits" in text


def test_run_prints_results_on_stdout_and_progress_on_stderr(place):
    first = bench(place, "run", "--suite", "tiny.toml", "--workers", 1)
    assert first.returncode == 0, first.stderr
    assert "standard" in first.stdout
    assert "Clean" in first.stdout
    assert "train standard, seed 0" in first.stderr
    assert "train standard" not in first.stdout
    assert "\x1b" not in first.stdout + first.stderr
    assert (place / "results/tiny/report/report.md").is_file()

    again = bench(place, "run", "--suite", "tiny.toml", "--workers", 1)
    assert again.returncode == 0
    assert "Nothing to do" in again.stderr
    assert again.stdout == first.stdout

    status = bench(place, "status", "results/tiny", "--json")
    told = json.loads(status.stdout)
    assert {n: told[n] for n in ("suite", "done", "running", "failed", "waiting", "reasons")} == {
        "suite": "tiny",
        "done": 1,
        "running": 0,
        "failed": 0,
        "waiting": 0,
        "reasons": {},
    }
    assert bench(place, "report", "results/tiny").stdout == first.stdout


def test_another_data_set_gets_a_folder_of_its_own(place):
    made = bench(place, "run", "--suite", "tiny.toml", "--dataset", "planted", "--workers", 1)
    assert made.returncode == 0, made.stderr
    assert (place / "results/tiny-planted/records.csv").is_file()


def test_a_trained_file_loads_again_as_a_third_party_model(place):
    made = bench(
        place, "train", "--trainer", "standard", "--epochs", 2, "--out", "mine.safetensors"
    )
    assert made.returncode == 0, made.stderr
    assert "epoch 2/2" in made.stderr
    spec = made.stdout.strip()
    assert spec == "file:mine.safetensors"
    run = bench(place, "run", "--suite", "tiny.toml", "--model", spec, "--workers", 1)
    assert run.returncode == 0, run.stderr
    assert "mine.safetensors" in run.stdout


def test_weights_are_not_kept_under_an_ending_that_is_read_otherwise(place):
    made = bench(place, "train", "--trainer", "standard", "--epochs", 1, "--out", "mine.pt")
    assert made.returncode == 2
    assert "--out mine.pt" in made.stderr
    assert "mine.safetensors" in made.stderr
    assert not list(place.glob("mine.*"))


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["jarn", "--recipe", "precision=bfloat16"], "set precision = 'float32'"),
        (["sagr", "--set", "reading=positive", "--set", "projections=1"], "projections"),
        (
            ["adv_gsct", "--set", "offend=step", "--set", "kappa=0.5"],
            "kappa = 0.5: changes nothing",
        ),
    ],
)
def test_settings_that_a_method_cannot_train_with_are_told_in_a_line(place, words, told):
    made = bench(place, "train", "--trainer", *words, "--epochs", 1, "--out", "mine.safetensors")
    assert made.returncode == 2
    assert told in " ".join(made.stderr.split())
    assert "Traceback" not in made.stderr
    assert not (place / "mine.safetensors").exists()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["jacobian", "--set", "weight=[0.1, 0.5]"], "asks for 2: jacobian (weight=0.1)"),
        (["*"], "bench train trains one model"),
        (["standard", "--set", "name=x"], "--set name=... is no setting"),
        (["pgd_at", "--set", "threat=5"], "--set threat=... is no setting"),
        (
            ["jacobian", "--threat", "L2 0.5", "--recipe", "keep=last"],
            "--threat L2 0.5: jacobian (keep=last) takes no",
        ),
    ],
)
def test_what_is_not_one_training_is_refused(place, words, told):
    made = bench(place, "train", "--trainer", *words)
    assert made.returncode == 2
    assert told in " ".join(made.stderr.split())
    assert not list(place.glob("*.safetensors"))


def test_a_models_file_is_named_after_its_training(place):
    for extra in ([], ["--set", "weight=0.1"]):
        made = bench(place, "train", "--trainer", "jacobian", "--epochs", 1, *extra)
        assert made.returncode == 0, made.stderr
    names = [path.name for path in sorted(place.glob("jacobian*.safetensors"))]
    assert len(names) == 2
    assert any("weight-0-1" in name for name in names)


def test_a_threat_that_is_not_trained_against_is_said_to_choose_the_epoch(place):
    made = bench(place, "train", "--trainer", "standard", "--threat", "L2 0.5", "--epochs", 1)
    assert made.returncode == 0
    assert "takes no threat: the epoch that is kept is chosen under L2 0.5" in made.stderr


def test_a_user_file_is_a_trainer(place):
    (place / "mine.py").write_text(
        "from torch.nn import functional as F\nfrom trainers.base import from_loss\n\n"
        '@from_loss\ndef mine(model, x, y, step, *, label_smoothing: float = 0.1):\n    """Smoothed."""\n'
        "    return F.cross_entropy(model(x), y, label_smoothing=label_smoothing)\n"
    )
    made = bench(place, "run", "--suite", "tiny.toml", "--trainer", "./mine.py", "--workers", 1)
    assert made.returncode == 0, made.stderr
    assert "mine" in made.stdout
    assert "standard" in made.stdout


def test_an_error_of_a_user_trainer_is_a_line_with_its_place(place):
    (place / "mine.py").write_text(
        'from trainers.base import from_loss\n\n@from_loss\ndef mine(model, x, y, step):\n    """Wrong."""\n'
        "    return model(x, y)\n"
    )
    made = bench(place, "train", "--trainer", "./mine.py", "--epochs", 1)
    assert made.returncode == 1
    assert "Traceback" not in made.stderr
    assert "mine (epochs=1): TypeError: " in " ".join(made.stderr.split())
    assert "(line 6 of mine.py)" in " ".join(made.stderr.split())


def test_a_failed_check_counts_under_strict_only(place):
    weights = untrained(
        dataset(DataSpec("digits", 9, 9), None), "digits", Recipe("mlp"), 0
    ).state_dict()
    dead = {
        name.removeprefix("net."): value * 0
        for name, value in weights.items()
        if name.startswith("net.")
    }
    save_file(dead, place / "dead.safetensors")
    words = ["run", "--suite", "tiny.toml", "--model", "file:dead.safetensors@mlp", "--workers", 1]
    loose = bench(place, *words)
    assert loose.returncode == 0, loose.stderr
    assert "more than half of the input gradients are zero" in loose.stderr
    assert bench(place, *words, "--strict").returncode == 3


class _Code:
    def __reduce__(self):
        return Path("was-run").touch, ()


def _spec(place: Path, make) -> str:
    make(place / "x.pt")
    return "file:x.pt@digits_cnn"


BAD = {
    "unknown suite": (["--suite", "smok"], r"no suite 'smok' (did you mean 'smoke'?)"),
    "unknown data set": (
        ["--dataset", "digit"],
        "bench: --dataset: unknown data set 'digit' (did you mean",
    ),
    "no such folder": (["--dataset", "folder:nowhere"], "nowhere"),
    "data not there": (["--dataset", "mnist", "--data", "nowhere"], "nowhere"),
    "unknown trainer": (
        ["--trainer", "trade"],
        "bench: --trainer: no trainer 'trade' (did you mean 'trades'?)",
    ),
    "unknown metric": (
        ["--metric", "ginni"],
        "bench: --metric: no metric 'ginni' (did you mean 'gini'?)",
    ),
    "seeds": (["--seeds", "0,x"], "--seeds '0,x': different whole numbers"),
    "a seed twice": (["--seeds", "1,1"], "--seeds '1,1': different whole numbers"),
    "negative seeds": (["--seeds", "0,-1"], "--seeds '0,-1': different whole numbers from 0 on"),
    "split": (["--split", "train"], "Invalid value for '--split'"),
    "limit": (["--limit", "0"], "Invalid value for '--limit'"),
    "device": (["--device", "gpu"], "--device 'gpu': valid are auto, cpu, cuda"),
    "no file": (
        ["--model", "file:nowhere.pt@mlp"],
        "bench: --model 'file:nowhere.pt@mlp': 'nowhere.pt' does not exist",
    ),
    "no architecture": (["--model", "file:tiny.toml"], "tiny.toml"),
    "other kind": (["--model", "hub:x@mlp"], "unknown kind 'hub'"),
    "not a checkpoint": (["--model", "file:tiny.toml@mlp"], "tiny.toml"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_line_with_status_2_and_nothing_written(place, name):
    words, message = BAD[name]
    suite = [] if "--suite" in words else ["--suite", "tiny.toml"]
    made = bench(place, "run", *suite, *words)
    assert made.returncode == 2, made.stderr
    assert message in " ".join(made.stderr.replace("│", " ").split())
    assert "Traceback" not in made.stderr
    assert made.stdout == ""
    assert listed(place) == ["tiny.toml"]


BAD_FILES = {
    "wrong shape": (lambda path: torch.save({"0.weight": torch.zeros(3, 3)}, path), "x.pt"),
    "code": (lambda path: path.write_bytes(pickle.dumps(_Code())), "x.pt"),
    "a web page": (lambda path: path.write_text("<!DOCTYPE html><html>Sign in</html>"), "web page"),
    "empty": (lambda path: path.touch(), "empty"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_bad_checkpoint_is_refused_and_nothing_is_run_or_written(place, name):
    make, message = BAD_FILES[name]
    made = bench(place, "run", "--suite", "tiny.toml", "--model", _spec(place, make))
    assert made.returncode == 2, made.stderr
    assert message in made.stderr
    assert "Traceback" not in made.stderr
    assert listed(place) == ["tiny.toml", "x.pt"]


def test_a_wrong_suite_file_and_a_negative_radius(place):
    (place / "bad.toml").write_text(SUITE.replace("limit", "limits", 1))
    (place / "minus.toml").write_text(SUITE + '[[metric]]\nname = "fgsm"\nthreat = "Linf -0.1"\n')
    for file, message in (
        ("bad.toml", "unknown key 'limits'"),
        ("minus.toml", "eps must be a finite number >= 0, got -0.1"),
    ):
        made = bench(place, "run", "--suite", file)
        assert made.returncode == 2
        assert made.stderr.startswith(f"bench: {file}: ")
        assert message in made.stderr
    assert listed(place) == ["bad.toml", "minus.toml", "tiny.toml"]


@pytest.mark.parametrize("command", ["status", "report"])
def test_a_folder_without_a_run_is_explained(place, command):
    made = bench(place, command, "nowhere")
    assert made.returncode == 2
    assert "nowhere" in made.stderr
    assert "Traceback" not in made.stderr


def test_doctor_finds_this_installation_sound(place):
    made = bench(place, "doctor")
    assert made.returncode == 0, made.stdout
    for name in ("torch", "torchvision", "captum", "pyautoattack", "robustbench"):
        assert f"{name}: imports" in made.stdout


def test_foreign_packages_of_our_names_are_named(tmp_path):
    (tmp_path / "metrics").mkdir()
    (tmp_path / "metrics/__init__.py").touch()
    made = bench(tmp_path, "list", "metrics", PYTHONPATH=f"{tmp_path}:{ROOT}")
    assert made.returncode == 1
    assert "the package 'metrics' that Python finds is not bridgebench's" in made.stderr


@pytest.mark.parametrize("example", [line for lines in _EXAMPLES.values() for line in lines])
def test_the_examples_of_help_are_commands(example):
    """What they name is there, their options are the command's, and values are read."""
    bench, name, *words = shlex.split(example)
    group = get_command(app)
    command = group.commands[name]
    context = command.make_context(name, list(words))
    assert bench == "bench"
    assert command.epilog is not None
    assert example in command.epilog
    if suite := context.params.get("suite"):
        scaled(read(suite), context.params.get("scale"))
    if name == "train":
        assert context.params["trainer"] in cards("trainers")


@pytest.mark.parametrize("name", ["report", "compare"])
def test_the_width_of_a_text_is_two_columns_unless_it_is_said(name):
    """The commands do not import what makes tables before they need it, so that the number stands in them again."""
    (option,) = (p for p in get_command(app).commands[name].params if p.name == "textwidth")
    assert option.default == WIDTH
