"""How long a plan will take: what was measured, scaled to the plan; and what was not measured, by name."""

import json

import pytest
import torch

from benchmark import suite
from benchmark.cards import cards
from benchmark.planner import plan
from benchmark.running import costs
from benchmark.storage import ledger
from benchmark.storage.atomic import write_json
from benchmark.store import Store
from metrics.fidelity._removal import SHARED

HEAD = 'name = "s"\ndataset = "digits"\nseeds = [0]\ncontrols = false\n'
LIMITS = "train_limit = 100\nlimit = 50\n"
TRAINER = 'recipe = { architecture = "mlp", epochs = 10 }\n[[trainer]]\nname = "standard"\n'
METRIC = '[[metric]]\nname = "clean_accuracy"\n'
# 3 retrainings of its own maps, as they were measured
ROAR = '[[metric]]\nname = "roar"\npercents = [30, 50, 70]\nretrains = 1\ncontrols = []\n'
OTHER = 'recipe = { architecture = "small_cnn" }\n'


@pytest.fixture(autouse=True)
def _measured(tmp_path, monkeypatch):
    """A run on a hundred training and fifty test images."""
    seconds = {"clean_accuracy": (4.0, 0), "transfer": (2.0, 0), "roar": (30.0, 3)}
    times = {
        "machine": "4-core abacus", "architecture": "mlp", "train": 100, "test": 50, "epochs": 10,
        "trainers": {"standard": 2.0, "pgd_at": 8.0},
        "metrics": {name: {"seconds": s, "refits": n} for name, (s, n) in seconds.items()},
    }  # fmt: skip
    monkeypatch.setattr(costs, "FILE", tmp_path / "costs.json")
    write_json(costs.FILE, {"digits": times})


@pytest.fixture
def planned(tmp_path):
    """A suite of these lines, planned."""

    def make(text):
        (tmp_path / "s.toml").write_text(HEAD + text)
        return plan(suite.read(str(tmp_path / "s.toml")))

    return make


def guessed(made):
    """Seconds of the trainings and of the metrics; none where there is no guess."""
    found = costs.guesses(made)
    lines = [ledger.described(cell) for cell in made.cells]
    return (
        [found.get(name) for name in dict.fromkeys(line.training for line in lines)],
        [found.get(line.identity) for line in lines],
    )


def estimate(made, workers=1):
    return costs.overview(made, workers)["estimate"]


@pytest.mark.parametrize(
    ("line", "images"), [("train_limit = 50\n", 50), ("train_limit = 100\n", 100),
                         ("train_limit = 300\n", 300), ("", 1078), ("train_limit = 9999\n", 1078)],
)  # fmt: skip
def test_what_trains_takes_as_many_times_as_long_as_it_has_training_images(planned, line, images):
    (training,), (_, roar) = guessed(planned(line + TRAINER + METRIC + ROAR))
    assert training == pytest.approx(20.0 * images / 100)
    assert roar == pytest.approx(30.0 * images / 100)


@pytest.mark.parametrize(
    ("line", "images"), [("limit = 25\n", 25), ("limit = 50\n", 50), ("limit = 100\n", 100), ("", 539),
                         ("limit = 9999\n", 539), ('split = "validation"\n', 90)],
)  # fmt: skip
def test_a_metric_takes_as_many_times_as_long_as_it_has_images(planned, line, images):
    _, (clean,) = guessed(planned(line + TRAINER + METRIC))
    assert clean == pytest.approx(4.0 * images / 50)


def test_a_folder_of_pictures_without_limits_counts_as_the_measured_images(tmp_path, planned):
    name = f"folder:{tmp_path}"
    write_json(costs.FILE, {name: json.loads(costs.FILE.read_text())["digits"]})
    text = TRAINER + METRIC
    made = plan(suite.changed(planned(text).suite, dataset=name))
    assert guessed(made) == ([20.0], [4.0])
    assert guessed(plan(suite.changed(made.suite, limit=100))) == ([20.0], [8.0])


def test_another_architecture_gets_no_guess_and_is_named(planned):
    other = f'[[trainer]]\nname = "pgd_at"\n{OTHER}'
    made = planned(LIMITS + TRAINER + other + METRIC)
    assert guessed(made) == ([20.0, None], [4.0, None])
    assert estimate(made) == (
        "More than 24 s with 1 worker(s) of 4-core abacus, "
        "without what was not measured on digits (anything with small_cnn)."
    )
    alone = plan(suite.changed(made.suite, trainers=["pgd_at"]))
    assert estimate(alone) == (
        "No estimate: it takes only what was not measured on digits (anything with small_cnn)."
    )


def test_the_retrained_classifier_is_what_counts_for_retrainings(planned):
    made = planned(LIMITS + TRAINER + METRIC + ROAR + '[retrain]\narchitecture = "resnet20"\n')
    assert guessed(made) == ([20.0], [4.0, None])
    assert "(anything with resnet20)" in estimate(made)
    longer = planned(LIMITS + TRAINER + METRIC + ROAR + "[retrain]\nepochs = 20\n")
    assert guessed(longer) == ([20.0], [4.0, 60.0])


def test_models_of_others_count_by_their_architecture(planned, tmp_path):
    weights = tmp_path / "w.pt"
    weights.touch()
    code = tmp_path / "c.py"
    code.write_text("def net(): ...")
    specs = [f"file:{weights}@mlp", f"file:{weights}@lenet5", f"python:{code}:net"]
    made = planned(LIMITS + f"model = {specs}\n" + METRIC)
    assert guessed(made)[1] == [4.0, None, None]
    assert f"(anything with lenet5, anything with python:{code}:net)" in estimate(made)
    # also of the model that another one is attacked by
    transfer = f'[[metric]]\nname = "transfer"\nsource = "{specs[1]}"\n'
    assert guessed(planned(LIMITS + f"model = {specs[:2]}\n" + transfer))[1] == [None, None]


def test_methods_that_were_not_measured_are_named(planned):
    more = '[[trainer]]\nname = "trades"\n' + METRIC + '[[metric]]\nname = "entropy"\n'
    assert estimate(planned(LIMITS + TRAINER + more)).endswith(
        ", without what was not measured on digits (entropy, trades)."
    )
    nothing = costs.overview(plan(suite.changed(suite.read("quick"), dataset="planted")), 1)
    assert nothing["estimate"] == "No estimate: nothing was measured on planted yet."


def test_a_job_is_not_divided_among_workers_but_retrainings_are(planned):
    two = plan(suite.changed(planned(LIMITS + TRAINER + METRIC).suite, seeds=[0, 1]))
    assert [estimate(two, workers).partition(" with")[0] for workers in (1, 2, 64)] == [
        "About 48 s",
        "About 24 s",
        "About 24 s",
    ]
    # the model that a metric needs is trained once, before it
    text = LIMITS + TRAINER + '[[metric]]\nname = "transfer"\nsource = "pgd_at"\n'
    assert [estimate(planned(text), n).partition(" with")[0] for n in (1, 2)] == [
        "About 2 min",  # 20 + 80 + 2 s
        "About 82 s",
    ]
    roar = planned(LIMITS + TRAINER + ROAR)
    assert [estimate(roar, n).partition(" with")[0] for n in (1, 2)] == ["About 50 s", "About 35 s"]


def test_retrainings_that_all_models_share_count_once(planned):
    """ROAR and KAR at 2 levels of 2 models, beside edges and blurred maps; what random maps cost either alone."""
    assert costs.SHARED == SHARED
    both = '[[metric]]\nname = "{}"\npercents = [30, 70]\nretrains = {}\n'
    two = TRAINER + '[[trainer]]\nname = "pgd_at"\n'
    made = planned(LIMITS + two + both.format("roar", 1) + both.format("kar", 5))
    own = 2 * [2 * 2 * 1, 2 * 2 * 5]  # maps x levels x retrainings
    assert [costs.refits(cell) for cell in made.cells] == own
    shared = 2 * 2 * SHARED + 2 * 2 * 5  # random and edge x levels
    assert costs.overview(made, 1)["refits"] == sum(own) + shared
    ends = planned(
        LIMITS + TRAINER + '[[metric]]\nname = "diff_roar"\npercents = [50]\nretrains = 1\n'
    )
    assert costs.overview(ends, 1)["refits"] == 2 * (2 + 2 * SHARED)


def test_what_a_cell_retrained_is_read_from_its_scores(tmp_path, planned):
    """As many as the plan says of it: a plan's time is what was measured, by these."""
    store, rows = Store(tmp_path), ["accuracy@0.3", "accuracy@0.7", "random_accuracy@0.3", "score"]
    blurred = ["edge_accuracy@0.3", "blurred_accuracy@0.3", "blurred_score"]
    for key, names in {"plain": rows, "blurred": rows + blurred}.items():
        scores = {name: torch.zeros(1, 4) for name in names} | {"gini@0.3": torch.zeros(4)}
        store.save("cells", key, scores, {})
    assert [costs._refits_done(store, key) for key in ("plain", "blurred")] == [2, 4]


@pytest.mark.parametrize("name", suite.names())
def test_every_suite_of_the_package_has_an_estimate_or_the_reason_why_not(name, monkeypatch):
    monkeypatch.undo()
    given = suite.read(name)
    for sized in (given, *(suite.scaled(given, scale) for scale in given.scale)):
        assert estimate(plan(sized)).startswith(("About ", "More than ", "No estimate: "))


def test_what_the_package_knows_names_its_architectures(monkeypatch):
    monkeypatch.undo()
    large = plan(suite.changed(suite.read("full"), dataset="cifar10"))
    assert estimate(large).endswith("not measured on cifar10 (anything with preact_resnet18).")
    known = json.loads(costs.FILE.read_text(encoding="utf-8"))
    assert {times["architecture"] for times in known.values()} <= set(cards("models"))


def test_the_times_of_a_run_are_those_of_its_commonest_architecture(tmp_path, planned):
    """Not those of models of others, nor of an odd one among its own."""
    (tmp_path / "w.pt").touch()
    others = f'[[trainer]]\nname = "trades"\n[[trainer]]\nname = "pgd_at"\n{OTHER}'
    cells = planned(f"model = ['file:{tmp_path}/w.pt@mlp']\n" + TRAINER + others + METRIC).cells
    folder, store = tmp_path / "run", Store(tmp_path / "run")
    seconds = dict(
        zip(("third party's", "mlp", "mlp too", "odd"), (9.0, 3.0, 5.0, 70.0), strict=True)
    )
    lines = []
    for cell, key in zip(cells, seconds, strict=True):
        facts = dict.fromkeys(("images", "experiment", "method", "inspection_key"), "")
        own = "f" if cell.training.trainer else ""
        lines.append(ledger.entry(cell, fit=own, model_key=key, key=key, **facts))
        store.save("cells", key, {"accuracy": torch.zeros(2)}, {})
        if own:
            log = [{"seconds": 2.0}, {"seconds": 2.0}, {"seconds": 17.0}]
            store.save("models", key, {}, {"log": log, "recipe": {"epochs": 3}})
    ledger.write(folder, ledger.Ledger("s", tuple(lines), {}))
    jobs = {f"{kind}/{key}": s for key, s in seconds.items() for kind in ("models", "cells")}
    machine = {"cores": 2, "processor": "x"}
    made = {
        "seconds": jobs,
        "data": {"digits": {"train": 100, "test": 50}},
        "invocations": [{"machine": machine}],
    }
    write_json(folder / "manifest.json", made)
    assert costs.of_run(folder) == {
        "digits": {
            "machine": "2-core x", "architecture": "mlp", "train": 100, "test": 50, "epochs": 3,
            "trainers": {"standard": 2.0, "trades": 2.0},
            "metrics": {"clean_accuracy": {"seconds": 4.0, "refits": 0}},
        }
    }  # fmt: skip
