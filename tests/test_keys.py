"""Nothing stale, nothing leaked: what a result depends on is in its key, and every image is where it belongs."""

import dataclasses
import json
from dataclasses import replace
from functools import partial

import pandas as pd
import pytest
import torch
from filelock import FileLock, Timeout
from torch import nn

from benchmark import keys, suite
from benchmark.cards import Card
from benchmark.measuring import networks, plain_training, retraining, services, training
from benchmark.measuring.measure import case, cell_key
from benchmark.measuring.place import Place, dataset, prints
from benchmark.measuring.training import model_key
from benchmark.plan import Cell, DataSpec, Part
from benchmark.planner import plan
from benchmark.storage import ledger, records
from benchmark.store import Store
from metrics.case import Refit
from metrics.threat import L2, Linf
from trainers._cost import Cost
from trainers.base import Trained

DATA = DataSpec("digits", 150, 30)
USUAL = Linf(0.1)


@pytest.fixture
def place(tmp_path):
    return Place(tmp_path, None, "cpu")


def made(**changes):
    """The second training of smoke (PGD-AT), changed."""
    first = plan(suite.changed(suite.read("smoke"), trainers=["pgd_at"])).trainings[0]
    return dataclasses.replace(first, data=DATA, **changes)


OTHER = {
    "architecture": "mlp", "activation": "gelu", "epochs": 7, "batch_size": 9, "optimiser": "sgd", "lr": 0.01,
    "weight_decay": 0.1, "schedule": "constant", "augment": "crop_flip", "keep": "last",
    "pixels": "symmetric", "budget": "cost", "order": "stored", "ema": 0.9, "precision": "bfloat16", "eps_ramp": 0.5,
    "memory_format": "channels_last",
}  # fmt: skip


def test_every_field_of_a_training_is_in_its_models_key(place):
    base = made()
    changed = [
        made(seed=1), made(threat=L2(1.0)), made(threat=Linf(0.2)), made(selection=Linf(0.3)),
        dataclasses.replace(base, data=DataSpec("digits", 140, 30)),
        dataclasses.replace(base, data=DataSpec("planted", 150, 30)),
        made(trainer=Part("trainers", "trades", ())), made(trainer=Part("trainers", "pgd_at", (("steps", 6),))),
        *(made(recipe=dataclasses.replace(base.recipe, **{field: value})) for field, value in OTHER.items()),
    ]  # fmt: skip
    assert set(OTHER) == {field.name for field in dataclasses.fields(base.recipe)}
    found = [model_key(place, one, {}) for one in (base, *changed)]
    assert len(set(found)) == len(found)
    cuda = Place(place.folder, None, "cuda:0")
    assert model_key(cuda, base, {}) != found[0]
    # what a model does not depend on: its test images, its place in the tables, the retrained classifier
    same = [
        dataclasses.replace(base, data=DataSpec("digits", 150, 40)), made(label="x"),
        made(reference=dataclasses.replace(base.reference, epochs=99)),
    ]  # fmt: skip
    assert {model_key(place, one, {}) for one in same} == {found[0]}


def test_the_normalisation_is_in_a_models_key(place, monkeypatch):
    before = model_key(place, made(), {})
    facts = keys.defaults("digits")
    monkeypatch.setattr(keys, "defaults", lambda name: dataclasses.replace(facts, mean=(0.9,)))
    assert model_key(place, made(), {}) != before


def test_every_field_of_a_cell_is_in_its_key(place):
    def cell(metric="pgd", settings=(), threat=USUAL, **changes):
        return Cell(made(**changes), Part("metrics", metric, settings), threat)

    base, model = cell(), "model"
    changed = [
        cell(settings=(("steps", 7),)), cell("fgsm"), cell(threat=Linf(0.2)), cell(threat=L2(0.1)), cell(seed=1),
    ]  # fmt: skip
    found = [cell_key(place, one, model) for one in (base, *changed)]
    found.append(cell_key(place, base, "another model"))
    fewer = dataclasses.replace(
        base, training=dataclasses.replace(base.training, data=DataSpec("digits", 150, 20))
    )
    found.append(cell_key(place, fewer, model))
    assert len(set(found)) == len(found)


@pytest.mark.parametrize(("metric", "used"), [("pgd", False), ("roar", True)])
def test_the_retrained_classifier_is_in_the_key_of_what_retrains_it(place, metric, used):
    base = made()
    other = dataclasses.replace(base, reference=dataclasses.replace(base.reference, epochs=99))
    fewer = dataclasses.replace(base, data=DataSpec("digits", 140, 30))
    for change in (other, fewer):
        pair = [
            cell_key(place, Cell(t, Part("metrics", metric, ()), Linf(0.1)), "m")
            for t in (base, change)
        ]
        assert (pair[0] != pair[1]) == used


@pytest.mark.parametrize("field", ["train_x", "train_y", "train_draws"])
def test_the_training_images_are_in_the_key_of_what_uses_any_of_them(place, field):
    cells = [
        Cell(dataclasses.replace(made(), data=data), Part("metrics", "pgd", ()), USUAL)
        for data in (DATA, DataSpec("digits", 140, 30))
    ]
    for names, differ in ((frozenset([field, "x"]), True), (frozenset(["x"]), False)):
        one, other = (services.facts(place, cell, names) for cell in cells)
        assert (one != other) == differ


@pytest.mark.parametrize(
    ("file", "models"), [("networks", True), ("retraining", False), ("plain_training", False)]
)
def test_the_code_that_decides_trainings_is_in_their_keys(place, monkeypatch, file, models):
    def found():
        return model_key(place, made(), {}), keys.key(retraining.facts(made(), "cpu"))

    before, real = found(), keys.code_version
    changed = keys.ROOT / f"benchmark/measuring/{file}.py"
    assert changed.is_file()
    monkeypatch.setattr(keys, "code_version", lambda path: real(path) + "x" * (path == changed))
    after = found()
    assert (before[0] != after[0]) == models
    assert before[1] != after[1]


def test_training_measuring_and_retraining_see_the_images_that_are_theirs(place, monkeypatch):
    data, seen = dataset(DATA, None), []

    def spy(model, train, validation, /, **settings):
        seen.append((train, validation))
        return Trained(model.eval(), [], 0, Cost(1, 1, 1))

    monkeypatch.setattr(Card, "load", lambda self: spy)
    trained = training.fit(data, made(), "cpu")
    place.store.save("models", "k", trained.model.state_dict(), {})
    refits = []
    monkeypatch.setattr(plain_training, "one", lambda model, images, **_: refits.append(images))
    given = case(place, Cell(made(), Part("metrics", "roar", ()), None), "k")
    given.refit([Refit(data.train.x / 2, data.test.x / 3, seed) for seed in (0, 1)])

    ((train, validation),) = seen
    assert torch.equal(train.x, data.train.x)
    assert torch.equal(train.y, data.train.y)
    assert torch.equal(validation.ids, data.validation.ids)
    for images in refits:
        assert torch.equal(images.x, data.train.x / 2)
        assert torch.equal(images.y, data.train.y)
    assert len(refits) == 2
    assert torch.equal(given.x, data.test.x)
    assert torch.equal(given.y, data.test.y)
    assert torch.equal(given.train_x, data.train.x)
    ids = [set(split.ids.tolist()) for split in (data.train, data.validation, data.test)]
    assert len(ids[0] | ids[1] | ids[2]) == sum(map(len, ids))


def test_no_epoch_is_chosen_by_the_held_out_images_that_are_measured():
    usual = dataset(DataSpec("digits", None, None), None)
    held = dataset(DataSpec("digits", None, None, "validation"), None)
    measured, chosen = set(held.test.ids.tolist()), set(held.validation.ids.tolist())
    assert not measured & chosen
    assert measured | chosen == set(usual.validation.ids.tolist())
    assert abs(len(measured) - len(chosen)) <= 1
    assert torch.equal(held.train.ids, usual.train.ids)
    assert "models of others may know them" in held.note


def test_retrainings_differ_by_seed_and_from_the_model_of_that_seed(place, monkeypatch):
    data, starts = dataset(DATA, None), []

    def spy(model: nn.Module, *images, seed, **settings):
        starts.append((seed, next(model.parameters()).detach().clone()))

    monkeypatch.setattr(plain_training, "one", spy)
    jobs = [Refit(data.train.x, data.test.x, seed) for seed in (0, 1, 0)]
    retraining.refit(place, made(), jobs)
    assert len(starts) == 2, "the same retraining is done once"
    own = next(networks.untrained(data, "digits", made().reference, 0).parameters())
    assert starts[0][0] != starts[1][0]
    assert not any(torch.equal(weights, own) for _, weights in starts)
    assert not torch.equal(starts[0][1], starts[1][1])


def test_more_test_images_keep_the_models(place):
    """`--limit` is about measuring: it must not retrain anything."""
    few, more = DataSpec("digits", 150, 20), DataSpec("digits", 150, 25)
    assert prints(few, None).fit == prints(more, None).fit
    assert prints(few, None).test != prints(more, None).test


def _gini_of_a_model(name: str) -> ledger.Entry:
    """A cell whose result has this key."""
    return ledger.Entry(
        "digits", "mlp", "standard", "", False, 0, "", "gini", "sharpness", "Gini", "",
        {"gini": "higher"}, {"gini": "0..1"}, "f", "t", "e", "q", "m", "i", name,
    )  # fmt: skip


def test_records_are_written_when_they_are_not_what_the_cells_say(tmp_path):
    """Also after a kill between the last cell and the records."""
    store, line = Store(tmp_path), _gini_of_a_model("k")
    store.save("images", "f", {"ids": torch.arange(3), "labels": torch.zeros(3)}, {})
    ledger.write(tmp_path, ledger.amended(None, "s", (line,), tmp_path))
    assert records.refresh(tmp_path)
    assert "not computed yet" in (tmp_path / "records.csv").read_text()
    store.save("cells", "k", {"gini": torch.tensor([0.1, 0.2, 0.3])}, {"reason": ""})
    assert records.refresh(tmp_path)
    assert "0.2" in (tmp_path / "records.csv").read_text()
    assert not records.refresh(tmp_path)
    (tmp_path / "records.parquet").unlink()
    assert records.refresh(tmp_path)
    store.save("inspections", "i", {}, {"preflight": {"finite": ["PASS", "", ""]}})
    assert records.refresh(tmp_path)
    assert "preflight" in (tmp_path / "records.csv").read_text()
    assert json.loads((tmp_path / "gallery/index.json").read_text())[0]["trainer"] == "standard"


def test_the_same_weights_under_two_names_are_both_looked_at(tmp_path):
    line = _gini_of_a_model("k")
    names = ("file:p.safetensors", "file:p.safetensors@digits_cnn")
    lines = tuple(replace(line, model=name, trainer="pretrained", fit="") for name in names)
    store = Store(tmp_path)
    store.save("images", "f", {"ids": torch.arange(3), "labels": torch.zeros(3)}, {})
    store.save("cells", "k", {"gini": torch.tensor([0.1, 0.2, 0.3])}, {"reason": ""})
    store.save("inspections", "i", {}, {"preflight": {"finite": ["PASS", "", ""]}})
    ledger.write(tmp_path, ledger.amended(None, "s", lines, tmp_path))
    assert records.refresh(tmp_path)
    rows = pd.read_csv(tmp_path / "records.csv").query("metric == 'preflight'")
    assert tuple(rows["model"]) == names
    index = json.loads((tmp_path / "gallery/index.json").read_text())
    assert tuple(each["model"] for each in index) == names


@pytest.mark.parametrize("without", ["plan.json", "store/cells"])
def test_records_of_a_folder_without_its_plan_or_its_cells_are_kept(tmp_path, without):
    """A copy of the tables alone, or a shared store that is not mounted: a report of it forgets nothing."""
    store, line = Store(tmp_path), _gini_of_a_model("k")
    store.save("images", "f", {"ids": torch.arange(3), "labels": torch.zeros(3)}, {})
    store.save("cells", "k", {"gini": torch.tensor([0.1, 0.2, 0.3])}, {"reason": ""})
    store.save("inspections", "i", {}, {"preflight": {"finite": ["PASS", "", ""]}})
    ledger.write(tmp_path, ledger.amended(None, "s", (line,), tmp_path))
    assert records.refresh(tmp_path)
    before = (tmp_path / "records.csv").read_bytes()

    (tmp_path / "store" / "records.digest").unlink()
    there = tmp_path / without
    there.rename(tmp_path / "elsewhere")
    assert not records.refresh(tmp_path)
    assert (tmp_path / "records.csv").read_bytes() == before

    (tmp_path / "elsewhere").rename(there)
    assert records.refresh(tmp_path)
    assert (tmp_path / "records.csv").read_bytes() == before


def test_records_follow_a_plan_whose_cells_are_all_new(tmp_path):
    """Results of other code are in the store, so that nothing is lost when they leave the records."""
    store = Store(tmp_path)
    store.save("images", "f", {"ids": torch.arange(3), "labels": torch.zeros(3)}, {})
    store.save("cells", "k", {"gini": torch.tensor([0.1, 0.2, 0.3])}, {"reason": ""})
    for name, there in (("k", True), ("other", False)):
        ledger.write(tmp_path, ledger.Ledger("s", (_gini_of_a_model(name),), {}))
        assert records.refresh(tmp_path)
        assert ("not computed yet" in (tmp_path / "records.csv").read_text()) != there


@pytest.mark.parametrize("room", ["statistics", "storage"])
def test_records_are_written_again_when_the_code_that_makes_them_changes(
    tmp_path, monkeypatch, room
):
    ledger.write(tmp_path, ledger.amended(None, "s", (), tmp_path))
    assert records.refresh(tmp_path)
    assert not records.refresh(tmp_path)
    real = keys.code_version
    monkeypatch.setattr(
        records, "code_version", lambda path: real(path) + "x" * (path.parent.name == room)
    )
    assert records.refresh(tmp_path)


def test_records_are_written_by_one_process_at_a_time(tmp_path, monkeypatch):
    """A report of a run in progress must neither put older rows in the place of the run's, nor bring back its mark."""
    ledger.write(tmp_path, ledger.amended(None, "s", (), tmp_path))
    monkeypatch.setattr(records, "FileLock", partial(FileLock, timeout=0))
    with records._alone(tmp_path):
        for change in (records.refresh, records.outdate):
            with pytest.raises(Timeout):
                change(tmp_path)
    assert records.refresh(tmp_path)
    with records._alone(tmp_path):
        assert not records.refresh(tmp_path), "a reader of what is there waits for nobody"
